"""Funnels by the day of their first step. The events that several funnels ask for are looked at once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import pairwise
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from funnels.definition import FunnelDefinition
from funnels.passes import DAY, Ints
from funnels.rows import Query, compile_rows, rows_of, rules_of
from funnels.walk import Entries, Rows, walk

DAYS: Final = pa.schema(
    [
        ("entry_date", pa.date32()),
        ("step_number", pa.int32()),
        ("step_name", pa.string()),
        ("subject_count", pa.int64()),
    ]
)
"""A funnel by the (UTC) day of its first step."""

_AT_ONCE: Final = 1 << 20
"""Rows, about, that are followed together: what becomes of them takes twice their room until it is counted."""


def funnel_days(
    con: duckdb.DuckDBPyConnection, definitions: Sequence[FunnelDefinition], copies: str | None = None
) -> list[pa.Table]:
    """What each of `definitions` says of each day of its first step, as if it were asked for that day alone: DAYS, a
    row for each required step, and none for a day that nobody began on.

    `copies` is a table of the rows of stream.events, by their rowid, that repeat others and do not count. Without it,
    or by session, copies are looked for among the events that are asked for.
    """
    together: dict[str, list[int]] = defaultdict(list)
    whole = [definition.model_copy(update={"breakdown": None}) for definition in definitions]
    for place, definition in enumerate(whole):
        # What asks for other events, or finds copies among its own, is asked for alone.
        alone = copies is None or definition.by == "session" or definition.order == "strict"
        together[f"{place}" if alone else definition.by].append(place)
    answers: dict[int, pa.Table] = {}
    for places in together.values():
        some = [whole[place] for place in places]
        query = compile_rows(some, None if some[0].by == "session" else copies)
        asked = rows_of(_fetched(con, query), len(some))
        answers |= {place: _days(rows.rows, whole[place]) for place, rows in zip(places, asked, strict=True)}
    return [answers[place] for place in range(len(definitions))]


def _fetched(con: duckdb.DuckDBPyConnection, query: Query) -> pa.Table:
    return con.execute(query.sql, query.parameters).to_arrow_table()


def _days(rows: Rows, definition: FunnelDefinition) -> pa.Table:
    rules = rules_of(definition, by_day=True)
    required = [place for place, step in enumerate(definition.steps) if not step.optional]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        counted = [*threads.map(lambda part: _counts(walk(part, rules), required), _in_parts(rows))]
    every = np.concatenate([np.empty(0, np.int64), *(days for days, _ in counted)])
    days, places = np.unique(every, return_inverse=True)
    counts = np.zeros((len(days), len(required)), np.int64)
    np.add.at(counts, places, np.concatenate([np.empty((0, len(required)), np.int64), *(some for _, some in counted)]))
    columns = [
        pa.array(np.repeat(days.astype(np.int32), len(required))).cast(pa.date32()),
        np.tile(np.array(required, np.int32) + 1, len(days)),
        [definition.steps[place].label for place in required] * len(days),
        counts.ravel(),
    ]
    return pa.table(dict(zip(DAYS.names, columns, strict=True)), DAYS)


def _counts(entries: Entries, required: list[int]) -> tuple[Ints, Ints]:
    """The days, since 1970, on which entries began, and of each how many reached the required steps:
    int64[days, required steps]."""
    days, places = np.unique(entries.began // DAY, return_inverse=True)
    counts = [np.bincount(places[entries.reached > place], minlength=len(days)) for place in required]
    return days, np.array(counts, np.int64).T


def _in_parts(rows: Rows) -> Iterator[Rows]:
    """`rows` in parts of about _AT_ONCE; no subject in two."""
    count = len(rows.subjects)
    starts = np.flatnonzero(rows.subjects[1:] != rows.subjects[:-1]) + 1
    wanted = np.searchsorted(starts, np.arange(_AT_ONCE, count, _AT_ONCE))
    cuts = [0, *np.unique(starts[wanted[wanted < len(starts)]]).tolist(), count]
    columns = [getattr(rows, field.name) for field in fields(rows)]
    for begin, end in pairwise(cuts):
        yield Rows(*(column[begin:end] for column in columns))
