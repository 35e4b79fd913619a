"""The store against SQL, over histories: events that come in any order, persons who become known, merge and are
forgotten, bots, copies. What is watched is what is asked, at every moment."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnels import FunnelDefinition, run_funnel
from funnels.store import Store, Watched
from funnels.store.selecting import answers
from sinks.warehouse import Warehouse
from tests.crowds import crowds, of_crowds
from tests.funnels.crowd import FEATURES, LAST, definition, subject, together
from tests.funnels.test_property import LONG, worlds
from tests.funnels.worlds import Event, Override, World, at, put

SUBJECTS = 60
EVERYBODY = FunnelDefinition.model_validate({"steps": [{"event": "A"}]})
ROOM = 1 << 30
"""Bytes that the store may take here."""
PERSONS = ("u1", "u2", "u3", "anon:d1", "anon:d2")
TOLD_ANEW = """
delete from stream.person_overrides; delete from stream.person_merges; delete from stream.bot_devices;
delete from stream.progress;
"""
"""Of what each chapter says all."""


@dataclass(frozen=True)
class Chapter:
    """What one transaction writes."""

    events: Sequence[Event]
    overrides: Sequence[Override]
    """All that there are from then on."""
    merges: dict[str, str]
    bots: Sequence[str]
    watermark: float | None
    act: str = "none"
    """What becomes of the warehouse besides: somebody is forgotten, or a backup takes its place."""


@st.composite
def histories(draw: st.DrawFn) -> list[Chapter]:
    world = draw(worlds())
    arriving = draw(st.permutations(world.events))
    cuts = sorted(draw(st.lists(st.integers(0, len(arriving)), max_size=3)))
    chapters = []
    for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True):
        merged = draw(st.lists(st.sampled_from(PERSONS), max_size=2, unique=True))
        into = draw(st.sampled_from([person for person in PERSONS if person not in merged]))
        chapters.append(
            Chapter(
                events=arriving[start:end],
                overrides=[override for override in world.overrides if draw(st.booleans())],
                merges=dict.fromkeys(merged, into),
                bots=draw(st.lists(st.sampled_from(["d1", "d2", "d3"]), max_size=1)),
                watermark=draw(st.one_of(st.none(), st.integers(0, 2 * LONG))),
                act=draw(st.sampled_from(["none", "none", "none", "none", "forget", "restore"])),
            )
        )
    return chapters


@st.composite
def questions(draw: st.DrawFn) -> FunnelDefinition:
    """Definitions of all kinds."""
    nothing: dict[str, Any] = {}
    conditions = st.sampled_from(
        [nothing, nothing, nothing, {"properties.plan": "pro"}, {"properties.plan": None}, {"utm_source": "x"}]
    )
    steps = st.builds(lambda name, where: {"event": name, "where": where}, st.sampled_from("ABC"), conditions)
    order = draw(st.sampled_from(["ordered", "ordered", "strict", "any"]))
    count = draw(st.integers(1, 4))
    asked: dict[str, Any] = {
        "steps": draw(st.lists(steps, min_size=count, max_size=count)),
        "order": order,
        "window": f"{draw(st.integers(0, LONG))} s",
        "by": draw(st.sampled_from(["person", "person", "device", "session"])),
        "breakdown": draw(st.sampled_from([None, None, "utm_source", "properties.plan"])),
        "attribution": draw(st.sampled_from(["first_touch", "last_touch"])),
        "hold": draw(st.sampled_from([[], [], [], ["properties.plan"]])),
        "count": draw(st.sampled_from(["uniques", "uniques", "uniques", "totals"])),
    }
    if count > 2 and order != "any" and draw(st.booleans()):
        asked["steps"][1] = {**asked["steps"][1], "optional": True}
    elif count > 1 and draw(st.integers(0, 3)) == 0:
        asked["exclude"] = [{"event": draw(st.sampled_from("ABC")), "from_step": 0, "to_step": count - 1}]
    since = draw(st.one_of(st.none(), st.integers(0, LONG)))
    until = draw(st.one_of(st.none(), st.integers((since or 0) + 1, LONG + 2)))
    asked |= {"since": None if since is None else at(since), "until": None if until is None else at(until)}
    return FunnelDefinition.model_validate(asked)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse.open(Path(":memory:")) as opened:
        yield opened


MANY = FEW = 4
"""Questions to one history."""


@of_crowds(MANY, FEW)
@given(history=histories(), asked=crowds(questions(), MANY, FEW))
def test_the_store_tells_at_each_moment_what_sql_tells(
    warehouse: Warehouse, history: list[Chapter], asked: list[FunnelDefinition]
) -> None:
    _check(warehouse, history, asked)


@pytest.mark.parametrize("feature", FEATURES)
@settings(max_examples=settings().max_examples // 125)
@given(seed=st.integers(0, 2**32))
def test_each_feature_is_told_of_a_crowd_as_sql_tells_it(warehouse: Warehouse, feature: str, seed: int) -> None:
    rnd = random.Random(seed)
    world = together([subject(rnd, number) for number in range(SUBJECTS)])
    _check(warehouse, _arriving(rnd, world), [definition(rnd, feature) for _ in range(3)])


def _arriving(rnd: random.Random, world: World) -> list[Chapter]:
    """`world` in any order, while persons become known and others are merged."""
    events = rnd.sample(world.events, len(world.events))
    cuts = sorted(rnd.sample(range(len(events)), 3))
    persons = sorted({event.person_then for event in events})
    chapters = []
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        *merged, into = rnd.sample(persons, 3)
        chapters.append(
            Chapter(
                events[start:end],
                [override for override in world.overrides if rnd.random() < 0.7],
                dict.fromkeys(merged, into) if rnd.random() < 0.5 else {},
                rnd.sample(["d1", "d2", "d3"], 1),
                rnd.randint(0, LAST),
                rnd.choice(["none"] * 9 + ["forget", "restore"]),
            )
        )
    return chapters


def _check(warehouse: Warehouse, history: list[Chapter], asked: list[FunnelDefinition]) -> None:
    """After each chapter of `history` the store tells of `asked` what SQL tells, and so does what is watched."""
    _clear(warehouse)
    store = Store(warehouse, ROOM)
    try:
        assert store.fill()
        watched = [Watched(store, question) if Watched.keeps(question) else None for question in asked]
        overrides: Sequence[Override] = ()
        for chapter in history:
            _write(warehouse, chapter, overrides)
            overrides = chapter.overrides
            with warehouse.reader() as con:
                if chapter.act != "none":
                    store.follow(con, EVERYBODY)  # by SQL, as all is to be read anew
                    assert not store.is_filled
                    assert store.fill()
                expected = [run_funnel(con, question) for question in asked]
                assert [run_funnel(con, question, follows=store.follow) for question in asked] == expected
                for kept, told in zip(watched, expected, strict=True):
                    if kept is not None:
                        assert kept.refresh(con) == (told if answers(kept.definition) else None)
            assert store.is_filled
    finally:
        store.close()


def _clear(warehouse: Warehouse) -> None:
    with warehouse.transaction() as con:
        con.execute(TOLD_ANEW)
        con.execute("delete from stream.events; delete from stream.forgotten")


def _write(warehouse: Warehouse, chapter: Chapter, before: Sequence[Override]) -> None:
    with warehouse.transaction() as con:
        con.execute(TOLD_ANEW)
        marks = [] if chapter.watermark is None else [at(chapter.watermark)]
        put(con, World(chapter.events, (), chapter.overrides, chapter.bots, marks))
        for person, into in chapter.merges.items():
            con.execute("insert into stream.person_merges values (?, ?)", [person, into])
        if list(before) != list(chapter.overrides):
            warehouse.moved.note({override.device for override in (*before, *chapter.overrides)})
        if chapter.act == "forget":
            con.execute("delete from stream.events where anonymous_id = 'd1'")
            con.execute("insert into stream.forgotten values ('t', now(), 'asked', 'test', 0, 0, 0, 0, true)")
    if chapter.act == "restore":
        warehouse.begin_generation()
