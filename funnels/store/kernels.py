"""The loops over single events that the store is made of, compiled."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Columns = tuple[Any, ...]

_FEW: Final = 32
"""So many events are sorted by moving them one by one, and compared each with each."""
_RARE: Final = 32
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)  # the finalizer of MurmurHash3, which keeps different keys different
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)


@compiled
def pair_keys(devices: Codes, persons: Codes) -> npt.NDArray[np.uint64]:
    """A number for each pair of numbers from −1 on, spread like a hash."""
    keys = np.empty(len(devices), np.uint64)
    for row in range(len(devices)):
        h = (np.uint64(devices[row] + 1) << np.uint64(32)) | np.uint64(persons[row] + 1)
        h ^= h >> np.uint64(33)
        h *= _MIX_1
        h ^= h >> np.uint64(33)
        h *= _MIX_2
        keys[row] = h ^ (h >> np.uint64(33))
    return keys


@compiled
def link(units: Codes, owners: Codes, known: int, owner: Codes, following: Codes, first: Codes) -> None:
    """Chains the units from `known` on, at whose first sight here their owner stands beside them, to its others."""
    count = known
    for row in range(len(units)):
        if units[row] == count:
            owner[count] = owners[row]
            if owners[row] >= 0:
                following[count] = first[owners[row]]
                first[owners[row]] = count
            count += 1


@compiled
def chained(owners: Codes, first: Codes, following: Codes) -> Codes:
    """The units of `owners`, one after the other."""
    count = 0
    for row in range(len(owners)):
        if 0 <= owners[row] < len(first):
            unit = first[owners[row]]
            while unit >= 0:
                count += 1
                unit = following[unit]
    units = np.empty(count, np.int32)
    count = 0
    for row in range(len(owners)):
        if 0 <= owners[row] < len(first):
            unit = first[owners[row]]
            while unit >= 0:
                units[count] = unit
                count += 1
                unit = following[unit]
    return units


@compiled
def places(units: Codes, begin: Ints, end: Ints) -> tuple[Ints, Codes]:
    """The places of the events of `units`, and the unit of each."""
    count = 0
    for row in range(len(units)):
        count += end[units[row]] - begin[units[row]]
    found, unit_of = np.empty(count, np.int64), np.empty(count, np.int32)
    count = 0
    for row in range(len(units)):
        for place in range(begin[units[row]], end[units[row]]):
            found[count] = place
            unit_of[count] = units[row]
            count += 1
    return found, unit_of


def counted(parts: list[Codes], units: int) -> tuple[Codes, Ints]:
    """The units, of so many, that are named in `parts`, and how often."""
    if _RARE * sum(map(len, parts)) < units:  # a pass over all units would take longer
        found, times = np.unique(np.concatenate([np.empty(0, np.int32), *parts]), return_counts=True)
        return found, times.astype(np.int64)
    counts = np.zeros(units, np.int64)
    for part in parts:
        _count(part, counts)
    named: Codes = np.flatnonzero(counts).astype(np.int32)
    return named, counts[named]


@compiled
def _count(units: Codes, counts: Ints) -> None:
    for row in range(len(units)):
        counts[units[row]] += 1


@compiled
def move(units: Codes, rooms: Ints, begin: Ints, end: Ints, limit: Ints, columns: Columns, start: int) -> None:
    """Gives `units` that much room each, one after the other from `start` on."""
    micros, rows, persons, messages, names, flags = columns
    for row in range(len(units)):
        unit = units[row]
        low, high = begin[unit], end[unit]
        to = start + high - low
        micros[start:to] = micros[low:high]
        rows[start:to] = rows[low:high]
        persons[start:to] = persons[low:high]
        messages[start:to] = messages[low:high]
        names[start:to] = names[low:high]
        flags[start:to] = flags[low:high]
        begin[unit], end[unit], limit[unit] = start, to, start + rooms[row]
        start += rooms[row]


@compiled
def append(units: Codes, end: Ints, source: Columns, target: Columns) -> None:
    """Appends each event to its unit."""
    micros, rows, persons, messages, names, flags = source
    to_micros, to_rows, to_persons, to_messages, to_names, to_flags = target
    for row in range(len(units)):
        place = end[units[row]]
        to_micros[place] = micros[row]
        to_rows[place] = rows[row]
        to_persons[place] = persons[row]
        to_messages[place] = messages[row]
        to_names[place] = names[row]
        to_flags[place] = flags[row]
        end[units[row]] = place + 1


@compiled
def clear(units: Codes, begin: Ints, end: Ints, flags: npt.NDArray[np.uint8], flag: int) -> None:
    """Takes `flag` off the events of `units`."""
    for row in range(len(units)):
        for place in range(begin[units[row]], end[units[row]]):
            flags[place] &= ~flag


@compiled
def sort_units(units: Codes, begin: Ints, end: Ints, columns: Columns) -> None:
    """Brings the events of each unit into the order of time; those of one time stay as they are."""
    micros, rows, persons, messages, names, flags = columns
    for row in range(len(units)):
        low, high = begin[units[row]], end[units[row]]
        in_order = True
        for place in range(low + 1, high):
            if micros[place] < micros[place - 1]:
                in_order = False
                break
        if not in_order:
            order = order_of(micros[low:high])
            reorder(micros, low, high, order)
            reorder(rows, low, high, order)
            reorder(persons, low, high, order)
            reorder(messages, low, high, order)
            reorder(names, low, high, order)
            reorder(flags, low, high, order)


@compiled
def reorder(column: Any, low: int, high: int, order: Ints) -> None:
    """Brings column[low:high] into that order."""
    some = column[low:high].copy()
    for place in range(high - low):
        column[low + place] = some[order[place]]


@compiled
def order_of(micros: Ints) -> Ints:
    """The order of time, and of place at one time."""
    if len(micros) > _FEW:
        return np.argsort(micros, kind="mergesort")
    order = np.arange(len(micros))
    for place in range(1, len(micros)):
        moving = order[place]
        to = place
        while to > 0 and micros[order[to - 1]] > micros[moving]:
            order[to] = order[to - 1]
            to -= 1
        order[to] = moving
    return order


@compiled
def ties(
    units: Codes, begin: Ints, end: Ints, micros: Ints, flags: npt.NDArray[np.uint8], fresh: int
) -> tuple[Ints, Ints]:
    """The places of events of one unit and time, some of which have the flag `fresh`, and the number of each group."""
    found, group = [0 for _ in range(0)], [0 for _ in range(0)]
    groups = 0
    for row in range(len(units)):
        high = end[units[row]]
        first = begin[units[row]]
        while first < high:
            last = first + 1
            some_fresh = flags[first] & fresh
            while last < high and micros[last] == micros[first]:
                some_fresh |= flags[last] & fresh
                last += 1
            if last > first + 1 and some_fresh:
                for place in range(first, last):
                    found.append(place)
                    group.append(groups)
                groups += 1
            first = last
    return array(found), array(group)


@compiled
def alike(
    devices: Codes,
    first: Codes,
    following: Codes,
    begin: Ints,
    end: Ints,
    messages: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint8],
    fresh: int,
) -> tuple[Ints, Ints]:
    """The places of events of one of `devices` whose message hashes alike with that of another, one of which has the
    flag `fresh`, and the device of each; a place may be there more than once."""
    found, found_on = [0 for _ in range(0)], [0 for _ in range(0)]
    for device in devices:
        count, new = 0, 0
        unit = first[device]
        while unit >= 0:
            count += end[unit] - begin[unit]
            for place in range(begin[unit], end[unit]):
                new += flags[place] & fresh != 0
            unit = following[unit]
        if new == 0 or count < 2:
            continue
        own = np.empty(count, np.int64)
        count = 0
        unit = first[device]
        while unit >= 0:
            for place in range(begin[unit], end[unit]):
                own[count] = place
                count += 1
            unit = following[unit]
        if new <= _FEW:
            for one in own:
                if not flags[one] & fresh:
                    continue
                for other in own:
                    if other != one and messages[other] == messages[one]:
                        found.append(int(one))
                        found.append(int(other))
        else:
            order = np.argsort(messages[own])
            for at in range(1, count):
                one, other = own[order[at - 1]], own[order[at]]
                if messages[one] == messages[other]:
                    found.append(one)
                    found.append(other)
        while len(found_on) < len(found):
            found_on.append(device)
    return array(found), array(found_on)


@compiled
def copy_units(begin: Ints, end: Ints, old: Any, new: Any, to: Ints) -> None:
    """Copies the events of all units to `new`, where each begins at its place of `to`."""
    for unit in range(len(begin)):
        new[to[unit] : to[unit] + end[unit] - begin[unit]] = old[begin[unit] : end[unit]]


@compiled
def owners_by_overrides(
    devices: Codes,
    micros: Ints,
    persons: Codes,
    free: Flags,
    of_device: Codes,
    from_micros: Ints,
    to_micros: Ints,
    owners: Codes,
) -> tuple[Codes, Ints, Ints]:
    """Whose each event is: the committed person's, or, of a free one, the owner's of the override that it lies in;
    overrides stand by device. And the pairs (event, override) of one of whose bounds the event has the time: for these
    message ids have to be compared."""
    result = persons.copy()
    at_bound = [0 for _ in range(0)]
    of_override = [0 for _ in range(0)]
    for row in range(len(devices)):
        if not free[row]:
            continue
        place = np.searchsorted(of_device, devices[row])
        while place < len(of_device) and of_device[place] == devices[row]:
            if from_micros[place] < micros[row] < to_micros[place]:
                result[row] = owners[place]
            elif micros[row] == from_micros[place] or micros[row] == to_micros[place]:
                at_bound.append(row)
                of_override.append(place)
            place += 1
    return result, array(at_bound), array(of_override)


@compiled
def array(numbers: list[int]) -> Ints:
    array = np.empty(len(numbers), np.int64)
    for place in range(len(numbers)):
        array[place] = numbers[place]
    return array
