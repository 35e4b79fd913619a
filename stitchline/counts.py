"""How often each of many 64-bit hashes was counted, never too low, on whole columns."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stitchline.bloom import Hashes
from stitchline.compiled import compiled

Counts = npt.NDArray[np.uint8]

MOST: Final = 255
"""Where it stops counting."""


class CountSketch:
    """A count for each 64-bit hash that may be too high, by hashes that share its cells, but never too low up to MOST.

    Four bytes for each of `expected` hashes: with so many, one in fifty is counted too high.
    """

    _PROBES: Final = 3

    def __init__(self, expected: int) -> None:
        self._cells = np.zeros(2 ** max(16, int(np.ceil(np.log2(4 * expected)))), np.uint8)

    @property
    def nbytes(self) -> int:
        return self._cells.nbytes

    def of(self, hashes: Hashes) -> Counts:
        """How often each of `hashes` was counted."""
        counts: Counts = _least(self._cells, hashes, self._PROBES)
        return counts

    def add(self, hashes: Hashes, times: npt.NDArray[np.int64]) -> None:
        """Counts each of `hashes`, which are distinct, so many `times` more."""
        _raise(self._cells, hashes, times, self._PROBES)


@compiled
def _least(cells: Counts, hashes: Hashes, probes: int) -> Counts:
    mask = np.uint64(len(cells) - 1)
    counts = np.full(len(hashes), 255, np.uint8)
    for k in range(len(hashes)):
        step = (hashes[k] >> np.uint64(32)) | np.uint64(1)
        for i in range(probes):
            counts[k] = min(counts[k], cells[(hashes[k] + np.uint64(i) * step) & mask])
    return counts


@compiled
def _raise(cells: Counts, hashes: Hashes, times: npt.NDArray[np.int64], probes: int) -> None:
    mask = np.uint64(len(cells) - 1)
    least = _least(cells, hashes, probes)
    for k in range(len(hashes)):
        step = (hashes[k] >> np.uint64(32)) | np.uint64(1)
        raised = min(255, int(least[k]) + times[k])
        for i in range(probes):  # cells that others raised higher stay: they are too high for this one already
            cell = (hashes[k] + np.uint64(i) * step) & mask
            cells[cell] = max(int(cells[cell]), raised)
