"""Follows subjects through the steps of a funnel, in one pass over their events: where no event can fill two steps.

The statements of query.py say what a funnel is, for every definition. This says the same of those definitions, of each
entry, in a fraction of the time: an entry's next step is the earliest event that fills it, which for later entries
never comes earlier, so each step's place moves forward only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

DAY: Final = 86_400_000_000
"""Microseconds."""


def reached_by_day(
    subjects: Hashes, micros: Ints, fills: Ints, steps: int, window: int, until: int
) -> tuple[Ints, Ints]:
    """Of the events that fill a step, by (hash of the subject, microseconds since 1970, 2 to the power of the step's
    position), subject by subject and each subject's by time, as stitchline.grouping.grouped brings them: the days,
    since 1970, on which somebody began, ascending, int64 of shape (days,); and how many subjects got to each step or
    further on each, int64 of shape (days, steps), each by the best entry of that day. Entries begin before `until`, in
    microseconds since 1970 as well, and end within `window`, in microseconds.
    """
    days: Ints = np.unique(micros[(fills == 1) & (micros < until)] // DAY)
    first = int(days[0]) if len(days) else 0
    counts: Ints = np.zeros((int(days[-1]) - first + 1 if len(days) else 0, steps), np.int64)
    _count(subjects, micros, fills, window, until, first, counts)
    return days, np.cumsum(counts[days - first, ::-1], axis=1)[:, ::-1]


@compiled
def _count(subjects: Hashes, micros: Ints, fills: Ints, window: int, until: int, first: int, counts: Ints) -> None:
    """Adds 1 for each subject and day to counts[day - first, steps reached - 1]."""
    rows, steps = len(subjects), counts.shape[1]
    place = np.zeros(steps, np.int64)
    begin = 0
    while begin < rows:
        end = begin + 1
        while end < rows and subjects[end] == subjects[begin]:
            end += 1
        place[:] = begin
        day, best = -1, 0
        for entry in range(begin, end):
            if fills[entry] != 1 or micros[entry] >= until:
                continue
            at, reached = micros[entry], 1
            while reached < steps:
                row = place[reached]
                while row < end and (fills[row] != 1 << reached or micros[row] < at):
                    row += 1
                place[reached] = row
                if row == end or micros[row] > micros[entry] + window:
                    break
                at = micros[row]
                reached += 1
            began = micros[entry] // 86_400_000_000 - first
            if began != day:
                if best:
                    counts[day, best - 1] += 1
                day, best = began, 0
            best = max(best, reached)
        if best:
            counts[day, best - 1] += 1
        begin = end
