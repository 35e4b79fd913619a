"""What there is and whether it can be used today: the catalogue, found by plain words, and how everything stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import duckdb
from fastapi import APIRouter, Query

from batch_marts.catalogue import Catalogue, Mart
from batch_marts.metrics import DAILY, Metric
from batch_marts.trust import Known
from service import trust
from service.web import published
from service.web.published import NothingPublished, Published, Row
from service.web.questions import Questions
from service.web.view import ServiceView


def catalog_router(view: ServiceView, questions: Questions) -> APIRouter:
    """The routes of the catalogue and of /trust, which change with the clock: none has an ETag."""
    router = APIRouter()

    @router.get("/api/trust", tags=["marts"])
    def standing() -> dict[str, Any]:
        """Of each published mart and each metric: can it be used today, with care, or not, and why.

        With the last published build, the tests that passed, up to when it reaches, open anomalies, what the last
        reconciliation left different, the owner, and changes that were announced.
        """
        with questions.reading("how the marts stand") as con:
            return standings(view, con)

    @router.get("/api/catalog/search", tags=["metrics"])
    def search(
        q: Annotated[str, Query(description="Plain words: how much does a customer cost us.", max_length=1000)] = "",
    ) -> dict[str, Any]:
        """The metrics and marts that plain words speak of, the best first; all of them for no words.

        Each with its meaning, owner, tests, what it is made from, and, once marts are published, its last values, up
        to when it reaches and whether it can be used today.
        """
        with questions.reading("the catalogue") as con:
            shown = Shown.of(view, con)
            return {
                "build": shown.now and shown.now.told,
                "metrics": found_metrics(shown, q),
                "marts": found_marts(con, shown, q),
            }

    return router


def standings(view: ServiceView, con: duckdb.DuckDBPyConnection) -> Row:
    """What /trust shows. Raises NothingPublished."""
    catalogue = view.marts().catalogue()
    now = Published.of(con, catalogue)
    reaches = {name: now.reaches(con, mart) for name, mart in catalogue.marts.items() if now.has(name)}
    return now.told | trust.told_of_all(known_now(view, con, now), catalogue, reaches)


def known_now(view: ServiceView, con: duckdb.DuckDBPyConnection, now: Published) -> Known:
    """All that is known now of how the published marts stand."""
    return trust.known_of(con, now.build, view.anomalies().listed(), datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Shown:
    """What is published, if anything is, with what is known of it: what results are told with."""

    catalogue: Catalogue
    now: Published | None
    known: Known | None
    values: Mapping[str, Row]
    """By metric, its last ones."""

    @classmethod
    def of(cls, view: ServiceView, con: duckdb.DuckDBPyConnection) -> Shown:
        catalogue = view.marts().catalogue()
        try:
            now = Published.of(con, catalogue)
        except NothingPublished:
            return cls(catalogue, None, None, {})
        return cls(catalogue, now, known_now(view, con, now), published.latest(con, now))


def found_metrics(shown: Shown, words: str) -> list[Row]:
    """The metrics that plain words find."""
    catalogue, values = shown.catalogue, shown.values
    return [metric_row(catalogue, one, values.get(one.shown_as), shown.known) for one in catalogue.metrics_about(words)]


def found_marts(con: duckdb.DuckDBPyConnection, shown: Shown, words: str) -> list[Row]:
    """The marts that plain words find; once some are published, of those alone."""
    marts = [one for one in shown.catalogue.marts_about(words) if shown.now is None or shown.now.has(one.name)]
    rows = [mart_row(con, shown.catalogue, one, shown.now, shown.known) for one in marts]
    for row in rows:  # a mart has no one number: the line of the first metric worked out from it stands for it
        row["chart_of"] = next((name for name in row["metrics"] if name in shown.values), None)
        row["values"] = shown.values[row["chart_of"]]["values"] if row["chart_of"] else []
    return rows


def metric_row(catalogue: Catalogue, metric: Metric, value: Row | None, known: Known | None) -> Row:
    """A metric, as a result of a search."""
    behind = catalogue.behind(metric)
    tested = {DAILY, *(model.name for model in behind)} & set(catalogue.marts)
    nothing: Row = {"value": None, "date": None, "values": []}
    return (
        published.described(metric)
        | (value or nothing)
        | {
            "tests": sum(catalogue.marts[name].test_count for name in tested),
            "made_from": published.lineage(behind),
            "trust": known and trust.told_of_metric(known, catalogue, metric),
        }
    )


def mart_row(
    con: duckdb.DuckDBPyConnection, catalogue: Catalogue, mart: Mart, now: Published | None, known: Known | None
) -> Row:
    """A mart, as a result of a search."""
    return {
        "name": mart.name,
        "question": mart.question,
        "description": mart.description,
        "owner": mart.owner,
        "rows": now and now.build.row_counts.get(mart.name),
        "reaches": now and now.reaches(con, mart),
        "columns": len(mart.columns),
        "tests": mart.test_count,
        "made_from": published.lineage(catalogue.made_from(mart.name)),
        "read_by": [model.name for model in catalogue.read_by(mart.name)],
        "metrics": [metric.shown_as for metric in catalogue.metrics_of(mart.name)],
        "trust": known and trust.told_of_mart(known, catalogue, mart),
    }
