"""Counts entries: how many reached each step, stay behind it, and how long they took, exactly, in two passes.

The first pass counts, and tells times apart coarsely; the second one looks at those few times only that lie around a
quantile. So it takes a few milliseconds for a million entries, where sorting them takes a hundred.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from funnels.walk import NEVER, Entries
from stitchline.compiled import compiled

Ints = npt.NDArray[np.int64]

_Rules = tuple[Ints, int, int]
"""Of each step the one that its time is measured from, the last one, and the coarse kinds' power of two."""

_MANY: Final = 100_000
"""More entries than that are counted on all cores."""
_QUANTILES: Final = (0.5, 0.9)
_KINDS: Final = 4096
"""How many spans of time are told apart at first, at most; each is a power of two of microseconds."""


@dataclass(frozen=True, slots=True)
class Times:
    """Median and p90 of so many times, interpolated, and the longest, in microseconds; None of none."""

    count: int
    median: float | None
    p90: float | None
    longest: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of entries, by step."""

    counts: list[int]
    """How many reached it."""
    open: list[int]
    """How many of them reached no later step that may not be left out, and have time for it."""
    over: list[int]
    """How many of them reached no later one, and have no time."""
    times: list[Times]
    """From the step before that may not be left out; of the first step, from the entry's first event to the last."""


def tally(entries: Entries, required: list[int], window: int, as_of: int | None) -> Tally:
    """What became of `entries`, of which those that reached nothing are none. `required` are the positions of the steps
    that may not be left out; a `window` that reaches `as_of` is open, and all are without it; both in microseconds."""
    steps = entries.at.shape[1]
    before: Ints = np.zeros(steps, np.int64)
    for place in range(1, steps):
        before[place] = max(step for step in required if step < place)
    last = required[-1]
    rules = (before, last, (window // _KINDS).bit_length())
    deadline = np.iinfo(np.int64).min if as_of is None else as_of
    parts = _in_parts(entries)
    with ThreadPoolExecutor(len(parts)) as threads:
        each = threads.map if len(parts) > 1 else map
        counted = [*each(lambda part: _counted(part, window, deadline, rules), parts)]
        wanted = [_Wanted.of(kinds) for kinds in np.sum([some.kinds for some in counted], axis=0)]
        is_near = np.stack([told.is_near for told in wanted])
        near = [*each(lambda part, some: _near(part, some, rules, is_near), parts, counted)]
    longest = np.max([some.longest for some in counted], axis=0)
    times = [
        told.times(np.concatenate([some[step] for some in near]), int(longest[step]))
        for step, told in enumerate(wanted)
    ]
    counts, is_open, over = (
        np.sum(some, axis=0).tolist() for some in zip(*(some.sums for some in counted), strict=True)
    )
    return Tally(counts, is_open, over, times)


def bars(entries: Entries, last: int, width: int, longest: int) -> Ints:
    """How many took how long from their first event to the step `last`: from 0 on, by `width` microseconds."""
    counts: Ints = np.zeros(longest // width + 1, np.int64)
    _bars(entries.began, entries.at, last, width, counts)
    return counts


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which of so many times, by their number in order, the quantiles lie between, and which of the coarse kinds these
    are of."""

    count: int
    ranks: list[float]
    is_near: npt.NDArray[np.bool_]
    """By kind."""
    size: int
    """How many times are of these kinds."""
    places: list[tuple[int, int]]
    """Of each quantile, where the two that it lies between are among them, in order."""

    @classmethod
    def of(cls, kinds: Ints) -> _Wanted:
        count = int(kinds.sum())
        is_near: npt.NDArray[np.bool_] = np.zeros(_KINDS, np.bool_)
        if not count:
            return cls(0, [], is_near, 0, [])
        ends = np.cumsum(kinds)
        ranks = [(count - 1) * quantile for quantile in _QUANTILES]
        pairs = [(int(rank), min(int(rank) + 1, count - 1)) for rank in ranks]
        spans = [[int(np.searchsorted(ends, number, "right")) for number in pair] for pair in pairs]
        for first, second in spans:
            is_near[first : second + 1] = True
        # What is not near a quantile and smaller is left out.
        left_out = np.cumsum(np.where(is_near, 0, kinds))
        places = [
            (low - int(left_out[of_low]), high - int(left_out[of_high]))
            for (low, high), (of_low, of_high) in zip(pairs, spans, strict=True)
        ]
        return cls(count, ranks, is_near, int(kinds[is_near].sum()), places)

    def times(self, near: Ints, longest: int) -> Times:
        """Out of the times `near` the quantiles."""
        if not self.count:
            return Times(0, None, None, 0)
        some = np.partition(near, sorted({at for pair in self.places for at in pair}))
        median, p90 = (
            float(some[low] + (some[high] - some[low]) * (rank - int(rank)))
            for (low, high), rank in zip(self.places, self.ranks, strict=True)
        )
        return Times(self.count, median, p90, longest)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the first pass says of some entries, by step."""

    sums: tuple[Ints, Ints, Ints]
    """Tally's counts, open and over."""
    longest: Ints
    kinds: Ints
    """int64[steps, _KINDS]: how many times are of each kind."""


def _in_parts(entries: Entries) -> list[Entries]:
    """`entries` in as many parts as there are cores, if they are many."""
    count = (os.cpu_count() or 1) if len(entries.began) > _MANY else 1
    if count == 1:
        return [entries]
    cuts = [len(entries.began) * part // count for part in range(count + 1)]
    columns = [getattr(entries, field.name) for field in fields(entries)]
    return [Entries(*(column[low:high] for column in columns)) for low, high in pairwise(cuts)]


def _counted(entries: Entries, window: int, deadline: int, rules: _Rules) -> _Counted:
    steps = entries.at.shape[1]
    counts, is_open, over, longest = (np.zeros(steps, np.int64) for _ in range(4))
    kinds: Ints = np.zeros((steps, _KINDS), np.int64)
    _count(entries.began, entries.reached, entries.at, window, deadline, rules, (counts, is_open, over, longest, kinds))
    return _Counted((counts, is_open, over), longest, kinds)


def _near(entries: Entries, counted: _Counted, rules: _Rules, is_near: npt.NDArray[np.bool_]) -> list[Ints]:
    """The times near the quantiles, of each step."""
    sizes = (counted.kinds * is_near).sum(axis=1)
    some: Ints = np.empty(int(sizes.sum()), np.int64)
    ends = np.cumsum(sizes)
    _pick(entries.began, entries.at, rules, is_near, ends - sizes, some)
    return np.split(some, ends[:-1])


@compiled
def _count(
    began: Ints, reached: Ints, at: Ints, window: int, deadline: int, rules: tuple[Any, ...], out: tuple[Any, ...]
) -> None:
    before, last, shift = rules
    counts, is_open, over, longest, kinds = out
    steps = at.shape[1]
    for row in range(len(began)):
        if reached[row] == 0:
            continue
        if began[row] + window >= deadline:
            is_open[reached[row] - 1] += 1
        else:
            over[reached[row] - 1] += 1
        for step in range(steps):
            if at[row, step] == NEVER:
                continue
            counts[step] += 1
            if step:
                took = at[row, step] - at[row, before[step]]
                longest[step] = max(longest[step], took)
                kinds[step, took >> shift] += 1
        if last and at[row, last] != NEVER:
            took = at[row, last] - began[row]
            longest[0] = max(longest[0], took)
            kinds[0, took >> shift] += 1


@compiled
def _pick(
    began: Ints, at: Ints, rules: tuple[Any, ...], is_near: npt.NDArray[np.bool_], places: Ints, some: Ints
) -> None:
    """The times of those kinds, of each step from its place on."""
    before, last, shift = rules
    for row in range(len(began)):
        for step in range(1, at.shape[1]):
            if at[row, step] != NEVER:
                took = at[row, step] - at[row, before[step]]
                if is_near[step, took >> shift]:
                    some[places[step]] = took
                    places[step] += 1
        if last and at[row, last] != NEVER:
            took = at[row, last] - began[row]
            if is_near[0, took >> shift]:
                some[places[0]] = took
                places[0] += 1


@compiled
def _bars(began: Ints, at: Ints, last: int, width: int, counts: Ints) -> None:
    for row in range(len(began)):
        if at[row, last] != NEVER:
            counts[(at[row, last] - began[row]) // width] += 1
