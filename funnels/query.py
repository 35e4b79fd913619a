"""Answers a funnel from the warehouse: compiles a definition to one SQL statement and runs it.

The statement follows the subjects forward. It picks the events that can fill a step, turns each into a row of
(subject, micros, fills): event_at in microseconds, and bit k of fills set if the event can fill step k, counted from
0. Every event that can fill the first step begins an entry. Then, step by step, all entries that stand before a step
move to the earliest event that fills it, if that lies in their window. Taking the earliest each time reaches
furthest, and earliest, so no entry needs a second thought. Last, each subject keeps its best entry. A window function
finds the next event; an ASOF join is as fast until DuckDB takes the entries for few and compares all with all.

Where one event could fill more than one step, the rows are instants instead, all the subject's events of one
event_at, because simultaneous events count as in order: an instant fills as many steps in a row as its events can
fill one each (by Hall's theorem: unless some set of those steps has fewer events than steps).

Values are bound, never written into the SQL, and so are the keys of JSON paths.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb

from funnels.definition import FunnelDefinition, Step, alike
from funnels.fields import EventField, Value, parse_field
from funnels.result import BreakdownResult, FunnelResult, StepResult

__all__ = ["FunnelResult", "Query", "compile_funnel", "run_funnel"]

NO_VALUE: Final = "(none)"
"""What a breakdown shows for null."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

PEOPLE: Final = """
stream.events as e
left join stream.person_overrides as o
  -- One plain key: an `or` in the condition would make this a nested loop.
  on o.anonymous_id = case when e.user_id is null or e.person_id is distinct from e.user_id then e.anonymous_id end
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
left join stream.person_merges as m on m.person_id = coalesce(o.person_id, e.person_id)
"""
"""Events `e`, with what became known of their persons since."""

PERSON: Final = "coalesce(m.merged_into, o.person_id, e.person_id)"
"""Whose an event of PEOPLE is; null if nobody's."""

SUBJECTS: Final = {
    "person": (PEOPLE, PERSON),
    "session": ("stream.session_events as e", "e.session_id"),
    "device": ("stream.events as e", "e.anonymous_id"),
}
"""By whom: the relation that holds the events, as `e`, and the id of each event's subject."""


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL statement and the values that it binds, by name."""

    sql: str
    parameters: dict[str, object]


def run_funnel(
    con: duckdb.DuckDBPyConnection, definition: FunnelDefinition, as_of: datetime | None = None
) -> FunnelResult:
    """How many subjects got how far through `definition`, from what the warehouse holds now.

    `as_of` (aware) says up to when the events are known, and so which windows are over; by default it is the lowest
    watermark of the partitions that have one. It hides no event.
    """
    query = compile_funnel(definition, as_of)
    rows = con.execute(query.sql, query.parameters).fetchall()
    (_, _, known_until, *whole), *parts = rows
    return FunnelResult(
        steps=_step_results(definition.steps, *whole),
        as_of=None if known_until is None else _EPOCH + known_until * MICROSECOND,
        breakdown=tuple(
            BreakdownResult(value=value, steps=_step_results(definition.steps, *part)) for _, value, _, *part in parts
        ),
    )


def compile_funnel(definition: FunnelDefinition, as_of: datetime | None = None) -> Query:
    """The statement that answers `definition`: (is_part, value, as_of, counts, still_open, quantiles).

    The first row is the whole funnel, the others its parts by the breakdown's value, the largest first. as_of is in
    microseconds since 1970; counts and still_open are lists by step; quantiles is a list, by step from the second on,
    of [median, p90] in microseconds, null where nobody got there.
    """
    bind = Binder()
    tables = entries_sql(definition, bind)
    tables["best"] = _best(definition)
    tables["known"] = f"select {_known_until(as_of, bind)} as as_of"
    return Query(f"{with_sql(tables)}\n{_answer(definition, bind)}", bind.values)


def entries_sql(definition: FunnelDefinition, bind: Binder, copies: str | None = None) -> dict[str, str]:
    """The common table expressions up to the entries as they stand in the end, by name. Rows in the table `copies` do
    not count; without it copies are looked for."""
    competing = alike(definition.steps)
    tables = once_sql(definition, bind, copies) | {
        "subjects": _STARTED,
        "events": "select id as subject, does, o.* exclude (subject) from once as o join subjects using (subject)",
    }
    if competing:
        tables |= _INSTANTS
    tables["entries_1"] = _entries(definition, competing, bind)
    for reached in range(1, len(definition.steps)):
        tables |= _advance(definition, competing, reached, bind)
    return tables


def once_sql(definition: FunnelDefinition, bind: Binder, copies: str | None) -> dict[str, str]:
    """The common table expressions up to `once`, the events that can fill a step, without copies."""
    if copies is not None and definition.by != "session":
        whole = alike(definition.steps) or definition.breakdown
        columns = "subject, micros, fills, message_id, value" if whole else "subject, micros, fills"
        known = f"e.rowid not in (from {copies})"
        return {"once": f"select {columns} from ({_matched(definition, bind, known)})"}
    return {
        "matched": _matched(definition, bind),
        "copied": "select copy from matched group by copy having count(*) > 1",
        "once": _ONCE,
    }


def with_sql(tables: dict[str, str]) -> str:
    return "with " + ",\n".join(f"{name} as (\n{sql.strip()}\n)" for name, sql in tables.items())


@dataclass(slots=True)
class Binder:
    """Gives each value a name of its own in the statement."""

    values: dict[str, object] = field(default_factory=dict)

    def __call__(self, value: object) -> str:
        name = f"p{len(self.values) + 1}"
        self.values[name] = value
        return f"${name}"


_ONCE: Final = """
select * from matched where copy not in (select copy from copied)
union all
select * from matched where copy in (select copy from copied)
qualify row_number() over (partition by anonymous_id, message_id order by event_at, "partition", "offset") = 1
"""
"""Of rows with the same (anonymous_id, message_id) the earliest. Hashes find the few candidates: sorting all rows by
two texts would cost more than the rest of the funnel."""

_STARTED: Final = """
select subject, row_number() over () as id, bit_or(fills) as does
from once
group by subject
having bit_or(fills) & 1 <> 0
"""
"""Subjects that do the first step at all, a number for each, by which to sort faster than by its text, and which
steps it does at any time: who never does the next step need not wait for it."""

_INSTANTS: Final = {
    "equals": """
        select subject, does, micros, fills, count(*) as number, min(message_id) as message_id,
            arg_min_null(value, message_id) as value
        from events
        group by subject, does, micros, fills
    """,
    "instants": """
        select subject, micros, bit_or(fills) as fills, list({'fills': fills, 'number': number}) as equals
        from equals
        group by subject, micros
    """,
}
"""`equals`: a subject's simultaneous events that can fill the same steps, as one row, for they are interchangeable.
The first of them by message_id speaks for all, where they begin entries."""


def _matched(definition: FunnelDefinition, bind: Binder, counts: str = "true") -> str:
    """The events that can fill a step: of the right name and time, not of bots, and of somebody; that is, if each
    `counts`."""
    relation, subject = SUBJECTS[definition.by]
    names = ", ".join(bind(name) for name in dict.fromkeys(step.event for step in definition.steps))
    fills = fills_sql(definition, bind)
    bounds = [f"e.name in ({names})", "not e.is_bot", f"{subject} is not null", "fills <> 0", counts]
    if definition.by == "session":
        bounds.append("e.session_id not in (select session_id from stream.sessions where is_bot)")
    bounds += times_sql(definition, bind)
    value = _text(parse_field(definition.breakdown), bind) if definition.breakdown else "null"
    return f"""
        select {subject} as subject, e.anonymous_id, e.message_id, e.event_at, e."partition", e."offset",
            epoch_us(e.event_at) as micros, {fills} as fills, {value} as value,
            hash(e.anonymous_id, e.message_id) as copy
        from {relation}
        anti join stream.bot_devices as b on b.anonymous_id = e.anonymous_id
        where {" and ".join(bounds)}
    """


def fills_sql(definition: FunnelDefinition, bind: Binder) -> str:
    """SQL for the steps that an event can fill, as bits."""
    return " | ".join(
        f"case when {' and '.join(_conditions(step, bind))} then {1 << position} else 0 end"
        for position, step in enumerate(definition.steps)
    )


def times_sql(definition: FunnelDefinition, bind: Binder) -> Iterator[str]:
    if definition.since is not None:
        yield f"e.event_at >= {bind(definition.since)}"
    if definition.until is not None:
        yield f"e.event_at <= {bind(_latest(definition.until, definition.window))}"


def _latest(until: datetime, window: timedelta) -> datetime:
    """The last instant that an entry begun before `until` can use."""
    try:
        return until + window
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _conditions(step: Step, bind: Binder) -> Iterator[str]:
    yield f"e.name = {bind(step.event)}"
    for place, value in step.conditions.items():
        yield _equals(place, value, bind)


def _text(place: EventField, bind: Binder) -> str:
    """SQL for the field as text; null where it is missing or null."""
    column = f'e."{place.column}"'
    if place.kind == "json":
        return f"json_extract_string({column}, {bind(place.pointer)})"
    return column if place.kind == "text" else f"{column}::varchar"


def _equals(place: EventField, value: Value, bind: Binder) -> str:
    """SQL that is true where the field is `value`, as JSON compares: "5" is not 5, 5.0 is, and missing is null."""
    if place.kind != "json" or value is None:
        return f"{_text(place, bind)} is null" if value is None else f'e."{place.column}" = {bind(value)}'
    kinds: dict[str, str] = {}
    if isinstance(value, str):
        kinds["'VARCHAR'"] = f"= {bind(value)}"
    elif isinstance(value, bool):
        kinds["'BOOLEAN'"] = f"= '{str(value).lower()}'"
    else:
        # JSON's whole numbers are compared as such, since a double cannot tell large ones apart.
        if value == int(value) and -(2**63) <= value < 2**64:
            kinds["'BIGINT', 'UBIGINT'"] = f"::hugeint = {bind(int(value))}"
        if abs(value) < 2**1023 and float(value) == value:
            kinds["'DOUBLE'"] = f"::double = {bind(float(value))}::double"
    if not kinds:
        return "false"
    text = _text(place, bind)
    kind = f'json_type(e."{place.column}", {bind(place.pointer)})'
    whens = " ".join(f"when {kind} in ({names}) then {text}{test}" for names, test in kinds.items())
    return f"(case {whens} else false end)"


def _entries(definition: FunnelDefinition, competing: list[list[int]], bind: Binder) -> str:
    """Every entry, at the steps that its first instant fills: (subject, does, reached, at_1 …, message_id, value)."""
    steps = len(definition.steps)
    started = f"a.micros < {bind(micros_of(definition.until))}" if definition.until is not None else "true"
    if not competing:
        own = ", a.message_id, a.value" if definition.breakdown else ""
        return f"""
            select a.subject, a.does, 1 as reached, a.micros as at_1{own}
            from events as a
            where a.fills & 1 <> 0 and {started}
        """
    return f"""
        select subject, a.does, 1 + {_run(1, steps, competing, "i.equals", less="a.fills")} as reached,
            {_filled("micros", "reached", range(1, steps + 1))}, a.message_id, a.value
        from equals as a
        join instants as i using (subject, micros)
        where a.fills & 1 <> 0 and {started}
    """


def _advance(definition: FunnelDefinition, competing: list[list[int]], reached: int, bind: Binder) -> dict[str, str]:
    """The entries that reached `reached` steps go on to the next, and to those that the same instant fills."""
    steps = len(definition.steps)
    window = bind(definition.window // MICROSECOND)
    if competing:
        source, frame, last = "instants", "1 following", steps
        run = _run(reached, steps, competing, "i.equals")
        instant = "left join instants as i on i.subject = w.subject and i.micros = w.next"
    else:
        source, frame, last = "events", "current row", reached + 1
        run, instant = "1", ""
    goes_on = f"reached = {reached} and does & {1 << reached} <> 0"
    later = [f"at_{step}" for step in range(reached + 1, steps + 1)] if competing else []
    return {
        f"waiting_{reached}": f"""
            select *, min(filled_at) over (
                partition by subject order by micros range between {frame} and unbounded following
            ) as next
            from (
                select *, at_{reached} as micros, null as filled_at from entries_{reached} where {goes_on}
                union all by name
                select subject, micros, micros as filled_at from {source} where fills & {1 << reached} <> 0
            )
            qualify filled_at is null
        """,
        f"advanced_{reached}": f"""
            select w.*, case when next <= at_1 + {window} then {run} else 0 end as run
            from waiting_{reached} as w {instant}
        """,
        f"entries_{reached + 1}": f"""
            from entries_{reached} where not ({goes_on})
            union all by name
            select * exclude ({", ".join(["reached", "micros", "filled_at", "next", "run", *later])}),
                reached + run as reached, {_filled("next", f"{reached} + run", range(reached + 1, last + 1))}
            from advanced_{reached}
        """,
    }


def _filled(time: str, reached: str, steps: range) -> str:
    """Columns at_N: `time` for the steps that are reached by now."""
    return ", ".join(f"case when {reached} >= {step} then {time} end as at_{step}" for step in steps)


def _run(first: int, steps: int, competing: list[list[int]], equals: str, less: str | None = None) -> str:
    """SQL for how many steps, from position `first` on, an instant's events fill in a row, one event each.

    `less` names the steps that an event could fill which is already taken.
    """
    sets = [
        {"steps": sum(1 << position for position in chosen), "size": len(chosen), "last": max(chosen)}
        for chosen in _sets(range(first, steps), competing)
    ]
    if not sets:
        return "0"
    # The names of the lambdas' parameters are no table's: a table of the same name would win.
    literal = ", ".join(f"{{'steps': {s['steps']}, 'size': {s['size']}, 'last': {s['last']}}}" for s in sets)
    fitting = "case when alike.fills & need.steps <> 0 then alike.number else 0 end"
    taken = f" - (({less} & need.steps) <> 0)::int" if less else ""
    failing = (
        f"list_filter([{literal}], lambda need: "
        f"list_sum(list_transform({equals}, lambda alike: {fitting})){taken} < need.size)"
    )
    return f"(coalesce(list_min(list_transform({failing}, lambda need: need.last)), {steps}) - {first})"


def _sets(positions: range, competing: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """The sets of steps that can have fewer events than steps: each step, and several that compete."""
    yield from ((position,) for position in positions)
    for group in competing:
        left = [position for position in group if position in positions]
        for size in range(2, len(left) + 1):
            yield from itertools.combinations(left, size)


def _best(definition: FunnelDefinition) -> str:
    """A subject's one result: the entry that got furthest, the earliest of these."""
    steps = len(definition.steps)
    own = [f"at_{step}" for step in range(1, steps + 1)] + ["value"] * bool(definition.breakdown)
    columns = ", ".join(f"'{name}': {name}" for name in own)
    order = "(-reached, at_1, message_id)" if alike(definition.steps) or definition.breakdown else "(-reached, at_1)"
    return f"""
        select unnest(arg_min({{'reached': reached, {columns}}}, {order}))
        from entries_{steps}
        group by subject
    """


def _known_until(as_of: datetime | None, bind: Binder) -> str:
    if as_of is not None:
        return f"{bind(micros_of(as_of))}::bigint"
    return "(select epoch_us(min(watermark)) from stream.progress)"


def _answer(definition: FunnelDefinition, bind: Binder) -> str:
    steps = range(1, len(definition.steps) + 1)
    counts = ", ".join(f"count(*) filter (reached >= {step})" for step in steps)
    deadline = f"at_1 + {bind(definition.window // MICROSECOND)}" if len(steps) > 1 else "null"
    is_open = f"coalesce({deadline} >= (select as_of from known), true)"
    still_open = ", ".join(
        f"count(*) filter (reached = {step} and {is_open})" if step < len(steps) else "0" for step in steps
    )
    quantiles = ", ".join(
        f"quantile_cont(at_{step} - at_{step - 1}, [0.5, 0.9]) filter (reached >= {step})" for step in steps[1:]
    )
    columns = f"(select as_of from known) as as_of, [{counts}] as counts, [{still_open}], [{quantiles}]"
    parts = f"union all select true, coalesce(value, '{NO_VALUE}') as shown, {columns} from best group by shown"
    return f"""
        from (
            select false as is_part, null as value, {columns} from best
            {parts if definition.breakdown else ""}
        )
        order by is_part, counts[1] desc, value
    """


def micros_of(time: datetime) -> int:
    return (time - _EPOCH) // MICROSECOND


def _step_results(
    steps: Sequence[Step], counts: list[int], still_open: list[int], quantiles: list[Any]
) -> tuple[StepResult, ...]:
    results = []
    for position, step in enumerate(steps):
        count, last = counts[position], position == len(steps) - 1
        before = counts[position - 1] if position else count
        median, p90 = (position and quantiles[position - 1]) or (None, None)
        results.append(
            StepResult(
                step=step.event,
                count=count,
                conversion=count / before if before else None,
                conversion_from_start=count / counts[0] if counts[0] else None,
                dropped=0 if last else count - counts[position + 1] - still_open[position],
                still_open=still_open[position],
                median_seconds=None if median is None else median / 1e6,
                p90_seconds=None if p90 is None else p90 / 1e6,
            )
        )
    return tuple(results)
