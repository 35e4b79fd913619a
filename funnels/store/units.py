"""The events of the store: in units, each the events of one device that are one person's, in order of time.

A device's events are its units', a person's are those of the person's units; a unit lies in one stretch of memory. What
changes is written anew at the end, so that a unit that lies somewhere stays as it is; the room of those that were
written anew is won back by `compact`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from funnels.store import kernels
from funnels.store.codes import CodeBook, Codes

Ints = npt.NDArray[np.int64]

FREE: Final = 1
"""A flag: what is laid over the device's events (stream.person_overrides) says whose the event is."""
COUNTS: Final = 2
"""A flag: a track, page or screen event that is not background."""
COPIED: Final = 4
"""A flag: another event of the device has the same message_id."""

NOBODY: Final = -1
"""In the place of a device or a person: there is none."""

_SPARE: Final = 1 << 20
"""Events, at least, for which there is room behind those that are there."""


@dataclass(slots=True)
class Events:
    """Columns of events, each as long."""

    micros: Ints
    """When it happened, microseconds since 1970."""
    rows: npt.NDArray[np.int32]
    """Its rowid in stream.events."""
    persons: Codes
    """Whose it was when it was committed."""
    messages: npt.NDArray[np.uint32]
    """32 bits of a hash of message_id."""
    names: npt.NDArray[np.uint16]
    flags: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, room: int) -> Events:
        return cls(
            micros=np.empty(room, np.int64),
            rows=np.empty(room, np.int32),
            persons=np.empty(room, np.int32),
            messages=np.empty(room, np.uint32),
            names=np.empty(room, np.uint16),
            flags=np.empty(room, np.uint8),
        )

    def columns(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return len(self.micros)

    def pick(self, which: Ints) -> Events:
        return Events(*(column[which] for column in self.columns()))


@dataclass(slots=True)
class Arrived:
    """Events to be put into units; those of one unit and time are told apart by message_id, unless nothing of them is
    `fresh`: then they are in order already."""

    units: Codes
    events: Events
    fresh: bool


class Units:
    """All events, by unit. One thread at a time."""

    def __init__(self, room: int = 0) -> None:
        self.events = Events.empty(room + _SPARE)
        self.used = self.live = 0
        """Events that memory was used for, and those of them that are in a unit."""
        self._pairs = CodeBook()
        self.device = np.empty(0, np.int32)
        self.person = np.empty(0, np.int32)
        self.begin = np.zeros(0, np.int64)
        self.end = np.zeros(0, np.int64)
        self.next_of_device = np.empty(0, np.int32)
        self.next_of_person = np.empty(0, np.int32)
        self.first_of_device = np.empty(0, np.int32)
        self.first_of_person = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        ours = (self.device, self.person, self.begin, self.end, self.next_of_device, self.next_of_person)
        arrays = (*self.events.columns(), *ours, self.first_of_device, self.first_of_person)
        return self._pairs.nbytes + sum(array.nbytes for array in arrays)

    def of(self, devices: Codes, persons: Codes) -> Codes:
        """The unit of each (device, person), a new and empty one where there is none yet."""
        known = len(self)
        units = self._pairs.encode(kernels.pair_keys(devices, persons))
        count = len(self)
        if count == known:
            return units
        self.device, self.person = _grown(self.device, count, NOBODY), _grown(self.person, count, NOBODY)
        self.begin, self.end = _grown(self.begin, count, 0), _grown(self.end, count, 0)
        self.next_of_device = _grown(self.next_of_device, count, -1)
        self.next_of_person = _grown(self.next_of_person, count, -1)
        self.first_of_device = _grown(self.first_of_device, int(devices.max(initial=-1)) + 1, -1)
        self.first_of_person = _grown(self.first_of_person, int(persons.max(initial=-1)) + 1, -1)
        kernels.link(units, devices, known, self.device, self.next_of_device, self.first_of_device)
        kernels.link(units, persons, known, self.person, self.next_of_person, self.first_of_person)
        return units

    def of_devices(self, devices: Codes) -> Codes:
        """All units of these."""
        return kernels.chained(devices, self.first_of_device, self.next_of_device)

    def of_persons(self, persons: Codes) -> Codes:
        """All units of these."""
        return kernels.chained(persons, self.first_of_person, self.next_of_person)

    def places(self, units: Codes) -> tuple[Ints, Codes]:
        """Where the events of `units` lie, and in which unit each is."""
        return kernels.places(units, self.begin, self.end)

    def empty(self, units: Codes) -> None:
        """Takes all events out of `units`."""
        self.live -= int((self.end[units] - self.begin[units]).sum())
        self.end[units] = self.begin[units]

    def put(self, arrived: list[Arrived]) -> tuple[Codes, int, npt.NDArray[np.bool_]]:
        """Makes `arrived`, which it empties, all that is in their units, each by time. Returns these units, where what
        was written begins, and which events from there on were fresh."""
        total = sum(len(some.units) for some in arrived)
        if self.used + total > len(self.events):
            self.compact(total)
        touched, begins = kernels.lay_out([some.units for some in arrived], len(self), self.used)
        self.live += total - int((self.end[touched] - self.begin[touched]).sum())
        self.begin[touched] = begins
        self.end[touched] = begins
        start = self.used
        fresh = np.zeros(total, np.bool_)
        while arrived:
            some = arrived.pop(0)
            kernels.scatter(
                some.units, self.end, some.events.columns(), self.events.columns(), fresh, start, some.fresh
            )
        kernels.sort_units(touched, self.begin, self.end, self.events.columns(), fresh, start)
        self.used += total
        return touched, start, fresh

    def compact(self, more: int) -> None:
        """Wins back the room of what was written anew, and makes room for `more` events and a quarter of all again."""
        room = self.live + more + max(_SPARE, (self.live + more) // 4)
        events = Events.empty(room)
        begin = self.begin.copy()
        for old, new in zip(self.events.columns(), events.columns(), strict=True):
            self.used = kernels.move_units(self.begin, self.end, old, new, begin)
        self.end = begin + (self.end - self.begin)
        self.begin, self.events = begin, events


def _grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    """`array` with at least `size` places, the new ones holding `fill`."""
    if size <= len(array):
        return array
    larger = np.full(max(size, len(array) * 3 // 2), fill, array.dtype)
    larger[: len(array)] = array
    return larger
