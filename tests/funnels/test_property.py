"""The engine against the naive reference, over small worlds full of ties, copies, bots and overrides."""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnels import FunnelDefinition, run_funnel
from tests.crowds import crowds, of_crowds
from tests.funnels import pasted, reference
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
                type=draw(st.sampled_from(["track", "track", "page", "identify"])),
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
            browser, pages = draw(st.sampled_from([None, "x", "y"])), draw(st.integers(0, 2))
            sessions.append(Session(f"{device}-{number}", device, stretch[0], stretch[-1], is_bot, browser, pages))
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


FIELDS = ["utm_source", "properties.plan", "session.browser", "person.id", "person.traits.plan", "name"]

conditions = st.one_of(
    st.just({}),
    st.just({}),
    plans.map(lambda value: {"properties.plan": value}),
    st.sampled_from([None, "x", "y"]).map(lambda value: {"utm_source": value}),
    st.sampled_from(
        [
            {"properties.plan": {"not": "pro"}},
            {"properties.plan": {"in": ["pro", 1, None]}},
            {"properties.plan": {"at_least": 1}},
            {"session.page_count": {"less": 2}},
            {"person.is_known": True},
        ]
    ),
)
events = st.builds(lambda name, where: {"event": name, "where": where}, st.sampled_from("ABC"), conditions)


@st.composite
def definitions(draw: st.DrawFn, by: str) -> FunnelDefinition:
    order = draw(st.sampled_from(["ordered", "ordered", "strict", "any"]))
    steps = draw(st.lists(events, min_size=1, max_size=4))
    for place, step in enumerate(steps):
        if draw(st.integers(0, 5)) == 0:
            steps[place] = step = {"any_of": [step, draw(events)]}
        if place and order != "any" and draw(st.integers(0, 4)) == 0:
            steps[place] = {**step, "optional": True}
    required = [place for place, step in enumerate(steps) if not step.get("optional")]
    pairs = [(first, second) for first in required for second in required if first < second]
    since = draw(st.one_of(st.none(), st.integers(0, LONG)))
    until = draw(st.one_of(st.none(), st.integers((since or 0) + 1, LONG + 2)))
    return FunnelDefinition.model_validate(
        {
            "steps": steps,
            "order": order,
            "window": f"{draw(st.integers(0, LONG))} s",
            "exclude": [
                {**draw(events), "from_step": pair[0], "to_step": pair[1]}
                for pair in (draw(st.lists(st.sampled_from(pairs), max_size=2)) if pairs else [])
                if draw(st.booleans())
            ],
            "by": by,
            "count": draw(st.sampled_from(["uniques", "uniques", "totals"])),
            "breakdown": draw(st.sampled_from([None, *FIELDS])),
            "attribution": draw(
                st.sampled_from(["first_touch", "last_touch", *({"step": place} for place in range(len(steps)))])
            ),
            "top": draw(st.sampled_from([50, 1, 2])),
            "hold": draw(st.lists(st.sampled_from(FIELDS), max_size=1)) if draw(st.booleans()) else [],
            "since": None if since is None else at(since),
            "until": None if until is None else at(until),
            "compare": "previous_period" if since is not None and until is not None and draw(st.booleans()) else None,
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
        if pasted.can_be_said(definition):
            pasted.compare(con, definition)


def check(con: duckdb.DuckDBPyConnection, world: World, definition: FunnelDefinition) -> None:
    """The answer about `world`, which is what `con` holds, is the reference's."""
    as_of = min((mark for mark in world.watermarks if mark is not None), default=None)
    assert answered(con, definition) == expected(reference.funnel(world, definition, as_of))


def answered(con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> dict[str, Any]:
    """The engine's answer, its histogram as the number of those in it."""
    answer = json.loads(json.dumps(run_funnel(con, definition).model_dump(), default=datetime.isoformat))
    if answer["conversion_seconds"]:
        bars = answer["conversion_seconds"].pop("histogram")
        assert all(one["to_seconds"] == other["from_seconds"] for one, other in itertools.pairwise(bars))
        answer["conversion_seconds"]["converted"] = sum(bar["count"] for bar in bars)
    return answer


def expected(told: dict[str, Any]) -> dict[str, Any]:
    """The reference's answer in that form; shares and times may differ by what is lost in sums."""
    if told["conversion_seconds"]:
        told["conversion_seconds"]["converted"] = len(told["conversion_seconds"].pop("seconds"))
    return {key: _about(value) for key, value in told.items()}


def _about(value: Any) -> Any:
    match value:
        case float():
            return pytest.approx(value, abs=1e-7)
        case datetime():
            return value.isoformat()
        case dict():
            return {key: _about(inner) for key, inner in value.items()}
        case list():
            return [_about(inner) for inner in value]
    return value
