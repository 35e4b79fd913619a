"""What collecting leaves open, as it takes more than numbers: which of simultaneous events of several units comes
first, and which of several copies of an event counts."""

from __future__ import annotations

import duckdb
import numpy as np

from funnels.store import reading
from funnels.store.collecting import Collected, Selection
from funnels.store.contents import Contents
from funnels.walk import Rows


def settle(con: duckdb.DuckDBPyConnection, contents: Contents, selection: Selection, collected: Collected) -> Rows:
    """The rows in the order of message ids, without copies."""
    stored = contents.units.events.rows[collected.places]
    order = np.arange(len(stored))
    if collected.ties:
        tied = np.concatenate([np.arange(start, stop) for start, stop in collected.ties])
        said = reading.messages(con, stored[tied])
        ids = dict(zip(said["row"].to_list(), said["message_id"].to_list(), strict=True))
        for start, stop in collected.ties:
            order[start:stop] = sorted(range(start, stop), key=lambda at: ids[int(stored[at])].encode())
    counts = np.ones(len(stored), np.bool_)
    for at in collected.copied.tolist():
        counts[at] = _is_first(contents, selection, int(stored[at]))
    order = order[counts[order]]
    rows = collected.rows
    return Rows(
        rows.subjects[order],
        rows.micros[order],
        rows.fills[order],
        rows.voids[order],
        rows.holds[order],
        rows.values[order],
    )


def _is_first(contents: Contents, selection: Selection, row: int) -> bool:
    """Whether none of the copies of `row` that belong to the question comes before it."""
    for other in contents.group_of(row):
        if other == row:
            return True
        if _belongs(contents, selection, other):
            return False
    return True


def _belongs(contents: Contents, selection: Selection, row: int) -> bool:
    micros, name, counts = contents.copied_events[row]
    if not selection.since <= micros <= selection.until:
        return False
    if selection.looked_up[name]:
        fills = selection.row_fills[row]
        voids = selection.row_voids[row] if len(selection.row_voids) else 0
    else:
        fills, voids = selection.fills[name], selection.voids[name]
    if selection.in_sequence:
        return bool(counts or voids)
    return bool(fills or voids)
