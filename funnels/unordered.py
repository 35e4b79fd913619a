"""Follows subjects through steps in any order, in one compiled pass.

An entry begins with any event that fills a step. How far it got is how many steps, from the first on, the events of its
window fill one each; a matching says so, found by augmenting paths. Of events that can fill the same steps only as many
as there are steps can matter, the earliest ones, so an entry costs its steps and kinds of events, however many events
there are.
"""

from __future__ import annotations

import numpy as np

from funnels.passes import DAY, Ints, find_voids
from stitchline.compiled import compiled


@compiled
def follow_unordered(
    begins: Ints,
    micros: Ints,
    fills: Ints,
    voids: Ints,
    steps: int,
    exclusions: Ints,
    window: int,
    since: int,
    until: int,
    totals: bool,
    by_day: bool,
) -> tuple[Ints, Ints]:
    """The row of each entry's first event; and the row of the event with which all steps up to each one were done, -1
    where they never were: int64[entries, steps].

    `begins` are the first rows of groups that are followed by themselves, and the end; `fills` has no bits but those of
    steps; `exclusions` are (from, to).
    """
    longest, room = 0, 0
    for group in range(len(begins) - 1):
        longest = max(longest, begins[group + 1] - begins[group])
        for row in range(begins[group], begins[group + 1]):
            if fills[row]:
                room += 1
                if not totals and not by_day:
                    break
    firsts, paths = np.empty(room, np.int64), np.empty((room, steps), np.int64)
    path, best_path = np.empty(steps, np.int64), np.empty(steps, np.int64)
    masks, heads, alike = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    kind_of, of_step = np.empty(longest, np.int64), np.empty(steps, np.int64)
    voiding = np.empty((longest + 1, len(exclusions)), np.int64)
    count = 0
    for group in range(len(begins) - 1):
        begin, end = begins[group], begins[group + 1]
        kinds = _kinds(begin, end, fills, masks, heads, alike, kind_of)
        if not kinds:
            continue
        every = 0
        for kind in range(kinds):
            every |= masks[kind]
        if not every & 1:
            continue
        find_voids(begin, end, voids, voiding)
        competing = False
        for kind in range(kinds):
            competing |= masks[kind] & (masks[kind] - 1) != 0
        # Where no event can fill two steps, each step has one kind of events, and there is nothing to match.
        candidates = np.empty(kinds * steps if competing else 0, np.int64)
        of_step[:] = -1
        for kind in range(kinds):
            for step in range(steps):
                if masks[kind] == 1 << step:
                    of_step[step] = kind
        best, best_first, day, free_from = 0, -1, np.int64(0), since
        start = begin
        while start < end:
            began, stop = micros[start], start + 1
            while stop < end and micros[stop] == began:
                stop += 1
            if began >= until:
                break
            if by_day and began // DAY != day:
                if best:
                    firsts[count], paths[count] = best_first, best_path
                    count += 1
                best, day, free_from = 0, began // DAY, since
            here = 0
            for row in range(start, stop):
                here |= fills[row]
            if here and began >= since and began >= free_from:
                limit = began + window
                if competing:
                    reached = _reach(end, limit, micros, fills, kinds, heads, alike, begin, steps, candidates, path)
                else:
                    reached = _reach_simply(end, limit, micros, heads, of_step, path)
                first = start
                while first < stop and not fills[first] & ((1 << reached) - 1):
                    first += 1
                if first < stop and not _is_void(reached, path, begin, end, micros, exclusions, voiding, limit):
                    if totals:
                        firsts[count], paths[count] = first, path
                        count += 1
                        free_from = (micros[path[steps - 1]] if reached == steps else began + window) + 1
                    elif reached > best:
                        best, best_first = reached, first
                        best_path[:] = path
                        if best == steps and not by_day:
                            break
            for row in range(start, stop):  # what was here is no later entry's any more
                if fills[row]:
                    heads[kind_of[row - begin]] = alike[row - begin]
            start = stop
        if best:
            firsts[count], paths[count] = best_first, best_path
            count += 1
    return firsts[:count].copy(), paths[:count].copy()


@compiled
def _kinds(begin: int, end: int, fills: Ints, masks: Ints, heads: Ints, alike: Ints, kind_of: Ints) -> int:
    """How many kinds of events there are, by the steps that they can fill. `heads` has the first row of each kind,
    `alike` the next one of the same kind as each row, `end` behind the last."""
    kinds = 0
    for row in range(end - 1, begin - 1, -1):
        if not fills[row]:
            continue
        kind = 0
        while kind < kinds and masks[kind] != fills[row]:
            kind += 1
        if kind == kinds:
            masks[kind], heads[kind] = fills[row], end
            kinds += 1
        alike[row - begin], heads[kind], kind_of[row - begin] = heads[kind], row, kind
    return kinds


@compiled
def _reach(
    end: int,
    limit: int,
    micros: Ints,
    fills: Ints,
    kinds: int,
    heads: Ints,
    alike: Ints,
    begin: int,
    steps: int,
    candidates: Ints,
    path: Ints,
) -> int:
    """How many steps, from the first on, are filled by the events from `heads` on up to `limit`; `path` is told with
    which row all up to each step were done."""
    number = 0
    for kind in range(kinds):
        row, some = heads[kind], 0
        while row < end and some < steps and micros[row] <= limit:
            candidates[number] = row
            number += 1
            some += 1
            row = alike[row - begin]
    path[:] = -1
    if not number:
        return 0
    rows = np.sort(candidates[:number])
    events = fills[rows]
    taker = np.full(number, -1, np.int64)
    wanted_by, queue, taken = np.empty(number, np.int64), np.empty(steps, np.int64), np.full(steps, -1, np.int64)
    known = 1
    for step in range(steps):
        while not _augment(step, events, known, taker, taken, wanted_by, queue):
            if known == number:
                return step
            known += 1
        path[step] = rows[known - 1]
    return steps


@compiled
def _reach_simply(end: int, limit: int, micros: Ints, heads: Ints, of_step: Ints, path: Ints) -> int:
    """What _reach says, where each step has one kind of events."""
    path[:] = -1
    last = np.int64(-1)
    for step in range(len(path)):
        if of_step[step] < 0:
            return step
        row = heads[of_step[step]]
        if row == end or micros[row] > limit:
            return step
        last = max(last, row)
        path[step] = last
    return len(path)


@compiled
def _augment(more: int, events: Ints, known: int, taker: Ints, taken: Ints, wanted_by: Ints, queue: Ints) -> bool:
    """Whether one more step can be filled out of the first `known` events, if those before it give way. `taker` has the
    step of each event, `taken` the event of each step, -1 for none."""
    wanted_by[:known] = -1
    queue[0] = more
    head, tail = 0, 1
    while head < tail:
        step = queue[head]
        head += 1
        for event in range(known):
            if wanted_by[event] >= 0 or not events[event] >> step & 1:
                continue
            wanted_by[event] = step
            if taker[event] >= 0:
                queue[tail] = taker[event]
                tail += 1
                continue
            while event >= 0:
                receiver = wanted_by[event]
                before = taken[receiver]
                taken[receiver], taker[event] = event, receiver
                event = before
            return True
    return False


@compiled
def _is_void(
    reached: int,
    path: Ints,
    begin: int,
    end: int,
    micros: Ints,
    exclusions: Ints,
    voiding: Ints,
    limit: int,
) -> bool:
    """Whether an exclusion's event lies between two of its steps, or behind the first where the second never came."""
    for kind in range(len(exclusions)):
        first, second = exclusions[kind]
        if reached > first:
            start = micros[path[first]]
            last = micros[path[second]] if reached > second else limit
            row = voiding[path[first] - begin, kind]
            while row < end and micros[row] <= start:
                row = voiding[row + 1 - begin, kind]
            if row < end and micros[row] < last:
                return True
    return False
