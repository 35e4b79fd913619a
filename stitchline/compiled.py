"""Compiles functions over arrays, where loops over single entries are what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """`function`, compiled at its first call and kept on disk for the next process, wherever one may write.

    It holds no lock of the interpreter while it runs.
    """
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # there is no such place: compiled anew in each process
        return njit(nogil=True, error_model="numpy")(function)
