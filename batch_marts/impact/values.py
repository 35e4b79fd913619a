"""Builds two revisions of the marts over one warehouse, in scratch schemas that are dropped, and compares them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import duckdb

from batch_marts import builds
from batch_marts.dbt import Finding, Project
from batch_marts.experiments import load_experiments, settings_table
from batch_marts.impact.report import Difference, Values
from batch_marts.impact.revisions import Prepared
from batch_marts.metrics import DAILY
from batch_marts.pins import pin
from batch_marts.refresh import Funnels, MartRules
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError

_BEFORE: Final = "scratch_before"
_AFTER: Final = "scratch_after"
_NUMBERS: Final = ("BIGINT", "INTEGER", "DOUBLE", "DECIMAL", "HUGEINT", "FLOAT")
_CHANGED: Final = """
select coalesce(was.metric_name, now.metric_name) as metric_name, was.metric_date::varchar as day,
    was.metric_value as before, now.metric_value as after
from (from {before} where dimension = 'all' and is_complete) as was
full join (from {after} where dimension = 'all' and is_complete) as now using (metric_date, metric_name)
where was.metric_name is not null and now.metric_name is not null
  and abs(now.metric_value - was.metric_value) > 1e-9 * greatest(abs(was.metric_value), 1)
order by all
"""
_AVERAGES: Final = "select metric_name, avg(metric_value) from {} where dimension = 'all' and is_complete group by all"
_SAME: Final = 1e-9
"""Relative: sums of doubles depend on the order in which they are added."""


def values_over(
    warehouse: Warehouse, rules: MartRules, funnels: Funnels, was: Prepared, now: Prepared, folder: Path
) -> Values:
    """What two revisions make of the same moment of a warehouse. Nothing of it stays; what is published is as it was.

    Raises StitchlineError if the earlier one cannot be built; that of the later one is said.
    """
    experiments = load_experiments(rules.experiments)
    with warehouse.transaction() as con:
        builds.drop_scratch(con)
    try:
        with warehouse.reader() as con:
            pin(con, _BEFORE, None, funnels.window, funnels.days, settings_table(experiments))
            con.execute(f"create schema {_AFTER}")
            for table in _tables(con, _BEFORE):
                con.execute(f'create table {_AFTER}."{table}" as from {_BEFORE}."{table}"')
        variables = rules.variables_with(experiments)
        if failed := _build(warehouse, folder / "built before", _BEFORE, was, variables):
            raise StitchlineError(f"{was.revision.label} cannot be built over {warehouse.path}: {failed}")
        failed = _build(warehouse, folder / "built after", _AFTER, now, variables)
        with warehouse.reader() as con:
            return _compared(con, failed)
    finally:
        with warehouse.transaction() as con:
            builds.drop_scratch(con)


def _build(warehouse: Warehouse, folder: Path, schema: str, revision: Prepared, variables: Mapping[str, Any]) -> str:
    """Builds it, and says what could not be made, or which tests failed."""
    project = Project(warehouse, folder, schema, revision.metrics, revision.places.project, revision.models)
    of_it = {"build_id": 1, "rows_schema": f"{schema}_rows"}
    found = project.build(dict(variables) | of_it, lambda what, done, of: None, threading.Event())
    return "; ".join(_said(one) for one in found[:8])


def _said(one: Finding) -> str:
    return f"{one.about}: {one.says}"


def _compared(con: duckdb.DuckDBPyConnection, failed: str) -> Values:
    before, after = (_marts(con, schema) for schema in (_BEFORE, _AFTER))
    rows, sums = [], []
    for mart in sorted(before.keys() | after.keys()):
        count = f'select count(*) from {{}}."{mart}"'
        was = _one(con, count.format(_BEFORE)) if mart in before else None
        now = _one(con, count.format(_AFTER)) if mart in after else None
        rows.append(Difference(mart, was, now))
        both = [name for name in before.get(mart, ()) if name in after.get(mart, ())]
        for column in both if mart != DAILY else ():
            was, now = (_one(con, f'select sum("{column}") from {schema}."{mart}"') for schema in (_BEFORE, _AFTER))
            if not _alike(was, now):
                sums.append(Difference(f"{mart}.{column}", was, now))
    metrics = _metrics(con) if DAILY in before and DAILY in after else []
    return Values(rows, sums, metrics, failed)


def _metrics(con: duckdb.DuckDBPyConnection) -> list[Difference]:
    days: dict[str, list[tuple[str, float | None, float | None]]] = {}
    names = {"before": f"{_BEFORE}.{DAILY}", "after": f"{_AFTER}.{DAILY}"}
    for metric, day, before, after in con.execute(_CHANGED.format(**names)).fetchall():
        days.setdefault(metric, []).append((day, before, after))
    averages = [dict(con.execute(_AVERAGES.format(name)).fetchall()) for name in names.values()]
    changed = sorted(days.keys() | (averages[0].keys() ^ averages[1].keys()))
    return [Difference(one, averages[0].get(one), averages[1].get(one), days.get(one, ())) for one in changed]


def _marts(con: duckdb.DuckDBPyConnection, schema: str) -> dict[str, list[str]]:
    """The marts of a scratch schema, each with its columns of numbers."""
    return {
        table: [column for column, data_type in columns.items() if data_type.startswith(_NUMBERS)]
        for table, columns in builds.columns(con, schema).items()
        if not table.startswith(("pinned_", "stg_", "int_"))
    }


def _tables(con: duckdb.DuckDBPyConnection, schema: str) -> Sequence[str]:
    rows = con.execute(
        "select table_name from duckdb_tables() where schema_name = ? and database_name = current_database()", [schema]
    ).fetchall()
    return [name for (name,) in rows]


def _one(con: duckdb.DuckDBPyConnection, query: str) -> float | None:
    with suppress(duckdb.ConversionException):
        row = con.execute(query).fetchone()
        return None if row is None or row[0] is None else float(row[0])
    return None


def _alike(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is after
    return abs(after - before) <= _SAME * max(abs(before), 1)
