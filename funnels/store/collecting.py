"""Brings the events that a question is about out of the store, subject by subject, as the rows of a walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from funnels.store.codes import Codes
from funnels.store.kernels import array, order_of, reorder
from funnels.store.units import COPIED, COUNTS, Units
from funnels.walk import IN_SEQUENCE, Rows
from stitchline.compiled import compiled

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events a question is about, and what of them it has to know; names by their code, events by their row."""

    fills: Ints
    """By name: the steps that every event of it fills, as bits."""
    voids: Ints
    """By name: the exclusions that every event of it is of, as bits."""
    looked_up: Flags
    """By name: whether it is `row_fills` and `row_voids` that say so instead."""
    row_fills: Codes
    row_voids: Codes
    holds: Hashes
    """By row; empty if nothing is held."""
    values: Codes
    """By row; empty without a breakdown."""
    since: int
    until: int
    """The first and the last time, in microseconds, of events that matter."""
    in_sequence: bool
    """Whether all track, page and screen events that are not background matter."""
    in_order: bool
    """Whether the order of message ids matters, among events of one time."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows of a walk, and where each lies."""

    rows: Rows
    places: Ints
    ties: list[tuple[int, int]]
    """Stretches of events of one subject and time, of several units, that are not in the order of message ids yet."""
    copied: Ints
    """Events that may be another's copy."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some units, those of one subject side by side, and the subject of each."""

    units: Codes
    subjects: Codes


_AT_ONCE: Final = 1 << 20
"""Events, about, that are followed together: few enough to stay near the processor."""


def in_parts(whole: Part, begin: Ints, end: Ints) -> list[Part]:
    """`whole` in parts of about as many events; no subject in two."""
    sizes = np.cumsum(end[whole.units] - begin[whole.units])
    if not len(sizes):
        return []
    cuts = np.searchsorted(sizes, np.arange(_AT_ONCE, sizes[-1], _AT_ONCE))
    starts = np.flatnonzero(np.concatenate([[True], whole.subjects[1:] != whole.subjects[:-1]]))
    cuts = np.unique(starts[np.minimum(np.searchsorted(starts, cuts), len(starts) - 1)])
    return [
        Part(units, subjects)
        for units, subjects in zip(np.split(whole.units, cuts), np.split(whole.subjects, cuts), strict=True)
        if len(units)
    ]


def collect(part: Part, selection: Selection, is_bot: Flags, units: Units) -> Collected:
    """The rows of `part`'s subjects, without those of devices that are bots."""
    begin, end = units.begin, units.end
    room = int((end[part.units] - begin[part.units]).sum()) + 1  # each is written down before it is looked at
    out: tuple[Any, ...] = (
        np.empty(room, np.uint64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.uint64),
        np.empty(room, np.int32),
        np.empty(room, np.int64),
        np.empty(room, np.int32),
    )
    micros, rows, _, _, names, flags = units.events.columns()
    count, ties, copied = _collect(
        part.units,
        part.subjects,
        units.device,
        is_bot,
        begin,
        end,
        (micros, rows, names, flags),
        (
            selection.fills,
            selection.voids,
            selection.looked_up,
            selection.row_fills,
            selection.row_voids,
            selection.holds,
            selection.values,
        ),
        (selection.since, selection.until, selection.in_sequence, selection.in_order),
        out,
    )
    *found, places, _ = (column[:count] for column in out)
    return Collected(Rows(*found), places, list(zip(ties[::2].tolist(), ties[1::2].tolist(), strict=True)), copied)


@compiled
def _collect(
    units: Codes,
    subjects: Codes,
    devices: Codes,
    is_bot: Flags,
    begin: Ints,
    end: Ints,
    columns: tuple[Any, ...],
    asked: tuple[Any, ...],
    rules: tuple[Any, ...],
    out: tuple[Any, ...],
) -> tuple[int, Ints, Ints]:
    micros, rows, names, flags = columns
    fills_of, voids_of, looked_up, row_fills, row_voids, row_holds, row_values = asked
    since, until, in_sequence, in_order = rules
    to_subjects, to_micros, to_fills, to_voids, to_holds, to_values, to_places, to_units = out
    is_asked = looked_up | (fills_of != 0) | (voids_of != 0) | in_sequence
    ties, copied = [0 for _ in range(0)], [0 for _ in range(0)]
    count = 0
    at = 0
    while at < len(units):
        first, found, subject = count, count, subjects[at]
        last_unit, several = -1, False
        while at < len(units) and subjects[at] == subject:
            unit = units[at]
            at += 1
            if devices[unit] >= 0 and is_bot[devices[unit]]:
                continue
            before = found
            # Without a branch: which events are asked for, nobody can foretell.
            for place in range(begin[unit], end[unit]):
                to_places[found] = place
                to_units[found] = unit
                found += is_asked[names[place]]
            if found > before:
                several = several or last_unit >= 0
                last_unit = unit
        if several:
            order = order_of(micros[to_places[first:found]])
            reorder(to_places, first, found, order)
            reorder(to_units, first, found, order)
        for row in range(first, found):
            place = to_places[row]
            name = names[place]
            if looked_up[name]:
                fills, voids = row_fills[rows[place]], row_voids[rows[place]] if len(row_voids) else 0
            else:
                fills, voids = fills_of[name], voids_of[name]
            if in_sequence:
                fills = fills | IN_SEQUENCE if flags[place] & COUNTS else 0
            if (fills == 0 and voids == 0) or micros[place] < since or micros[place] > until:
                continue
            to_subjects[count] = subject
            to_micros[count] = micros[place]
            to_fills[count] = fills
            to_voids[count] = voids
            to_holds[count] = row_holds[rows[place]] if len(row_holds) else 0
            to_values[count] = row_values[rows[place]] if len(row_values) else -1
            to_places[count] = place
            to_units[count] = to_units[row]
            count += 1
        if several and in_order:
            start = first
            while start < count:
                stop = start + 1
                mixed = False
                while stop < count and to_micros[stop] == to_micros[start]:
                    mixed = mixed or to_units[stop] != to_units[start]
                    stop += 1
                if mixed:
                    ties.append(start)
                    ties.append(stop)
                start = stop
    for row in range(count):
        if flags[to_places[row]] & COPIED:
            copied.append(row)  # noqa: PERF401 compiled: a list that is extended by a generator is not
    return count, array(ties), array(copied)
