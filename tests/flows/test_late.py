"""The late road, case by case: what one event that comes late does to sessions that were there already.

What a case has to end in is written out by hand; the batch definition has to say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pytest

from flows.reconcile import compare
from flows.sessions import session_id
from tests.identity.reference import Said
from tests.identity.worlds import IN_MEMORY, RULES, START, World, anon, at, clear, login, logout, record

Row = tuple[str, str, int, str, str | None, int]
"""First and last message, number of events, why it began and ended, revision."""
MINUTE = timedelta(minutes=1)
DAY = 24 * 60
PASSES = "passes"
"""An event of another device, so much later that the watermark has passed all others."""


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    world = World(IN_MEMORY, redis_url)
    with world.opened():
        yield world
        assert_exact(world)
    clear(redis_url, world.warehouse.warehouse_id)


def assert_exact(world: World) -> None:
    with world.warehouse.transaction() as con:
        assert compare(con, RULES)[1] == []


def sessions(world: World, device: str = "d") -> list[Row]:
    return world.rows(
        "select first_message_id, last_message_id, event_count, start_reason, end_reason, revision "
        f"from stream.sessions where anonymous_id = '{device}' order by started_at, first_message_id"
    )


def superseded(world: World, device: str = "d") -> dict[str, str]:
    """First message of each session that is no more, and of the one that has this message now."""
    messages = {session_id(device, name): name for name in "abcdefghijklmnopqrstuvwxyz"}
    rows = world.rows("select session_id, superseded_by from stream.session_changes")
    return {messages[gone]: messages[holder] for gone, holder in rows}


def passed(world: World, minutes: float) -> None:
    """The watermark goes so far that everything up to then is closed."""
    world.commit([anon(f"passes{minutes}", minutes, PASSES)])


def test_one_event_bridges_two_closed_sessions(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 50), anon("c", 51)])
    passed(world, 300)
    assert sessions(world) == [("a", "a", 1, "first", "gap", 1), ("b", "c", 2, "gap", "gap", 1)]
    world.commit([anon("x", 25)])
    assert sessions(world) == [("a", "c", 4, "first", "gap", 2)]
    assert superseded(world) == {"b": "a"}


def test_one_event_bridges_a_closed_and_the_open_session(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 50)])
    world.commit([anon("x", 30)])
    world.commit([anon("c", 60)])
    assert sessions(world) == [("a", "c", 4, "first", None, 2)]
    assert superseded(world) == {"b": "a"}


def test_a_closed_session_is_extended_backwards(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 100)])
    passed(world, 300)
    world.commit([anon("x", 90)])
    assert sessions(world)[1:] == [("x", "b", 2, "gap", "gap", 1)]
    assert superseded(world) == {"b": "x"}


def test_the_open_session_is_extended_backwards(world: World) -> None:
    world.commit([anon("b", 100)])
    world.commit([anon("x", 90)])
    world.commit([anon("c", 110)])
    assert sessions(world) == [("x", "c", 3, "first", None, 1)]
    assert superseded(world) == {"b": "x"}


def test_a_closed_session_is_extended_forwards(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 100)])
    world.commit([anon("x", 30)])
    assert sessions(world)[0] == ("a", "x", 2, "first", "gap", 2)
    assert superseded(world) == {}


def test_another_users_event_splits_a_session(world: World) -> None:
    world.commit([login("a", 0, "u"), anon("b", 10), login("c", 20, "u"), anon("d", 29)])
    passed(world, 300)
    world.commit([login("x", 15, "v")])
    assert sessions(world) == [
        ("a", "b", 2, "first", "user_switch", 2),
        ("x", "x", 1, "user_switch", "user_switch", 1),
        ("c", "d", 2, "user_switch", "gap", 1),
    ]
    assert superseded(world) == {}


def test_a_late_logout_splits_a_session_in_two(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 10)])
    world.commit([logout("x", 5)])
    assert sessions(world) == [("a", "x", 2, "first", "logout", 2), ("b", "b", 1, "logout", None, 1)]


def test_an_absorbed_session_that_comes_back_goes_on_counting_its_revisions(world: World) -> None:
    world.commit([anon("b", 10)])
    passed(world, 300)
    world.commit([anon("a", 0)])
    assert superseded(world) == {"b": "a"}
    world.commit([logout("x", 5)])
    assert sessions(world) == [("a", "x", 2, "first", "logout", 2), ("b", "b", 1, "logout", "gap", 2)]


def test_a_moved_start_moves_every_later_cap_and_known_user(world: World) -> None:
    """A beat every 25 minutes for three days. A cap falls after 57 of them (23:45); one event 20 minutes before the
    first moves the first cap from the 58th beat to the 57th, and each one after it as well."""
    beats = [anon(f"{i:03}", 25 * i) for i in range(173)]
    beats[57] = login("057", 25 * 57, "u")  # the last one of the first session: nobody's business in the second
    beats[60] = login("060", 25 * 60, "v")
    world.commit(beats)
    passed(world, 5 * DAY)
    assert [row[:2] for row in sessions(world)] == [("000", "057"), ("058", "115"), ("116", "172")]
    world.commit([anon("x", -20)])
    assert [row[:4] for row in sessions(world)] == [
        ("x", "056", 58, "first"),
        ("057", "059", 3, "cap"),
        ("060", "117", 58, "user_switch"),
        ("118", "172", 55, "cap"),
    ]
    users = world.rows("select user_id from stream.sessions where anonymous_id = 'd' order by started_at")
    assert users == [(None,), ("u",), ("v",), (None,)]


def test_a_cut_that_falls_where_it_fell_before_leaves_what_follows(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 100), anon("c", 200)])
    passed(world, 400)
    world.commit([anon("x", 10)])
    assert [row[:3] for row in sessions(world)] == [("a", "x", 2), ("b", "b", 1), ("c", "c", 1)]
    assert superseded(world) == {}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_a_device_spread_over_partitions(world: World, order: Sequence[int]) -> None:
    shares = [[anon("a", 0), anon("d", 60)], [anon("b", 20), login("e", 80, "u")], [anon("c", 40), logout("f", 95)]]
    for partition in order:
        world.gather(shares[partition], partition, foreign=True)
        world.checkpointer.finish(close_sessions=False)
    assert [row[:5] for row in sessions(world)] == [("a", "f", 6, "first", "logout")]
    assert world.rows("select user_id from stream.sessions") == [("u",)]


def test_a_device_that_moves_when_partitions_are_added(world: World) -> None:
    world.commit([anon("a", 0), anon("b", 10)], 0)
    world.restart()
    world.commit([anon("c", 20), anon("d", 120)], 1)
    world.commit([anon("e", 30)], 0)
    assert [row[:5] for row in sessions(world)] == [("a", "e", 4, "first", "gap"), ("d", "d", 1, "gap", None)]


@pytest.mark.parametrize("days", [1, 30, 400])
def test_however_late_it_is(world: World, days: int) -> None:
    world.commit([anon("a", 0), anon("b", days * DAY)])
    world.commit([anon("x", 1)])
    assert [row[:3] for row in sessions(world)] == [("a", "x", 2), ("b", "b", 1)]


# The clock decides what is late and what is open, never what a session is.


def read(world: World, events: Sequence[Said], now: datetime, partition: int = 0, *, quiet: timedelta) -> None:
    """The partition's next events, which Kafka got at `now`; its end was reached so long after."""
    keys: list[bytes | None] = [(said.anonymous_id or "").encode() for said in events]
    world.read(partition, keys, [record(said) for said in events], [now] * len(events), now + quiet)
    world.checkpointer.finish(close_sessions=False)


def late(world: World) -> int:
    return sum(p.late for p in world.checkpointer.progress.values())


def watermarks(world: World) -> dict[int, datetime | None]:
    return {partition: p.watermark for (_, partition), p in world.checkpointer.progress.items()}


def test_a_device_two_years_ahead_does_not_move_the_watermark_beyond_now(world: World) -> None:
    now = at(60)
    read(world, [anon("a", 59), anon("x", 2 * 365 * DAY, "ahead"), anon("b", 59.5)], now, quiet=timedelta())
    assert watermarks(world) == {0: now - MINUTE}
    read(world, [anon("c", 60)], now + MINUTE / 2, quiet=timedelta())
    assert late(world) == 0
    assert [row[:3] for row in sessions(world)] == [("a", "c", 3)]
    assert world.rows("select event_at, clock_skewed from stream.events where message_id = 'x'") == [(now, True)]


def test_a_backfill_that_pauses_at_the_partitions_end_makes_nothing_late(world: World) -> None:
    """Sixty days ago events happened that Kafka gets only now, with a pause of two hours between them."""
    now = START + timedelta(days=60)
    read(world, [anon("a", 0), anon("b", 10)], now, quiet=timedelta())
    world.read(0, [], [], None, now + timedelta(hours=2))
    world.checkpointer.finish(close_sessions=False)
    assert watermarks(world) == {0: at(10 + 120 - 1)}
    read(world, [anon("c", 10 + 120), anon("d", 10 + 121)], now + timedelta(hours=2), quiet=timedelta())
    assert late(world) == 0
    assert [row[:3] for row in sessions(world)] == [("a", "b", 2), ("c", "d", 2)]


def test_a_partition_never_used_holds_nothing_up(world: World) -> None:
    now = at(60)
    read(world, [anon("a", 0)], now, quiet=timedelta())
    for partition in (1, 2):
        world.read(partition, [], [], None, now)
    world.checkpointer.finish(close_sessions=False)
    assert watermarks(world) == {0: at(-1), 1: now - MINUTE, 2: now - MINUTE}
    world.read(0, [], [], None, now + timedelta(hours=1))
    world.checkpointer.finish(close_sessions=False)
    assert [row[:5] for row in sessions(world)] == [("a", "a", 1, "first", "gap")]


def test_a_wall_clock_that_jumps_back_changes_no_session(world: World) -> None:
    now = at(60)
    read(world, [anon("a", 59)], now, quiet=timedelta(hours=2))
    read(world, [anon("b", 60)], now, quiet=timedelta(days=-1))
    assert [row[:3] for row in sessions(world)] == [("a", "b", 2)]
    assert watermarks(world)[0] == at(59 + 120 - 1)
