"""The pages of what is published: marts, metrics, experiments and spend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import duckdb
from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from batch_marts.experiments import Experiment
from batch_marts.metrics import DAILY, WHOLE
from service import experiments
from service.trust import WORDS, told_of_mart, told_of_metric
from service.web import catalog_api as catalog
from service.web import drawing, published, wording
from service.web.mart_api import mart_named, metric_named
from service.web.published import NothingPublished, Published, Row
from service.web.questions import Questions
from service.web.rows import query_rows
from service.web.templating import Templates
from service.web.view import ServiceView

RANGES: Final = {"28": "4 weeks", "91": "3 months", "365": "a year", "all": "all"}
"""Of a metric's chart: days, and what that is called."""

_PARTS_SHOWN: Final = 30
_REACH: Final = 0.05
"""A scale of lifts reaches at least this far to both sides."""

VERDICTS: Final[Mapping[str, tuple[str, str]]] = {
    "not_started": ("Not started", "soft"),
    "sample_ratio_mismatch": ("Cannot be believed", "bad"),
    "too_few": ("Too few people", "soft"),
    "guardrail_harmed": ("Does harm", "bad"),
    "better": ("Better", "good"),
    "worse": ("Worse", "bad"),
    "no_worthwhile_difference": ("No difference worth having", "soft"),
    "no_difference_yet": ("No difference yet", "soft"),
    "no_difference": ("No difference", "soft"),
}
"""By verdict: in words, and how it is marked."""


class ForBrowsers(APIRoute):
    """A route for who asks for HTML; whoever else asks for that path, as Prometheus does, finds the next one."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        accepts = next((value for name, value in scope.get("headers", ()) if name == b"accept"), b"")
        return super().matches(scope) if b"text/html" in accepts else (Match.NONE, {})


def mart_pages(view: ServiceView, questions: Questions, render: Templates) -> APIRouter:
    """The routes that browsers open."""
    router = APIRouter(route_class=ForBrowsers, include_in_schema=False, default_response_class=HTMLResponse)

    def now_published(con: duckdb.DuckDBPyConnection) -> Published:
        return Published.of(con, view.marts().catalogue())

    def unpublished(here: str, title: str, problem: NothingPublished) -> HTMLResponse:
        return render("unpublished.html", here=here, title=title, problem=str(problem))

    @router.get("/trust")
    def trust() -> HTMLResponse:
        with questions.reading("how the marts stand") as con:
            try:
                told = catalog.standings(view, con)
            except NothingPublished as problem:
                return unpublished("/trust", "Trust", problem)
        counts = {verdict: sum(one["verdict"] == verdict for one in told["marts"]) for verdict in WORDS}
        return render("trust.html", here="/trust", told=told, counts=counts)

    @router.get("/marts")
    def marts(q: str = "") -> HTMLResponse:
        with questions.reading("the marts") as con:
            shown = catalog.Shown.of(view, con)
            if shown.now is None:
                return unpublished("/marts", "Marts", NothingPublished())
            found = catalog.found_marts(con, shown, q)
        rows = [row | {"spark": drawing.line(row["values"])} for row in found]
        has_docs = view.marts().documentation.exists()
        return render(
            "marts.html",
            here="/marts",
            q=q,
            build=shown.now.told,
            rows=rows,
            all_of_them=len(shown.now.build.row_counts),
            has_docs=has_docs,
        )

    @router.get("/marts/{name}")
    def mart(name: str) -> HTMLResponse:
        with questions.reading("the mart") as con:
            try:
                now = now_published(con)
            except NothingPublished as problem:
                return unpublished("/marts", name[:100], problem)
            found = mart_named(now, name)
            told = published.table(now, found)
            reaches = now.reaches(con, found)
            standing = told_of_mart(catalog.known_now(view, con, now), now.catalogue, found)
            some = query_rows(con, f'select * from {published.PUBLISHED}."{found.name}" limit 5')
        return render(
            "mart.html",
            here="/marts",
            build=now.told,
            mart=told,
            standing=standing,
            reaches=reaches,
            mart_names=set(now.build.row_counts),
            sample=[[wording.clipped(_cell(value), 100) for value in row.values()] for row in some],
            has_docs=view.marts().documentation.exists(),
        )

    @router.get("/metrics")
    def metrics(q: str = "") -> HTMLResponse:
        with questions.reading("the metrics") as con:
            shown = catalog.Shown.of(view, con)
        problem, build = "", None
        if shown.now is None:
            problem = str(NothingPublished())
        else:
            build = shown.now.told
        rows = [_metric_row(row) for row in catalog.found_metrics(shown, q)]
        whole = len(shown.catalogue.metrics)
        return render("metrics.html", here="/metrics", q=q, rows=rows, all_of_them=whole, build=build, problem=problem)

    @router.get("/metrics/{name}")
    def metric(
        name: str,
        dimension: str = WHOLE,
        days: Annotated[str, Query(alias="range")] = "91",
    ) -> HTMLResponse:
        with questions.reading("the metric") as con:
            try:
                now = now_published(con)
            except NothingPublished as problem:
                return unpublished("/metrics", name[:100], problem)
            named = metric_named(now, name)
            told = published.metric(con, now, named, parts=_PARTS_SHOWN)
            days = days if days in RANGES else "91"
            since = _since(told["days"], days)
            bounds = {"name": named.shown_as, "dimension": dimension, "since": since, "until": None}
            values = query_rows(con, published.VALUES, bounds) if now.has(DAILY) else []
            standing = told_of_metric(catalog.known_now(view, con, now), now.catalogue, named)
        asked = {"dimension": dimension} | ({"since": since.isoformat()} if since else {})
        return render(
            "metric.html",
            here="/metrics",
            build=now.told,
            metric=told,
            standing=standing,
            dimension=dimension,
            ranges=[(value, text, value == days) for value, text in RANGES.items()],
            range=days,
            values=values[::-1],
            drawn=drawing.line([row["metric_value"] for row in values if row["is_complete"]], 960, 200),
            source=f"/api/metrics/{named.shown_as}/values?{urlencode(asked)}",
            week=published.change([row["metric_value"] for row in values if row["is_complete"]]),
            mart_names=set(now.build.row_counts),
        )

    @router.get("/experiments")
    def experiment_results() -> HTMLResponse:
        defined = {one.id: one for one in view.experiments()}
        with questions.reading("the experiments") as con:
            build, looks = None, []
            try:
                now = now_published(con)
                build, rows = now.told, query_rows(con, published.EXPERIMENTS)
                looks = published.looks(con)
            except NothingPublished:  # they can be judged without the marts
                rows = experiments.results(con, list(defined.values()))
        found = [
            _experiment(name, of_it, defined.get(name), [look for look in looks if look["experiment_id"] == name])
            for name, of_it in published.by_name(rows, "experiment_id").items()
        ]
        return render("experiments.html", here="/experiments", build=build, experiments=found)

    @router.get("/spend")
    def spend() -> HTMLResponse:
        with questions.reading("the spend") as con:
            try:
                now = now_published(con)
            except NothingPublished as problem:
                return unpublished("/spend", "Spend", problem)
            if not now.has("mart_acquisition"):
                raise HTTPException(404, "the published marts have no mart_acquisition")
            rows, gaps = published.spend(con), published.spend_gaps(con)
        return render("spend.html", here="/spend", build=now.told, months=_months(rows), gaps=gaps)

    return router


def _since(days: Mapping[str, Any] | None, asked: str) -> date | None:
    """The first day of a chart that reaches back so far from the last one."""
    if asked == "all" or not days or not days["last_day"]:
        return None
    return date.fromisoformat(days["last_day"]) - timedelta(days=int(asked) - 1)


def _metric_row(row: Row) -> Row:
    change = published.change(row["values"])
    way = "soft"
    if change is not None and round(abs(change) * 1000):
        way = "good" if (change > 0) == (row["good"] == "up") else "bad"
    return row | {"change": change, "way": way, "spark": drawing.line(row["values"])}


def _experiment(name: str, rows: Sequence[Row], defined: Experiment | None, looks: Sequence[Row]) -> Row:
    first = rows[0]
    decides = next((row["metric_name"] for row in rows if row["metric_role"] == "metric"), "")
    if defined is not None:
        decides = defined.metrics[0].name
    verdicts = {row["variation_id"]: row for row in rows if row["verdict"] is not None}
    arms = {row["variation_id"]: row for row in rows if row["metric_name"] == rows[0]["metric_name"]}
    return {
        "id": name,
        "label": (defined.label if defined and defined.label else None) or name,
        "mismatch": first["mismatch_p_value"] is not None and first["mismatch_p_value"] < 0.001,
        "mismatch_p_value": first["mismatch_p_value"],
        "arms": [(arm, row["persons"], row["is_control"]) for arm, row in arms.items()],
        "left_out": first["persons_in_several"] + first["persons_elsewhere"],
        "first_exposed_at": first["first_exposed_at"],
        "as_of": first["as_of"],
        "persons_needed": next((row["persons_needed"] for row in rows if row["persons_needed"]), None),
        "minimum_effect": defined.minimum_effect if defined else None,
        "verdicts": [
            {
                "variation": arm,
                "word": VERDICTS.get(row["verdict"], (row["verdict"], "soft"))[0],
                "way": VERDICTS.get(row["verdict"], ("", "soft"))[1],
                "sentence": row["verdict_sentence"],
            }
            for arm, row in verdicts.items()
        ],
        "metrics": [
            {"name": metric, "decides": metric == decides, "role": of_it[0]["metric_role"],
             "rows": [_variation(row, _reach(of_it)) for row in of_it]}
            for metric, of_it in published.by_name(rows, "metric_name").items()
        ],
        "looks": _looks([look for look in looks if look["metric_name"] == decides]),
        "decides": decides,
    }  # fmt: skip


def _variation(row: Row, reach: float) -> Row:
    share = row["metric_kind"] == "conversion"
    low, lift, high = row["sequential_low"], row["lift"], row["sequential_high"]
    known = None not in (low, lift, high)
    p_value = row["sequential_holm_p_value"]
    return {
        "variation": row["variation_id"],
        "is_control": row["is_control"],
        "persons": row["persons"],
        "mean": wording.share(row["mean"]) if share else wording.amount(row["mean"]),
        "lift": wording.signed(lift),
        "bounds": f"{wording.signed(low)} to {wording.signed(high)}" if known else wording.NOTHING,
        "interval": drawing.interval(low, lift, high, reach) if known else None,
        "p_value": row["sequential_p_value"] if p_value is None else p_value,
    }


def _reach(rows: Sequence[Row]) -> float:
    """How far a scale goes to both sides, so that all intervals of `rows` are on it; at most to twice or nothing."""
    ends = [abs(row[end]) for row in rows for end in ("sequential_low", "sequential_high") if row[end] is not None]
    return max([_REACH, *(min(1.1 * end, 1.0) for end in ends)])


def _looks(rows: Sequence[Row]) -> list[Row]:
    """By variation, how the interval of the deciding metric moved from build to build."""
    found = []
    for variation, of_it in published.by_name(rows, "variation_id").items():
        known = [row for row in of_it if None not in (row["sequential_low"], row["lift"], row["sequential_high"])]
        known = list({row["as_of"]: row for row in known}.values())  # of builds that know the same, the last
        reach = _reach(known)
        if len(known) > 1:
            told = [
                {
                    "as_of": row["as_of"],
                    "persons": row["persons"],
                    "lift": wording.signed(row["lift"]),
                    "bounds": f"{wording.signed(row['sequential_low'])} to {wording.signed(row['sequential_high'])}",
                    "interval": drawing.interval(row["sequential_low"], row["lift"], row["sequential_high"], reach),
                }
                for row in known
            ]
            found.append({"variation": variation, "rows": told})
    return found


def _months(rows: Sequence[Row]) -> list[Row]:
    months = []
    for month, of_it in published.by_name(rows, "month_start").items():
        names = ("spend_usd", "new_customers", "orders", "revenue_usd")
        whole = {name: sum(row[name] or 0 for row in of_it) for name in names}
        paid = [row for row in of_it if row["spend_usd"]]
        won = sum(row["new_customers"] or 0 for row in paid)
        whole |= {
            "cac_usd": whole["spend_usd"] / whole["new_customers"] if whole["new_customers"] and paid else None,
            "roas": whole["revenue_usd"] / whole["spend_usd"] if whole["spend_usd"] else None,
            "paid_cac_usd": whole["spend_usd"] / won if won else None,
        }
        most = max((row["spend_usd"] or 0 for row in of_it), default=0) or 1
        for row in of_it:
            row["part"] = round(100 * (row["spend_usd"] or 0) / most, 1)
        months.append({"month": month, "name": f"{date.fromisoformat(month):%B %Y}", "rows": of_it, "whole": whole})
    return months


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
