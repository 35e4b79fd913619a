"""Turns the entries of a funnel into its answer: counts, times, parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from funnels.definition import FunnelDefinition
from funnels.result import Bin, BreakdownResult, ConversionTimes, StepResult
from funnels.rows import MICROSECOND, micros_of
from funnels.walk import NEVER, Entries, Ints

NO_VALUE: Final = "(none)"
"""What a breakdown shows for null."""
OTHER: Final = "(other)"
"""What a breakdown shows for all values beyond the top ones."""

_Z: Final = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: what lies in a 95 % interval."""
_BINS: Final = 20
"""Bars of the histogram at most: more are no shape, but noise."""
_SECONDS: Final = tuple(
    seconds * unit
    for unit, some in ((1, (1, 2, 5, 10, 15, 30)), (60, (1, 2, 5, 10, 15, 30)), (3600, (1, 2, 3, 6, 12)))
    for seconds in some
) + tuple(day * 86_400 for day in (1, 2, 5, 7, 14, 30, 60, 90, 180, 365, 730, 1825, 3650))
"""How wide a bar may be: what people count time in."""


def steps_of(entries: Entries, definition: FunnelDefinition, as_of: datetime | None) -> tuple[StepResult, ...]:
    """What became of the entries, step by step. Windows that reach `as_of` or further are open; all, without it."""
    steps = definition.steps
    last = max(place for place, step in enumerate(steps) if not step.optional)
    is_open = np.ones(len(entries), np.bool_)
    if as_of is not None:
        is_open = entries.began + definition.window // MICROSECOND >= micros_of(as_of)
    counts = [int(np.count_nonzero(entries.at[:, place] != NEVER)) for place in range(len(steps))]
    results = []
    before = 0
    for place, step in enumerate(steps):
        count, behind, stopped = counts[place], 0, 0
        if not step.optional and place < last:
            stayed = entries.reached == place + 1
            behind, stopped = int(np.count_nonzero(stayed & is_open)), int(np.count_nonzero(stayed & ~is_open))
        low, high = wilson(count, counts[before]) if place else (None, None)
        median, p90 = _quantiles(_seconds(entries, before, place)) if place else (None, None)
        results.append(
            StepResult(
                step=step.label,
                count=count,
                conversion=count / counts[before] if counts[before] else None,
                conversion_low=low,
                conversion_high=high,
                conversion_from_start=count / counts[0] if counts[0] else None,
                dropped=stopped,
                still_open=behind,
                median_seconds=median,
                p90_seconds=p90,
            )
        )
        if not step.optional:
            before = place
    return tuple(results)


def conversion_times(entries: Entries, definition: FunnelDefinition) -> ConversionTimes | None:
    """How long those took from the first step to the last required one; None for a funnel of one step."""
    last = max(place for place, step in enumerate(definition.steps) if not step.optional)
    if not last:
        return None
    seconds = _seconds(entries, 0, last)
    if definition.order == "any":
        seconds = (entries.at[:, last] - entries.began)[entries.at[:, last] != NEVER] / 1e6
    median, p90 = _quantiles(seconds)
    return ConversionTimes(median=median, p90=p90, histogram=_histogram(seconds))


def parts_of(
    entries: Entries, shown: Sequence[str], definition: FunnelDefinition, as_of: datetime | None
) -> tuple[BreakdownResult, ...]:
    """The funnel of each value of the breakdown, the largest first, and of all beyond the top ones together."""
    codes, names = by_text(entries.values, shown)
    sizes = np.bincount(codes, minlength=len(names))
    ranked = sorted(np.flatnonzero(sizes), key=lambda code: (-sizes[code], names[code].encode(errors="surrogatepass")))
    top, rest = ranked[: definition.top], ranked[definition.top :]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(sizes)
    parts = [
        BreakdownResult(
            value=names[code],
            steps=steps_of(entries.pick(order[ends[code] - sizes[code] : ends[code]]), definition, as_of),
        )
        for code in top
    ]
    if rest:
        others = entries.pick(np.isin(codes, rest))
        parts.append(BreakdownResult(value=OTHER, steps=steps_of(others, definition, as_of)))
    return tuple(parts)


def wilson(count: int, of: int) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of a share (Wilson 1927), which holds for few as well; (None, None) of nobody.

    >>> tuple(round(bound, 3) for bound in wilson(8, 10))
    (0.49, 0.943)
    """
    if not of:
        return None, None
    share, z = count / of, _Z
    middle = share + z * z / (2 * of)
    wide = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return max(0.0, (middle - wide) / scale), min(1.0, (middle + wide) / scale)


def by_text(values: npt.NDArray[np.int32], shown: Sequence[str]) -> tuple[Ints, list[str]]:
    """`values` as codes that are one for each text, null being (none)."""
    places: dict[str, int] = {NO_VALUE: 0}
    codes = [places.setdefault(text, len(places)) for text in shown]
    table = np.array([*codes, 0], np.int64)  # code -1 is the last of them
    return table[values], list(places)


def _seconds(entries: Entries, first: int, second: int) -> npt.NDArray[np.float64]:
    """From one step to another, of those who reached the second."""
    some = entries.at[:, second] != NEVER
    seconds: npt.NDArray[np.float64] = (entries.at[some, second] - entries.at[some, first]) / 1e6
    return seconds


def _quantiles(seconds: npt.NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """Median and p90, interpolated."""
    if not len(seconds):
        return None, None
    median, p90 = np.quantile(seconds, [0.5, 0.9])
    return float(median), float(p90)


def _histogram(seconds: npt.NDArray[np.float64]) -> tuple[Bin, ...]:
    """How many took how long: bars of one width, from 0 on."""
    if not len(seconds):
        return ()
    longest = float(seconds.max())
    width = next((width for width in _SECONDS if longest < width * _BINS), math.ceil((longest + 1) / _BINS))
    counts = np.bincount((seconds // width).astype(np.int64))
    return tuple(
        Bin(from_seconds=place * width, to_seconds=(place + 1) * width, count=int(count))
        for place, count in enumerate(counts)
    )
