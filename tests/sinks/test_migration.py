"""A warehouse of an earlier version is brought to the newest, with all that it holds."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import duckdb

from flows.reconcile import last_reconciliation
from sinks.warehouse import SCHEMA_VERSION, Warehouse

ADDED_IN_2 = ("device_type varchar,", "browser varchar,", "os varchar,")
ADDED_IN_3 = ("reconciliations", "topics", "lost_records")
ADDED_IN_4 = ("person_merges",)
ADDED_IN_5 = ("forgotten", "tombstones")
SALT_IN_5 = re.compile(r",\n    salt varchar [^\n]*\n")
ACTS_IN_4 = re.compile(
    r",\n    person_id varchar, [^\n]*\n    other_person_id varchar, [^\n]*\n    actor varchar [^\n]*\n"
)


_EVENT = """
insert into stream.events by name
select ? as message_id, 'track' as type, 'E' as name, 'd' as anonymous_id, 'anon:d' as person_id, now() as event_at,
    now() as received_at, ?::json as context, false as clock_skewed, false as is_bot, false as is_background,
    0 as "partition", 0 as "offset"
"""


def version_1(path: Path) -> None:
    """A warehouse as version 1 made it, with two events of one device."""
    script = (files("sinks") / "schema.sql").read_text()
    script = SALT_IN_5.sub("\n", ACTS_IN_4.sub("\n", script.partition("-- Every id seen")[0]))
    assert "other_person_id" not in script
    assert "salt varchar" not in script
    for table in (*ADDED_IN_3, *ADDED_IN_4, *ADDED_IN_5):
        before, found, rest = script.partition(f"create table stream.{table} (")
        assert found
        script = before + rest.partition(");\n")[2]
    before, table, rest = script.partition("create table stream.events (")
    columns, end, after = rest.partition(");")
    kept = [line for line in columns.splitlines() if not line.strip().startswith(ADDED_IN_2)]
    assert len(kept) == len(columns.splitlines()) - len(ADDED_IN_2)
    with duckdb.connect(str(path)) as con:
        con.execute(before + table + "\n".join(kept) + end + after)
        con.execute("insert into stream.warehouse values ('w', 'g', 1, now())")
        con.executemany(_EVENT, [["m", '{"device": {"type": "ios"}, "os": "iOS"}'], ["n", None]])


def test_from_version_1(tmp_path: Path) -> None:
    version_1(tmp_path / "old.duckdb")
    with (
        Warehouse.open(tmp_path / "old.duckdb") as old,
        Warehouse.open(tmp_path / "new.duckdb") as new,
        old.reader() as con,
        new.reader() as fresh,
    ):
        told = con.execute("select warehouse_id, generation, schema_version from stream.warehouse").fetchall()
        assert told == [("w", "g", SCHEMA_VERSION)]
        columns = (
            "select table_name, column_name, data_type from information_schema.columns "
            "where table_schema in ('stream', 'marketing', 'refreshes', 'anomalies', 'governance') order by all"
        )
        made = con.execute(columns).fetchall()
        assert made == fresh.execute(columns).fetchall()
        assert {name for name, *_ in made} >= {
            "events",
            "spend_files",
            "ad_spend",
            "currency_rates",
            "builds",
            "outbox",
        }
        kept = con.execute("select message_id, device_type, browser, os from stream.events order by message_id")
        assert kept.fetchall() == [("m", "ios", None, "iOS"), ("n", None, None, None)]
        assert con.execute("select * from stream.session_events").fetchall() == []
        assert last_reconciliation(con) is None
    with Warehouse.open(tmp_path / "old.duckdb") as again:
        assert again.warehouse_id == "w"
