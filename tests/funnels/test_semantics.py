"""What each rule of a funnel means, by examples written out and worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from funnels import FunnelResult
from tests.funnels.conftest import Ask
from tests.funnels.worlds import Event, Override, Session, World, alone, at, counts


def timeline(text: str, device: str = "d1", **others: Any) -> list[Event]:
    """Events by the second: "A B . C" is A at 0, B at 1 and C at 3; "AB" are two at one time, in this order."""
    return [
        Event(name, at(second), f"m{second:02}-{place}", device, **others)
        for second, names in enumerate(text.split())
        for place, name in enumerate(names)
        if name != "."
    ]


def times(result: FunnelResult) -> list[float | None]:
    return [step.median_seconds for step in result.steps]


# Order


@pytest.mark.parametrize(
    ("events", "reached"),
    [
        ("A B C", [1, 1, 1]),
        ("A . B . . C", [1, 1, 1]),
        ("A X B C", [1, 0, 0]),
        ("A A B C", [1, 1, 1]),  # the second one begins what the first one does not
        ("A B A C", [1, 1, 0]),
        ("BA B C", [1, 1, 1]),
        ("AB C", [1, 1, 1]),
        ("BA C", [1, 0, 0]),  # the very next event is by message_id
    ],
)
def test_strict(ask: Ask, events: str, reached: list[int]) -> None:
    assert counts(ask(alone(*timeline(events)), "A", "B", "C", order="strict")) == reached


def test_strict_looks_past_what_is_no_track_page_or_screen_event_in_the_foreground(ask: Ask) -> None:
    between = [
        Event("Email Opened", at(1), "m5", is_background=True),
        Event("identify", at(1), "m6", type="identify"),
    ]
    world = alone(Event("A", at(0), "m1"), *between, Event("B", at(2), "m9", type="page"))
    assert counts(ask(world, "A", "B", order="strict")) == [1, 1]
    assert counts(ask(world, "A", "Email Opened", order="strict")) == [1, 0]


@pytest.mark.parametrize(
    ("events", "window", "reached"),
    [
        ("A B C", 2, [1, 1, 1]),
        ("C B A", 2, [1, 1, 1]),
        ("B A . C", 2, [1, 1, 0]),
        ("B A . C", 3, [1, 1, 1]),
        ("C . A B", 2, [1, 1, 0]),  # C to A is too long ago for B; A and B are two steps
        ("B C", 9, [0, 0, 0]),
        ("ABC", 0, [1, 1, 1]),
    ],
)
def test_any(ask: Ask, events: str, window: int, reached: list[int]) -> None:
    result = ask(alone(*timeline(events)), "A", "B", "C", order="any", window=f"{window} s")
    assert counts(result) == reached


def test_steps_in_any_order_are_timed_by_when_all_up_to_them_were_done(ask: Ask) -> None:
    result = ask(alone(*timeline("C . . B . A")), "A", "B", "C", order="any", window="9 s")
    assert times(result) == [None, 0.0, 0.0]  # with A, at 5, all were done
    assert result.conversion_seconds is not None
    assert result.conversion_seconds.median == 5.0


def test_one_event_fills_one_step_in_any_order(ask: Ask) -> None:
    assert counts(ask(alone(*timeline("A")), "A", "A", order="any")) == [1, 0]
    assert counts(ask(alone(*timeline("A A")), "A", "A", order="any")) == [1, 1]


# Several events, optional steps


def test_a_step_of_several_events(ask: Ask) -> None:
    either = {"any_of": [{"event": "B"}, {"event": "C", "where": {"path": "/c"}}]}
    world = alone(
        *timeline("A B", "d1"), *timeline("A C", "d2"), *timeline("A C", "d3", path="/c"), *timeline("A D", "d4")
    )
    result = ask(world, "A", either, by="device")
    assert counts(result) == [4, 2]
    assert result.steps[1].step == "B or C"


@pytest.mark.parametrize(
    ("events", "reached"),
    [
        ("A B C", [1, 1, 1]),
        ("A C", [1, 0, 1]),
        ("A C B", [1, 0, 1]),  # too late
        ("A BC", [1, 1, 1]),
        ("B A C", [1, 0, 1]),
        ("A B", [1, 1, 0]),
    ],
)
def test_an_optional_step_may_be_left_out(ask: Ask, events: str, reached: list[int]) -> None:
    result = ask(alone(*timeline(events)), "A", {"event": "B", "optional": True}, "C")
    assert counts(result) == reached


def test_an_optional_step_loses_nobody(ask: Ask) -> None:
    world = alone(*timeline("A B C", "d1"), *timeline("A C", "d2"), *timeline("A B", "d3"), *timeline("A", "d4"))
    result = ask(world, "A", {"event": "B", "optional": True}, "C", by="device")
    assert [(s.count, s.conversion, s.dropped) for s in result.steps] == [(4, 1.0, 2), (2, 0.5, 0), (2, 0.5, 0)]
    assert times(result) == [None, 1.0, 1.5]  # from A


def test_required_steps_choose_before_optional_ones(ask: Ask) -> None:
    world = alone(*timeline("A B"))
    assert counts(ask(world, "A", {"event": "B", "optional": True}, "B")) == [1, 0, 1]


# Exclusions


@pytest.mark.parametrize(
    ("events", "reached"),
    [
        ("A X B C", [0, 0, 0]),
        ("A B X C", [1, 1, 1]),
        ("X A B C", [1, 1, 1]),
        ("AX B C", [1, 1, 1]),  # at the very time of a step is neither after nor before it
        ("A XB C", [1, 1, 1]),
        ("A X A B C", [1, 1, 1]),  # the second one is not void
        ("A X", [0, 0, 0]),
        ("A . . . . X", [0, 0, 0]),
        ("A . . . . . . . . X", [1, 0, 0]),  # the window is over
    ],
)
def test_an_exclusion_voids_what_it_lies_in(ask: Ask, events: str, reached: list[int]) -> None:
    void = [{"event": "X", "from_step": 0, "to_step": 1}]
    assert counts(ask(alone(*timeline(events)), "A", "B", "C", exclude=void, window="9 s")) == reached


def test_an_exclusion_with_conditions(ask: Ask) -> None:
    void = [{"event": "X", "where": {"path": {"contains": "bad"}}, "from_step": 0, "to_step": 1}]
    good, bad = (alone(*timeline("A . B"), Event("X", at(1), "m9", path=path)) for path in ("/good", "/bad"))
    assert counts(ask(good, "A", "B", exclude=void)) == [1, 1]
    assert counts(ask(bad, "A", "B", exclude=void)) == [0, 0]


# Holding


def test_held_values_are_those_of_the_first_event(ask: Ask) -> None:
    def shirt(name: str, second: int, plan: object) -> Event:
        return Event(name, at(second), f"m{second}", properties={} if plan is None else {"plan": plan})

    def reached(*plans: object) -> list[int]:
        world = alone(*(shirt(name, n, plan) for n, (name, plan) in enumerate(zip("AAB", plans, strict=True))))
        return counts(ask(world, "A", "B", hold=["properties.plan"]))

    assert reached("x", "y", "x") == reached("x", "y", "y") == [1, 1]
    assert reached("x", "y", "z") == reached("1", None, 1) == reached(True, "true", 1) == [1, 0]
    assert reached("x", None, None) == reached("x", 1, 1.0) == [1, 1]


@pytest.mark.parametrize(("first", "second"), [("x", "y"), ("y", "x")])
def test_of_entries_that_hold_other_values_the_first_is_by_message_id(ask: Ask, first: str, second: str) -> None:
    world = alone(
        Event("A", at(7), "m2", utm_source=second),
        Event("A", at(7), "m1", utm_source=first),
        Event("B", at(8), "m3", utm_source=first),
        Event("B", at(9), "m4", utm_source=second),
    )
    _, last = ask(world, "A", "B", hold=["utm_source"], window="3 seconds").steps
    assert (last.count, last.median_seconds) == (1, 1.0)


def test_an_exclusion_voids_entries_of_its_held_values(ask: Ask) -> None:
    events = [
        Event("A", at(0), "m0", path="/x"),
        Event("A", at(1), "m1", path="/y"),
        Event("X", at(2), "m2", path="/x"),
        Event("B", at(3), "m3", path="/x"),
        Event("B", at(4), "m4", path="/y"),
    ]
    rules: dict[str, Any] = {"hold": ["path"], "exclude": [{"event": "X", "from_step": 0, "to_step": 1}]}
    assert counts(ask(alone(*events), "A", "B", **rules)) == [1, 1]
    assert counts(ask(alone(*events[:4]), "A", "B", **rules)) == [1, 0]


# Totals


@pytest.mark.parametrize(
    ("events", "uniques", "totals"),
    [
        ("A B A B", [1, 1], [2, 2]),
        ("A A B", [1, 1], [1, 1]),  # the second A lies in the first entry
        ("A B B", [1, 1], [1, 1]),
        ("A . . . A B", [1, 1], [2, 1]),  # the first window is over at 3
        ("A . . A B", [1, 1], [1, 0]),
        ("AB AB", [1, 1], [2, 2]),
    ],
)
def test_totals_count_entries_one_after_the_other(ask: Ask, events: str, uniques: list[int], totals: list[int]) -> None:
    world = alone(*timeline(events))
    assert counts(ask(world, "A", "B", window="3 s")) == uniques
    assert counts(ask(world, "A", "B", window="3 s", count="totals")) == totals


def test_totals_of_one_step_are_its_events(ask: Ask) -> None:
    assert counts(ask(alone(*timeline("AAA . A")), "A", count="totals", order="any")) == [4]


def test_a_void_entry_takes_no_room(ask: Ask) -> None:
    void = [{"event": "X", "from_step": 0, "to_step": 1}]
    assert counts(ask(alone(*timeline("A X A B")), "A", "B", exclude=void, count="totals")) == [1, 1]


# Breakdown


@pytest.mark.parametrize(
    ("attribution", "parts"),
    [
        ("first_touch", {"x": [1, 1, 1], "y": [1, 1, 0]}),
        ("last_touch", {"y": [1, 1, 0], "z": [1, 1, 1]}),
        ({"step": 1}, {"(none)": [1, 1, 1], "y": [1, 1, 0]}),
        ({"step": 2}, {"(none)": [1, 1, 0], "z": [1, 1, 1]}),
    ],
)
def test_whose_value_counts(ask: Ask, attribution: Any, parts: dict[str, list[int]]) -> None:
    world = alone(
        Event("A", at(0), "m0", "d1", utm_source="x"),
        Event("B", at(1), "m1", "d1"),
        Event("C", at(2), "m2", "d1", utm_source="z"),
        *timeline("A B", "d2", utm_source="y"),
    )
    result = ask(world, "A", "B", "C", by="device", breakdown="utm_source", attribution=attribution)
    assert {part.value: counts_of(part) for part in result.breakdown} == parts


def counts_of(part: Any) -> list[int]:
    return [step.count for step in part.steps]


def test_a_thousand_values_and_all_others(ask: Ask) -> None:
    world = alone(*(Event("A", at(), "m", f"d{n}", path=f"/{n:04}") for n in range(1000)))
    result = ask(world, "A", by="device", breakdown="path", top=3)
    assert [(part.value, part.steps[0].count) for part in result.breakdown] == [
        *((f"/{n:04}", 1) for n in range(3)),
        ("(other)", 997),
    ]


# Fields of sessions and persons


def test_fields_of_the_session_and_of_the_person(ask: Ask) -> None:
    world = World(
        [
            Event("A", at(0), "m0"),
            Event("identify", at(5), "m5", user="ann", type="identify", properties={"plan": "free", "age": 30}),
            Event("identify", at(6), "m6", user="ann", type="identify", properties={"plan": "pro"}),
            Event("A", at(7), "m7", "d2"),
        ],
        sessions=[Session("s1", "d1", (at(0), "m0"), (at(6), "m6"), browser="Firefox", page_count=3)],
        overrides=[Override("d1", (at(0), ""), (at(5), "m5"), "ann")],
    )

    def matching(**where: Any) -> list[int]:
        step = {"event": "A", "where": {name.replace("__", "."): value for name, value in where.items()}}
        return counts(ask(world, step, by="device"))

    assert matching(session__browser="Firefox", session__page_count={"at_least": 3}) == [1]
    assert matching(session__browser=None) == [1]  # the other device has no session
    assert matching(person__is_known=True) == matching(person__id="ann") == [1]
    assert matching(person__traits__plan="pro", person__traits__age={"less": 31}) == [1]
    assert matching(person__traits__plan="free") == [0]
    assert matching(person__first_seen={"greater": at(6).isoformat()}) == [1]


# Periods


def test_the_previous_period_has_as_many_days(ask: Ask) -> None:
    world = alone(
        *(Event("A", at(days=day), "m", f"d{day}") for day in (-2, -1, 0, 1)),  # at 12:00 UTC
    )
    result = ask(
        world,
        "A",
        by="device",
        since="2025-06-01",
        until="2025-06-02",
        compare="previous_period",
        time_zone="Europe/Berlin",
    )
    assert counts(result) == [2]
    assert result.previous is not None
    assert [step.count for step in result.previous.steps] == [2]
    assert result.previous.since.isoformat() == "2025-05-29T22:00:00+00:00"
    assert result.previous.until.isoformat() == "2025-05-31T22:00:00+00:00"


def test_a_previous_period_of_days_over_a_change_of_clocks(ask: Ask) -> None:
    rules: dict[str, Any] = {"compare": "previous_period", "time_zone": "Europe/Berlin"}
    result = ask(World(), "A", since="2025-03-31", until="2025-03-31", **rules)
    assert result.previous is not None
    assert result.previous.since.isoformat() == "2025-03-29T23:00:00+00:00"  # a day of 23 hours
