"""Compiles functions over arrays, where loops over single entries are what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from numba import njit

_njit: Final[Any] = partial(njit, nogil=True, error_model="numpy")


def compiled(function: Callable[..., Any]) -> Any:
    """`function`, compiled at its first call and kept on disk for the next process, wherever one may write.

    It holds no lock of the interpreter while it runs.
    """
    try:
        return _njit(cache=True)(function)
    except RuntimeError:  # there is no such place: compiled anew in each process
        return _njit()(function)


def inlined(function: Callable[..., Any]) -> Any:
    """`function`, compiled into those compiled ones that call it. It allocates nothing: the arrays that it is given are
    its caller's, and not counted as in use once more at each call, which takes longer than most of what is called."""
    return _njit(forceinline=True, _nrt=False)(function)
