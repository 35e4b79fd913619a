"""The engine against the naive reference, over small worlds full of ties, copies, bots and overrides."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnels import FunnelDefinition, run_funnel
from tests.crowds import crowds, of_crowds
from tests.funnels import reference
from tests.funnels.worlds import Event, Override, Session, World, at, fill

LONG = 8
"""Seconds that a world lasts: few, so that times tie often."""

plans = st.sampled_from([None, "pro", "free", 1, "1", True])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = draw(st.permutations([f"m{number:02}" for number in range(20)]))
    events: list[Event] = []
    for number in range(draw(st.integers(0, 20))):
        user = draw(st.sampled_from([None, None, "u1", "u2", "guest"]))
        device = draw(st.sampled_from(["d1", "d2", "d3", None] if user else ["d1", "d2", "d3"]))
        plan = draw(st.one_of(st.just("absent"), plans))
        by_then = None if user else draw(st.sampled_from([None, "u1"]))
        events.append(
            Event(
                name=draw(st.sampled_from("ABC")),
                event_at=at(draw(st.integers(0, LONG))),
                message_id=names[number],
                device=device,
                user=user,
                person=f"anon:{device}" if user == "guest" else by_then,
                properties=draw(st.sampled_from([None, {}])) if plan == "absent" else {"plan": plan},
                utm_source=draw(st.sampled_from([None, "x", "y"])),
                is_bot=draw(st.integers(0, 9)) == 0,
                is_background=draw(st.booleans()),
                offset=number,
            )
        )
    for copied in draw(st.lists(st.sampled_from(events), max_size=2)) if events else []:
        later = at(draw(st.integers(0, LONG)))
        events.append(Event(**{**vars(copied), "event_at": later, "offset": len(events)}))
    sessions: list[Session] = []
    overrides: list[Override] = []
    for device in ("d1", "d2", "d3"):
        places = sorted({(event.event_at, event.message_id) for event in events if event.device == device})
        for number, stretch in enumerate(draw(_stretches(places))):
            is_bot = draw(st.integers(0, 9)) == 0
            sessions.append(Session(f"{device}-{number}", device, stretch[0], stretch[-1], is_bot))
        for number, stretch in enumerate(draw(_stretches(places))):
            person = draw(st.sampled_from(["u1", "u2", f"anon:{device}"]))
            if number % 2 == 0:
                end = draw(st.sampled_from([stretch[-1], (stretch[-1][0], stretch[-1][1] + "~")]))
                overrides.append(Override(device, stretch[0], end, person))
    bots = draw(st.lists(st.sampled_from(["d1", "d2", "d3"]), max_size=1))
    marks = draw(st.lists(st.one_of(st.none(), st.integers(0, 2 * LONG).map(at)), max_size=3))
    return World(events, sessions, overrides, bots, marks)


@st.composite
def _stretches(draw: st.DrawFn, places: list[Any]) -> list[list[Any]]:
    """`places` cut into runs, some of them left out."""
    cuts = sorted(draw(st.sets(st.integers(1, max(len(places) - 1, 1)), max_size=3)))
    runs = [places[start:end] for start, end in zip([0, *cuts], [*cuts, len(places)], strict=True)]
    return [run for run in runs if run and draw(st.integers(0, 4)) > 0]


@st.composite
def definitions(draw: st.DrawFn, by: str) -> FunnelDefinition:
    nothing: dict[str, Any] = {}
    conditions = st.one_of(
        st.just(nothing),
        st.just(nothing),
        plans.map(lambda value: {"properties.plan": value}),
        st.sampled_from([None, "x", "y"]).map(lambda value: {"utm_source": value}),
    )
    steps = st.builds(lambda name, where: {"event": name, "where": where}, st.sampled_from("ABC"), conditions)
    since = draw(st.one_of(st.none(), st.integers(0, LONG)))
    until = draw(st.one_of(st.none(), st.integers((since or 0) + 1, LONG + 2)))
    return FunnelDefinition.model_validate(
        {
            "steps": draw(st.lists(steps, min_size=1, max_size=4)),
            "window": f"{draw(st.integers(0, LONG))} s",
            "by": by,
            "breakdown": draw(st.sampled_from([None, "utm_source", "properties.plan"])),
            "since": None if since is None else at(since),
            "until": None if until is None else at(until),
        }
    )


MANY, FEW = 4, 2
"""Questions to one world, in the long form and in the short one: filling and drawing it takes longer than an answer."""


@of_crowds(MANY, FEW)
@given(
    world=worlds(),
    questions=crowds(st.sampled_from(["person", "session", "device"]).flatmap(definitions), MANY, FEW),
)
def test_engine_equals_reference(
    con: duckdb.DuckDBPyConnection, world: World, questions: list[FunnelDefinition]
) -> None:
    fill(con, world)
    for definition in questions:
        check(con, world, definition)


def check(con: duckdb.DuckDBPyConnection, world: World, definition: FunnelDefinition) -> None:
    """The answer about `world`, which is what `con` holds, is the reference's."""
    as_of = min((mark for mark in world.watermarks if mark is not None), default=None)
    answer = run_funnel(con, definition).model_dump()
    expected = reference.funnel(world, definition, as_of)
    for step in [*expected["steps"], *(step for part in expected["breakdown"] for step in part["steps"])]:
        for name in ("median_seconds", "p90_seconds"):
            step[name] = step[name] if step[name] is None else pytest.approx(step[name])
    answer["steps"] = list(answer["steps"])
    answer["breakdown"] = [{**part, "steps": list(part["steps"])} for part in answer["breakdown"]]
    assert answer == expected
