"""A funnel as one SQL statement that stands by itself: to paste into `stitchline sql`, or into DuckDB over a backup.

It counts what the engine counts. SQL follows each entry step by step, in a recursion over the events that can fill a
step, where the engine takes one pass over all of them; so it is slower, and there for reading, changing and checking.
What the rules mean is in docs/decisions/0022-what-a-funnel-counts.md.
"""

from __future__ import annotations

from typing import Final

from funnels.condition_sql import Quoter
from funnels.definition import AtStep, FunnelDefinition
from funnels.rows import MICROSECOND, compile_rows, micros_of
from funnels.walk import IN_SEQUENCE
from stitchline.errors import DefinitionError

# It does not begin with a comment: a command line would take that for an option.
_STATEMENT: Final = """\
with recursive picked as (
  -- How many reached each step of a funnel, in a Stitchline warehouse. Times are in microseconds since 1970.
  -- Events that can fill a step or void an entry: fills has a bit for each step, voids one for each exclusion.
{picked}
),
placed as (
  select subject, held, micros, fills, voids, value, turn, place,
    -- Simultaneous events that can fill the same steps take turns by message_id.
    lag(place) over (partition by subject, held, micros, fills order by place) as twin
  from (
    select subject, {held} as held, micros, fills_0 & {all_steps} as fills, {voids} as voids, {value} as value,
      {turn} as turn, row_number() over (partition by subject order by micros, message_id) as place
    from picked
  )
),
later as (
  -- Of each instant of a subject: when the next one comes that can fill each step, or is of each exclusion.
  select subject, held, micros, [{next_fills}] as fills, [{next_voids}] as voids
  from (select subject, held, micros, bit_or(fills) as fills, bit_or(voids) as voids from placed group by all)
  window behind as (
    partition by subject, held order by micros rows between 1 following and unbounded following
  )
),
ways as (
  select subject, held, place as entry, turn, micros as began, [micros] as at, [place] as path
  from placed
  where fills & 1 <> 0{begins}
  union all
{onward}
),
entries as (
  -- Of the ways of an entry the one that got furthest, soonest.
  select w.subject, w.held, w.entry, w.began, w.at, w.path, len(w.path) as reached
  from ways as w
  qualify row_number() over (partition by w.subject, w.entry order by len(w.path) desc, w.at, w.path) = 1
),
valid as (
  select n.*
  from entries as n{exclusions}
),
chosen as (
{chosen}
),
valued as (
  select c.reached, c.began, {shown} as value
  from chosen as c{values}
),{parts}
tallied as (
  -- Windows that are not over at the lowest watermark are open.
  select {by_part}reached, count(*) as entries,
    coalesce(began + {window} >= (select epoch_us(min(watermark)) from stream.progress), true) as open
  from {counted}
  group by all
),
steps as (from (values {steps}) as s (step_number, step))
select {told}s.step_number, s.step,
  coalesce(sum(t.entries), 0)::bigint as count,
  coalesce(sum(t.entries) filter (t.reached = s.step_number and s.step_number < {last} and not t.open), 0)::bigint
    as dropped,
  coalesce(sum(t.entries) filter (t.reached = s.step_number and s.step_number < {last} and t.open), 0)::bigint
    as still_open
from {told_of} as t on {joined}t.reached >= s.step_number
group by {ordered}s.step_number, s.step{and_value}
order by {ordered}s.step_number
"""

_ORDERED: Final = """\
  select w.subject, w.held, w.entry, r.turn, w.began, list_append(w.at, r.micros), list_append(w.path, r.place)
  from (
    -- The next step lies in the same instant, or in the next one that can fill it.
    select w.*, unnest([w.at[-1], l.fills[len(w.path) + 1]]) as next_at
    from ways as w
    join later as l on l.subject = w.subject and l.held = w.held and l.micros = w.at[-1]
    where len(w.path) < {last}
  ) as w
  join placed as r on r.subject = w.subject and r.held = w.held and r.micros = w.next_at
  where (r.fills >> len(w.path)) & 1 = 1 and r.micros <= w.began + {window}
    and not list_contains(w.path, r.place) and (r.twin is null or list_contains(w.path, r.twin))"""

_STRICT: Final = """\
  select w.subject, w.held, w.entry, r.turn, w.began, list_append(w.at, r.micros), list_append(w.path, r.place)
  from ways as w
  join placed as r on r.subject = w.subject and r.held = w.held and r.turn = w.turn + 1
  where (r.fills >> len(w.path)) & 1 = 1 and r.micros <= w.began + {window} and len(w.path) < {last}"""

_BEST: Final = """\
  -- A subject has one result: the entry that got furthest, the earliest on ties.
  from valid
  qualify row_number() over (partition by subject order by reached desc, entry) = 1"""

_PARTS: Final = """
parts as (
  select value, least(row_number() over (order by count(*) desc, value), {other}) as part
  from valued
  group by value
),
shown as (
  select part, case when part = {other} then '(other)' else any_value(value) end as value from parts group by part
  union all
  select 0, '(all)'
),"""


def funnel_sql(definition: FunnelDefinition) -> str:
    """One statement that answers a row for each step, in order: step_number (from 1), step, count, dropped, still_open;
    with a breakdown `value` before them, the whole as (all) first. `compare` is left out.

    Values are quoted in it. Raises DefinitionError for what SQL cannot say as the engine does: steps in any order,
    optional ones, and entries that are counted each time anew.
    """
    _check(definition)
    steps, strict = len(definition.steps), definition.order == "strict" and len(definition.steps) > 1
    quote = Quoter()
    picked = compile_rows([definition], with_ids=True, bind=quote).sql
    window = definition.window // MICROSECOND
    begins = "" if strict else " and twin is null"
    for sign, time in ((">=", definition.since), ("<", definition.until)):
        begins += "" if time is None else f" and micros {sign} {micros_of(time)}"
    other = definition.top + 1
    sequence = f"fills_0 & {IN_SEQUENCE} <> 0"
    broken = definition.breakdown is not None
    return _STATEMENT.format(
        picked=picked.strip(),
        held="holds_0" if definition.hold else "0",
        all_steps=(1 << steps) - 1,
        voids="voids_0" if definition.exclude else "0",
        value="value_0" if broken else "null",
        turn=f"case when {sequence} then row_number() over "
        f"(partition by subject, {sequence} order by micros, message_id) end"
        if strict
        else "null::bigint",
        next_fills=", ".join(_next("fills", place) for place in range(steps)),
        next_voids=", ".join(_next("voids", place) for place in range(len(definition.exclude))),
        begins=begins,
        onward=(_STRICT if strict else _ORDERED).format(window=window, last=steps),
        exclusions=_exclusions(definition, window),
        chosen=_BEST,
        shown="coalesce(r.value, '(none)')" if broken else "null",
        values=f"\n  left join placed as r on r.subject = c.subject and r.place = {_attributed(definition)}"
        if broken
        else "",
        by_part="coalesce(part, 0) as part, " if broken else "",
        window=window,
        counted="(from valued join parts using (value) union all by name (select *, 0 as part from valued))"
        if broken
        else "valued",
        steps=", ".join(f"({place}, {quote(step.label)})" for place, step in enumerate(definition.steps, 1)),
        parts=_PARTS.format(other=other) if broken else "",
        told="v.value, " if broken else "",
        last=steps,
        told_of="shown as v cross join steps as s left join tallied" if broken else "steps as s left join tallied",
        joined="t.part = v.part and " if broken else "",
        ordered="v.part, " if broken else "",
        and_value=", v.value" if broken else "",
    )


def _check(definition: FunnelDefinition) -> None:
    why = None
    if definition.order == "any" and len(definition.steps) > 1:
        why = "order", "steps in any order take a matching of events to steps"
    elif definition.optional:
        why = "steps", "optional steps take what the others leave"
    elif definition.count == "totals":
        why = "count", "each entry of totals begins where the one before it ended"
    if why is not None:
        field, reason = why
        raise DefinitionError(
            f"this funnel cannot be said in SQL: {reason}, which the engine does in compiled code. "
            "Ask for its answer with `stitchline funnel` or /api/funnel, or leave that out of the definition.",
            field=field,
        )


def _next(name: str, place: int) -> str:
    return f"min(case when {name} & {1 << place} <> 0 then micros end) over behind"


def _exclusions(definition: FunnelDefinition, window: int) -> str:
    joins, tests = [], []
    for place, exclusion in enumerate(definition.exclude):
        name, first, second = f"x{place}", exclusion.from_step + 1, exclusion.to_step + 1
        joins.append(
            f"\n  left join later as {name} on {name}.subject = n.subject and {name}.held = n.held "
            f"and {name}.micros = n.at[{first}]"
        )
        tests.append(f"not coalesce({name}.voids[{place + 1}] < coalesce(n.at[{second}], n.began + {window}), false)")
    return "".join(joins) + (f"\n  where {' and '.join(tests)}" if tests else "")


def _attributed(definition: FunnelDefinition) -> str:
    """The place of the event whose value counts."""
    if isinstance(definition.attribution, AtStep):
        return f"c.path[{definition.attribution.step + 1}]"
    return "c.path[1]" if definition.attribution == "first_touch" else "c.path[-1]"
