"""Follows subjects through steps of which each is the very next event, in one compiled pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from funnels.passes import DAY, Ints, find_voids
from stitchline.compiled import compiled

Hashes = npt.NDArray[np.uint64]


@compiled
def follow_strictly(
    begins: Ints,
    order: Ints,
    bounds: Ints,
    micros: Ints,
    fills: Ints,
    is_in_sequence: npt.NDArray[np.bool_],
    voids: Ints,
    holds: Hashes,
    required: Ints,
    steps: int,
    exclusions: Ints,
    window: int,
    since: int,
    until: int,
    totals: bool,
    by_day: bool,
) -> Ints:
    """The row of each step of each entry, -1 where it was not reached: int64[entries, steps].

    `begins` are where groups of first events begin in `order`, by themselves, and the end; `bounds` are, of each group,
    where its subject's rows begin and end. Rows that are not `is_in_sequence` may lie between two steps; `exclusions`
    are (from, to) by place among the `required` steps.
    """
    links = len(required)
    room = 0
    for group in range(len(begins) - 1):
        for place in range(begins[group], begins[group + 1]):
            if fills[order[place]] & 1:
                room += 1
                if not totals and not by_day:
                    break
    paths = np.empty((room, steps), np.int64)
    path = np.empty(steps, np.int64)
    best_path = np.empty(steps, np.int64)
    longest = 0
    for group in range(len(bounds)):
        longest = max(longest, bounds[group, 1] - bounds[group, 0])
    # The first row with each exclusion, at or behind each row of the subject that it was last worked out for.
    voiding, known = np.empty((longest + 1, len(exclusions)), np.int64), -1
    count = 0
    for group in range(len(begins) - 1):
        begin, end = bounds[group]
        starts = False
        for place in range(begins[group], begins[group + 1]):
            if fills[order[place]] & 1:
                starts = True
                break
        if not starts:
            continue
        if known != begin:
            known = begin
            find_voids(begin, end, voids, voiding)
        best, day, free_from = 0, np.int64(0), begin
        for entry in order[begins[group] : begins[group + 1]]:
            began = micros[entry]
            if began >= until:
                break
            if began < since or not fills[entry] & 1:
                continue
            if by_day and began // DAY != day:
                if best:
                    paths[count] = best_path
                    count += 1
                best, day, free_from = 0, began // DAY, begin
            if entry < free_from:
                continue
            reached = _reach(entry, end, micros, fills, is_in_sequence, holds, required, began + window, path)
            if _is_void(reached, path, begin, end, micros, holds, required, exclusions, voiding, began + window):
                continue
            if totals:
                paths[count] = path
                count += 1
                if reached == links:
                    free_from = path[required[links - 1]] + 1
                else:
                    free_from = entry + 1
                    while free_from < end and micros[free_from] <= began + window:
                        free_from += 1
            elif reached > best:
                best = reached
                best_path[:] = path
                if best == links and not by_day:
                    break
        if best:
            paths[count] = best_path
            count += 1
    return paths[:count].copy()


@compiled
def _reach(
    entry: int,
    end: int,
    micros: Ints,
    fills: Ints,
    is_in_sequence: npt.NDArray[np.bool_],
    holds: Hashes,
    required: Ints,
    limit: int,
    path: Ints,
) -> int:
    """How many required steps the entry reaches that begins with row `entry`; `path` is told the row of each step. The
    next required step comes first; else an event may fill any optional one before it that is still to come."""
    path[:] = -1
    path[0] = entry
    reached, step = 1, 0
    for row in range(entry + 1, end):
        if micros[row] > limit:
            break
        if not is_in_sequence[row]:
            continue
        if holds[row] != holds[entry]:
            break
        behind = required[reached] if reached < len(required) else len(path)
        if behind < len(path) and fills[row] >> behind & 1:
            step = behind
            reached += 1
        else:
            step += 1
            while step < behind and not fills[row] >> step & 1:
                step += 1
            if step == behind:
                break
        path[step] = row
        if step == len(path) - 1:
            break
    return reached


@compiled
def _is_void(
    reached: int,
    path: Ints,
    begin: int,
    end: int,
    micros: Ints,
    holds: Hashes,
    required: Ints,
    exclusions: Ints,
    voiding: Ints,
    limit: int,
) -> bool:
    """Whether an exclusion's event lies between two of its steps, or behind the first where the second never came."""
    for kind in range(len(exclusions)):
        first, second = exclusions[kind]
        if reached > first:
            start = path[required[first]]
            last = micros[path[required[second]]] if reached > second else limit
            row = voiding[start - begin, kind]
            while row < end and micros[row] < last:
                if micros[row] > micros[start] and holds[row] == holds[start]:
                    return True
                row = voiding[row + 1 - begin, kind]
    return False
