"""Each of DuckDB's types as a JSON value."""

from __future__ import annotations

import json

import duckdb
import pytest

from service.web.rows import query_rows


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    return con


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("null", None),
        ("true", True),
        ("42", 42),
        ("9007199254740993", 9007199254740993),
        ("170141183460469231731687303715884105727::hugeint", 170141183460469231731687303715884105727),
        ("1.50::decimal(10, 2)", 1.5),
        ("7::decimal(10, 0)", 7),
        ("0.25::double", 0.25),
        ("'nan'::double", None),
        ("'-infinity'::double", None),
        ("'Zoë'", "Zoë"),
        ("'a\\x00\\xFF'::blob", "YQD/"),
        ("timestamptz '2026-01-31 12:00:00.5+02'", "2026-01-31T10:00:00.500000Z"),
        ("timestamp '2026-01-31 12:00:00'", "2026-01-31T12:00:00.000000Z"),
        ("timestamp_ns '2026-01-31 12:00:00.000000001'", "2026-01-31T12:00:00.000000001Z"),
        ("timestamptz '0001-01-01 00:00:00+00'", "0001-01-01T00:00:00.000000Z"),
        ("timestamptz '12026-01-31 00:00:00+00'", "12026-01-31T00:00:00.000000Z"),
        ("date '2026-01-31'", "2026-01-31"),
        ("time '12:30:00'", "12:30:00"),
        ("interval '1 month 2 days 3.5 seconds'", "P1M2DT3.5S"),
        ("interval '90 minutes'", "PT5400S"),
        ("interval '0 seconds'", "PT0S"),
        ("uuid '2f0e9d5c-0000-4000-8000-000000000001'", "2f0e9d5c-0000-4000-8000-000000000001"),
        ("'b'::enum('a', 'b')", "b"),
        ("[1, null, 2]", [1, None, 2]),
        (
            "{'at': timestamptz '2026-01-31 12:00:00+00', 'x': [0.5::double]}",
            {"at": "2026-01-31T12:00:00.000000Z", "x": [0.5]},
        ),
        ("map {'k': 1.5}", {"k": 1.5}),
        ('\'{"a": [1, {"b": null}]}\'::json', {"a": [1, {"b": None}]}),
        ("'1e999'::json", None),
        ("'\"text\"'::json", "text"),
    ],
)
def test_a_value(con: duckdb.DuckDBPyConnection, expression: str, value: object) -> None:
    (row,) = query_rows(con, f"select {expression} as it")
    assert row == {"it": value}
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_missing_times_are_null(con: duckdb.DuckDBPyConnection) -> None:
    rows = query_rows(con, "select * from (values (timestamptz '2026-01-31 12:00:00+00'), (null)) t(it)")
    assert rows == [{"it": "2026-01-31T12:00:00.000000Z"}, {"it": None}]


def test_json_nested_too_deeply_stays_text(con: duckdb.DuckDBPyConnection) -> None:
    for levels in (150, 5000):
        text = "[" * levels + "]" * levels
        assert query_rows(con, "select $1::json as it", [text]) == [{"it": text}]


def test_twin_names_are_told_apart(con: duckdb.DuckDBPyConnection) -> None:
    assert query_rows(con, "select 1 as a, 2 as a, 3 as a_1") == [{"a": 1, "a_1": 2, "a_1_1": 3}]


def test_no_rows(con: duckdb.DuckDBPyConnection) -> None:
    assert query_rows(con, "select 1 as a where false") == []
