"""A funnel by the day of its first step: what it says of each day when it is asked for that day alone."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from funnels import FunnelDefinition, run_funnel
from funnels.days import funnel_days
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
            at = datetime.combine(at.date() + DAY, datetime.min.time(), UTC) - timedelta(microseconds=1)
        events.append(Event(**{**vars(event), "event_at": at}))
    return World(events, [], [], world.bot_devices, world.watermarks)


COPIES = """
create or replace temp table copies as
select rowid from stream.events
qualify row_number() over (partition by anonymous_id, message_id order by event_at, "partition", "offset") > 1
"""


@given(
    world=worlds_over_days(),
    definition=st.sampled_from(["person", "device"]).flatmap(definitions),
    days=st.sampled_from([0, 1, 2]),
    which=st.integers(0, 19),
    told=st.booleans(),
    until=st.sampled_from([None, None, timedelta(), DAY / 2, DAY]),
    other=st.sampled_from(["person", "device"]).flatmap(definitions),
)
def test_a_day_is_what_the_funnel_says_of_it_alone(
    con: duckdb.DuckDBPyConnection,
    world: World,
    definition: FunnelDefinition,
    days: int,
    which: int,
    told: bool,
    until: timedelta | None,
    other: FunnelDefinition,
) -> None:
    """`until` is from the beginning of the day on that is looked at; the `other` is asked together with it."""
    fill(con, world)
    con.execute(COPIES)
    every = sorted({event.event_at.date() for event in world.events})
    if not every:
        return
    day = every[which % len(every)]
    begin = datetime.combine(day, datetime.min.time(), UTC)
    definition = definition.model_copy(
        update={
            "since": None,
            "until": None if until is None else begin + until,
            "breakdown": None,
            "compare": None,
            "window": definition.window + days * DAY,
        }
    )
    found: dict[date, list[int]] = defaultdict(list)
    _, answer, _ = funnel_days(con, [other, definition, other], "copies" if told else None)
    answer = answer.sort_by([("entry_date", "ascending"), ("step_number", "ascending")])
    for one, number, name, count in zip(*answer.to_pydict().values(), strict=True):
        assert name == definition.steps[number - 1].label
        found[one].append(count)
    assert found.keys() <= set(every)
    end = begin + (DAY if until is None else until)
    required = [place for place, step in enumerate(definition.steps) if not step.optional]
    alone = [0] * len(required)
    if end > begin:
        steps = run_funnel(con, definition.model_copy(update={"since": begin, "until": end})).steps
        alone = [steps[place].count for place in required]
    assert found.get(day, [0] * len(alone)) == alone
