"""The record of the builds: which there were, which one is published, and what went wrong with the others.

Each build is a schema of its own, `build_NNNN`. What is published are views in the schema `marts` over the tables of
one build; they are exchanged in one transaction, because DuckDB can neither rename a schema nor move a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import duckdb

from batch_marts.dbt import Finding
from batch_marts.pins import Pin

PUBLISHED: Final = "marts"
"""The schema that everybody reads."""

Status = Literal["building", "published", "replaced", "failed"]
Kind = Literal["full", "incremental"]

_COLUMNS: Final = (
    "build_id, build_schema, kind, status, started_at, finished_at, published_at, as_of, last_row, events, forgotten, "
    "generation, settings, row_counts, changes, message"
)


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
    as_of: datetime | None = None
    last_row: int | None = None
    events: int | None = None
    forgotten: int | None = None
    generation: str | None = None
    settings: str | None = None
    """A digest of everything but the data that a build depends on: another one, and no day can be carried over."""
    row_counts: Mapping[str, int] = field(default_factory=dict)
    """Rows of each mart."""
    changes: Sequence[Mapping[str, Any]] = ()
    """What differs from what was published before: see `refresh.compare`."""
    message: str | None = None

    @property
    def pin(self) -> Pin | None:
        """What it saw, if it came so far."""
        if None in (self.as_of, self.last_row, self.events, self.forgotten, self.generation):
            return None
        assert self.as_of is not None
        assert self.last_row is not None
        assert self.events is not None
        assert self.forgotten is not None
        assert self.generation is not None
        return Pin(self.as_of, self.last_row, self.events, self.forgotten, self.generation)


def builds(con: duckdb.DuckDBPyConnection) -> list[Build]:
    """Every build on record, the newest first."""
    return [
        _build(row) for row in con.execute(f"select {_COLUMNS} from refreshes.builds order by build_id desc").fetchall()
    ]


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


def save(con: duckdb.DuckDBPyConnection, build: Build, findings: Sequence[Finding] = ()) -> None:
    """Puts `build` on record, in the place of what is there of it."""
    con.execute("delete from refreshes.builds where build_id = ?", [build.build_id])
    values = [getattr(build, name) for name in _COLUMNS.split(", ")]
    values = [json.dumps(value) if isinstance(value, (dict, list, tuple)) else value for value in values]
    con.execute(f"insert into refreshes.builds ({_COLUMNS}) values ({', '.join('?' * len(values))})", values)
    for finding in findings:
        con.execute(
            "insert into refreshes.findings values (?, ?, ?, ?, ?, ?)",
            [build.build_id, finding.what, finding.about, finding.says, finding.failures, finding.relation],
        )


def publish(con: duckdb.DuckDBPyConnection, build: Build, marts: Sequence[str]) -> None:
    """Lets the views in `marts` show `build` from the end of the transaction on, and nothing else."""
    con.execute(f"create schema if not exists {PUBLISHED}")
    for mart in marts:
        con.execute(f'create or replace view {PUBLISHED}."{mart}" as select * from {build.build_schema}."{mart}"')
    for view in published_marts(con):
        if view not in marts:
            con.execute(f'drop view {PUBLISHED}."{view}"')
    con.execute("update refreshes.builds set status = 'replaced' where status = 'published'")


def published_marts(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the marts that everybody reads."""
    rows = con.execute(
        "select view_name from duckdb_views() "
        "where schema_name = ? and database_name = current_database() order by all",
        [PUBLISHED],
    ).fetchall()
    return [name for (name,) in rows]


def schemas(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The schemas of builds that are still there."""
    rows = con.execute(
        "select schema_name from duckdb_schemas() where database_name = current_database() "
        "and regexp_matches(schema_name, '^build_[0-9]{4,}$')"
    ).fetchall()
    return {name for (name,) in rows}


_OF_PERSONS: Final = ("person_id", "customer_id", "prospect_id", "merged_into", "user_id")
_OF_DEVICES: Final = ("anonymous_id",)


def forget(con: duckdb.DuckDBPyConnection, persons: Sequence[str], devices: Sequence[str]) -> int:
    """Removes the rows that tell of these persons (person_ids) and devices (anonymous_ids) from every build, in a
    transaction of `con`; sums of many persons stay. Returns how many rows of the published one that were.

    Builds that failed are dropped: the rows that they keep for a look may be of anybody.
    """
    every = builds(con)
    there = schemas(con)
    removed = 0
    ids = {name: [*persons, *(f"anon:{device}" for device in devices)] for name in _OF_PERSONS}
    ids |= {name: list(devices) for name in _OF_DEVICES}
    for build in every:
        if build.build_schema not in there:
            continue
        if build.status not in ("published", "replaced"):
            con.execute(f"drop schema {build.build_schema} cascade")
            continue
        for table, columns in con.execute(
            "select c.table_name, list(c.column_name) from duckdb_columns() as c "
            "join duckdb_tables() as t using (database_name, schema_name, table_name) "
            "where c.database_name = current_database() and c.schema_name = ? and list_contains(?, c.column_name) "
            "group by c.table_name",
            [build.build_schema, list(ids)],
        ).fetchall():
            told = " or ".join(f'list_contains($ids_of_{column}, "{column}")' for column in columns)
            row = con.execute(
                f'delete from {build.build_schema}."{table}" where {told}',
                {f"ids_of_{column}": ids[column] for column in columns},
            ).fetchone()
            assert row is not None
            removed += row[0] if build.status == "published" else 0
    return removed


def _build(row: tuple[Any, ...]) -> Build:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["row_counts"] = json.loads(values["row_counts"])
    values["changes"] = json.loads(values["changes"])
    return Build(**values)
