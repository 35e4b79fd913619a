"""Rows are brought together as a sort of the whole would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stitchline.grouping import grouped

HASHES = st.sampled_from([0, 1, 2**20, 2**20 + 1, 2**63, 2**64 - 1])
TIMES = st.integers(-(2**62), 2**62) | st.integers(0, 3)


@given(st.lists(st.tuples(HASHES, TIMES)))
def test_groups_are_whole_and_in_order(rows: list[tuple[int, int]]) -> None:
    hashes = np.array([row[0] for row in rows], np.uint64)
    at = np.array([row[1] for row in rows], np.int64)
    order = grouped(hashes, at).tolist()
    seen = list(dict.fromkeys(rows[row][0] for row in order))
    assert order == sorted(range(len(rows)), key=lambda row: (seen.index(rows[row][0]), rows[row][1], row))


def test_many_rows_of_one_group_in_reverse() -> None:
    count = 200_000
    order = grouped(np.zeros(count, np.uint64), np.arange(count, 0, -1))
    assert order.tolist() == list(range(count - 1, -1, -1))
