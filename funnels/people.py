"""Who is behind a number of a funnel, and what those who dropped out did next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from funnels.condition_sql import Binder
from funnels.definition import FunnelDefinition
from funnels.passes import Ints
from funnels.query import known_until
from funnels.relations import SUBJECTS, relation
from funnels.rows import MICROSECOND, Asked, micros_of, read_rows, rules_of, time_of
from funnels.walk import NEVER, Entries, walk
from stitchline.errors import DefinitionError

State = Literal["reached", "converted", "dropped", "still_open"]

NOTHING: Final = "(nothing)"
"""What those did next of whom no later event is known."""

_NEXT: Final = """
with matched as (
    select s.entry, e.name, e.event_at, e.message_id, e.anonymous_id, e."partition", e."offset",
        hash(e.anonymous_id, e.message_id) as copy
    from ({events}) as e
    join stopped as s on s.subject = e.subject
),
copied as (select entry, copy from matched group by all having count(*) > 1),
once as (
    select * from matched where (entry, copy) not in (from copied)
    union all
    select * from matched where (entry, copy) in (from copied)
    qualify row_number() over (
        partition by entry, anonymous_id, message_id order by event_at, "partition", "offset"
    ) = 1
),
followed as (
    select s.entry, coalesce(arg_min(e.name, (e.event_at, e.message_id)), {nothing}) as event
    from stopped as s
    left join once as e on e.entry = s.entry and (e.event_at, e.message_id) > (s.event_at, s.message_id)
    group by s.entry
)
select event, count(*) as entries
from followed
group by event
order by entries desc, event
limit {limit}
"""


@dataclass(frozen=True, slots=True)
class Behind:
    """A subject behind a number."""

    subject: str
    entered_at: datetime
    """When its entry's first event was."""
    reached_at: datetime
    """When it reached the step."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of those behind a number, by the time at which they entered."""

    people: tuple[Behind, ...]
    after: str | None
    """What to ask for to get those who come next; None if these are the last."""


@dataclass(frozen=True, slots=True)
class NextEvent:
    """An event that those who dropped out did first after the last step they reached."""

    event: str
    entries: int


def funnel_people(
    con: duckdb.DuckDBPyConnection,
    definition: FunnelDefinition,
    step: int,
    state: State = "reached",
    *,
    limit: int = 100,
    after: str | None = None,
    as_of: datetime | None = None,
) -> Page:
    """Those who reached `step`, counted from 0: all of them, or of these who went on to the next required step (at the
    last one all), who dropped out, or whose window is still open.

    They come in the order in which they entered, by the subject's id where they entered together. `after` is that of
    the page before. Raises DefinitionError for a step, a state or an `after` that there is not; facts: step, state.
    """
    _check(definition, step, state)
    as_of = as_of or known_until(con)
    asked = read_rows(con, definition, with_ids=True)
    entries = walk(asked.rows, rules_of(definition))
    entries = entries.pick(np.flatnonzero(_in_state(entries, definition, step, state, as_of)))
    assert asked.ids is not None
    subjects = asked.ids.take(pa.array(entries.first)).cast(pa.string())
    together = pa.table({"began": entries.began, "subject": subjects.cast(pa.binary())})
    order = pc.sort_indices(together, [("began", "ascending"), ("subject", "ascending")]).to_numpy()
    begin = _place_of(after, entries.began[order], subjects, order)
    chosen = order[begin : begin + limit]
    people = tuple(
        Behind(subject, time_of(int(entries.began[place])), time_of(int(entries.at[place, step])))
        for place, subject in zip(chosen, subjects.take(pa.array(chosen)).to_pylist(), strict=True)
    )
    more = begin + limit < len(order)
    return Page(people, f"{micros_of(people[-1].entered_at)} {people[-1].subject}" if more and people else None)


def next_events(
    con: duckdb.DuckDBPyConnection,
    definition: FunnelDefinition,
    step: int,
    *,
    limit: int = 20,
    as_of: datetime | None = None,
) -> list[NextEvent]:
    """What those did next who dropped out at `step`, counted from 0: of each the first track, page or screen event
    after the last step reached, that is no background event; the most frequent ones first. Raises DefinitionError."""
    _check(definition, step, "dropped")
    as_of = as_of or known_until(con)
    asked = read_rows(con, definition, with_ids=True)
    entries = walk(asked.rows, rules_of(definition))
    stopped = _stopped(asked, entries.pick(np.flatnonzero(_in_state(entries, definition, step, "dropped", as_of))))
    bind = Binder()
    subject = SUBJECTS[definition.by]
    events = f"""
        select {subject} as subject, e.name, e.event_at, e.message_id, e.anonymous_id, e."partition", e."offset"
        from {relation(definition.by, (), bind)}
        where e.type in ('track', 'page', 'screen') and not e.is_background and not e.is_bot
    """
    con.register("stopped", stopped)
    try:
        sql = _NEXT.format(events=events, nothing=bind(NOTHING), limit=bind(limit))
        return [NextEvent(*row) for row in con.execute(sql, bind.values).fetchall()]
    finally:
        con.unregister("stopped")


def _check(definition: FunnelDefinition, step: int, state: str) -> None:
    if not 0 <= step < len(definition.steps):
        raise DefinitionError(
            f"the funnel {definition.name!r} has no step {step}: steps are counted from 0 to "
            f"{len(definition.steps) - 1}",
            step=step,
        )
    if state not in get_args(State):
        raise DefinitionError(f"{state!r} is no state: write {', '.join(get_args(State))}", state=state)


def _in_state(
    entries: Entries, definition: FunnelDefinition, step: int, state: State, as_of: datetime | None
) -> npt.NDArray[np.bool_]:
    reached = entries.at[:, step] != NEVER
    following = [place for place in range(step + 1, len(definition.steps)) if not definition.steps[place].optional]
    went_on = reached & (entries.at[:, following[0]] != NEVER) if following else reached
    if state in ("reached", "converted"):
        return reached if state == "reached" else went_on
    if not following or definition.steps[step].optional:  # nobody drops out of a last step, nor of an optional one
        return np.zeros(len(entries), np.bool_)
    is_open = np.ones(len(entries), np.bool_)
    if as_of is not None:
        is_open = entries.began + definition.window // MICROSECOND >= micros_of(as_of)
    return reached & ~went_on & (is_open if state == "still_open" else ~is_open)


def _place_of(after: str | None, began: Ints, subjects: pa.ChunkedArray, order: Ints) -> int:
    """Where in `order`, by which `began` is sorted, those come who are behind `after`."""
    if after is None:
        return 0
    micros, _, subject = after.partition(" ")
    if not micros.lstrip("-").isdecimal() or not -(2**63) <= int(micros) < 2**63:
        raise DefinitionError(f"{after[:100]!r} is no place to go on from: give the `after` of the page before")
    first = int(np.searchsorted(began, int(micros), side="left"))
    end = int(np.searchsorted(began, int(micros), side="right"))
    simultaneous = subjects.take(pa.array(order[first:end])).to_pylist()
    return first + sum(other.encode() <= subject.encode(errors="replace") for other in simultaneous)


def _stopped(asked: Asked, entries: Entries) -> pa.Table:
    """Of each entry its subject, and the event at the last step that it reached."""
    assert asked.ids is not None
    assert asked.messages is not None
    last = pa.array(entries.last)
    return pa.table(
        {
            "entry": np.arange(len(entries)),
            "subject": asked.ids.take(last).cast(pa.string()),
            "event_at": pa.array(asked.rows.micros[entries.last]).cast(pa.timestamp("us", "UTC")),
            "message_id": asked.messages.take(last).cast(pa.string()),
        }
    )
