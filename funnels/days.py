"""Funnels by the day of their first step. The events that several funnels ask for are looked at once."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from funnels.definition import FunnelDefinition
from funnels.passes import DAY, Ints
from funnels.rows import Query, compile_rows, rows_of, rules_of
from funnels.walk import Entries, walk

DAYS: Final = pa.schema(
    [
        ("entry_date", pa.date32()),
        ("step_number", pa.int32()),
        ("step_name", pa.string()),
        ("subject_count", pa.int64()),
    ]
)
"""A funnel by the (UTC) day of its first step."""

_Counts = tuple[Ints, Ints]

_AT_ONCE: Final = 1 << 20
"""Rows that are taken from DuckDB together."""
_SHARE_BITS: Final = 4
"""Subjects are followed in shares, by so many first bits of their hash: what is worked out of one share stays near the
processor, and takes little room."""


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
        answers |= zip(places, _answers(con, query, some), strict=True)
    return [answers[place] for place in range(len(definitions))]


def _answers(
    con: duckdb.DuckDBPyConnection, query: Query, definitions: Sequence[FunnelDefinition]
) -> Iterator[pa.Table]:
    """What `query` (compile_rows of `definitions`) says of each of them."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        counted = [*threads.map(lambda share: _counted(share, definitions), _shares(con, query))]
    return map(_table, definitions, zip(*counted, strict=True))


def _shares(con: duckdb.DuckDBPyConnection, query: Query) -> list[pa.Table]:
    """What `query` (compile_rows) answers, in shares; no subject in two."""
    reader = con.execute(query.sql, query.parameters).to_arrow_reader(_AT_ONCE)
    shares: list[list[pa.RecordBatch]] = [[] for _ in range(1 << _SHARE_BITS)]
    for batch in reader:
        share = (batch["subject"].to_numpy() >> np.uint64(64 - _SHARE_BITS)).astype(np.uint8)
        ends = np.cumsum(np.bincount(share, minlength=len(shares))).tolist()
        together = batch.take(pa.array(np.argsort(share, kind="stable")))
        for mine, begin, end in zip(shares, [0, *ends], ends, strict=False):
            mine.append(together.slice(begin, end - begin))
    return [pa.Table.from_batches(batches, reader.schema) for batches in shares]


def _counted(share: pa.Table, definitions: Sequence[FunnelDefinition]) -> list[_Counts]:
    """What became of the subjects of `share` by each of `definitions`."""
    return [
        _counts(walk(asked.rows, rules_of(definition, by_day=True)), _required(definition))
        for asked, definition in zip(rows_of(share, len(definitions)), definitions, strict=True)
    ]


def _table(definition: FunnelDefinition, counted: Sequence[_Counts]) -> pa.Table:
    """The answer, of what each share counts."""
    required = _required(definition)
    days, places = np.unique(np.concatenate([days for days, _ in counted]), return_inverse=True)
    counts = np.zeros((len(days), len(required)), np.int64)
    np.add.at(counts, places, np.concatenate([some for _, some in counted]))
    columns = [
        pa.array(np.repeat(days.astype(np.int32), len(required))).cast(pa.date32()),
        np.tile(np.array(required, np.int32) + 1, len(days)),
        [definition.steps[place].label for place in required] * len(days),
        counts.ravel(),
    ]
    return pa.table(dict(zip(DAYS.names, columns, strict=True)), DAYS)


def _required(definition: FunnelDefinition) -> list[int]:
    return [place for place, step in enumerate(definition.steps) if not step.optional]


def _counts(entries: Entries, required: list[int]) -> _Counts:
    """The days, since 1970, on which entries began, and of each how many reached the required steps:
    int64[days, required steps]."""
    days, places = np.unique(entries.began // DAY, return_inverse=True)
    counts = [np.bincount(places[entries.reached > place], minlength=len(days)) for place in required]
    return days, np.array(counts, np.int64).T
