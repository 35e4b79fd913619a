"""Small numbers for 64-bit hashes: 0, 1, 2 … in the order in which they are first seen."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled
from stitchline.slots import Slots, slots_for

Hashes = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]

_AT_ONCE: Final = 1 << 16
"""Room is made for so many new hashes before they are looked at."""


class CodeBook:
    """The numbers of hashes. Two texts with one hash would be one: of ten million, once in 400,000 warehouses."""

    def __init__(self) -> None:
        self._hashes: Hashes = np.empty(0, np.uint64)
        self._slots: Slots = slots_for(self._hashes, 0, 0)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return self._hashes.nbytes + self._slots.nbytes

    def encode(self, hashes: Hashes) -> Codes:
        """The number of each, a new one where it has none yet."""
        codes: Codes = np.empty(len(hashes), np.int32)
        for start in range(0, len(hashes), _AT_ONCE):
            some = hashes[start : start + _AT_ONCE]
            self._make_room(len(some))
            self._count = _encode(some, self._hashes, self._slots, self._count, codes[start : start + _AT_ONCE])
        return codes

    def find(self, hashes: Hashes) -> Codes:
        """The number of each, −1 where it has none."""
        codes: Codes = np.empty(len(hashes), np.int32)
        _find(hashes, self._hashes, self._slots, codes)
        return codes

    def _make_room(self, more: int) -> None:
        room = self._count + more
        if room > len(self._hashes):
            self._hashes = np.resize(self._hashes, max(room, len(self._hashes) * 3 // 2))
        if 2 * room > len(self._slots):
            self._slots = slots_for(self._hashes, self._count, 2 * room)


@compiled
def _encode(hashes: Hashes, known: Hashes, slots: Slots, count: int, codes: Codes) -> int:
    mask = np.uint64(len(slots) - 1)
    for row in range(len(hashes)):
        slot = hashes[row] & mask
        while slots[slot] >= 0 and known[slots[slot]] != hashes[row]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = count
            known[count] = hashes[row]
            count += 1
        codes[row] = slots[slot]
    return count


@compiled
def _find(hashes: Hashes, known: Hashes, slots: Slots, codes: Codes) -> None:
    mask = np.uint64(len(slots) - 1)
    for row in range(len(hashes)):
        slot = hashes[row] & mask
        while slots[slot] >= 0 and known[slots[slot]] != hashes[row]:
            slot = (slot + np.uint64(1)) & mask
        codes[row] = slots[slot]
