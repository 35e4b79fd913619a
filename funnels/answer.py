"""Turns the entries of a funnel into its answer: counts, times, parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from funnels.definition import FunnelDefinition
from funnels.passes import Ints
from funnels.result import Bin, BreakdownResult, ConversionTimes, StepResult
from funnels.rows import MICROSECOND, micros_of
from funnels.tally import Counted, Tally, tally
from funnels.walk import Entries

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


def tally_of(
    entries: Entries, definition: FunnelDefinition, as_of: datetime | None, counted: Counted | None = None
) -> Tally:
    """What became of the entries, which `counted` counts, if that was kept. Windows that reach `as_of` or further are
    open; all, without it."""
    known = None if as_of is None else micros_of(as_of)
    return tally(entries, _required(definition), definition.window // MICROSECOND, known, counted)


def nothing_counted(definition: FunnelDefinition) -> Counted:
    """Counts the entries of `definition` as they come and go: none yet."""
    return Counted(len(definition.steps), _required(definition), definition.window // MICROSECOND)


def steps_of(told: Tally, definition: FunnelDefinition) -> tuple[StepResult, ...]:
    """What became of the entries, step by step."""
    required = _required(definition)
    results = []
    before = 0
    for place, step in enumerate(definition.steps):
        count = told.counts[place]
        ends = place in required[:-1]
        low, high = wilson(count, told.counts[before]) if place else (None, None)
        results.append(
            StepResult(
                step=step.label,
                count=count,
                conversion=count / told.counts[before] if told.counts[before] else None,
                conversion_low=low,
                conversion_high=high,
                conversion_from_start=count / told.counts[0] if told.counts[0] else None,
                dropped=told.over[place] if ends else 0,
                still_open=told.open[place] if ends else 0,
                median_seconds=_seconds(told.times[place].median) if place else None,
                p90_seconds=_seconds(told.times[place].p90) if place else None,
            )
        )
        if not step.optional:
            before = place
    return tuple(results)


def conversion_times(entries: Entries, told: Tally, definition: FunnelDefinition) -> ConversionTimes | None:
    """How long those took from their first event to the last required step; None for a funnel of one step."""
    if not _required(definition)[-1]:
        return None
    times = told.times[0]
    return ConversionTimes(median=_seconds(times.median), p90=_seconds(times.p90), histogram=_histogram(entries, told))


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
    parts = [(names[code], entries.pick(order[ends[code] - sizes[code] : ends[code]])) for code in top]
    if rest:
        parts.append((OTHER, entries.pick(np.isin(codes, rest))))
    return tuple(
        BreakdownResult(value=name, steps=steps_of(tally_of(part, definition, as_of), definition))
        for name, part in parts
    )


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


def _required(definition: FunnelDefinition) -> list[int]:
    """Positions of the steps that may not be left out."""
    return [place for place, step in enumerate(definition.steps) if not step.optional]


def _seconds(micros: float | None) -> float | None:
    return None if micros is None else micros / 1e6


def _histogram(entries: Entries, told: Tally) -> tuple[Bin, ...]:
    """How many took how long: bars of one width, from 0 on."""
    times = told.times[0]
    if not times.count:
        return ()
    longest = times.longest / 1e6
    width = next((width for width in _SECONDS if longest < width * _BINS), math.ceil((longest + 1) / _BINS))
    counts = told.counted.bars(entries, width * 1_000_000, times.longest)
    return tuple(
        Bin(from_seconds=place * width, to_seconds=(place + 1) * width, count=int(count))
        for place, count in enumerate(counts)
    )
