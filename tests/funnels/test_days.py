"""A funnel by the day of its first step: what it says of each day when it is asked for that day alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from funnels import FunnelDefinition, run_funnel
from funnels.days import funnel_days
from tests.crowds import crowds, of_crowds
from tests.funnels.test_property import definitions, worlds
from tests.funnels.worlds import Event, World, fill

DAY = timedelta(days=1)


@st.composite
def worlds_over_days(draw: st.DrawFn) -> World:
    """Worlds of which some events are days later, and some an instant before midnight."""
    world: World = draw(worlds())
    # A copy is of the original's day: asked for a day alone, the funnel does not know of those before.
    later = {name: draw(st.sampled_from([0, 0, 1, 2])) for name in sorted({e.message_id for e in world.events})}
    to_midnight = draw(st.booleans())
    events = []
    for event in world.events:
        at = event.event_at + later[event.message_id] * DAY
        if to_midnight and event.event_at.microsecond == 0 and event.event_at.second % 2:
            at = midnight(at.date() + DAY) - timedelta(microseconds=1)
        events.append(Event(**{**vars(event), "event_at": at}))
    return World(events, [], [], world.bot_devices, world.watermarks)


COPIES = """
create or replace temp table copies as
select rowid from stream.events
qualify row_number() over (partition by anonymous_id, message_id order by event_at, "partition", "offset") > 1
"""


@dataclass(frozen=True)
class Question:
    """What is asked of a day."""

    definition: FunnelDefinition
    which: int
    """Of the days of the world."""
    since: timedelta | None
    until: timedelta | None
    """From the beginning of that day on."""

    def of(self, every: Sequence[date]) -> tuple[date, FunnelDefinition]:
        """The day, and the funnel of all days."""
        day = every[self.which % len(every)]
        since, until = (None if bound is None else midnight(day) + bound for bound in (self.since, self.until))
        return day, self.definition.model_copy(update={"since": since, "until": until})


def midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    definition = draw(st.sampled_from(["person", "device"]).flatmap(definitions))
    window = definition.window + draw(st.integers(0, 2)) * DAY
    return Question(
        definition.model_copy(update={"compare": None, "window": window}),
        draw(st.integers(0, 19)),
        draw(st.sampled_from([None, None, None, timedelta(), DAY / 2])),
        draw(st.sampled_from([None, None, timedelta(), DAY / 2, DAY])),
    )


MANY, FEW = 4, 2
"""Questions to one world, which are asked together, in the long form and in the short one."""


@of_crowds(MANY, FEW)
@given(world=worlds_over_days(), asked=crowds(questions(), MANY, FEW), told=st.booleans())
def test_a_day_is_what_the_funnel_says_of_it_alone(
    con: duckdb.DuckDBPyConnection, world: World, asked: list[Question], told: bool
) -> None:
    fill(con, world)
    con.execute(COPIES)
    every = sorted({event.event_at.date() for event in world.events})
    if not every:
        return
    days = [question.of(every) for question in asked]
    answers = funnel_days(con, [definition for _, definition in days], "copies" if told else None)
    for (day, definition), answer in zip(days, answers, strict=True):
        found: dict[date, list[int]] = defaultdict(list)
        answer = answer.sort_by([("entry_date", "ascending"), ("step_number", "ascending")])
        for one, number, name, count in zip(*answer.to_pydict().values(), strict=True):
            assert name == definition.steps[number - 1].label
            found[one].append(count)
        assert found.keys() <= set(every)
        begin, end = definition.since or midnight(day), definition.until or midnight(day) + DAY
        required = [place for place, step in enumerate(definition.steps) if not step.optional]
        alone = [0] * len(required)
        if end > begin:
            bounds = {"since": begin, "until": end, "breakdown": None}
            steps = run_funnel(con, definition.model_copy(update=bounds)).steps
            alone = [steps[place].count for place in required]
        assert found.get(day, [0] * len(alone)) == alone
