"""One read-only SQL statement from a stranger: what it may do, how long, and its rows as JSON values.

The warehouse's connection is shared with the flow, so DuckDB's own lock (`enable_external_access`) cannot be set for
one reader. Three fences stand instead: exactly one statement that only reads; a look at its syntax tree that lets no
table function and no table name through which could reach a file or the network; a READ ONLY transaction around it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa

from service.web.rows import json_rows
from stitchline.errors import StitchlineError, UsageError

ROW_CAP = 100_000
"""More rows than anybody reads; whoever needs them all takes a snapshot."""

TABLE_ROW_CAP = 1_000_000
"""Rows for a program, which takes them as columns."""

BYTE_CAP = 256 * 1024 * 1024
"""The rows are held in memory beside the flow, which has 2 GB in all."""

_BATCH_ROWS = 10_000

_INTERRUPT_AGAIN = timedelta(milliseconds=20)
"""An interrupt that falls between two queries is lost."""

_TABLE_FUNCTIONS = frozenset(
    """duckdb_columns duckdb_constraints duckdb_databases duckdb_dependencies duckdb_functions duckdb_indexes
    duckdb_keywords duckdb_memory duckdb_schemas duckdb_sequences duckdb_tables duckdb_types duckdb_views
    generate_series histogram histogram_values icu_calendar_names json_each json_tree pg_timezone_names
    pragma_collations pragma_database_size pragma_platform pragma_show pragma_storage_info pragma_table_info
    pragma_version range repeat repeat_row summary test_all_types unnest""".split()  # noqa: SIM905
)
"""Table functions that stay inside the database. A list of the good ones: extensions bring new bad ones."""

_REFUSED_FUNCTIONS = frozenset(
    """current_setting getenv currval nextval write_log pg_sleep sleep_ms
    json_execute_serialized_sql query query_table""".split()  # noqa: SIM905
)
"""Functions that read settings (they may hold secrets), write, wait, or run text as SQL."""

_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?(\(\s*(analyze|format\s+\w+|,|\s)*\)\s*)?", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"\w+")
_ONLY_READS = "write one SELECT (also WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW TABLES or EXPLAIN)"


class StatementRefused(UsageError):
    """A statement is wrong or does more than read; facts: sql."""


class DeadlinePassed(StitchlineError):
    """A query took longer than it may; facts: timeout."""


def read_rows(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    timeout: timedelta = timedelta(seconds=30),
    row_cap: int = ROW_CAP,
) -> list[dict[str, Any]]:
    """All rows that `sql` answers, as JSON values (times in ISO 8601 UTC, blobs in base64, NaN and infinity null).

    Raises what `read_table` does.
    """
    return json_rows(*read_table(con, sql, timeout=timeout, row_cap=row_cap))


def read_table(
    con: duckdb.DuckDBPyConnection,
    sql: str,
    *,
    timeout: timedelta = timedelta(seconds=30),
    row_cap: int = TABLE_ROW_CAP,
) -> tuple[pa.Table, list[str]]:
    """All that `sql` answers, and DuckDB's types of its columns.

    `con` is a cursor of its own (`Warehouse.reader()`): its transaction is used, and interrupted at the time-out.
    Raises StatementRefused for a statement that is wrong, does more than read, or answers more than `row_cap` rows,
    DeadlinePassed when `timeout` is over.
    """
    try:
        statement = readable_statement(con, sql)
        con.execute("set python_enable_replacements = false")  # else a name could mean one of our Python variables
        con.execute("begin transaction read only")
        try:
            with deadline(con, timeout, "the statement"):
                reader = con.execute(statement).to_arrow_reader(_BATCH_ROWS)
                types = [str(column[1]) for column in con.description or ()]
                return _capped(reader, row_cap), types
        finally:
            con.execute("rollback")
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise StatementRefused(_first_words(error), sql=sql) from error


def readable_statement(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one statement of `sql`, checked to do nothing but read the database; raises StatementRefused."""
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        count = "no statement" if not statements else f"{len(statements)} statements"
        raise StatementRefused(f"found {count} where one is wanted: {_ONLY_READS}", sql=sql)
    kind = statements[0].type
    text, prefix = statements[0].query, ""
    if kind == duckdb.StatementType.EXPLAIN and (match := _EXPLAIN.match(text)):
        text, prefix = text[match.end() :], match[0]
    elif kind != duckdb.StatementType.SELECT:
        raise StatementRefused(f"{kind.name} is not read-only: {_ONLY_READS}", sql=sql)
    _refuse_reaching_out(con, _syntax_tree(con, text))
    return prefix + text


@contextmanager
def deadline(con: duckdb.DuckDBPyConnection, timeout: timedelta, what: str) -> Iterator[None]:
    """Interrupts what `con` runs in the block once `timeout` is over, and raises DeadlinePassed then."""
    lock, finished = threading.Lock(), threading.Event()
    passed = False

    def watch() -> None:
        nonlocal passed
        wait = timeout
        while not finished.wait(wait.total_seconds()):
            with lock:  # never interrupt what comes after the block
                if not finished.is_set():
                    passed = True
                    con.interrupt()
            wait = _INTERRUPT_AGAIN

    threading.Thread(target=watch, name="page-deadline", daemon=True).start()
    try:
        yield
    except (duckdb.Error, OSError) as error:  # pyarrow's reader hands DuckDB's errors on as OSError
        if not passed:
            raise
        seconds = timeout.total_seconds()
        raise DeadlinePassed(
            f"{what} took longer than {seconds:g} s and was stopped: narrow its time range or count less",
            timeout=timeout,
        ) from error
    finally:
        with lock:
            finished.set()


def _syntax_tree(con: duckdb.DuckDBPyConnection, text: str) -> list[Any]:
    (serialized,) = con.execute("select json_serialize_sql(?)", [text]).fetchone() or ("{}",)
    try:
        tree = json.loads(serialized)
    except RecursionError:
        raise StatementRefused("the statement is nested too deeply: write it flatter", sql=text) from None
    if tree.get("error", True):
        raise StatementRefused(f"the statement cannot be checked to be read-only: {_ONLY_READS}", sql=text)
    if len(tree["statements"]) != 1:
        raise StatementRefused(f"found {len(tree['statements'])} statements where one is wanted", sql=text)
    return [tree["statements"]]


def _refuse_reaching_out(con: duckdb.DuckDBPyConnection, tree: list[Any]) -> None:
    relations: set[str] | None = None
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in _TABLE_FUNCTIONS:
                raise StatementRefused(f"{name}() is not open here: read tables and views of the warehouse", name=name)
        elif kind == "BASE_TABLE":
            parts = [node.get(part) for part in ("catalog_name", "schema_name", "table_name")]
            name = ".".join(part for part in parts if part)
            # A name without a dot can be no file; one with a dot may be, so it has to be in the catalogue.
            if _PLAIN_NAME.fullmatch(name):
                continue
            if relations is None:
                relations = _relations(con)
            if name.lower() not in relations:
                raise StatementRefused(f"there is no table or view {name}: `show all tables` lists them", name=name)
        elif str(node.get("function_name", "")).lower() in _REFUSED_FUNCTIONS:
            name = node["function_name"]
            raise StatementRefused(f"{name}() is not open here: read tables and views of the warehouse", name=name)


def _relations(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Every table and view by each of its qualified names, in lower case."""
    found = con.execute(
        """select database_name, schema_name, table_name from duckdb_tables()
        union all select database_name, schema_name, view_name from duckdb_views()"""
    ).fetchall()
    names = set()
    for database, schema, relation in found:
        names |= {f"{database}.{schema}.{relation}", f"{schema}.{relation}", f"{database}.{relation}"}
    return {name.lower() for name in names}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in `tree`, without recursion: a hostile statement may be nested deeply."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _capped(reader: pa.RecordBatchReader, row_cap: int) -> pa.Table:
    batches, rows, size = [], 0, 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows > row_cap:
            raise StatementRefused(f"the answer has more than {row_cap:,} rows: add a LIMIT or aggregate", rows=rows)
        if size > BYTE_CAP:
            raise StatementRefused(f"the answer is larger than {BYTE_CAP:,} bytes: select fewer columns", rows=rows)
    return pa.Table.from_batches(batches, reader.schema)


def _first_words(error: BaseException) -> str:
    """DuckDB's message without its copy of the statement."""
    return str(error).split("\n\nLINE ", 1)[0].strip()
