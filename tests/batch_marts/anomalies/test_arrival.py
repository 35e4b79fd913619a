"""Data that is missing: it is waited for, and from a time on it is late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from batch_marts.anomalies.arrival import late_data, late_day
from batch_marts.anomalies.rolling import check_rolling
from batch_marts.metrics import load_metrics
from tests.batch_marts.anomalies.streams import NOON, Stream, stream_of
from tests.batch_marts.anomalies.worlds import day, mart_of

MINUTE = timedelta(minutes=1)
World = tuple[Stream, duckdb.DuckDBPyConnection]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two partitions of like traffic for nine weeks; today the second falls silent at noon. A third had five events."""

    def today(stream: Stream) -> None:
        for days in range(63, 0, -1):
            noon = NOON - timedelta(days=days)
            stream.views(noon - timedelta(hours=1.5), noon + timedelta(hours=1), 900, partition=1)
            stream.views(noon, noon + timedelta(hours=1), 0.3, partition=2)
        stream.views(NOON - timedelta(hours=2.5), NOON + timedelta(hours=1), 900)
        stream.views(NOON - timedelta(hours=1.5), NOON, 900, partition=1)

    with stream_of(tmp_path_factory.mktemp("arrival"), an_hour=900, today=today) as made:
        yield made


def all_at(world: World, minutes: float) -> None:
    """The watermarks of all partitions move with the clock: that of a silent one, too."""
    stream, _ = world
    stream.known_until(*[NOON + (minutes - 1) * MINUTE] * 3)


def test_a_partition_that_is_silent_against_its_habit(world: World) -> None:
    _, con = world
    all_at(world, 2)
    assert late_data(con, NOON + 2 * MINUTE) == [], "it had one a moment ago"
    all_at(world, 10)
    (late,) = late_data(con, NOON + 10 * MINUTE)
    assert (late.kind, late.what) == ("idle", "events/1")
    assert abs(late.since - NOON) < MINUTE
    all_at(world, 16)
    (late,) = late_data(con, NOON + 16 * MINUTE)
    assert "240 events" in late.because or "events/1" in late.because


def test_a_fall_that_a_silent_partition_may_be_is_waited_with(world: World) -> None:
    _, con = world
    all_at(world, 16)
    found = check_rolling(con, load_metrics(), NOON + 16 * MINUTE)
    views = {one.segment: one for one in found if one.metric == "page_views"}
    assert views["all"].said == "waiting"
    assert views["all"].actual is not None
    assert views["all"].expected == pytest.approx(300, rel=0.1)
    assert "events/1" in views["all"].because


def test_a_flow_that_is_behind(world: World) -> None:
    stream, con = world
    now = NOON - 30 * MINUTE
    stream.known_until(now - MINUTE, now - 10 * MINUTE, now - 40 * MINUTE)
    found = {late.what: late for late in late_data(con, now)}
    assert {what: late.kind for what, late in found.items()} == {"events/1": "behind", "events/2": "behind"}
    assert found["events/2"].since == now - 40 * MINUTE
    assert "40 minutes ago" in found["events/2"].because


def test_a_partition_never_used_is_no_matter(tmp_path: Path) -> None:
    with stream_of(tmp_path, weeks=0) as (_, con):
        assert late_data(con, NOON) == []


def test_a_day_that_is_not_complete() -> None:
    with duckdb.connect() as con:
        mart_of(con, {("orders", "all"): [1.0] * 10}, open_days=2)  # days 0 to 7 are complete
        for now, says in (
            (day(8) + timedelta(hours=23), None),
            (day(9) + timedelta(hours=5), None),
            (day(9) + timedelta(hours=7), "2026-01-13 is not complete in the marts; it ended 7 hours ago"),
            (day(12), "2026-01-13 is not complete in the marts; it ended 3 days ago"),
        ):
            assert late_day(con, now, "mart") == says
        con.execute("delete from mart")
        assert late_day(con, day(9), "mart") is None
