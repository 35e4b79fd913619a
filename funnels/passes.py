"""What the compiled passes over subjects have in common."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled

Ints = npt.NDArray[np.int64]

DAY: Final = 86_400_000_000
"""Microseconds."""


@compiled
def find_voids(begin: int, end: int, voids: Ints, voiding: Ints) -> None:
    """Tells voiding[row - begin, k], for each row of a subject and for its `end`: the first row at or behind it that is
    of exclusion k; `end` where there is none."""
    for kind in range(voiding.shape[1]):
        voiding[end - begin, kind] = end
        for row in range(end - 1, begin - 1, -1):
            voiding[row - begin, kind] = row if voids[row] >> kind & 1 else voiding[row + 1 - begin, kind]
