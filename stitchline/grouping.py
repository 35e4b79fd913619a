"""Rows of a table brought together by a hash, each group by time: in one pass, where most are in order already."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled
from stitchline.slots import Slots, slots_for

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_MOVES: Final = 8
"""So many places a row may be moved on the average, before sorting the groups is quicker."""


def grouped(hashes: Hashes, at: Ints) -> Ints:
    """The positions of all rows (hash, time), group by group, each group by time, and by position at one time. Groups
    come in the order of their first rows."""
    order: Ints = np.empty(len(hashes), np.int64)
    slots = slots_for(hashes, 0, len(hashes))
    _group(hashes, at, slots, order, _MOVES * len(hashes))
    return order


@compiled
def _group(hashes: Hashes, at: Ints, slots: Slots, order: Ints, moves: int) -> None:
    """Fills `order`, row by row in its place, as long as that takes no more than so many `moves`."""
    count, groups = len(hashes), 0
    mask = np.uint64(len(slots) - 1)
    first, group = np.empty(count, np.int32), np.empty(count, np.int32)
    ends = np.zeros(count + 1, np.int64)
    for row in range(count):
        slot = hashes[row] & mask
        while slots[slot] >= 0 and hashes[first[slots[slot]]] != hashes[row]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = groups
            first[groups] = row
            groups += 1
        group[row] = slots[slot]
        ends[group[row] + 1] += 1
    for g in range(groups):
        ends[g + 1] += ends[g]
    begin = ends[:groups].copy()
    for row in range(count):
        g = group[row]
        place = ends[g]
        while moves >= 0 and place > begin[g] and at[order[place - 1]] > at[row]:
            order[place] = order[place - 1]
            place -= 1
            moves -= 1
        order[place] = row
        ends[g] += 1
    if moves < 0:
        for g in range(groups):
            rows = order[begin[g] : ends[g]]
            times = at[rows]
            if np.any(times[1:] < times[:-1]):
                order[begin[g] : ends[g]] = rows[np.argsort(times, kind="mergesort")]
