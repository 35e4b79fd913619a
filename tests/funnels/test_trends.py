"""Trends and retention over events written out by hand, and against loops over random ones."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnels.retention import RetentionDefinition, run_retention
from funnels.trends import TrendDefinition, run_trend
from stitchline.errors import DefinitionError
from tests.funnels.test_features import FEW
from tests.funnels.worlds import Event, World, alone, fill

BERLIN = ZoneInfo("Europe/Berlin")


def local(text: str) -> datetime:
    """A time in Berlin, as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def trend(con: duckdb.DuckDBPyConnection, world: World, **rules: Any) -> dict[str, Any]:
    fill(con, world)
    return run_trend(con, TrendDefinition.model_validate(rules)).model_dump()


def test_events_and_people_by_day_of_a_time_zone(con: duckdb.DuckDBPyConnection) -> None:
    world = alone(
        Event("View", local("2025-06-01T23:59:59"), "m1", "d1"),
        Event("View", local("2025-06-02T00:00:00"), "m2", "d1"),
        Event("View", local("2025-06-02T12:00:00"), "m3", "d1"),
        Event("View", local("2025-06-02T12:00:00"), "m1", "d2"),
        Event("Order", local("2025-06-03T12:00:00"), "m2", "d2"),
        Event("View", local("2025-06-04T00:00:00"), "m4", "d2"),
    )
    rules = {
        "events": [{"event": "View"}, {"event": "Order"}],
        "time_zone": "Europe/Berlin",
        "since": "2025-06-01",
        "until": "2025-06-03",
    }
    answer = trend(con, world, **rules)
    assert answer["periods"] == tuple(local(f"2025-06-0{day}T00:00:00") for day in (1, 2, 3))
    assert [(one["event"], one["counts"], one["total"]) for one in answer["series"]] == [
        ("View", (1, 3, 0), 4),
        ("Order", (0, 0, 1), 1),
    ]
    people = trend(con, world, **rules, measure="subjects")
    assert [(one["counts"], one["total"]) for one in people["series"]] == [((1, 2, 0), 2), ((0, 0, 1), 1)]


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2025-10-26", 25), ("2025-06-01", 24)])
def test_days_on_which_the_clocks_change(con: duckdb.DuckDBPyConnection, day: str, hours: int) -> None:
    begin = local(f"{day}T00:00:00")
    events = [Event("View", begin + timedelta(hours=hour), f"m{hour}") for hour in range(hours)]
    rules = {"events": [{"event": "View"}], "time_zone": "Europe/Berlin", "since": day, "until": day}
    by_hour = trend(con, alone(*events), **rules, interval="hour")
    assert by_hour["series"][0]["counts"] == (1,) * hours
    assert trend(con, alone(*events), **rules)["series"][0]["counts"] == (hours,)


def test_the_largest_values_and_all_others(con: duckdb.DuckDBPyConnection) -> None:
    values = ["a", "a", "a", "b", "b", None, "c"]
    world = alone(*(Event("View", local("2025-06-01T12:00:00"), f"m{n}", path=v) for n, v in enumerate(values)))
    answer = trend(
        con, world, events=[{"event": "View"}], breakdown="path", top=2, since="2025-06-01", until="2025-06-01"
    )
    assert [(one["value"], one["total"]) for one in answer["series"]] == [("a", 3), ("b", 2), ("(other)", 2)]


def test_questions_that_are_refused(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ValueError, match="until is not after since"):
        trend(con, World(), events=[{"event": "View"}], since="2025-06-02", until="2025-06-01")
    with pytest.raises(DefinitionError, match="ask for a shorter time"):
        trend(con, World(), events=[{"event": "View"}], since="2015-06-02", until="2025-06-01", interval="hour")


def retention(con: duckdb.DuckDBPyConnection, world: World, **rules: Any) -> list[tuple[int, tuple[int | None, ...]]]:
    fill(con, world)
    result = run_retention(con, RetentionDefinition.model_validate(rules))
    return [(cohort.size, cohort.back) for cohort in result.cohorts]


def test_who_came_back_in_which_week(con: duckdb.DuckDBPyConnection) -> None:
    world = World(
        [
            Event("View", local("2025-06-02T00:00:00"), "m1", "d1"),  # a Monday
            Event("Order", local("2025-06-08T23:00:00"), "m2", "d1"),  # the same week
            Event("Order", local("2025-06-09T00:00:00"), "m3", "d1"),  # the next one
            Event("Order", local("2025-06-10T00:00:00"), "m4", "d1"),
            Event("Order", local("2025-06-03T00:00:00"), "m1", "d2"),  # before the first view
            Event("View", local("2025-06-04T00:00:00"), "m2", "d2"),
            Event("View", local("2025-06-11T00:00:00"), "m3", "d2"),
            Event("Order", local("2025-06-17T00:00:00"), "m4", "d2"),
            Event("View", local("2025-06-10T00:00:00"), "m1", "d3"),
        ],
        watermarks=[local("2025-06-23T00:00:00")],
    )
    rules: dict[str, Any] = {
        "start": {"event": "View"},
        "back": {"event": "Order"},
        "interval": "week",
        "time_zone": "Europe/Berlin",
    }
    found = retention(con, world, **rules, periods=3, since="2025-06-02", until="2025-06-15")
    assert found == [(2, (1, 1, 1, None)), (1, (0, 0, None, None))]


def test_the_event_itself_is_no_coming_back(con: duckdb.DuckDBPyConnection) -> None:
    noon = local("2025-06-02T12:00:00")
    world = alone(Event("View", noon, "m1", "d1"), Event("View", noon, "m1", "d2"), Event("View", noon, "m2", "d2"))
    rules: dict[str, Any] = {"start": {"event": "View"}, "back": {"event": "View"}, "periods": 1}
    assert retention(con, world, **rules, since="2025-06-02", until="2025-06-02") == [(2, (1, 0))]


@FEW
@given(seed=st.integers(0, 2**32))
def test_against_loops(con: duckdb.DuckDBPyConnection, seed: int) -> None:
    """200 subjects over some days: every count, one event at a time."""
    rnd = random.Random(seed)
    start = datetime(2025, 3, 28, 12, tzinfo=UTC)
    events = [
        Event(rnd.choice("AAB"), start + timedelta(minutes=15 * rnd.randint(0, 400)), f"m{number}", f"d{subject}")
        for subject in range(200)
        for number in range(rnd.randint(1, 5))
    ]
    zone = ZoneInfo(rnd.choice(["UTC", "Europe/Berlin", "Asia/Kathmandu"]))
    mark = start + timedelta(days=rnd.randint(1, 8))
    fill(con, World(events, watermarks=[mark]))
    since, days = (start + timedelta(days=rnd.randint(0, 1))).astimezone(zone).date(), rnd.randint(1, 4)
    until = since + timedelta(days=days - 1)
    bounds = {"since": since.isoformat(), "until": until.isoformat(), "time_zone": zone.key}
    counts = Counter((event.name, event.event_at.astimezone(zone).date()) for event in events)
    who = {(event.name, event.event_at.astimezone(zone).date(), event.device) for event in events}
    dates = [since + timedelta(days=day) for day in range(days)]
    for measure, told in (("events", counts), ("subjects", Counter((name, day) for name, day, _ in who))):
        definition = {"events": [{"event": "A"}, {"event": "B"}], "measure": measure, **bounds}
        result = run_trend(con, TrendDefinition.model_validate(definition))
        assert [one.counts for one in result.series] == [tuple(told[name, day] for day in dates) for name in "AB"]
    asked: dict[str, Any] = {"start": {"event": "A"}, "back": {"event": "B"}, "periods": 3, "by": "device", **bounds}
    by_device = defaultdict(list)
    for event in sorted(events, key=lambda event: event.event_at):
        by_device[event.device].append(event)
    expected = [[0] * 5 for _ in dates]
    for some in by_device.values():
        first = next((event for event in some if event.name == "A"), None)
        cohort = (first.event_at.astimezone(zone).date() - since).days if first else -1
        if first is None or not 0 <= cohort < days:
            continue
        expected[cohort][0] += 1
        back = {
            (event.event_at.astimezone(zone).date() - since).days - cohort
            for event in some
            if event.name == "B" and event.event_at >= first.event_at
        }
        for number in back & set(range(4)):
            expected[cohort][1 + number] += 1
    found = retention_of(con, asked)
    for cohort, (size, told_back) in enumerate(found):
        assert size == expected[cohort][0]
        for number, count in enumerate(told_back):
            end = since + timedelta(days=cohort + number + 1)
            is_over = datetime.combine(end, datetime.min.time(), zone) <= mark
            assert count == (expected[cohort][1 + number] if is_over else None)


def retention_of(con: duckdb.DuckDBPyConnection, asked: dict[str, Any]) -> list[tuple[int, tuple[int | None, ...]]]:
    cohorts = run_retention(con, RetentionDefinition.model_validate(asked)).cohorts
    return [(cohort.size, cohort.back) for cohort in cohorts]
