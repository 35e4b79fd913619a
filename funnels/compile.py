"""Compiles what is compiled, once for an installation: `python -m funnels.compile`. Kept on disk.

Without it the first funnel does so, each function at its first use.
"""

from __future__ import annotations

import numpy as np

from funnels.walk import IN_SEQUENCE, Rows, Rules, walk
from stitchline.grouping import grouped


def compile_all() -> None:
    """Takes one subject through every compiled function, with arrays of the kinds that questions have."""
    subjects, micros = np.zeros(2, np.uint64), np.zeros(2, np.int64)
    grouped(subjects, micros)
    fills = np.full(2, 1 | IN_SEQUENCE, np.int64)
    rows = Rows(subjects, micros, fills, np.zeros(2, np.int64), subjects, np.zeros(2, np.int32))
    for order in ("ordered", "strict", "any"):
        walk(rows, Rules(steps=2, window=0, order=order))


if __name__ == "__main__":
    compile_all()
