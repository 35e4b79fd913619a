"""The slots of a hash table whose rows lie elsewhere: by hash, where the row is, −1 where there is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled

Hashes = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int32]


def slots_for(hashes: Hashes, count: int, room: int) -> Slots:
    """Slots in which the first `count` of `hashes` have their places, at most half full with `room` rows."""
    slots = np.full(2 ** int(np.ceil(np.log2(max(1024, 2 * room)))), -1, np.int32)
    _place(slots, hashes, count)
    return slots


@compiled
def _place(slots: Slots, hashes: Hashes, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for row in range(count):
        slot = hashes[row] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row
