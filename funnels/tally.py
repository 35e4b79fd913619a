"""Counts entries: how many reached each step, stay behind it, and how long they took, exactly, in two passes.

The first pass counts, and tells times apart coarsely; the second one looks at those few times only that lie around a
quantile. So it takes a few milliseconds for a million entries, where sorting them takes a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from funnels.walk import NEVER, Entries
from stitchline.compiled import compiled

Ints = npt.NDArray[np.int64]

_QUANTILES: Final = (0.5, 0.9)
_KINDS: Final = 4096
"""How many spans of time are told apart at first; each is a 4096th of the window."""


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
    counts, is_open, over, longest = (np.zeros(steps, np.int64) for _ in range(4))
    width = window // _KINDS + 1
    kinds: Ints = np.zeros((steps, _KINDS), np.int64)
    deadline = np.iinfo(np.int64).min if as_of is None else as_of
    _count(
        entries.began,
        entries.reached,
        entries.at,
        (before, last, window, deadline, width),
        (counts, is_open, over, longest, kinds),
    )
    times = [
        _times(entries, place, int(before[place]), last, kinds[place], width, int(longest[place]))
        for place in range(steps)
    ]
    return Tally(counts.tolist(), is_open.tolist(), over.tolist(), times)


def bars(entries: Entries, last: int, width: int, longest: int) -> Ints:
    """How many took how long from their first event to the step `last`: from 0 on, by `width` microseconds."""
    counts: Ints = np.zeros(longest // width + 1, np.int64)
    _bars(entries.began, entries.at, last, width, counts)
    return counts


def _times(entries: Entries, place: int, before: int, last: int, kinds: Ints, width: int, longest: int) -> Times:
    count = int(kinds.sum())
    if not count:
        return Times(0, None, None, 0)
    ends = np.cumsum(kinds)
    ranks = [(count - 1) * quantile for quantile in _QUANTILES]
    wanted = [(int(rank), min(int(rank) + 1, count - 1)) for rank in ranks]
    spans = [[int(np.searchsorted(ends, number, "right")) for number in pair] for pair in wanted]
    is_near: npt.NDArray[np.bool_] = np.zeros(_KINDS, np.bool_)
    for first, second in spans:
        is_near[first : second + 1] = True
    some: Ints = np.empty(int(kinds[is_near].sum()), np.int64)
    _pick(entries.began, entries.at, place, before, last, width, is_near, some)
    # What is not near a quantile and smaller is left out.
    left_out = np.cumsum(np.where(is_near, 0, kinds))
    places = [[number - int(left_out[span[0]]) for number in pair] for pair, span in zip(wanted, spans, strict=True)]
    some = np.partition(some, sorted({at for pair in places for at in pair}))
    median, p90 = (
        float(some[low] + (some[high] - some[low]) * (rank - int(rank)))
        for (low, high), rank in zip(places, ranks, strict=True)
    )
    return Times(count, median, p90, longest)


@compiled
def _count(began: Ints, reached: Ints, at: Ints, rules: tuple[Any, ...], out: tuple[Any, ...]) -> None:
    before, last, window, deadline, width = rules
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
                kinds[step, min(took // width, _KINDS - 1)] += 1
        if last and at[row, last] != NEVER:
            took = at[row, last] - began[row]
            longest[0] = max(longest[0], took)
            kinds[0, min(took // width, _KINDS - 1)] += 1


@compiled
def _pick(
    began: Ints,
    at: Ints,
    step: int,
    before: int,
    last: int,
    width: int,
    is_near: npt.NDArray[np.bool_],
    some: Ints,
) -> None:
    """The times of those kinds."""
    count = 0
    for row in range(len(began)):
        end = at[row, step] if step else at[row, last]
        if end != NEVER:
            took = end - (at[row, before] if step else began[row])
            if is_near[min(took // width, _KINDS - 1)]:
                some[count] = took
                count += 1


@compiled
def _bars(began: Ints, at: Ints, last: int, width: int, counts: Ints) -> None:
    for row in range(len(began)):
        if at[row, last] != NEVER:
            counts[(at[row, last] - began[row]) // width] += 1
