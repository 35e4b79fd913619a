"""Query answers as JSON values: one object a row, the same whoever asks (page, API, command line)."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

_DEEPEST = 100
"""Levels of a JSON value that are passed on as a value: writers and readers of JSON give up at some hundreds."""


def query_rows(con: duckdb.DuckDBPyConnection, sql: str, parameters: object = None) -> list[dict[str, Any]]:
    """The rows of one of our own queries, as `json_rows` makes them."""
    table = con.execute(sql, parameters).to_arrow_table()
    return json_rows(table, [str(column[1]) for column in con.description or ()])


def json_rows(table: pa.Table, types: Iterable[str]) -> list[dict[str, Any]]:
    """One dict a row of `table`, whose columns have DuckDB's `types`, holding JSON values only.

    Times are ISO 8601 UTC with microseconds ("2026-01-31T09:30:00.000000Z"; a time without zone counts as UTC), dates
    "2026-01-31", intervals ISO 8601 durations, blobs base64, decimals numbers, JSON what it says, NaN and infinity
    null. A name that occurs twice gets a number: a, a_1.
    """
    names = _unique(table.column_names)
    columns = [_json_column(column, kind) for column, kind in zip(table.columns, types, strict=True)]
    if not columns:
        return []
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def iso_utc(at: datetime) -> str:
    """`at` in UTC, as the API writes it; a time without zone counts as UTC.

    >>> iso_utc(datetime(2026, 1, 31, 9, 30, tzinfo=UTC))
    '2026-01-31T09:30:00.000000Z'
    """
    utc = at.astimezone(UTC) if at.tzinfo else at
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _json_column(column: pa.ChunkedArray, kind: str) -> list[Any]:
    arrow = column.type
    if pa.types.is_timestamp(arrow):
        return _times(column, arrow.unit, "Z")
    if pa.types.is_date(arrow):
        return _times(column, "D", "")
    values = column.to_pylist()
    if kind == "JSON":
        return [_parsed(text) for text in values]
    if kind.startswith("MAP("):
        return [value if value is None else json_value(dict(value)) for value in values]
    if pa.types.is_integer(arrow) or pa.types.is_string(arrow) or pa.types.is_boolean(arrow):
        return values
    return [json_value(value) for value in values]


def json_value(value: Any) -> Any:
    """One Python value as a JSON value, nested ones too."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    for kinds, make in _MAKERS:
        if isinstance(value, kinds):
            return make(value)
    return str(value)  # uuid, and whatever type DuckDB adds next


def _times(column: pa.ChunkedArray, unit: str, zone: str) -> list[str | None]:
    """ISO 8601 of a date or timestamp column; not through datetime, which ends at the year 9999."""
    raw = column.combine_chunks()
    numbers = raw.cast(pa.int32() if unit == "D" else pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    text = np.datetime_as_string(numbers.astype(f"datetime64[{unit}]"))
    missing = raw.is_null().to_numpy(zero_copy_only=False)
    return [None if absent else f"{at}{zone}" for at, absent in zip(text.tolist(), missing.tolist(), strict=True)]


def _parsed(text: str | None) -> Any:
    """What the JSON text says; the text itself where it cannot be passed on (half a surrogate pair, nested deeply)."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_float=lambda digits: json_value(float(digits)), parse_constant=lambda _: None)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    brackets = text.count("[") + text.count("{")
    return text if brackets > _DEEPEST and _depth(value) > _DEEPEST else value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [
        child
        for parent in level
        if isinstance(parent, (dict, list))
        for child in (parent.values() if isinstance(parent, dict) else parent)
    ]:
        depth += 1
    return depth


def _interval(value: pa.MonthDayNano) -> str:
    """ISO 8601 duration of months, days and nanoseconds, which DuckDB keeps apart."""
    seconds = Decimal(value.nanoseconds) / 1_000_000_000
    date_part = "".join(f"{number}{unit}" for number, unit in ((value.months, "M"), (value.days, "D")) if number)
    time_part = f"T{seconds.normalize():f}S" if seconds else ""
    return f"P{date_part}{time_part}" if date_part or time_part else "PT0S"


def _unique(names: Iterable[str]) -> list[str]:
    taken: dict[str, None] = {}
    for name in names:
        candidate, number = name, 0
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken[candidate] = None
    return list(taken)


_MAKERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (float, lambda value: value if math.isfinite(value) else None),
    (Decimal, lambda value: float(value) if value.as_tuple().exponent else int(value)),  # a HUGEINT has no exponent
    (datetime, iso_utc),
    ((date, time), lambda value: value.isoformat()),
    (pa.MonthDayNano, _interval),
    (timedelta, lambda value: f"PT{value.total_seconds():g}S"),
    ((bytes, bytearray), lambda value: base64.b64encode(value).decode()),
    (dict, lambda value: {str(key): json_value(item) for key, item in value.items()}),
    ((list, tuple), lambda value: [json_value(item) for item in value]),
)
