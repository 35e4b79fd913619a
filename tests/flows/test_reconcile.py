"""The batch definition in SQL against the plain loop over events; what `compare` finds, and `repair` mends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.reconcile import COMPARED, Reconciliation, compare, expect, last_reconciliation, reconcile, repair
from flows.rules import FlowRules
from flows.session_rules import SessionRules
from flows.sessions import SESSIONS
from sinks.warehouse import Warehouse
from tests.crowds import crowds, of_crowds
from tests.flows.reference import Event, sessions_of
from tests.flows.test_sessions import RULE_SETS, SHUFFLES, Shuffle, histories, together
from tests.identity.worlds import IN_MEMORY, PERSONS_NOW, World, anon, login, logout

COLUMNS = [*SESSIONS.names()]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with Warehouse.open(IN_MEMORY, threads=1) as warehouse, warehouse.reader() as con:
        yield con


def store(con: duckdb.DuckDBPyConnection, events: Iterable[Event]) -> None:
    """`events` as all that stream.events holds, in a transaction that the next ones end: so nothing is left."""
    background = SessionRules().background_events
    rows = [
        {
            **{name: value for name, value in e.items() if name != "library"},
            "received_at": e["event_at"],
            "context": json.dumps({"library": {"name": e["library"]}}),
            "clock_skewed": False,
            "is_background": e["name"] in background,
            "partition": 0,
            "offset": i,
        }
        for i, e in enumerate(events)
    ]
    with suppress(duckdb.TransactionException):
        con.rollback()
    con.begin()
    if rows:
        con.register("rows", pl.DataFrame(rows, infer_schema_length=None).to_arrow())
        con.execute("insert into stream.events by name select * from rows")
        con.unregister("rows")


@of_crowds()
@given(crowd=crowds(histories()), shuffle=SHUFFLES, rules=RULE_SETS, parts=st.sampled_from([4, 1, 1]))
def test_the_definition_is_what_the_reference_says(
    con: duckdb.DuckDBPyConnection, crowd: list[list[Event]], shuffle: Shuffle, rules: SessionRules, parts: int
) -> None:
    events = together(crowd)
    store(con, shuffle(events))
    expect(con, FlowRules(sessions=rules), at_once=1 + len(events) // parts)
    found = con.execute(
        f"select {', '.join(COLUMNS)} from expected_sessions order by anonymous_id, started_at, first_message_id"
    ).pl()
    assert found.to_dicts() == sessions_of(events, rules)


def test_every_column_of_a_session_is_compared() -> None:
    assert set(COMPARED) == set(COLUMNS) - {"session_id"}


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> Iterator[World]:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        world.commit([anon("a", 0), anon("b", 0.01), anon("c", 2), login("d", 2.01, "u"), logout("e", 2.02)])
        world.commit([anon("f", 40, "e"), anon("g", 40.01, "e"), anon("h", 39, "e")])
        yield world


def differences(world: World, **asked: Any) -> list[tuple[str, tuple[str, ...]]]:
    with world.warehouse.transaction() as con, world.warehouse.reader() as other:
        counted, found = compare(con, FlowRules(), **asked)
        world.warehouse.begin_together([other])
        assert compare(con, FlowRules(), **asked, others=[other], at_once=1) == (counted, found), "in shares it differs"
        return [(difference.what, difference.columns) for difference in found]


def test_what_the_flow_wrote_is_what_the_definition_says(world: World) -> None:
    assert differences(world) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("delete from {} where true", {"missing"}),
        ("update {} set page_count = 77, utm_source = 'x'", {"changed"}),
        ("update {} set session_id = 'x' || session_id", {"missing", "unexpected"}),
        ("update {} set end_reason = 'cap'", {"changed"}),
        ("update {} set started_at = started_at - interval 1 minute", {"changed"}),
        ("update {} set user_id = 'x', person_id = 'x'", {"changed"}),
        ("update {} set person_id = 'x'", {"changed"}),
        ("update {} set first_message_id = 'x', event_count = 1, start_reason = 'gap', is_bot = true", {"changed"}),
        ("insert into {0} by name select * replace ('more' as session_id) from {0}", {"unexpected"}),
    ],
)
@pytest.mark.parametrize("table", ["open_sessions", "closed_sessions"])
def test_damage_is_found_and_mended(world: World, damage: str, found: set[str], table: str) -> None:
    before = world.rows("select * exclude (revision) from stream.sessions order by all")
    with world.warehouse.transaction() as con:
        con.execute(damage.format(f"stream.{table}"))
    assert {what for what, _ in differences(world)} == found
    with world.warehouse.transaction() as con:
        compare(con, FlowRules())
        repair(con, FlowRules())
    assert differences(world) == []
    assert world.rows("select * exclude (revision) from stream.sessions order by all") == before
    world.commit([anon("i", 40.02, "e")])
    assert differences(world) == []


@pytest.mark.parametrize(
    "damage", ["update stream.person_overrides set person_id = 'x'", "delete from stream.person_overrides"]
)
def test_a_wrong_person_of_the_device_is_found_and_mended(world: World, damage: str) -> None:
    world.commit([anon("p", 300, "p"), anon("r", 500, "undefined")])
    world.commit([login("q", 400, "u", "p"), login("t", 600, "v", "p"), logout("v", 700, "p"), anon("w", 800, "p")])
    now = world.rows(PERSONS_NOW + " order by all")
    assert differences(world) == []
    with world.warehouse.transaction() as con:
        con.execute(damage)
    assert {columns for _, columns in differences(world)} == {("person_id",)}
    with world.warehouse.transaction() as con:
        compare(con, FlowRules())
        repair(con, FlowRules())
    assert differences(world) == []
    assert world.rows(PERSONS_NOW + " order by all") == now


def test_since_leaves_out_what_began_before(world: World) -> None:
    with world.warehouse.transaction() as con:
        con.execute("delete from stream.closed_sessions")
        con.execute("delete from stream.open_sessions")
    (last,) = world.rows("select max(event_at) from stream.events")[0]
    assert len(differences(world, since=last - timedelta(days=1000))) == len(differences(world)) > 1
    assert len(differences(world, since=last + timedelta(days=1))) == 0


def test_what_a_comparison_of_all_found_is_kept(world: World) -> None:
    def kept() -> Reconciliation | None:
        with world.warehouse.reader() as con:
            return last_reconciliation(con)

    assert kept() is None
    for damage, mend, found in (
        ("select 1", False, (2, 0, False)),
        ("update stream.closed_sessions set page_count = 77", False, (2, 1, False)),
        ("select 1", True, (2, 1, True)),
        ("select 1", False, (2, 0, False)),
    ):
        with world.warehouse.transaction() as con:
            con.execute(damage)
        told = reconcile(world.warehouse, FlowRules(), mend=mend)
        assert (told.sessions, told.differing, told.repaired) == found
        assert kept() == replace(told, differences=())
    before = kept()
    reconcile(world.warehouse, FlowRules(), since=datetime(2000, 1, 1, tzinfo=UTC))
    assert kept() == before, "what is said of a part says nothing of the whole"
    assert world.rows("select count(*) from stream.reconciliations") == [(4,)]
    assert world.rows("select table_name from duckdb_tables() where temporary") == []
