"""Counts are never too low, and seldom too high."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stitchline.counts import MOST, CountSketch
from stitchline.hashing import hash_texts


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 300)), max_size=30))
def test_a_count_is_never_too_low(rows: list[tuple[int, int]]) -> None:
    sketch, counted = CountSketch(100), Counter[int]()
    for value, times in rows:
        sketch.add(np.array([value], np.uint64), np.array([times]))
        counted[value] += times
    found = sketch.of(np.array(list(counted), np.uint64))
    assert all(count >= min(MOST, true) for count, true in zip(found.tolist(), counted.values(), strict=True))


def test_it_is_seldom_too_high() -> None:
    sketch = CountSketch(50_000)
    hashes = hash_texts(pa.array([f"user {i}" for i in range(50_000)]))
    times = 1 + np.arange(50_000) % 5
    sketch.add(hashes, times)
    assert (sketch.of(hashes) != times).mean() < 0.02
    others = hash_texts(pa.array([f"nobody {i}" for i in range(50_000)]))
    assert (sketch.of(others) > 0).mean() < 0.2
