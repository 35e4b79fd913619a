"""What a stranger's SQL may do: read the warehouse, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from service.web.statement import DeadlinePassed, StatementRefused, read_rows
from tests.service.web.shop import Shop


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.csv"
    path.write_text("password\nhunter2\n")
    return path


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select count(*) as n from stream.events", [{"n": 6}]),
        ("from stream.bot_devices", []),
        ("values (1, 'a')", [{"col0": 1, "col1": "a"}]),
        ("with x as (select 1 as a) select a + 1 as b from x", [{"b": 2}]),
        ("select range as n from range(2)", [{"n": 0}, {"n": 1}]),
        ("-- a comment\nselect 1 as one;", [{"one": 1}]),
        ("select name from stream.events where event_at < '2026-01-31 12:00:10Z'", [{"name": "Page Viewed"}]),
        ("pivot (select 1 as a, 'x' as b) on b in ('x') using sum(a)", [{"x": 1}]),
    ],
)
def test_reading_is_allowed(untouched: Shop, sql: str, rows: list[dict[str, object]]) -> None:
    assert read_rows(untouched.reader(), sql) == rows


@pytest.mark.parametrize(
    "sql",
    ["describe stream.sessions", "summarize stream.progress", "show all tables", "from information_schema.tables"],
)
def test_looking_around_is_allowed(untouched: Shop, sql: str) -> None:
    assert read_rows(untouched.reader(), sql)


@pytest.mark.parametrize("form", ["explain ", "explain analyze ", "EXPLAIN (format json) ", "explain (analyze) "])
def test_a_plan_may_be_asked_for(untouched: Shop, form: str) -> None:
    (row,) = read_rows(untouched.reader(), form + "select count(*) from stream.events")
    assert row["explain_value"]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into stream.bot_devices values ('d', 'r', now())",
        "delete from stream.events",
        "drop table stream.events",
        "create temp table t as select 1",
        "copy stream.events to '{file}'",
        "copy (select 1) to '{file}'",
        "export database '{folder}'",
        "attach '{folder}/x.duckdb'",
        "set memory_limit = '1MB'",
        "pragma memory_limit = '1MB'",
        "call force_checkpoint()",
        "checkpoint",
        "install httpfs",
        "load json",
        "begin",
        "explain analyze delete from stream.events",
        "explain (analyze, format json) insert into stream.bot_devices values ('d', 'r', now())",
        "select 1; drop table stream.events",
        "",
        "-- nothing",
        "from force_checkpoint()",
        "select nextval('s')",
        "select write_log('x')",
    ],
)
def test_nothing_else_is(untouched: Shop, tmp_path: Path, sql: str) -> None:
    with pytest.raises(StatementRefused):
        read_rows(untouched.reader(), sql.format(file=tmp_path / "out.csv", folder=tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))
    assert untouched.reader().execute("select count(*) from stream.events").fetchone() == (6,)


@pytest.mark.parametrize(
    "sql",
    [
        "from '{file}'",
        "select * from '{file}' as t, stream.events",
        "select * from read_csv('{file}')",
        "select * from READ_TEXT('{file}')",
        "select (select max(content) from read_text('{file}'))",
        "with recursive r as (select 1 as n union all select n from r, read_blob('{file}')) from r",
        "pivot (select * from read_csv('{file}')) on password in ('hunter2') using count(*)",
        "describe '{file}'",
        "summarize '{file}'",
        "explain select * from read_csv('{file}')",
        "from glob('{folder}/*')",
        "from sniff_csv('{file}')",
        "from query('select * from read_csv(''{file}'')')",
        "from query_table('{file}')",
        "from parquet_metadata('{file}')",
        "from json_execute_serialized_sql(json_serialize_sql('from read_csv(''{file}'')'))",
        'select * from (with "{file}" as (select 1) from "{file}"), \'{file}\'',
        "from 'https://example.org/a.parquet'",
    ],
)
def test_files_stay_closed(untouched: Shop, secret: Path, sql: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        read_rows(untouched.reader(), sql.format(file=secret, folder=secret.parent))
    assert "hunter2" not in str(refused.value)


def test_a_name_of_two_words_cannot_be_a_file_either(
    untouched: Shop, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(secret.parent)  # DuckDB takes the unquoted name secret.csv for that file
    with pytest.raises(StatementRefused, match=r"no table or view secret\.csv"):
        read_rows(untouched.reader(), "from secret.csv")


@pytest.mark.parametrize(
    "sql", ["select current_setting('s3_secret_access_key')", "from duckdb_settings()", "from duckdb_secrets()"]
)
def test_settings_stay_closed(untouched: Shop, sql: str) -> None:
    with pytest.raises(StatementRefused, match="not open here"):
        read_rows(untouched.reader(), sql)


def test_our_own_variables_stay_closed(untouched: Shop) -> None:
    types = pa.table({"a": [1]})  # a name that read_rows has as well
    with pytest.raises(StatementRefused, match="types"):
        read_rows(untouched.reader(), "from types")
    assert types.num_rows == 1


def test_a_wrong_statement_is_explained_without_itself(untouched: Shop) -> None:
    with pytest.raises(StatementRefused) as refused:
        read_rows(untouched.reader(), "select nme from stream.events")
    assert "nme" in str(refused.value)
    assert "LINE 1" not in str(refused.value)


def test_an_error_in_the_middle_of_the_rows_is_explained(untouched: Shop) -> None:
    with pytest.raises(StatementRefused, match="stop here"):
        read_rows(untouched.reader(), "select if(range = 50_000, error('stop here'), range) from range(60_000)")


def test_a_deeply_nested_statement_is_refused(untouched: Shop) -> None:
    with pytest.raises(StatementRefused):
        read_rows(untouched.reader(), "select " + "abs(" * 800 + "1" + ")" * 800)


def test_an_answer_is_whole_or_refused(untouched: Shop) -> None:
    assert len(read_rows(untouched.reader(), "from range(5)", row_cap=5)) == 5
    with pytest.raises(StatementRefused, match="more than 5 rows"):
        read_rows(untouched.reader(), "from range(6)", row_cap=5)


def test_a_statement_is_stopped_at_its_deadline(untouched: Shop) -> None:
    endless = "select count(*) from range(100_000_000) a, range(1_000_000) b where hash(a.range + b.range) % 7 = 0"
    con = untouched.reader()
    with pytest.raises(DeadlinePassed, match=r"longer than 0\.2 s"):
        read_rows(con, endless, timeout=timedelta(seconds=0.2))
    assert read_rows(con, "select 1 as a") == [{"a": 1}]


def test_a_refused_statement_leaves_no_transaction_behind(shop: Shop) -> None:
    con = shop.reader()
    with pytest.raises(StatementRefused):
        read_rows(con, "select error('x')")
    shop.write("insert into stream.bot_devices values ('d', 'r', now())")
    assert read_rows(con, "select count(*) as n from stream.bot_devices") == [{"n": 1}]
