"""Funnels by the day of their first step. Where no event can fill two steps, all are walked over the events that match,
in one compiled pass (funnels/walk.py); else it is the funnel's own SQL that says it (funnels/query.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from funnels.definition import FunnelDefinition, alike
from funnels.query import (
    MICROSECOND,
    SUBJECTS,
    Binder,
    Query,
    entries_sql,
    fills_sql,
    micros_of,
    once_sql,
    times_sql,
    with_sql,
)
from funnels.walk import reached_by_day
from stitchline.grouping import grouped

DAYS: Final = pa.schema(
    [
        ("entry_date", pa.date32()),
        ("step_number", pa.int32()),
        ("step_name", pa.string()),
        ("subject_count", pa.int64()),
    ]
)
"""A funnel by the day of its first step."""


def funnel_days(
    con: duckdb.DuckDBPyConnection, definitions: Sequence[FunnelDefinition], copies: str | None = None
) -> list[pa.Table]:
    """What each of `definitions` says of each day of its first step, as if it were asked for that day alone: DAYS, a
    row for each step, and none for a day that nobody began on.

    `copies` is a table of the rows of stream.events, by their rowid, that repeat others and do not count. Without it,
    or by session, copies are looked for among the events that are asked for.
    """
    together: dict[str, list[FunnelDefinition]] = defaultdict(list)
    answers: dict[int, pa.Table] = {}
    for definition in definitions:
        if alike(definition.steps):
            query = _compile_days(definition, copies)
            answers[id(definition)] = con.execute(query.sql, query.parameters).to_arrow_table().cast(DAYS)
        elif copies is None or definition.by == "session":
            bind = Binder()
            rows = (
                f"{with_sql(once_sql(definition, bind, None))} select hash(subject) as subject, micros, fills from once"
            )
            answers |= _walk_days(con, [definition], Query(rows, bind.values))
        else:
            together[definition.by].append(definition)
    for some in together.values():
        answers |= _walk_days(con, some, _compile_rows(some, copies or ""))
    return [answers[id(definition)] for definition in definitions]


def _walk_days(
    con: duckdb.DuckDBPyConnection, definitions: Sequence[FunnelDefinition], rows: Query
) -> dict[int, pa.Table]:
    """`rows` are (hash of the subject, microseconds, what each definition's steps the event fills …)."""
    con.execute(f"create or replace temp table rows_to_walk as {rows.sql}", rows.parameters)  # on all cores
    table = con.execute("from rows_to_walk").to_arrow_table()  # fetchnumpy would keep the interpreter's lock
    con.execute("drop table rows_to_walk")
    subjects, micros, *filled = (column.to_numpy() for column in table.columns)
    del table
    order = grouped(subjects, micros)
    subjects, micros = subjects[order], micros[order]
    answers = {}
    for definition, unordered in zip(definitions, filled, strict=True):
        fills = unordered[order]
        some = np.flatnonzero(fills)
        steps = [step.event for step in definition.steps]
        days, counts = reached_by_day(
            subjects[some],
            micros[some],
            fills[some].astype(np.int64),
            len(steps),
            definition.window // MICROSECOND,
            np.iinfo(np.int64).max if definition.until is None else micros_of(definition.until),
        )
        columns = [
            pa.array(np.repeat(days.astype(np.int32), len(steps))).cast(pa.date32()),
            np.tile(np.arange(1, len(steps) + 1, dtype=np.int32), len(days)),
            steps * len(days),
            counts.ravel(),
        ]
        answers[id(definition)] = pa.table(dict(zip(DAYS.names, columns, strict=True)), DAYS)
    return answers


def _compile_rows(definitions: Sequence[FunnelDefinition], copies: str) -> Query:
    """The events that can fill a step of any of `definitions`, which are by the same subject, looked at once."""
    bind = Binder()
    relation, subject = SUBJECTS[definitions[0].by]
    names = {step.event for definition in definitions for step in definition.steps}
    columns = {
        f"fills_{number}": f"case when {' and '.join(['true', *times_sql(definition, bind)])} then "
        f"{fills_sql(definition, bind)} else 0 end"
        for number, definition in enumerate(definitions)
    }
    bounds = [
        f"e.name in ({', '.join(map(bind, sorted(names)))})",
        "not e.is_bot",
        f"{subject} is not null",
        f"e.rowid not in (from {copies})",
        f"({' or '.join(f'{column} <> 0' for column in columns)})",
    ]
    if all(definition.since is not None for definition in definitions):
        bounds.append(f"e.event_at >= {bind(min(d.since for d in definitions if d.since is not None))}")
    filled = ", ".join(f"{sql} as {column}" for column, sql in columns.items())
    sql = f"""
        select hash({subject}) as subject, epoch_us(e.event_at) as micros, {filled}
        from {relation}
        anti join stream.bot_devices as b on b.anonymous_id = e.anonymous_id
        where {" and ".join(bounds)}
    """
    return Query(sql, bind.values)


def _compile_days(definition: FunnelDefinition, copies: str | None) -> Query:
    bind = Binder()
    steps = [f"{{'number': {number}, 'name': {bind(step.event)}}}" for number, step in enumerate(definition.steps, 1)]
    answer = f"""
        select (timestamp '1970-01-01' + to_days(day::integer))::date as entry_date, step.number as step_number,
            step.name as step_name, count(*) filter (reached >= step.number) as subject_count
        from best, unnest([{", ".join(steps)}]) as steps (step)
        group by all
    """
    tables = entries_sql(definition, bind, copies)
    tables["best"] = f"""
        select max(reached) as reached, at_1 // 86_400_000_000 as day from entries_{len(steps)} group by subject, day
    """
    return Query(f"{with_sql(tables)}\n{answer}", bind.values)
