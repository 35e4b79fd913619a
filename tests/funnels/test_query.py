"""Funnels over events written out by hand, with answers worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from funnels import FunnelDefinition
from funnels.rows import compile_rows
from tests.funnels.conftest import Ask
from tests.funnels.worlds import Event, Override, Session, World, alone, at, counts, fill

MICROSECOND = timedelta(microseconds=1)


# Counting


def test_counts_conversions_and_times(ask: Ask) -> None:
    world = World(
        [
            # d1 goes all the way: 10 s, then 100 s.
            Event("View", at(0), "m1", "d1"),
            Event("Cart", at(10), "m2", "d1"),
            Event("Order", at(110), "m3", "d1"),
            # d2, d3 and d4 reach the cart after 20, 40 and 80 s.
            *(Event("View", at(0), "m1", device) for device in ("d2", "d3", "d4")),
            Event("Cart", at(20), "m2", "d2"),
            Event("Cart", at(40), "m2", "d3"),
            Event("Cart", at(80), "m2", "d4"),
            # d5 only looks; d6 never looks.
            Event("View", at(0), "m1", "d5"),
            Event("Cart", at(5), "m1", "d6"),
        ]
    )
    result = ask(world, "View", "Cart", "Order", by="device", window="1 h")
    assert result.model_dump(mode="json") == {
        "steps": [
            {
                "step": "View",
                "count": 5,
                "conversion": 1.0,
                "conversion_low": None,
                "conversion_high": None,
                "conversion_from_start": 1.0,
                "dropped": 1,
                "still_open": 0,
                "median_seconds": None,
                "p90_seconds": None,
            },
            {
                "step": "Cart",
                "count": 4,
                "conversion": 0.8,
                "conversion_low": pytest.approx(0.3755, abs=1e-4),  # of 4 of 5, by Wilson's formula
                "conversion_high": pytest.approx(0.9638, abs=1e-4),
                "conversion_from_start": 0.8,
                "dropped": 3,
                "still_open": 0,
                "median_seconds": 30.0,  # of 10, 20, 40, 80
                "p90_seconds": 68.0,  # 40 + 0.7 × 40
            },
            {
                "step": "Order",
                "count": 1,
                "conversion": 0.25,
                "conversion_low": pytest.approx(0.0456, abs=1e-4),
                "conversion_high": pytest.approx(0.6994, abs=1e-4),
                "conversion_from_start": 0.2,
                "dropped": 0,
                "still_open": 0,
                "median_seconds": 100.0,
                "p90_seconds": 100.0,
            },
        ],
        "as_of": "2026-06-01T12:00:00Z",
        "breakdown": [],
        "conversion_seconds": {
            "median": 110.0,
            "p90": 110.0,
            "histogram": [
                *({"from_seconds": 10.0 * bar, "to_seconds": 10.0 * bar + 10, "count": 0} for bar in range(11)),
                {"from_seconds": 110.0, "to_seconds": 120.0, "count": 1},
            ],
        },
        "previous": None,
    }


def test_nobody(ask: Ask) -> None:
    result = ask(World(), "View", "Order", breakdown="path")
    assert [(step.count, step.conversion, step.conversion_from_start) for step in result.steps] == [(0, None, None)] * 2
    assert result.breakdown == ()


def test_a_funnel_of_one_step(ask: Ask) -> None:
    result = ask(alone(Event("View", at(), "m1"), Event("View", at(1), "m2", "d2")), "View")
    assert [(step.count, step.dropped, step.still_open) for step in result.steps] == [(2, 0, 0)]


def test_other_events_may_lie_between_and_wrong_order_does_not_count(ask: Ask) -> None:
    world = alone(
        Event("View", at(0), "m1", "d1"),
        Event("Search", at(1), "m2", "d1"),
        Event("Order", at(2), "m3", "d1"),
        Event("Order", at(0), "m1", "d2"),
        Event("View", at(1), "m2", "d2"),
    )
    assert counts(ask(world, "View", "Order", by="device")) == [2, 1]


# Ties


def test_equal_times_count_as_in_order_whatever_the_message_ids(ask: Ask) -> None:
    world = alone(Event("View", at(), "m9"), Event("Cart", at(), "m5"), Event("Order", at(), "m1"))
    result = ask(world, "View", "Cart", "Order", window="0 s")
    assert counts(result) == [1, 1, 1]
    assert [step.median_seconds for step in result.steps] == [None, 0.0, 0.0]


@pytest.mark.parametrize(("times", "expected"), [([0], [1, 0, 0]), ([0, 0], [1, 1, 0]), ([0, 0, 5], [1, 1, 1])])
def test_one_event_fills_one_step(ask: Ask, times: list[int], expected: list[int]) -> None:
    world = alone(*(Event("Order", at(second), f"m{number}") for number, second in enumerate(times)))
    assert counts(ask(world, "Order", "Order", "Order")) == expected


def test_simultaneous_events_fill_the_steps_that_leave_most_for_the_others(ask: Ask) -> None:
    # m1 alone can be the paid one, so m2 has to be the plain one, although m1 sorts first.
    world = alone(
        Event("Order", at(), "m1", properties={"paid": True}), Event("Order", at(), "m2", properties={"paid": False})
    )
    paid = {"event": "Order", "where": {"properties.paid": True}}
    assert counts(ask(world, "Order", paid)) == [1, 1]
    assert counts(ask(world, paid, "Order")) == [1, 1]
    assert counts(ask(world, paid, paid)) == [1, 0]


def test_steps_alike_at_many_simultaneous_events(ask: Ask) -> None:
    world = alone(*(Event("Order", at(), f"m{number}") for number in range(1000)))
    assert counts(ask(world, *["Order"] * 8)) == [1] * 8
    assert counts(ask(alone(*world.events[:5]), *["Order"] * 8)) == [1] * 5 + [0] * 3


# Entries and windows


def test_the_window_is_inclusive_and_counts_from_the_first_step(ask: Ask) -> None:
    def reached(last: datetime) -> list[int]:
        world = alone(Event("View", at(), "m1"), Event("Cart", at(days=10), "m2"), Event("Order", last, "m3"))
        return counts(ask(world, "View", "Cart", "Order", window="14 days"))

    assert reached(at(days=14)) == [1, 1, 1]
    assert reached(at(days=14) + MICROSECOND) == [1, 1, 0]


def test_the_entry_that_got_furthest_is_the_result(ask: Ask) -> None:
    # The first entry's window misses the order; the second's does not.
    world = alone(
        Event("View", at(0), "m1"), Event("Cart", at(10), "m2"), Event("View", at(30), "m3"),
        Event("Cart", at(37), "m4"), Event("Order", at(80), "m5"),
    )  # fmt: skip
    result = ask(world, "View", "Cart", "Order", window="60 s")
    assert counts(result) == [1, 1, 1]
    assert [step.median_seconds for step in result.steps] == [None, 7.0, 43.0]


def test_the_earliest_of_entries_that_got_equally_far_is_the_result(ask: Ask) -> None:
    world = alone(
        Event("View", at(0), "m1", utm_source="first"), Event("View", at(2), "m2", utm_source="second"),
        Event("Cart", at(5), "m3"),
    )  # fmt: skip
    result = ask(world, "View", "Cart", breakdown="utm_source")
    assert result.steps[1].median_seconds == 5.0
    assert [part.value for part in result.breakdown] == ["first"]


def test_still_open_is_not_dropped(ask: Ask) -> None:
    events = [Event("View", at(), "m1", "d1"), Event("Cart", at(1), "m2", "d1"), Event("View", at(), "m1", "d2")]

    def fates(as_of: datetime | None) -> list[tuple[int, int]]:
        result = ask(World(events, watermarks=[as_of]), "View", "Cart", "Order", by="device", window="1 day")
        assert result.as_of == as_of
        return [(step.dropped, step.still_open) for step in result.steps]

    over = at(days=1)  # of both: the window counts from the first step, and its last instant belongs to it
    assert fates(over) == [(0, 1), (0, 1), (0, 0)]
    assert fates(over + MICROSECOND) == [(1, 0), (1, 0), (0, 0)]
    assert fates(None) == [(0, 1), (0, 1), (0, 0)]


def test_still_open_goes_by_the_entry_that_is_the_result(ask: Ask) -> None:
    world = World([Event("View", at(days=0), "m1"), Event("View", at(days=9), "m2")], watermarks=[at(days=10)])
    result = ask(world, "View", "Order", window="5 days")
    assert (result.steps[0].dropped, result.steps[0].still_open) == (1, 0)


def test_as_of_is_the_lowest_watermark_unless_given(ask: Ask) -> None:
    world = World([Event("View", at(), "m1")], watermarks=[at(days=9), None, at(days=3)])
    assert ask(world, "View").as_of == at(days=3)
    given = ask(world, "View", "Order", window="4 days", as_of=at(days=5))
    assert (given.as_of, given.steps[0].dropped) == (at(days=5), 1)


@pytest.mark.parametrize("second", ["2025-06-30", "2025-07-01T00:00:00Z", "2025-07-01T02:00:00+02:00"])
def test_since_and_until_bound_the_first_step_alone(ask: Ask, second: str) -> None:
    june, july = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
    world = alone(
        Event("View", june - MICROSECOND, "m1", "before"),
        Event("View", june, "m1", "at_the_start"),
        Event("View", july - MICROSECOND, "m1", "at_the_end"),
        Event("View", july, "m1", "after"),
        *(Event("Order", july + timedelta(days=3), "m2", d) for d in ("before", "at_the_start", "at_the_end", "after")),
    )
    result = ask(world, "View", "Order", by="device", window="7 days", since="2025-06-01", until=second)
    assert counts(result) == [2, 1]


def test_until_at_the_end_of_time(ask: Ask) -> None:
    world = alone(Event("View", at(), "m1"), Event("Order", at(1), "m2"))
    assert counts(ask(world, "View", "Order", until="9999-12-30")) == [1, 1]


# Who


def test_before_sign_up_counts_to_the_person_who_signed_up_later(ask: Ask) -> None:
    events = [
        Event("View", at(0), "m1", "phone"),
        Event("Signed Up", at(60), "m2", "phone", user="ann"),
        Event("Order", at(90), "m3", "laptop", user="ann"),
    ]
    steps = ("View", "Signed Up", "Order")
    assert counts(ask(World(events), *steps)) == [1, 0, 0]
    known = [Override("phone", (at(-100), ""), (at(60), "m2"), "ann")]
    assert counts(ask(World(events, overrides=known), *steps)) == [1, 1, 1]
    assert counts(ask(World(events, overrides=known), *steps, by="device")) == [1, 1, 0]


def test_an_override_counts_from_its_first_place_to_before_its_last(ask: Ask) -> None:
    def people(event: Event) -> list[str]:
        world = World(
            [event, Event("Order", at(99), "m9", "laptop", user="ann")],
            overrides=[Override("phone", (at(10), "m5"), (at(20), "m5"), "ann")],
        )
        return ["ann" if counts(ask(world, "View", "Order")) == [1, 1] else "other"]

    assert people(Event("View", at(10), "m4", "phone")) == ["other"]
    assert people(Event("View", at(10), "m5", "phone")) == ["ann"]
    assert people(Event("View", at(20), "m4", "phone")) == ["ann"]
    assert people(Event("View", at(20), "m5", "phone")) == ["other"]
    # An illegal user id is no user; a legal one keeps its own events.
    assert people(Event("View", at(15), "m1", "phone", user="undefined", person="anon:phone")) == ["ann"]
    assert people(Event("View", at(15), "m1", "phone", user="bob")) == ["other"]
    assert people(Event("View", at(15), "m1", "tablet")) == ["other"]


def test_sessions_take_their_own_events_and_no_others(ask: Ask) -> None:
    # A logout and the next session's first event share an instant.
    world = World(
        [
            Event("View", at(0), "m1"),
            Event("Signed Out", at(10), "m2"),
            Event("View", at(10), "m3"),
            Event("Order", at(20), "m4"),
            Event("View", at(50), "m5"),
            Event("View", at(0), "m1", None, user="mail"),
        ],
        sessions=[
            Session("s1", "d1", (at(0), "m1"), (at(10), "m2")),
            Session("s2", "d1", (at(10), "m3"), (at(20), "m4")),
        ],
    )
    assert counts(ask(world, "View", "Signed Out", by="session")) == [2, 1]
    assert counts(ask(world, "View", "Order", by="session")) == [2, 1]


def test_events_without_a_device_count_for_people_alone(ask: Ask) -> None:
    world = alone(Event("Order", at(), "m1", None, user="ann"))
    assert counts(ask(world, "Order")) == [1]
    assert counts(ask(world, "Order", by="device")) == [0]


def test_bots_are_left_out(ask: Ask) -> None:
    world = World(
        [
            Event("View", at(), "m1", "d1"),
            Event("View", at(), "m1", "crawler", is_bot=True),
            Event("View", at(), "m1", "hammer"),
        ],
        sessions=[
            Session("s1", "d1", (at(), "m1"), (at(), "m1")),
            Session("s2", "crawler", (at(), "m1"), (at(), "m1"), is_bot=True),
            Session("s3", "hammer", (at(), "m1"), (at(), "m1")),
        ],
        bot_devices=["hammer"],
    )
    assert [counts(ask(world, "View", by=by)) for by in ("person", "session", "device")] == [[1], [1], [1]]


def test_a_bot_s_session_is_left_out_with_all_its_events(ask: Ask) -> None:
    world = World(
        [Event("View", at(0), "m1"), Event("View", at(1), "m2", is_bot=True)],
        sessions=[Session("s1", "d1", (at(0), "m1"), (at(1), "m2"), is_bot=True)],
    )
    assert counts(ask(world, "View", by="session")) == [0]


def test_background_events_may_fill_a_step(ask: Ask) -> None:
    world = alone(Event("Email Opened", at(), "m1", is_background=True), Event("Order", at(1), "m2"))
    assert counts(ask(world, "Email Opened", "Order")) == [1, 1]


def test_copies_of_an_event_count_once_at_the_earliest_time(ask: Ask) -> None:
    copied = alone(
        Event("Order", at(0), "m1"), Event("Order", at(5), "m1", offset=1), Event("Order", at(9), "m1", offset=2)
    )
    assert counts(ask(copied, "Order", "Order")) == [1, 0]
    view = Event("View", at(3), "m2")
    assert counts(ask(alone(*copied.events, view), "View", "Order")) == [1, 0]
    elsewhere = alone(Event("Order", at(0), "m1", "d1", user="ann"), Event("Order", at(5), "m1", "d2", user="ann"))
    assert counts(ask(elsewhere, "Order", "Order")) == [1, 1]


# Breakdown


def test_breakdown_by_first_touch_adds_up_to_the_whole(ask: Ask) -> None:
    sources = {"d1": "mail", "d2": "ads", "d3": None, "d4": "(none)", "d5": "ads"}
    world = World(
        [
            *(Event("View", at(0), "m1", device, utm_source=source) for device, source in sources.items()),
            # What later steps carry does not matter.
            Event("Order", at(10), "m2", "d2", utm_source="mail"),
            Event("Order", at(30), "m2", "d3", utm_source="mail"),
        ]
    )
    result = ask(world, "View", "Order", by="device", breakdown="utm_source")
    assert [(part.value, [step.count for step in part.steps]) for part in result.breakdown] == [
        ("(none)", [2, 1]),
        ("ads", [2, 1]),
        ("mail", [1, 0]),
    ]
    assert result.breakdown[1].steps[1].median_seconds == 10.0
    assert counts(result) == [5, 2]


def test_breakdown_of_values_that_are_not_text(ask: Ask) -> None:
    values: list[Any] = [1, True, None, 2.5, "a", {"k": [1]}]
    world = alone(
        *(Event("View", at(), "m1", f"d{place}", properties={"v": value}) for place, value in enumerate(values))
    )
    result = ask(world, "View", by="device", breakdown="properties.v")
    assert [part.value for part in result.breakdown] == ["(none)", "1", "2.5", "a", "true", '{"k":[1]}']


# The statement


@pytest.mark.parametrize("by", ["person", "session", "device"])
@pytest.mark.parametrize("steps", [["View", "Order"], ["View", "View", "Order"]])
def test_no_join_compares_all_with_all(con: duckdb.DuckDBPyConnection, by: str, steps: list[str]) -> None:
    fill(con, World())
    definition = {"steps": [{"event": step} for step in steps], "by": by, "breakdown": "path", "until": "2025-06-30"}
    query = compile_rows([FunnelDefinition.model_validate(definition)])
    rows = con.execute("explain " + query.sql, query.parameters).fetchall()
    plan = "\n".join(row[1] for row in rows)
    assert "HASH_JOIN" in plan
    assert "NESTED_LOOP" not in plan
    assert "BLOCKWISE" not in plan


def test_the_connection_s_time_zone_does_not_matter(ask: Ask, con: duckdb.DuckDBPyConnection) -> None:
    world = alone(Event("View", datetime(2025, 6, 30, 23, 30, tzinfo=UTC), "m1"))
    try:
        con.execute("set TimeZone = 'Asia/Tokyo'")
        result = ask(world, "View", since="2025-06-30", until="2025-06-30")
    finally:
        con.execute("set TimeZone = 'UTC'")
    assert counts(result) == [1]
    assert result.as_of == at(days=365)
