"""Behaviour that makes a device a bot: the bounds exactly, over several commits, and once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from flows.bots import BotRules, BotWatch
from tests.identity.worlds import START, World, anon, email

HOUR, DAY = 60, 1440  # minutes


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> Iterator[World]:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        yield world


def bots(world: World) -> list[tuple[str, str]]:
    return world.rows("select anonymous_id, reason from stream.bot_devices order by all")


def test_more_than_300_events_in_a_calendar_minute(world: World) -> None:
    world.commit([anon(f"m{i:03}", 10 + i / 301) for i in range(300)])
    assert bots(world) == []
    world.commit([anon("late", 10 + 300.5 / 301), anon("x", 10, "e")])
    assert bots(world) == [("d", "more than 300 events in a minute")]
    assert world.rows("select first_seen_at from stream.bot_devices")[0][0] > START
    world.commit([anon("again", 10.99)])
    assert len(bots(world)) == 1


def test_two_minutes_are_two(world: World) -> None:
    world.commit([anon(f"m{i:03}", 10.5 + i / 400) for i in range(399)])
    assert bots(world) == []


def test_active_in_more_than_20_hours_of_a_day(world: World) -> None:
    for hour in range(20):
        world.commit([anon(f"h{hour}", hour * HOUR), anon(f"i{hour}", hour * HOUR + 59.9)])
    world.commit([anon(f"n{hour}", DAY + hour * HOUR) for hour in range(4)])
    assert bots(world) == []
    world.commit([anon("late", 22 * HOUR)])
    assert bots(world) == [("d", "active in more than 20 hours of a day")]


def test_what_was_stored_before_a_stop_is_looked_at_after_it(world: World) -> None:
    store_a_bot(world)
    world.restart()
    world.commit([anon("x", 5000, "e")])
    assert bots(world) == [("d", "more than 300 events in a minute")]


def test_what_happens_without_the_user_is_no_activity(world: World) -> None:
    world.commit([email(f"m{i:03}", 10 + i / 400) for i in range(399)])
    world.commit([email(f"h{hour}", hour * HOUR) for hour in range(24)])
    assert bots(world) == []


def test_the_events_and_sessions_of_a_bot_are_kept(world: World) -> None:
    world.commit([anon(f"m{i:03}", 10 + i / 400) for i in range(399)])
    assert bots(world) != []
    assert world.rows("select event_count from stream.sessions") == [(399,)]


def test_it_looks_beside_the_commits_and_again_where_that_failed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    readers = iter([broken, world.warehouse.reader])
    with ThreadPoolExecutor(1) as beside:
        watch = BotWatch(BotRules(), lambda: next(readers)(), beside, every=timedelta(0))
        store_a_bot(world)
        watch.go_on()
        named_after(world, watch, beside)
        assert "will try again" in caplog.text
        assert bots(world) == []
        watch.go_on()
        named_after(world, watch, beside)
        assert bots(world) == [("d", "more than 300 events in a minute")]


def broken() -> duckdb.DuckDBPyConnection:
    raise duckdb.OutOfMemoryException("no room")


def named_after(world: World, watch: BotWatch, beside: ThreadPoolExecutor) -> None:
    """Names what the look found that is under way."""
    beside.submit(lambda: None).result(60)  # it has one thread
    with world.warehouse.transaction() as con:
        watch.name(con)


def store_a_bot(world: World) -> None:
    """Events of one device, ten a second, that the flow did not see."""
    with world.warehouse.transaction() as con:
        con.execute(
            "insert into stream.events by name select 'm' || range as message_id, 'track' as type, 'E' as name, "
            "'d' as anonymous_id, ?::timestamptz + to_seconds(range / 10) as event_at, event_at as received_at, "
            'false as clock_skewed, false as is_bot, false as is_background, 0 as "partition", range as "offset" '
            "from range(301)",
            [START],
        )
