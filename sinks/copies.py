"""A whole database copied into another file: every row that is there, and nothing that was deleted."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

import duckdb

from sinks.warehouse import Progress, stored_progress, sync
from stitchline.errors import WarehouseError


def copy_database(con: duckdb.DuckDBPyConnection, file: Path) -> tuple[dict[str, int], dict[tuple[str, int], Progress]]:
    """Copies what `con` reads, as it is committed at one moment, into the new `file`, which is on the disk then.
    Returns the rows of each table, by "schema.table", and where the flow stood.

    Raises duckdb.Error or OSError if it cannot be done, and WarehouseError if the copy is not the same.
    """
    name = f"copy-{uuid.uuid4()}"
    con.execute(f"attach '{str(file).replace(chr(39), chr(39) * 2)}' as \"{name}\" (storage_version 'latest')")
    try:
        source = con.execute("select current_database()").fetchone()
        assert source is not None
        con.execute("begin transaction")
        try:
            con.execute(f'copy from database {_quoted(source[0])} to "{name}"')
            progress, rows = stored_progress(con), _rows(con, source[0])
            con.execute("commit")
        except duckdb.Error:
            with suppress(duckdb.Error):  # a commit that failed has done so itself
                con.execute("rollback")
            raise
        if (copied := _rows(con, name)) != rows:
            raise WarehouseError(f"The copy {file} has rows {copied} instead of {rows}.", path=file)
    except BaseException:
        with suppress(duckdb.Error):
            con.execute(f'detach "{name}"')
        raise
    con.execute(f'detach "{name}"')  # writes its log into its file
    sync(file)
    return rows, progress


def _rows(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, int]:
    """Rows of each table of `database`, by "schema.table"."""
    tables = con.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = ? and not temporary order by all",
        [database],
    ).fetchall()
    rows = {}
    for schema, table in tables:
        counted = con.execute(f"select count(*) from {_quoted(database)}.{_quoted(schema)}.{_quoted(table)}").fetchone()
        assert counted is not None
        rows[f"{schema}.{table}"] = int(counted[0])
    return rows


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
