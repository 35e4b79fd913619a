"""Arrays that grow with the warehouse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    """`array` with at least `size` rows, the new ones holding `fill`; there is some room, so that it seldom grows."""
    if size <= len(array):
        return array
    larger = np.full((max(size, len(array) * 9 // 8), *array.shape[1:]), fill, array.dtype)
    larger[: len(array)] = array
    return larger
