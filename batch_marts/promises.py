"""What readers of the marts were promised, and a build breaks: nothing of that is published before they were told.

A mart, a column or a metric that is published stays, and a column keeps its type, until those downstream were told
(`changes`) and the notice period is over. So a breaking change waits for its day, whoever merged it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb

from batch_marts import builds, changes
from batch_marts.builds import Build
from batch_marts.changes import AnnouncedChange, Coming
from batch_marts.dbt import Finding
from batch_marts.impact.kinds import What
from batch_marts.impact.meaning import digest_of
from batch_marts.metrics import DAILY, Metric

Kept = dict[str, dict[str, str]]
"""By mart, the types of its columns."""


def broken(con: duckdb.DuckDBPyConnection, build: Build, metrics: Sequence[Metric], now: datetime) -> list[Coming]:
    """What is published and would be gone, or another type, with `build`, and that is not announced and in force.

    `metrics` are all that are defined; one whose day in `retired` has come may go.
    """
    shown = builds.published(con)
    if shown is None:
        return []
    before, after = _columns(con, shown), _columns(con, build)
    found = []
    for mart, columns in before.items():
        if mart not in after:
            found.append(_coming(mart, None, None, "mart_removed", f"The mart {mart} is gone.", mart, None))
            continue
        for column, data_type in columns.items():
            now_type = after[mart].get(column)
            if now_type is None:
                told = f"The column {column} of {mart} is gone."
                found.append(_coming(mart, column, None, "column_removed", told, data_type, None))
            elif now_type != data_type:
                told = f"The column {column} of {mart} is {now_type} instead of {data_type}."
                found.append(_coming(mart, column, None, "column_retyped", told, data_type, now_type))
    if DAILY in before and DAILY in after:
        for metric in sorted(_metrics(con, shown) - {one.shown_as for one in metrics}):
            told = f"The metric {metric} is gone."
            found.append(_coming(DAILY, None, metric, "metric_removed", told, metric, None))
    known = changes.in_force(con, now)
    return [one for one in found if not {(one.mart, one.column_name or one.metric), (one.mart, None)} & known]


def findings(con: duckdb.DuckDBPyConnection, coming: list[Coming], now: datetime) -> list[Finding]:
    """Why these keep a build from being published."""
    waiting = changes.pending(con, now)
    return [Finding(f"{one.what}", one.mart, f"{one.says} {_why(one, waiting)}") for one in coming]


def _why(one: Coming, waiting: list[AnnouncedChange]) -> str:
    name = one.column_name or one.metric
    for each in waiting:
        if each.mart == one.mart and (each.column_name or each.metric) in (name, None):
            return f"It is announced for {each.in_force_at.astimezone(UTC).date().isoformat()}, and waits until then"
    return "Nobody was told of it: `stitchline marts announce --base REV` does, or `marts refresh --because REASON`"


def _columns(con: duckdb.DuckDBPyConnection, build: Build) -> Kept:
    every = builds.columns(con, build.build_schema)
    return {table: columns for table, columns in every.items() if table in build.row_counts}


def _metrics(con: duckdb.DuckDBPyConnection, build: Build) -> set[str]:
    rows = con.execute(f"select distinct metric_name from {build.build_schema}.{DAILY}").fetchall()
    return {name for (name,) in rows}


def _coming(
    mart: str, column: str | None, metric: str | None, what: What, says: str, before: str | None, after: str | None
) -> Coming:
    change_id = digest_of("published", mart, column or "", metric or "", what, before or "", after or "")[:16]
    return Coming(change_id, mart, metric, column, what, True, says, before, after, readers=())
