"""Counting in passes against sorting."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnels.passes import Ints
from funnels.tally import Counted, bars, tally
from funnels.walk import NEVER, Entries

WINDOW = 100_000
durations = st.one_of(st.integers(0, 5), st.integers(0, WINDOW), st.just(WINDOW))
people = st.tuples(st.integers(0, 10), st.lists(durations, max_size=2))


@given(
    people=st.lists(people, max_size=60),
    as_of=st.one_of(st.none(), st.integers(0, WINDOW + 10)),
)
def test_counts_and_times_are_those_of_sorted_entries(people: list[tuple[int, list[int]]], as_of: int | None) -> None:
    _is_as_sorted(*_arrays(people), as_of)


@given(
    chapters=st.lists(st.tuples(st.lists(people, max_size=20), st.integers(0, 20)), min_size=1, max_size=6),
    widths=st.lists(st.sampled_from([300, 1000, 7000]), min_size=6, max_size=6),
)
def test_what_is_kept_is_as_counted_anew(
    chapters: list[tuple[list[tuple[int, list[int]]], int]], widths: list[int]
) -> None:
    kept, some = Counted(3, [0, 1, 2], WINDOW), _entries(*_arrays([]))
    for (more, fewer), width in zip(chapters, widths, strict=False):
        kept.add(_entries(*_arrays(more)))
        every = _together(some, _entries(*_arrays(more)))
        kept.add(every.pick(np.arange(len(every.began)) < fewer), sign=-1)
        some = every.pick(np.arange(len(every.began)) >= fewer)

        told = tally(some, [0, 1, 2], WINDOW, None)

        assert tally(some, [0, 1, 2], WINDOW, None, kept) == told
        longest = told.times[0].longest
        if longest < 20 * width:
            assert kept.bars(some, width, longest).tolist() == bars(some, 2, width, longest).tolist()


def test_many_entries_are_counted_as_few() -> None:
    some, count = np.random.default_rng(7), 150_001  # counted in parts
    reached = some.integers(0, 4, count)
    began = some.integers(0, WINDOW, count)
    times = np.sort(some.integers(0, WINDOW + 1, (count, 3)), axis=1) * [0, 1, 1]
    at = np.where(np.arange(3) < reached[:, None], began[:, None] + times, NEVER)
    _is_as_sorted(began, reached, at, WINDOW + WINDOW // 3)


def _arrays(people: list[tuple[int, list[int]]]) -> tuple[Ints, Ints, Ints]:
    """When each began, how far each came, and when each reached a step."""
    at = np.full((len(people), 3), NEVER, np.int64)
    for row, (start, times) in enumerate(people):
        at[row, : len(times) + 1] = [start, *(start + time for time in sorted(times))]
    reached = np.array([len(times) + 1 for _, times in people], np.int64)
    began = np.array([start for start, _ in people], np.int64)
    return began, reached, at


def _entries(began: Ints, reached: Ints, at: Ints) -> Entries:
    none = np.zeros(len(began), np.int64)
    return Entries(none.astype(np.uint64), began, reached, at, none.astype(np.int32), none, none)


def _together(one: Entries, other: Entries) -> Entries:
    names = [field.name for field in fields(Entries)]
    return Entries(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in names))


def _is_as_sorted(began: Ints, reached: Ints, at: Ints, as_of: int | None) -> None:
    entries = _entries(began, reached, at)

    told = tally(entries, [0, 1, 2], WINDOW, as_of)

    for step in range(3):
        there = at[:, step] != NEVER
        stayed = reached == step + 1
        is_open = np.ones(len(began), np.bool_) if as_of is None else began + WINDOW >= as_of
        assert told.counts[step] == there.sum()
        assert (told.open[step], told.over[step]) == ((stayed & is_open).sum(), (stayed & ~is_open).sum())
        last, first = (step, at[:, step - 1]) if step else (2, began)
        took = (at[:, last] - first)[at[:, last] != NEVER]
        if len(took):
            assert [told.times[step].median, told.times[step].p90] == pytest.approx(np.quantile(took, [0.5, 0.9]))
            assert told.times[step].longest == took.max()
        else:
            assert (told.times[step].count, told.times[step].median) == (0, None)
    if told.times[0].count:
        counted = bars(entries, 2, 1000, told.times[0].longest)
        took = (at[:, 2] - began)[at[:, 2] != NEVER]
        assert counted.tolist() == np.bincount(took // 1000).tolist()
