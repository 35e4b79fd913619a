"""Follows subjects through steps in order, other events in between, in one compiled pass.

All of a subject's events of one time are an instant. Simultaneous events count as in order, so an instant fills as many
steps in a row as its events can fill one each; which one fills which is a matching, found by augmenting paths. Taking
the earliest instant that fills the next step reaches furthest, and earliest, so no entry needs a second thought. Where
the next instant for each step is, is worked out once for each subject, so that each entry costs its steps alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from funnels.passes import DAY, Ints
from stitchline.compiled import compiled

Places = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


@compiled
def follow_ordered(
    begins: Ints,
    micros: Ints,
    chain: Ints,
    fills: Ints,
    voids: Ints,
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

    `begins` are the first rows of groups that are followed by themselves, and the end; `chain` has the bits of the
    `required` steps (their positions among all) one beside the other, as `fills` has those of all; `exclusions` are
    (from, to) by place in the chain.
    """
    links, kinds = len(required), len(exclusions)
    longest, room = 0, 0
    for group in range(len(begins) - 1):
        longest = max(longest, begins[group + 1] - begins[group])
        for row in range(begins[group], begins[group + 1]):
            if chain[row] & 1:
                room += 1
                if not totals and not by_day:
                    break
    paths = np.empty((room, steps), np.int64)
    instants = np.empty(longest + 1, np.int64)
    filled, voided = np.empty(longest, np.int64), np.empty(longest, np.int64)
    following = np.empty((longest, links), np.int32)
    voiding = np.empty((longest, kinds), np.int32)
    runs = np.empty((longest, links), np.int8)
    at, at_here, at_best = np.empty(links, np.int64), np.empty(links, np.int64), np.empty(links, np.int64)
    tried = np.empty(longest, np.int64)
    count = 0
    for group in range(len(begins) - 1):
        begin, end = begins[group], begins[group + 1]
        starts = False
        for row in range(begin, end):
            if chain[row] & 1:
                starts = True
                break
        if not starts:
            continue
        if kinds == 0 and links == steps and _is_apart(begin, end, micros):
            count = _follow_apart(
                begin, end, micros, chain, window, since, until, totals, by_day, at, at_best, paths, count
            )
            continue
        number = _instants(begin, end, micros, chain, voids, instants, filled, voided)
        _next(number, filled, following)
        _next(number, voided, voiding)
        if number < end - begin:
            runs[:number] = 0
        best, row_best, day, free_from = 0, -1, np.int64(0), since
        for i in range(number):
            start, stop = instants[i], instants[i + 1]
            began = micros[start]
            if began >= until:
                break
            if began < since or not filled[i] & 1:
                continue
            if by_day and began // DAY != day:
                if best:
                    _tell(paths[count], at_best, best, row_best, instants, end, micros, chain, fills, required, window)
                    count += 1
                best, day, free_from = 0, began // DAY, since
            if began < free_from:
                continue
            here, row_here, tries = 0, -1, 0
            for row in range(start, stop):
                if not chain[row] & 1:
                    continue
                if stop > start + 1 and not (totals and links == 1):
                    # Simultaneous events that can fill the same steps begin the same entry: the first speaks for all.
                    known = 0
                    while known < tries and tried[known] != chain[row]:
                        known += 1
                    if known < tries:
                        continue
                    tried[tries] = chain[row]
                    tries += 1
                reached = _reach(i, row, began + window, instants, number, micros, chain, following, runs, links, at)
                if _is_void(reached, began + window, at, exclusions, voiding, number, instants, micros):
                    continue
                if totals and links == 1:
                    _tell(paths[count], at, 1, row, instants, end, micros, chain, fills, required, window)
                    count += 1
                elif reached > here:
                    here, row_here = reached, row
                    at_here[:reached] = at[:reached]
            if here > best:
                best, row_best = here, row_here
                at_best[:here] = at_here[:here]
                if totals:
                    _tell(paths[count], at_best, best, row_best, instants, end, micros, chain, fills, required, window)
                    count += 1
                    free_from = (micros[instants[at_best[links - 1]]] if best == links else began + window) + 1
                    best = 0
                elif best == links and not by_day:
                    break
        if best:
            _tell(paths[count], at_best, best, row_best, instants, end, micros, chain, fills, required, window)
            count += 1
    return paths[:count].copy()


@compiled
def _is_apart(begin: int, end: int, micros: Ints) -> bool:
    """Whether no two rows are of one time."""
    simultaneous = 0
    for row in range(begin + 1, end):
        simultaneous += micros[row] == micros[row - 1]
    return simultaneous == 0


@compiled
def _follow_apart(
    begin: int,
    end: int,
    micros: Ints,
    chain: Ints,
    window: int,
    since: int,
    until: int,
    totals: bool,
    by_day: bool,
    place: Ints,
    best_path: Ints,
    paths: Ints,
    count: int,
) -> int:
    """What follow_ordered does with most subjects: without exclusions, optional steps and simultaneous events. The next
    step of a later entry never comes earlier, so each step's place moves forward only. How many entries there are now.
    """
    links = len(place)
    place[:] = begin
    best, day, free_from = 0, np.int64(0), since
    for entry in range(begin, end):
        began = micros[entry]
        if began >= until:
            break
        if began < since or not chain[entry] & 1:
            continue
        if by_day and began // DAY != day:
            if best:
                paths[count] = best_path
                count += 1
            best, day, free_from = 0, began // DAY, since
        if began < free_from:
            continue
        place[0], reached = entry, 1
        while reached < links:
            row = max(place[reached], place[reached - 1] + 1)
            while row < end and not chain[row] >> reached & 1:
                row += 1
            place[reached] = row
            if row == end or micros[row] > began + window:
                break
            reached += 1
        if totals or reached > best:
            best_path[:reached] = place[:reached]
            best_path[reached:] = -1
            best = reached
        if totals:
            paths[count] = best_path
            count += 1
            free_from = (micros[best_path[links - 1]] if best == links else began + window) + 1
            best = 0
        elif best == links and not by_day:
            break
    if best:
        paths[count] = best_path
        count += 1
    return count


@compiled
def _instants(
    begin: int, end: int, micros: Ints, chain: Ints, voids: Ints, instants: Ints, filled: Ints, voided: Ints
) -> int:
    """How many instants the rows have. Tells where each begins, and which steps and exclusions its events are of."""
    number = -1
    for row in range(begin, end):
        if row == begin or micros[row] != micros[row - 1]:
            number += 1
            instants[number] = row
            filled[number] = voided[number] = 0
        filled[number] |= chain[row]
        voided[number] |= voids[row]
    instants[number + 1] = end
    return number + 1


@compiled
def _next(number: int, bits: Ints, following: Places) -> None:
    """following[i, k]: the first instant later than i that has bit k; `number` where there is none."""
    for k in range(following.shape[1]):
        place = number
        for i in range(number - 1, -1, -1):
            following[i, k] = place
            if bits[i] >> k & 1:
                place = i


@compiled
def _reach(
    i: int,
    row: int,
    limit: int,
    instants: Ints,
    number: int,
    micros: Ints,
    chain: Ints,
    following: Places,
    runs: npt.NDArray[np.int8],
    links: int,
    at: Ints,
) -> int:
    """How many steps the entry reaches that begins with `row` at instant i. `at` is told the instant of each."""
    at[0] = i
    reached = 1
    if instants[i + 1] > instants[i] + 1:
        used = np.zeros(instants[i + 1] - instants[i], np.bool_)
        used[row - instants[i]] = True
        reached += _run(chain, instants[i], instants[i + 1], 1, links, used)
        at[1:reached] = i
    place = i
    while reached < links:
        place = int(following[place, reached])
        if place == number or micros[instants[place]] > limit:
            break
        run = 1
        if instants[place + 1] > instants[place] + 1:
            if not runs[place, reached]:
                used = np.zeros(instants[place + 1] - instants[place], np.bool_)
                runs[place, reached] = _run(chain, instants[place], instants[place + 1], reached, links, used)
            run = int(runs[place, reached])
        at[reached : reached + run] = place
        reached += run
    return reached


@compiled
def _is_void(
    reached: int,
    limit: int,
    at: Ints,
    exclusions: Ints,
    voiding: Places,
    number: int,
    instants: Ints,
    micros: Ints,
) -> bool:
    """Whether an exclusion's event lies between two of its steps, or behind the first where the second never came."""
    for kind in range(len(exclusions)):
        first, second = exclusions[kind]
        if reached > first:
            i = voiding[at[first], kind]
            if i < number:
                end = micros[instants[at[second]]] if reached > second else limit
                if micros[instants[i]] < end:
                    return True
    return False


@compiled
def _run(chain: Ints, start: int, stop: int, step: int, last: int, used: Flags) -> int:
    """How many steps, from `step` on and before `last`, simultaneous events fill in a row, one each; without those
    `used`. Events that can fill the same steps are one kind of which there are so many."""
    masks, left = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
    kinds = 0
    for row in range(start, stop):
        mask = chain[row] >> step
        if used[row - start] or mask == 0:
            continue
        kind = 0
        while kind < kinds and masks[kind] != mask:
            kind += 1
        if kind == kinds:
            masks[kind], left[kind] = mask, 0
            kinds += 1
        left[kind] += 1
    taken, queue = np.full(last - step, -1, np.int64), np.empty(last - step, np.int64)
    wanted_by = np.empty(kinds, np.int64)
    for more in range(last - step):
        if not _augment(more, masks, left, kinds, taken, queue, wanted_by):
            return more
    return last - step


@compiled
def _augment(more: int, masks: Ints, left: Ints, kinds: int, taken: Ints, queue: Ints, wanted_by: Ints) -> bool:
    """Whether one more step can be filled, if those before it give way. `taken` has the kind of event of each step."""
    wanted_by[:kinds] = -1
    queue[0] = more
    head, tail = 0, 1
    while head < tail:
        step = queue[head]
        head += 1
        for kind in range(kinds):
            if wanted_by[kind] >= 0 or not masks[kind] >> step & 1:
                continue
            wanted_by[kind] = step
            if left[kind]:
                left[kind] -= 1
                while kind >= 0:
                    receiver = wanted_by[kind]
                    kind, taken[receiver] = taken[receiver], kind
                return True
            for other in range(more):
                if taken[other] == kind:
                    queue[tail] = other
                    tail += 1
    return False


@compiled
def _tell(
    path: Ints,
    at: Ints,
    reached: int,
    first: int,
    instants: Ints,
    end: int,
    micros: Ints,
    chain: Ints,
    fills: Ints,
    required: Ints,
    window: int,
) -> None:
    """Writes the rows of an entry's steps into `path`: of simultaneous events that leave as much for the later steps,
    the first; then those of the optional steps, which take what the required ones leave."""
    path[:] = -1
    path[0] = first
    place = 0
    while place < reached:
        i, step = at[place], place
        while place < reached and at[place] == i:
            place += 1
        start, stop = instants[i], instants[i + 1]
        if stop == start + 1:
            path[required[step]] = start
            continue
        used = np.zeros(stop - start, np.bool_)
        if step == 0:
            used[first - start] = True
            step = 1
        _assign(path, required, chain, start, stop, step, place, used)
    if len(required) < len(path):
        _add_optional(path, reached, at, instants, end, micros, fills, required, micros[first] + window)


@compiled
def _assign(path: Ints, required: Ints, chain: Ints, start: int, stop: int, step: int, last: int, used: Flags) -> None:
    failed = np.empty(stop - start, np.int64)
    for k in range(step, last):
        failures = 0
        for row in range(start, stop):
            if used[row - start] or not chain[row] >> k & 1:
                continue
            known = 0
            while known < failures and failed[known] != chain[row]:
                known += 1
            if known < failures:
                continue
            used[row - start] = True
            if _run(chain, start, stop, k + 1, last, used) == last - k - 1:
                path[required[k]] = row
                break
            used[row - start] = False
            failed[failures] = chain[row]
            failures += 1


@compiled
def _add_optional(
    path: Ints,
    reached: int,
    at: Ints,
    instants: Ints,
    end: int,
    micros: Ints,
    fills: Ints,
    required: Ints,
    limit: int,
) -> None:
    """Each optional step takes the first event that is left, at or after the step before it that was reached, and not
    after the next required one. `end` is that of the subject's rows, `limit` that of the entry's window."""
    for link in range(reached):
        start = begin = instants[at[link]]
        last = micros[instants[at[link + 1]]] if link + 1 < reached else limit
        behind = required[link + 1] if link + 1 < len(required) else len(path)
        for step in range(required[link] + 1, behind):
            row = start
            while row < end and micros[row] <= last:
                if fills[row] >> step & 1 and not np.any(path == row):
                    path[step] = start = row
                    while start > begin and micros[start - 1] == micros[row]:
                        start -= 1
                    break
                row += 1
