"""The events of the store: in units, each the events of one device that are one person's, in order of time.

A device's events are its units', a person's are those of the person's units; a unit lies in one stretch of memory. One
that outgrows its room moves to the end; what it leaves behind is won back by `compact`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from funnels.store import kernels
from funnels.store.codes import CodeBook, Codes
from funnels.store.room import grown

Ints = npt.NDArray[np.int64]

FREE: Final = 1
"""A flag: what is laid over the device's events (stream.person_overrides) says whose the event is."""
COUNTS: Final = 2
"""A flag: a track, page or screen event that is not background."""
COPIED: Final = 4
"""A flag: another event of the device has the same message_id."""
FRESH: Final = 8
"""A flag: the event was put into its unit just now, and nobody looked for ties and copies of it yet."""

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
    """Events to be put into units."""

    units: Codes
    events: Events


class Units:
    """All events, by unit. One thread at a time."""

    def __init__(self, room: int = 0) -> None:
        self.events = Events.empty(room + _SPARE)
        self.used = 0
        """Events that there is room for in units, or was; behind them nothing was written yet."""
        self.live = 0
        """Events that are in a unit."""
        self._pairs = CodeBook()
        self.device = np.empty(0, np.int32)
        self.person = np.empty(0, np.int32)
        self.begin = np.zeros(0, np.int64)
        self.end = np.zeros(0, np.int64)
        self.limit = np.zeros(0, np.int64)
        """Where the room of each ends."""
        self.next_of_device = np.empty(0, np.int32)
        self.next_of_person = np.empty(0, np.int32)
        self.first_of_device = np.empty(0, np.int32)
        self.first_of_person = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        ours = (self.device, self.person, self.begin, self.end, self.limit, self.next_of_device, self.next_of_person)
        arrays = (*self.events.columns(), *ours, self.first_of_device, self.first_of_person)
        return self._pairs.nbytes + sum(array.nbytes for array in arrays)

    def of(self, devices: Codes, persons: Codes) -> Codes:
        """The unit of each (device, person), a new and empty one where there is none yet."""
        known = len(self)
        units = self._pairs.encode(kernels.pair_keys(devices, persons))
        count = len(self)
        if count == known:
            return units
        self.device, self.person = grown(self.device, count, NOBODY), grown(self.person, count, NOBODY)
        self.begin, self.end, self.limit = (grown(bounds, count, 0) for bounds in (self.begin, self.end, self.limit))
        self.next_of_device = grown(self.next_of_device, count, -1)
        self.next_of_person = grown(self.next_of_person, count, -1)
        self.first_of_device = grown(self.first_of_device, int(devices.max(initial=-1)) + 1, -1)
        self.first_of_person = grown(self.first_of_person, int(persons.max(initial=-1)) + 1, -1)
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

    def put(self, arrived: list[Arrived]) -> Codes:
        """Adds `arrived`, which it empties, to their units, each by time and FRESH. Returns these units."""
        touched, added = kernels.counted([some.units for some in arrived], len(self))
        sizes = self.end[touched] - self.begin[touched]
        grown = sizes + added
        rooms = self.limit[touched] - self.begin[touched]
        outgrown = np.flatnonzero(grown > rooms)
        # Most units never grow; one that does will do so again.
        rooms[outgrown] = np.where(sizes > 0, grown * 3 // 2, grown * 9 // 8)[outgrown]
        more = int(rooms[outgrown].sum())
        if self.used + more > len(self.events):
            self.compact(touched, rooms)
        else:
            outgrown_units, columns = touched[outgrown], self.events.columns()
            kernels.move(outgrown_units, rooms[outgrown], self.begin, self.end, self.limit, columns, self.used)
            self.used += more
        self.live += int(added.sum())
        while arrived:
            some = arrived.pop(0)
            some.events.flags |= np.uint8(FRESH)
            kernels.append(some.units, self.end, some.events.columns(), self.events.columns())
        kernels.sort_units(touched, self.begin, self.end, self.events.columns())
        return touched

    def settle(self, units: Codes) -> None:
        """Nothing of `units` is FRESH any more."""
        kernels.clear(units, self.begin, self.end, self.events.flags, np.uint8(FRESH))

    def compact(self, units: Codes, given: Ints) -> None:
        """Wins back the room that units left behind. `units` are given room for so many events each, and behind all
        there is some for an eighth of them again."""
        sizes = self.end - self.begin
        rooms = np.minimum(self.limit - self.begin, sizes * 3 // 2)
        rooms[units] = given
        used = int(rooms.sum())
        events = Events.empty(used + max(_SPARE, used // 8))
        begin = np.cumsum(rooms) - rooms
        for old, new in zip(self.events.columns(), events.columns(), strict=True):
            kernels.copy_units(self.begin, self.end, old, new, begin)
        self.begin, self.end, self.limit = begin, begin + sizes, begin + rooms
        self.events, self.used = events, used
