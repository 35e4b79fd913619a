"""Counts entries: how many reached each step, stay behind it, and how long they took, exactly, in two passes.

The first pass counts, and tells times apart coarsely; the second one looks at those few times only that lie around a
quantile. So it takes a few milliseconds for a million entries, where sorting them takes a hundred. What the first pass
counts may be kept while entries come and go.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from funnels.walk import NEVER, Entries
from stitchline.compiled import compiled, inlined

Ints = npt.NDArray[np.int64]

_MANY: Final = 100_000
"""More entries than that are counted on all cores."""
_QUANTILES: Final = (0.5, 0.9, 1.0)
"""Of the last one, the longest."""
_BARS: Final = 64
"""How many bars are kept, more than there are: what took longer is in none, until they are made wider."""
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
    counted: Counted = field(compare=False)
    """By what it was counted."""


class Counted:
    """How many entries reached each step, and how many took how long, coarsely: what adds up, so that some may be added
    or taken away. `required` are the positions of the steps that may not be left out; `window` is in microseconds."""

    def __init__(self, steps: int, required: list[int], window: int) -> None:
        self.reached: Ints = np.zeros(steps, np.int64)
        """By step."""
        self.kinds: Ints = np.zeros((steps, _KINDS), np.int64)
        """How many times are of each kind, by step."""
        before: Ints = np.zeros(steps, np.int64)  # of each step, the one that its time is measured from
        for place in range(1, steps):
            before[place] = max(step for step in required if step < place)
        self.rules = (before, required[-1], (window // _KINDS).bit_length())
        self._width = 1
        self._bars: Ints = np.zeros(0, np.int64)

    def add(self, entries: Entries, sign: int = 1) -> None:
        """Counts `entries` too; no more, if `sign` is −1."""
        counts = (self.reached, self.kinds, self._bars)
        _count(entries.began, entries.reached, entries.at, self.rules, self._width, sign, counts)

    def bars(self, entries: Entries, width: int, longest: int) -> Ints:
        """As `bars` to the last step that may not be left out. `entries` are all that are counted; they are looked at
        if another width was asked for before."""
        if width != self._width or not len(self._bars):
            self._width, self._bars = width, bars(entries, self.rules[1], width, width * (_BARS - 1))
        return self._bars[: longest // width + 1]


def tally(
    entries: Entries, required: list[int], window: int, as_of: int | None, counted: Counted | None = None
) -> Tally:
    """What became of `entries`, of which those that reached nothing are none. `required` are the positions of the steps
    that may not be left out; a `window` that reaches `as_of` is open, and all are without it; both in microseconds.
    `counted` counts just these entries, if it was kept."""
    steps = entries.at.shape[1]
    parts = _in_parts(entries)
    with ThreadPoolExecutor(len(parts)) as threads:
        each = threads.map if len(parts) > 1 else map
        if counted is None:
            counted = Counted(steps, required, window)
            some = [Counted(steps, required, window) for _ in parts]
            for part, _ in zip(some, each(lambda to, entries: to.add(entries), some, parts), strict=True):
                counted.reached += part.reached
                counted.kinds += part.kinds
        wanted = [_Wanted.of(kinds) for kinds in counted.kinds]
        open_from = np.iinfo(np.int64).min if as_of is None else as_of - window
        looked = [*each(lambda part: _look(part, counted, open_from, wanted), parts)]
    times = [told.times(np.concatenate([near[step] for near, _ in looked])) for step, told in enumerate(wanted)]
    is_open, over = np.sum([stay for _, stay in looked], axis=0).tolist()
    return Tally(counted.reached.tolist(), is_open, over, times, counted)


def bars(entries: Entries, last: int, width: int, longest: int) -> Ints:
    """How many took how long from their first event to the step `last`: from 0 on, by `width` microseconds, up to
    `longest`."""
    parts = _in_parts(entries)
    counts: Ints = np.zeros((len(parts), longest // width + 1), np.int64)
    with ThreadPoolExecutor(len(parts)) as threads:
        each = threads.map if len(parts) > 1 else map
        for _ in each(lambda part, of_it: _bars(part.began, part.at, last, width, of_it), parts, counts):
            pass
    total: Ints = counts.sum(axis=0)
    return total


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which of so many times, by their number in order, the quantiles lie between, and which of the coarse kinds these
    are of."""

    count: int
    ranks: list[float]
    spans: Ints
    """int64[quantiles, 2]: the first of these kinds, and the one after the last."""
    size: int
    """How many times are of these kinds."""
    places: list[tuple[int, int]]
    """Of each quantile, where the two that it lies between are among them, in order."""

    @classmethod
    def of(cls, kinds: Ints) -> _Wanted:
        count = int(kinds.sum())
        if not count:
            return cls(0, [], np.zeros((len(_QUANTILES), 2), np.int64), 0, [])
        ends = np.cumsum(kinds)
        ranks = [(count - 1) * quantile for quantile in _QUANTILES]
        pairs = [(int(rank), min(int(rank) + 1, count - 1)) for rank in ranks]
        spans: Ints = np.searchsorted(ends, pairs, "right") + np.array([0, 1])
        is_near: npt.NDArray[np.bool_] = np.zeros(_KINDS, np.bool_)
        for first, end in spans:
            is_near[first:end] = True
        # What is not near a quantile and smaller is left out.
        left_out = np.cumsum(np.where(is_near, 0, kinds))
        places = [
            (low - int(left_out[first]), high - int(left_out[end - 1]))
            for (low, high), (first, end) in zip(pairs, spans, strict=True)
        ]
        return cls(count, ranks, spans, int(kinds[is_near].sum()), places)

    def times(self, near: Ints) -> Times:
        """Out of the times `near` the quantiles."""
        if not self.count:
            return Times(0, None, None, 0)
        some = np.partition(near, sorted({at for pair in self.places for at in pair}))
        median, p90, _ = (
            float(some[low] + (some[high] - some[low]) * (rank - int(rank)))
            for (low, high), rank in zip(self.places, self.ranks, strict=True)
        )
        return Times(self.count, median, p90, int(some[-1]))


def _in_parts(entries: Entries) -> list[Entries]:
    """`entries` in as many parts as there are cores, if they are many."""
    count = (os.cpu_count() or 1) if len(entries.began) > _MANY else 1
    if count == 1:
        return [entries]
    cuts = [len(entries.began) * part // count for part in range(count + 1)]
    columns = [getattr(entries, field.name) for field in fields(entries)]
    return [Entries(*(column[low:high] for column in columns)) for low, high in pairwise(cuts)]


def _look(entries: Entries, counted: Counted, open_from: int, wanted: list[_Wanted]) -> tuple[list[Ints], Ints]:
    """Of each step the times near the quantiles, and how many stay behind it: int64[2, steps], open and over."""
    ends = np.cumsum([told.size for told in wanted])
    some: Ints = np.empty(int(ends[-1]), np.int64)
    starts = ends - [told.size for told in wanted]
    places, stay = starts.copy(), np.zeros((2, len(wanted) + 1), np.int64)
    spans = np.stack([told.spans for told in wanted])
    _pick(
        entries.began,
        entries.reached,
        entries.at,
        counted.rules,
        open_from,
        spans << counted.rules[2],
        places,
        some,
        stay,
    )
    return [some[start:place] for start, place in zip(starts, places, strict=True)], stay[:, 1:]  # 0: reached nothing


@compiled
def _count(
    began: Ints, reached: Ints, at: Ints, rules: tuple[Any, ...], width: int, sign: int, out: tuple[Ints, Ints, Ints]
) -> None:
    before, last, shift = rules
    counts, kinds, by_width = out
    for row in range(len(began)):
        if reached[row] == 0:
            continue
        for step in range(at.shape[1]):
            if at[row, step] == NEVER:
                continue
            counts[step] += sign
            if step:
                kinds[step, (at[row, step] - at[row, before[step]]) >> shift] += sign
        if last and at[row, last] != NEVER:
            took = at[row, last] - began[row]
            kinds[0, took >> shift] += sign
            if took < width * len(by_width):
                by_width[took // width] += sign


@compiled
def _pick(
    began: Ints,
    reached: Ints,
    at: Ints,
    rules: tuple[Any, ...],
    open_from: int,
    spans: Ints,
    places: Ints,
    some: Ints,
    stay: Ints,
) -> None:
    """The times in those spans, of each step from its place on; and who stays behind which step, those open first."""
    before, last, _ = rules
    for row in range(len(began)):
        stay[int(began[row] < open_from), reached[row]] += 1
        for step in range(1, at.shape[1]):
            # Few times are near: that is asked first, even of those that are none, as a processor guesses it well.
            took = at[row, step] - at[row, before[step]]
            if _is_in(took, spans[step]) and at[row, step] != NEVER:
                some[places[step]] = took
                places[step] += 1
        took = at[row, last] - began[row]
        if _is_in(took, spans[0]) and last and at[row, last] != NEVER:
            some[places[0]] = took
            places[0] += 1


@inlined
def _is_in(took: int, spans: Ints) -> np.bool_:
    found: np.bool_ = np.False_
    for number in range(len(_QUANTILES)):
        begin, end = spans[number, 0], spans[number, 1]
        found |= np.uint64(took - begin) < np.uint64(end - begin)
    return found


@compiled
def _bars(began: Ints, at: Ints, last: int, width: int, counts: Ints) -> None:
    for row in range(len(began)):
        took = at[row, last] - began[row]
        if at[row, last] != NEVER and took < width * len(counts):
            counts[took // width] += 1
