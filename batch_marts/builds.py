"""The record of the builds: which there were, which one is published, and what went wrong with the others.

Each build is a schema of its own, `build_NNNN`. What is published are views in the schema `marts` over the tables of
one build; they are exchanged in one transaction, because DuckDB can neither rename a schema nor move a table.

The rows of the largest tables are shared: a full build puts them in a schema `rows_NNNN`, and those that carry over
from it add to them (macros/versioned.sql). A build shows the rows whose from_build is at most its number and whose
to_build is greater or null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal

import duckdb

from batch_marts.dbt import Finding
from batch_marts.pins import Pin

PUBLISHED: Final = "marts"
"""The schema that everybody reads."""

Status = Literal["building", "published", "replaced", "failed"]
Kind = Literal["full", "incremental"]

_PIN: Final = tuple(each.name for each in fields(Pin))
_COLUMNS: Final = (
    *("build_id", "build_schema", "kind", "status", "started_at", "finished_at", "published_at", *_PIN),
    *("settings", "row_counts", "changes", "message"),
)
_NEEDED_LATER: Final = (
    "pinned_overrides",
    "pinned_merges",
    "pinned_bot_devices",
    "pinned_copies",
    "pinned_session_days",
)
"""What the next build compares itself with, of what was pinned."""


@dataclass(frozen=True, slots=True)
class Build:
    """One build. Times are aware UTC; what is None is not known (yet)."""

    build_id: int
    build_schema: str
    kind: Kind
    status: Status
    started_at: datetime
    finished_at: datetime | None = None
    published_at: datetime | None = None
    pin: Pin | None = None
    """What it saw, if it came so far."""
    settings: str | None = None
    """A digest of everything but the data that a build depends on: another one, and no day can be carried over."""
    row_counts: Mapping[str, int] = field(default_factory=dict)
    """Rows of each mart."""
    changes: Sequence[Mapping[str, Any]] = ()
    """What differs from what was published before: the greatest relative change first."""
    message: str | None = None


def builds(con: duckdb.DuckDBPyConnection) -> list[Build]:
    """Every build on record, the newest first."""
    query = f"select {', '.join(_COLUMNS)} from refreshes.builds order by build_id desc"
    return [_build(row) for row in con.execute(query).fetchall()]


def published(con: duckdb.DuckDBPyConnection) -> Build | None:
    """The build that everybody reads, if there is one."""
    return next((build for build in builds(con) if build.status == "published"), None)


def findings_of(con: duckdb.DuckDBPyConnection, build_id: int) -> list[Finding]:
    """What went wrong in a build."""
    rows = con.execute(
        "select what, about, says, failures, relation from refreshes.findings where build_id = ? order by all",
        [build_id],
    ).fetchall()
    return [Finding(*row) for row in rows]


def begin(con: duckdb.DuckDBPyConnection, kind: Kind, now: datetime) -> Build:
    """A new build on record, in a transaction of `con`. One that never ended, because its process did, has failed."""
    con.execute(
        "update refreshes.builds set status = 'failed', finished_at = ?, message = ? where status = 'building'",
        [now, "Its process ended before it did."],
    )
    row = con.execute("select coalesce(max(build_id), 0) + 1 from refreshes.builds").fetchone()
    assert row is not None
    build = Build(row[0], f"build_{row[0]:04d}", kind, "building", now)
    save(con, build)
    return build


def rows_schema(con: duckdb.DuckDBPyConnection, build: Build) -> str:
    """Where the rows are that `build` shares with others: those of the last full build up to it that did not fail."""
    full = (each.build_id for each in builds(con) if each.kind == "full" and each.status != "failed")
    return f"rows_{max(number for number in full if number <= build.build_id):04d}"


def save(con: duckdb.DuckDBPyConnection, build: Build, findings: Sequence[Finding] = ()) -> None:
    """Puts `build` on record, in the place of what is there of it."""
    con.execute("delete from refreshes.builds where build_id = ?", [build.build_id])
    values = [getattr(build.pin if name in _PIN else build, name, None) for name in _COLUMNS]
    values = [json.dumps(value) if isinstance(value, (dict, list, tuple)) else value for value in values]
    marks = ", ".join("?" * len(values))
    con.execute(f"insert into refreshes.builds ({', '.join(_COLUMNS)}) values ({marks})", values)
    for finding in findings:
        con.execute(
            "insert into refreshes.findings values (?, ?, ?, ?, ?, ?)",
            [build.build_id, finding.what, finding.about, finding.says, finding.failures, finding.relation],
        )


def publish(con: duckdb.DuckDBPyConnection, build: Build) -> None:
    """Lets the views in `marts` show `build`, and nothing else, once the transaction ends; and records that."""
    con.execute(f"create schema if not exists {PUBLISHED}")
    for mart in build.row_counts:
        con.execute(f'create or replace view {PUBLISHED}."{mart}" as select * from {build.build_schema}."{mart}"')
    for view in set(_names(con, "view", PUBLISHED)) - set(build.row_counts):
        con.execute(f'drop view {PUBLISHED}."{view}"')
    con.execute("update refreshes.builds set status = 'replaced' where status = 'published'")
    save(con, build)


def drop_failed(con: duckdb.DuckDBPyConnection) -> None:
    """Removes what failed builds left: the rows that failed are kept for a look until the next build only."""
    there = schemas(con)
    failed = [build for build in builds(con) if build.status == "failed" and build.build_schema in there]
    for build in failed:
        con.execute(f"drop schema {build.build_schema} cascade")
        con.execute(f"drop schema if exists rows_{build.build_id:04d} cascade")
    if failed:
        numbers = [build.build_id for build in failed]
        for schema, name in _shared(con):
            table = f'{schema}."{name}"'
            con.execute(f"delete from {table} where from_build in $numbers", {"numbers": numbers})
            con.execute(f"update {table} set to_build = null where to_build in $numbers", {"numbers": numbers})


def drop_scratch(con: duckdb.DuckDBPyConnection) -> None:
    """Removes what trial builds left (batch_marts.impact.values), which drop it themselves unless they are killed."""
    rows = con.execute(
        "select schema_name from duckdb_schemas() where database_name = current_database() "
        "and starts_with(schema_name, 'scratch_')"
    ).fetchall()
    for (name,) in rows:
        con.execute(f'drop schema "{name}" cascade')


def columns(con: duckdb.DuckDBPyConnection, schema: str) -> dict[str, dict[str, str]]:
    """Of each table of a build's schema the types of its columns, in their order."""
    rows = con.execute(
        "select table_name, column_name, data_type from duckdb_columns() where schema_name = ? "
        "and database_name = current_database() order by table_name, column_index",
        [schema],
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, data_type in rows:
        found.setdefault(table, {})[column] = data_type
    return found


def tidy(con: duckdb.DuckDBPyConnection, build: Build, kept: int) -> None:
    """Drops builds beyond the `kept` that can be gone back to, and what only the making of `build` needed."""
    there = schemas(con)
    old = [b for b in builds(con) if b.status == "replaced" and b.build_schema in there]
    for each in old[kept - 1 :]:
        con.execute(f"drop schema {each.build_schema} cascade")
    stay = [build, *old[: kept - 1]]
    needed = {rows_schema(con, each) for each in stay}
    oldest = min(each.build_id for each in stay)
    for schema, table in _shared(con):
        if schema in needed:
            con.execute(f'delete from {schema}."{table}" where to_build <= {oldest}')
        else:
            con.execute(f"drop schema if exists {schema} cascade")
    shared = {table for _, table in _shared(con)}
    for view in set(_names(con, "view", build.build_schema)) - set(build.row_counts) - shared:
        con.execute(f'drop view {build.build_schema}."{view}"')
    for table in _names(con, "table", build.build_schema):
        if table.startswith("pinned_") and table not in _NEEDED_LATER:
            con.execute(f'drop table {build.build_schema}."{table}"')


def schemas(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The schemas of builds that are still there."""
    rows = con.execute(
        "select schema_name from duckdb_schemas() where database_name = current_database() "
        "and regexp_matches(schema_name, '^build_[0-9]{4,}$')"
    ).fetchall()
    return {name for (name,) in rows}


def _shared(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Tables of rows that builds share: schema, name."""
    return con.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = current_database() "
        "and regexp_matches(schema_name, '^rows_[0-9]{4,}$') order by all"
    ).fetchall()


def _names(con: duckdb.DuckDBPyConnection, kind: Literal["view", "table"], schema: str) -> list[str]:
    rows = con.execute(
        f"select {kind}_name from duckdb_{kind}s() where schema_name = ? and database_name = current_database()",
        [schema],
    ).fetchall()
    return [name for (name,) in rows]


_OF_PERSONS: Final = ("person_id", "customer_id", "prospect_id", "merged_into", "user_id")
_OF_DEVICES: Final = ("anonymous_id",)


def forget(con: duckdb.DuckDBPyConnection, persons: Sequence[str], devices: Sequence[str]) -> int:
    """Removes the rows that tell of these persons (person_ids) and devices (anonymous_ids) from every build, in a
    transaction of `con`; sums of many persons stay. Returns how many rows of the published one that were.

    Builds that failed, and trial ones, are dropped: the rows that they keep for a look may be of anybody.
    """
    drop_failed(con)
    drop_scratch(con)
    ids = {name: [*persons, *(f"anon:{device}" for device in devices)] for name in _OF_PERSONS}
    ids |= {name: list(devices) for name in _OF_DEVICES}
    shown = published(con)
    where = {}  # the rows that everybody reads, by schema
    if shown is not None:
        of_it = f"from_build <= {shown.build_id} and coalesce(to_build > {shown.build_id}, true)"
        where = {shown.build_schema: "true", rows_schema(con, shown): of_it}
    removed = 0
    for schema, table, columns in con.execute(
        "select c.schema_name, c.table_name, list(c.column_name) from duckdb_columns() as c "
        "join duckdb_tables() as t using (database_name, schema_name, table_name) "
        "where c.database_name = current_database() and regexp_matches(c.schema_name, '^(build|rows)_[0-9]{4,}$') "
        "and list_contains(?, c.column_name) group by all order by all",
        [list(ids)],
    ).fetchall():
        told = " or ".join(f'list_contains($ids_of_{column}, "{column}")' for column in columns)
        values = {f"ids_of_{column}": ids[column] for column in columns}
        if schema in where:
            counted = f'select count(*) from {schema}."{table}" where ({told}) and {where[schema]}'
            ((count,),) = con.execute(counted, values).fetchall()
            removed += count
        con.execute(f'delete from {schema}."{table}" where {told}', values)
    return removed


def _build(row: tuple[Any, ...]) -> Build:
    values = dict(zip(_COLUMNS, row, strict=True))
    seen = {name: values.pop(name) for name in _PIN}
    values["pin"] = Pin(**seen) if seen["as_of"] is not None else None
    values["row_counts"] = json.loads(values["row_counts"])
    values["changes"] = json.loads(values["changes"])
    return Build(**values)
