"""The memory of messages against a plain set."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.duplicates import Messages, SeenMessages

Row = tuple[int, int, int, int, int]
ROWS = st.tuples(
    # few enough to meet again, and equal in one half without being so in the other; the last one would fill a slot
    st.sampled_from([0, 1, 1024, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1]),
    st.integers(0, 3),
    st.integers(-5, 5),
    st.integers(0, 1),
)


def messages(rows: list[Row]) -> Messages:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    hashes = [np.array(column, np.uint64) for column in columns[:3]]
    ints = [np.array(column, np.int64) for column in columns[3:]]
    return Messages(hashes[0], hashes[1], hashes[2], ints[0], ints[1])


SWEEPS = st.none() | st.tuples(st.sets(st.integers(0, 3)), st.integers(-6, 6))


@given(st.lists(st.tuples(st.lists(ROWS, max_size=40), SWEEPS)))
def test_it_is_a_set_that_forgets_what_it_is_told_to(
    turns: list[tuple[list[Row], tuple[set[int], int] | None]],
) -> None:
    seen, model = SeenMessages(), dict[tuple[int, int], Row]()
    for rows, forget in turns:
        expected = []
        for row in rows:
            expected.append(row[:2] not in model)
            model.setdefault(row[:2], row)
        assert seen.admit(messages(rows)).tolist() == expected
        if forget is not None:
            devices, mark = forget
            marks = np.array([mark, mark + 1])
            seen.forget(np.array(sorted(devices), np.uint64), marks)
            model = {key: row for key, row in model.items() if row[2] in devices or row[3] > marks[row[4]]}
        assert len(seen) == len(model)


def test_what_it_takes() -> None:
    seen = SeenMessages()
    count = 100_000
    rows = np.arange(count)
    hashes = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert seen.admit(Messages(hashes, hashes, hashes, rows, np.zeros(count, np.int64))).all()
    assert seen.nbytes <= 60 * count
    seen.forget(np.empty(0, np.uint64), np.array([count]))
    assert (len(seen), seen.nbytes < 10_000) == (0, True)
