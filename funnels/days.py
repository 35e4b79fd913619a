"""Funnels by the day of their first step. The events that several funnels ask for are looked at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from funnels.definition import FunnelDefinition
from funnels.passes import DAY
from funnels.rows import Query, compile_rows, rows_of, rules_of
from funnels.walk import Rows, walk

DAYS: Final = pa.schema(
    [
        ("entry_date", pa.date32()),
        ("step_number", pa.int32()),
        ("step_name", pa.string()),
        ("subject_count", pa.int64()),
    ]
)
"""A funnel by the (UTC) day of its first step."""


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
        asked = list(rows_of(_fetched(con, query), len(some)))
        answers |= {place: _days(rows.rows, whole[place]) for place, rows in zip(places, asked, strict=True)}
    return [answers[place] for place in range(len(definitions))]


def _fetched(con: duckdb.DuckDBPyConnection, query: Query) -> pa.Table:
    return con.execute(query.sql, query.parameters).to_arrow_table()


def _days(rows: Rows, definition: FunnelDefinition) -> pa.Table:
    entries = walk(rows, rules_of(definition, by_day=True))
    days, places = np.unique(entries.began // DAY, return_inverse=True)
    required = [place for place, step in enumerate(definition.steps) if not step.optional]
    counts = [np.bincount(places[entries.reached > place], minlength=len(days)) for place in required]
    columns = [
        pa.array(np.repeat(days.astype(np.int32), len(required))).cast(pa.date32()),
        np.tile(np.array(required, np.int32) + 1, len(days)),
        [definition.steps[place].label for place in required] * len(days),
        np.array(counts, np.int64).T.ravel(),
    ]
    return pa.table(dict(zip(DAYS.names, columns, strict=True)), DAYS)
