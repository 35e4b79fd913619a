"""Who is behind a number, and what those who dropped out did next."""

from __future__ import annotations

import random

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnels import FunnelDefinition, run_funnel
from funnels.people import NOTHING, Behind, NextEvent, State, funnel_people, next_events
from stitchline.errors import DefinitionError
from tests.funnels import reference
from tests.funnels.crowd import FEATURES, LAST, definition, subject, together
from tests.funnels.test_features import FEW
from tests.funnels.worlds import Event, World, alone, at, fill

FUNNEL = FunnelDefinition.model_validate(
    {"steps": [{"event": "View"}, {"event": "Cart"}, {"event": "Order"}], "by": "device", "window": "1 h"}
)

WORLD = alone(
    Event("View", at(0), "m1", "ann"),
    Event("Cart", at(10), "m2", "ann"),
    Event("Order", at(20), "m3", "ann"),
    Event("View", at(5), "m1", "bob"),
    Event("Cart", at(7), "m2", "bob"),
    Event("Opened", at(8), "m3", "bob", is_background=True),
    Event("Search", at(9), "m4", "bob"),
    Event("Search", at(9, days=-1), "m5", "bob"),
    Event("View", at(5), "m1", "cid"),
    Event("Cart", at(9), "m3", "cid"),
    Event("Help", at(9), "m2", "cid"),
    Event("View", at(0, days=365), "m1", "dan"),
    Event("Cart", at(3, days=365), "m2", "dan"),
)


def names(con: duckdb.DuckDBPyConnection, step: int, state: State) -> list[str]:
    return [one.subject for one in funnel_people(con, FUNNEL, step, state).people]


def test_the_people_behind_each_number(con: duckdb.DuckDBPyConnection) -> None:
    fill(con, WORLD)
    assert funnel_people(con, FUNNEL, 1, "converted").people == (Behind("ann", at(0), at(10)),)
    assert names(con, 0, "reached") == names(con, 1, "reached") == ["ann", "bob", "cid", "dan"]
    assert names(con, 1, "dropped") == ["bob", "cid"]
    assert names(con, 1, "still_open") == ["dan"]
    assert names(con, 2, "converted") == names(con, 2, "reached") == ["ann"]
    assert names(con, 2, "dropped") == names(con, 0, "dropped") == []


def test_pages_follow_one_another(con: duckdb.DuckDBPyConnection) -> None:
    fill(con, WORLD)
    found, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page = funnel_people(con, FUNNEL, 0, limit=1, after=after)
        found += [one.subject for one in page.people]
        after, pages = page.after, pages + 1
    assert found == ["ann", "bob", "cid", "dan"]
    assert pages == 4
    assert funnel_people(con, FUNNEL, 0, limit=0).people == ()


def test_what_those_who_dropped_out_did_next(con: duckdb.DuckDBPyConnection) -> None:
    fill(con, WORLD)
    assert next_events(con, FUNNEL, 1) == [NextEvent(NOTHING, 1), NextEvent("Search", 1)]
    assert next_events(con, FUNNEL, 0) == []


@pytest.mark.parametrize("step", [-1, 3])
def test_a_step_that_there_is_not(con: duckdb.DuckDBPyConnection, step: int) -> None:
    with pytest.raises(DefinitionError, match="counted from 0 to 2"):
        funnel_people(con, FUNNEL, step)
    with pytest.raises(DefinitionError, match="counted from 0 to 2"):
        next_events(con, FUNNEL, step)


def test_a_place_that_there_is_not(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(DefinitionError, match="no place to go on from"):
        funnel_people(con, FUNNEL, 0, after="somewhere")


@FEW
@given(seed=st.integers(0, 2**32), feature=st.sampled_from(sorted(FEATURES)))
def test_people_are_those_that_are_counted(con: duckdb.DuckDBPyConnection, seed: int, feature: str) -> None:
    rnd = random.Random(seed)
    worlds = [subject(rnd, number) for number in range(50)]
    asked = definition(rnd, feature)
    fill(con, together(worlds))
    result = run_funnel(con, asked)
    for place, step in enumerate(result.steps):
        sizes: dict[State, int] = {"reached": step.count, "dropped": step.dropped, "still_open": step.still_open}
        for state, size in sizes.items():
            assert len(funnel_people(con, asked, place, state, limit=1000).people) == size
    found = funnel_people(con, asked, 0, limit=1000).people
    expected = [
        (entry.first.event_at, name)
        for world in worlds
        for name, entries in reference.subjects(world, asked)
        for entry in entries
    ]
    assert [(one.entered_at, one.subject) for one in found] == sorted(expected)
    followed = _followed(worlds, asked)
    last = max(place for place, step in enumerate(asked.steps) if not step.optional)
    for place in range(last):
        told = {one.event: one.entries for one in next_events(con, asked, place, limit=1000)}
        assert told == followed.get(place, {})


def _followed(worlds: list[World], asked: FunnelDefinition) -> dict[int, dict[str, int]]:
    """By step, what those who dropped out there did next, of the worlds one by one."""
    told: dict[int, dict[str, int]] = {}
    required = [place for place, step in enumerate(asked.steps) if not step.optional]
    for world in worlds:
        for name, entries in reference.subjects(world, asked):
            for entry in entries:
                step = [place for place in required if entry.path[place] is not None][-1]
                if step == required[-1] or entry.first.event_at + asked.window >= at(LAST):
                    continue
                last = [event for event in entry.path if event is not None][-1]
                event = reference.next_event(world, asked, name, last)
                counts = told.setdefault(step, {})
                counts[event or NOTHING] = counts.get(event or NOTHING, 0) + 1
    return told
