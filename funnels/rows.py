"""The events that can fill a step or void an entry, out of the warehouse: as `Rows`, by one SQL statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from funnels.condition_sql import Binder, held_sql, matches_sql, text_sql
from funnels.conditions import Condition
from funnels.definition import AtStep, FunnelDefinition
from funnels.fields import EventField, parse_field
from funnels.passes import Ints
from funnels.relations import SUBJECTS, relation
from funnels.walk import IN_SEQUENCE, Codes, Rows, Rules
from stitchline.grouping import grouped

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

_SEQUENCE: Final = "e.type in ('track', 'page', 'screen') and not e.is_background"
"""The events that may not lie between two steps of a strict funnel."""

_ONCE: Final = """
with matched as ({matched}),
copied as (select copy from matched group by copy having count(*) > 1)
select {columns} from matched where copy not in (select copy from copied)
union all
select {columns} from matched where copy in (select copy from copied)
qualify row_number() over (partition by anonymous_id, message_id order by event_at, "partition", "offset") = 1
"""
"""Of rows with the same (anonymous_id, message_id) the earliest. Hashes find the few candidates: sorting all rows by
two texts would cost more than the rest of the funnel."""


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL statement and the values that it binds, by name."""

    sql: str
    parameters: dict[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows of one funnel."""

    rows: Rows
    shown: Sequence[str]
    """The text of each code of the breakdown's values."""
    ids: pa.ChunkedArray | None = None
    """The subject of each row, if it was asked for."""
    messages: pa.ChunkedArray | None = None
    """The message_id of each row, if the subjects were asked for."""


def rules_of(definition: FunnelDefinition, *, by_day: bool = False) -> Rules:
    """The rules by which the subjects of `definition` go through its rows."""
    return Rules(
        steps=len(definition.steps),
        window=definition.window // MICROSECOND,
        order=definition.order,
        optional=definition.optional,
        exclusions=tuple((exclusion.from_step, exclusion.to_step) for exclusion in definition.exclude),
        **{name: micros_of(time) for name in ("since", "until") if (time := getattr(definition, name)) is not None},
        holding=bool(definition.hold),
        totals=definition.count == "totals",
        by_day=by_day,
        attributed=_attributed(definition),
    )


def read_rows(con: duckdb.DuckDBPyConnection, definition: FunnelDefinition, *, with_ids: bool = False) -> Asked:
    """The rows of `definition`, from what the warehouse holds now."""
    query = compile_rows([definition], with_ids=with_ids)
    table = con.execute(query.sql, query.parameters).to_arrow_table()
    (asked,) = rows_of(table, 1)
    return asked


def rows_of(table: pa.Table, count: int) -> Iterator[Asked]:
    """The rows of each of so many definitions, out of what `compile_rows` of all of them answers."""
    # Writable, as compiled functions are compiled anew for arrays that are not.
    subjects, micros = (np.require(table[name].to_numpy(), requirements="W") for name in ("subject", "micros"))
    order = _ordered(subjects, micros, table)
    subjects, micros = subjects[order], micros[order]
    for number in range(count):
        places, mine = order, (subjects, micros)
        fills, voids = (_column(table, f"{name}_{number}", order, np.int64) for name in ("fills", "voids"))
        if count > 1:  # the others' events are left out
            asked = (fills | voids) != 0
            places, mine = order[asked], (subjects[asked], micros[asked])
            fills, voids = fills[asked], voids[asked]
        values, shown = _values(table, f"value_{number}", places)
        rows = Rows(*mine, fills, voids, _column(table, f"holds_{number}", places, np.uint64), values)
        named = pa.array(order) if "id" in table.column_names else None
        known = () if named is None else (table["id"].take(named), table["message_id"].take(named))
        yield Asked(rows, shown, *known)


def compile_rows(
    definitions: Sequence[FunnelDefinition],
    copies: str | None = None,
    *,
    with_ids: bool = False,
    bind: Binder | None = None,
) -> Query:
    """The events that can fill a step or void an entry of any of `definitions`, which are by the same subject: subject
    (a hash), micros, and of the definition at place N fills_N, voids_N, holds_N and value_N, if it has any; message_id
    if it matters which of simultaneous events comes first; `with_ids` id, the subject itself.

    Rows whose rowid is in the table `copies` do not count; without it, copies are looked for among the events that are
    asked for. `bind` says how values get into the statement.
    """
    bind = bind or Binder()
    (by,) = {definition.by for definition in definitions}
    subject = SUBJECTS[by]
    columns = {"subject": f"hash({subject})", "micros": "epoch_us(e.event_at)"}
    at_one_time = len({_span([definition]) for definition in definitions}) == 1  # which the bounds say of all
    for number, definition in enumerate(definitions):
        times = "" if at_one_time else " and ".join(_times(definition, bind))
        columns |= {f"{name}_{number}": sql for name, sql in columns_sql(definition, times, bind).items()}
    if any(tells_apart(definition) for definition in definitions) or with_ids:
        columns["message_id"] = "e.message_id"
    if with_ids:
        columns["id"] = subject
    bounds = [*_bounds(definitions, bind), "not e.is_bot", f"{subject} is not null"]
    if by == "session":
        bounds.append("not s.is_bot")
    if not (at_one_time and all(_by_name_alone(definition) for definition in definitions)):
        asked = " or ".join(f"{name} <> 0" for name in columns if name.startswith(("fills_", "voids_")))
        bounds.append(f"({asked})")
    once = dict(columns)
    if copies is not None:
        bounds.append(f"e.rowid not in (from {copies})")
    else:
        columns |= {
            "copy": "hash(e.anonymous_id, e.message_id)",
            **{name: f'e."{name}"' for name in ("anonymous_id", "message_id", "event_at", "partition", "offset")},
        }
    matched = f"""
        select {", ".join(f'{sql} as "{name}"' for name, sql in columns.items())}
        from {relation(by, _fields(definitions), bind, *_span(definitions))}
        anti join stream.bot_devices as b on b.anonymous_id = e.anonymous_id
        where {" and ".join(bounds)}
    """
    sql = matched if copies is not None else _ONCE.format(matched=matched, columns=", ".join(once))
    return Query(sql, bind.values)


def micros_of(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // MICROSECOND


def time_of(micros: int) -> datetime:
    """The time so many microseconds after 1970."""
    return _EPOCH + micros * MICROSECOND


def _attributed(definition: FunnelDefinition) -> int | Literal["first", "last"]:
    if isinstance(definition.attribution, AtStep):
        return definition.attribution.step
    return "first" if definition.attribution == "first_touch" else "last"


def columns_sql(definition: FunnelDefinition, times: str, bind: Binder) -> dict[str, str]:
    """What the event is in the funnel, by name; it is nothing there outside of `times`, if there are any."""
    bits = [
        f"case when {matches_sql(step.matches, bind)} then {1 << position} else 0 end"
        for position, step in enumerate(definition.steps)
    ]
    fills = f"({' | '.join(bits)})"
    if definition.order == "strict":
        fills = f"case when {_SEQUENCE} then {fills} | {IN_SEQUENCE} else 0 end"
    voids = [
        f"case when {matches_sql([exclusion], bind)} then {1 << position} else 0 end"
        for position, exclusion in enumerate(definition.exclude)
    ]
    found = {"fills": fills} | ({"voids": " | ".join(voids)} if voids else {})
    found = {name: f"(case when {times or 'true'} then {bits} else 0 end)::bigint" for name, bits in found.items()}
    if definition.hold:
        found["holds"] = f"hash({', '.join(held_sql(parse_field(name), bind) for name in definition.hold)})"
    if definition.breakdown:
        value = text_sql(parse_field(definition.breakdown), bind)
        if definition.attribution == "first_touch" and definition.order != "any":
            # Only the events that begin entries are asked for their values.
            value = f"case when {matches_sql(definition.steps[0].matches, bind)} then {value} end"
        found["value"] = value
    return found


def _fields(definitions: Sequence[FunnelDefinition]) -> Iterator[EventField]:
    for definition in definitions:
        matches = [match for step in definition.steps for match in step.matches]
        conditions: list[Condition] = [c for match in (*matches, *definition.exclude) for c in match.conditions]
        yield from (condition.field for condition in conditions)
        yield from map(parse_field, definition.hold)
        if definition.breakdown:
            yield parse_field(definition.breakdown)


def _by_name_alone(definition: FunnelDefinition) -> bool:
    """Whether every event of a name that it asks for fills a step or voids an entry."""
    matches = [match for step in definition.steps for match in step.matches]
    return definition.order != "strict" and not any(match.conditions for match in (*matches, *definition.exclude))


def _bounds(definitions: Sequence[FunnelDefinition], bind: Binder) -> Iterator[str]:
    """What rules out most events at little cost."""
    names = {m.event for definition in definitions for step in definition.steps for m in step.matches}
    names |= {exclusion.event for definition in definitions for exclusion in definition.exclude}
    named = f"e.name in ({', '.join(map(bind, sorted(names)))})"
    yield f"({named} or {_SEQUENCE})" if any(d.order == "strict" for d in definitions) else named
    since, last = _span(definitions)
    if since is not None:
        yield f"e.event_at >= {bind(since)}"
    if last is not None:
        yield f"e.event_at <= {bind(last)}"


def _span(definitions: Sequence[FunnelDefinition]) -> tuple[datetime | None, datetime | None]:
    """The first and the last instant that any of `definitions` asks for, if there is one."""
    since = [definition.since for definition in definitions if definition.since is not None]
    last = [latest_of(asked.until, asked.window) for asked in definitions if asked.until is not None]
    return (
        min(since) if len(since) == len(definitions) else None,
        max(last) if len(last) == len(definitions) else None,
    )


def _times(definition: FunnelDefinition, bind: Binder) -> Iterator[str]:
    if definition.since is not None:
        yield f"e.event_at >= {bind(definition.since)}"
    if definition.until is not None:
        yield f"e.event_at <= {bind(latest_of(definition.until, definition.window))}"


def latest_of(until: datetime, window: timedelta) -> datetime:
    """The last instant that an entry begun before `until` can use."""
    try:
        return until + window
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def tells_apart(definition: FunnelDefinition) -> bool:
    """Whether it matters which of simultaneous events comes first: not where each can fill one step only, and whichever
    does leads to the same. Of those that hold different values each begins an entry of its own."""
    names = [name for step in definition.steps for name in {match.event for match in step.matches}]
    apart = definition.order == "strict" or bool(definition.breakdown) or bool(definition.hold)
    return apart or len(set(names)) < len(names)


def _ordered(subjects: np.ndarray, micros: Ints, table: pa.Table) -> Ints:
    """The order of the rows by (subject, micros, message_id), if message_ids are there."""
    order = grouped(subjects, micros)
    if "message_id" not in table.column_names or len(order) < 2:
        return order
    groups = np.concatenate([[True], (np.diff(micros[order]) != 0) | (subjects[order][1:] != subjects[order][:-1])])
    is_alone = groups & np.concatenate([groups[1:], [True]])
    places = np.flatnonzero(~is_alone)
    if len(places):
        tied = pa.table(
            {
                "group": np.cumsum(groups)[places],
                "message_id": table["message_id"].take(pa.array(order[places])).cast(pa.binary()),
            }
        )
        by_id = pc.sort_indices(tied, [("group", "ascending"), ("message_id", "ascending")])
        order[places] = order[places][by_id.to_numpy()]
    return order


def _column(table: pa.Table, name: str, places: Ints, dtype: type) -> np.ndarray:
    return table[name].to_numpy()[places] if name in table.column_names else np.zeros(len(places), dtype)


def _values(table: pa.Table, name: str, places: Ints) -> tuple[Codes, Sequence[str]]:
    if name not in table.column_names:
        return np.full(len(places), -1, np.int32), ()
    encoded = table[name].combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes[places], encoded.dictionary.to_pylist()
