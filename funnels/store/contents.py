"""What the store holds of a warehouse, and how it follows it: by what was appended, and by what became known since."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from funnels.store import kernels, reading
from funnels.store.codes import CodeBook, Codes
from funnels.store.reading import Arrival, Moment
from funnels.store.units import COPIED, COUNTS, FREE, FRESH, NOBODY, Arrived, Events, Units

Ints = npt.NDArray[np.int64]

MOST_NAMES: Final = 1 << 16
MOST_ROWS: Final = 1 << 31
_KEPT: Final = 512
"""Changes that whoever keeps results may be behind by."""


class BeyondStore(Exception):
    """The warehouse holds more than the store can tell apart."""


@dataclass(frozen=True, slots=True)
class Change:
    """Whose events are others than before."""

    persons: Codes
    devices: Codes


class Contents:
    """All events of a warehouse that are not of known bots. One thread at a time."""

    def __init__(self, moment: Moment, opening: int, moved: int) -> None:
        self.moment = moment
        self.opening = opening
        """Which opening of the file these rows are of."""
        self.moved = moved
        """The position in Moved up to which it was heard."""
        self.units = Units()
        self.next_row = 0
        """Of stream.events, which this knows up to there."""
        self.names = CodeBook()
        self.version = 0
        """Grows with each change."""
        self._devices = CodeBook()
        self._persons = CodeBook()
        self._bots = np.empty(0, np.uint64)
        self.is_bot = np.zeros(0, np.bool_)
        """By device."""
        self._merges = (np.empty(0, np.uint64), np.empty(0, np.uint64))
        self.into: Codes = np.empty(0, np.int32)
        """By person, and more: whom that one counts to; empty without merges."""
        self.merged: Codes = np.empty(0, np.int32)
        """Persons who count to others."""
        self.copies: dict[int, tuple[int, int]] = {}
        """By row: the group of those of the same device and message_id, and the place in it; the first one counts."""
        self.copied_events: dict[int, tuple[int, int, bool]] = {}
        """By row, of those: time, name and whether it COUNTS."""
        self._groups: dict[int, list[int]] = {}
        self._changes: deque[Change] = deque(maxlen=_KEPT)

    @property
    def person_count(self) -> int:
        """Persons are numbered below that."""
        return len(self._persons)

    @property
    def device_count(self) -> int:
        """Devices are numbered below that."""
        return len(self._devices)

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return self.units.nbytes + sum(book.nbytes for book in (self._devices, self._persons, self.names))

    def changes_since(self, version: int) -> list[Change] | None:
        """What changed after `version`; None if that is not known any more."""
        behind = self.version - version
        if behind > len(self._changes):
            return None
        return list(self._changes)[len(self._changes) - behind :]

    def group_of(self, row: int) -> list[int]:
        """The rows of the same device and message_id as `row`, the one first that counts before the others."""
        return self._groups[self.copies[row][0]]

    def units_of_persons(self, persons: Codes | None) -> tuple[Codes, Codes]:
        """The units of those that count to `persons`, or to anybody, and to whom they count; by these."""
        units = self.units
        if persons is None:
            persons = np.arange(self.person_count, dtype=np.int32)
        if not len(self.into):
            found = units.of_persons(persons)
            return found, units.person[found]
        joined = np.unique(np.concatenate([self.merged, self.into[self.merged]]))
        alone = persons[~np.isin(persons, joined)]
        others = joined[np.isin(self.into[joined], persons)]
        others = others[np.argsort(self.into[others], kind="stable")]
        found = units.of_persons(np.concatenate([alone, others]))
        return found, self.into[units.person[found]]

    # --- following the warehouse ---------------------------------------------------------------------------------

    def follow(self, con: duckdb.DuckDBPyConnection, moved: list[str]) -> None:
        """Takes in what `con` sees and this does not know yet: events from `next_row` on, and what became known of the
        persons of the devices `moved`, of merges and of bots. Raises BeyondStore."""
        parts = [self._arrived(arrival) for arrival in reading.arrivals(con, self.next_row)]
        touched = self._moved(con, parts, moved)
        changed_bots = self._look_for_bots(con)
        changed_merges = self._look_for_merges(con)
        if len(touched) or len(changed_bots) or len(changed_merges):
            units = np.unique(np.concatenate([touched, self.units.of_devices(changed_bots)]))
            persons = [self._counting(self.units.person[units]), self._counting(changed_merges), changed_merges]
            self._changes.append(Change(np.unique(np.concatenate(persons)), np.unique(self.units.device[units])))
            self.version += 1

    def _arrived(self, arrival: Arrival) -> Arrived:
        """Events as they are kept, by unit."""
        self.next_row = max(self.next_row, int(arrival.rows.max()) + 1)
        if self.next_row > MOST_ROWS:
            raise BeyondStore(f"more than {MOST_ROWS:,} rows of events")
        those = np.flatnonzero(~arrival.is_bot)
        devices = self._encoded(self._devices, arrival.devices[those], arrival.no_device[those])
        persons = self._encoded(self._persons, arrival.persons[those], arrival.no_person[those])
        committed = self._encoded(self._persons, arrival.committed[those], arrival.no_committed[those])
        names = self.names.encode(arrival.names[those])
        if len(self.names) > MOST_NAMES:
            raise BeyondStore(f"more than {MOST_NAMES:,} names of events")
        flags = arrival.is_free[those] * np.uint8(FREE) | arrival.counts[those] * np.uint8(COUNTS)
        events = Events(
            micros=arrival.micros[those],
            rows=arrival.rows[those].astype(np.int32),
            persons=committed,
            messages=arrival.messages[those],
            names=names.astype(np.uint16),
            flags=flags.astype(np.uint8),
        )
        return Arrived(self.units.of(devices, persons), events)

    @staticmethod
    def _encoded(book: CodeBook, hashes: npt.NDArray[np.uint64], absent: npt.NDArray[np.bool_]) -> Codes:
        if not absent.any():
            return book.encode(hashes)
        codes: Codes = np.full(len(hashes), NOBODY, np.int32)
        codes[~absent] = book.encode(hashes[~absent])
        return codes

    def _moved(self, con: duckdb.DuckDBPyConnection, parts: list[Arrived], moved: list[str]) -> Codes:
        """Puts `parts` into their units, and the events of `moved` into those in which they are now. Returns which
        units are others than before."""
        devices = self._known_devices(con, moved)
        again = self.units.of_devices(devices)
        whole = self.units.places(again)
        if len(whole[0]):
            parts.insert(0, self._told_again(con, devices, moved, *whole))
        if not parts:
            return np.empty(0, np.int32)
        self.units.empty(again)
        touched = self.units.put(parts)
        self._order_ties(con, touched)
        copied = self._find_copies(con, touched)
        self.units.settle(touched)
        return np.unique(np.concatenate([touched, again, self.units.of_devices(copied)]))

    def _known_devices(self, con: duckdb.DuckDBPyConnection, moved: list[str]) -> Codes:
        if not moved:
            return np.empty(0, np.int32)
        codes = np.unique(self._devices.find(reading.hashes(con, moved)))
        return codes[codes >= 0]

    def _told_again(
        self, con: duckdb.DuckDBPyConnection, devices: Codes, moved: list[str], places: Ints, units: Codes
    ) -> Arrived:
        """The events of `devices`, each in the unit of the person whose it is now."""
        events = self.units.events.pick(places)
        laid = reading.overrides(con, moved)
        of_device = self._devices.find(laid["device"].to_numpy())
        order = np.argsort(of_device, kind="stable")
        laid, of_device = laid[order], of_device[order]
        owners = self._persons.encode(laid["person"].to_numpy())
        owned, event, override = kernels.owners_by_overrides(
            self.units.device[units],
            events.micros,
            events.persons,
            (events.flags & FREE) != 0,
            of_device,
            laid["from_micros"].to_numpy(),
            laid["to_micros"].to_numpy(),
            owners,
        )
        if len(event):
            said = reading.messages(con, events.rows[np.unique(event)])
            texts = dict(zip(said["row"], said["message_id"], strict=True))
            bounds = laid.select("from_micros", "from_message_id", "to_micros", "to_message_id").rows()
            for one, other in zip(event.tolist(), override.tolist(), strict=True):
                from_at, from_id, to_at, to_id = bounds[other]
                place = (int(events.micros[one]), texts[int(events.rows[one])].encode())
                if (from_at, from_id.encode()) <= place < (to_at, to_id.encode()):
                    owned[one] = owners[other]
        return Arrived(self.units.of(self.units.device[units], owned), events)

    def _order_ties(self, con: duckdb.DuckDBPyConnection, touched: Codes) -> None:
        """Brings events of one time into the order of their message ids."""
        units = self.units
        places, groups = kernels.ties(
            touched, units.begin, units.end, units.events.micros, units.events.flags, np.uint8(FRESH)
        )
        if not len(places):
            return
        tied = units.events.pick(places)
        said = reading.messages(con, tied.rows).select(pl.col("row").cast(pl.Int32), "message_id")
        # Equal message ids are copies, of which the one counts that came first.
        order = (
            pl.DataFrame({"row": tied.rows, "group": groups})
            .with_row_index("at")
            .join(said, on="row", how="left")
            .sort("group", "message_id", "row")["at"]
            .to_numpy()
        )
        for column, sorted_ones in zip(units.events.columns(), tied.pick(order).columns(), strict=True):
            column[places] = sorted_ones

    def _find_copies(self, con: duckdb.DuckDBPyConnection, touched: Codes) -> Codes:
        """Notes events of one device with the same message_id, and returns those devices. Nobody looks for copies of
        events without a device that are different persons'."""
        units = self.units
        devices = np.unique(units.device[touched])
        places, on = kernels.alike(
            devices[devices >= 0],
            units.first_of_device,
            units.next_of_device,
            units.begin,
            units.end,
            units.events.messages,
            units.events.flags,
            np.uint8(FRESH),
        )
        copied: list[int] = []
        if not len(places):
            return np.empty(0, np.int32)
        places, first = np.unique(places, return_index=True)
        said = reading.messages(con, units.events.rows[places])
        rows = units.events.rows[places].tolist()
        place_of = dict(zip(rows, places.tolist(), strict=True))
        device_of = dict(zip(rows, on[first].tolist(), strict=True))
        order = ["event_at", "partition", "offset"]
        for _, group in said.sort(order).group_by(["anonymous_id", "message_id"], maintain_order=True):
            rows = group["row"].to_list()
            if len(rows) > 1:
                number = min(rows)
                for stale in {self.copies[row][0] for row in rows if row in self.copies}:
                    self._groups.pop(stale, None)
                self._groups[number] = rows
                for at, row in enumerate(rows):
                    self.copies[row] = (number, at)
                    place = place_of[row]
                    units.events.flags[place] |= COPIED
                    counts = bool(units.events.flags[place] & COUNTS)
                    self.copied_events[row] = (int(units.events.micros[place]), int(units.events.names[place]), counts)
                copied.append(device_of[rows[0]])
        return np.unique(np.array(copied, np.int32))

    # --- what lies over the events -------------------------------------------------------------------------------

    def _look_for_bots(self, con: duckdb.DuckDBPyConnection) -> Codes:
        """Learns which devices are bots. Returns those that were none before, and those that are none any more."""
        bots = reading.bots(con)
        was, before = self.is_bot, self._bots
        self.is_bot = np.zeros(self.device_count, np.bool_)
        known = self._devices.find(bots)
        self.is_bot[known[known >= 0]] = True
        self._bots = bots
        if np.array_equal(bots, before):
            return np.empty(0, np.int32)
        changed = self.is_bot.copy()
        changed[: len(was)] ^= was
        return np.flatnonzero(changed).astype(np.int32)

    def _look_for_merges(self, con: duckdb.DuckDBPyConnection) -> Codes:
        """Learns who counts to whom. Returns the persons of whom that changed, and to whom they counted before."""
        merges = reading.merges(con)
        self._grow_into()
        if all(np.array_equal(one, other) for one, other in zip(merges, self._merges, strict=True)):
            return np.empty(0, np.int32)
        self._merges = merges
        codes, into = self._persons.encode(merges[0]), self._persons.encode(merges[1])
        self._grow_into()
        some = np.unique(np.concatenate([self.merged, codes]))  # no other counts to somebody else than before
        then = self._counting(some)
        self.merged = codes
        self.into = np.arange(self.person_count if len(codes) else 0, dtype=np.int32)
        self.into[codes] = into
        now = self._counting(some)
        changed = now != then
        return np.unique(np.concatenate([some[changed], now[changed], then[changed]]))

    def _grow_into(self) -> None:
        """Makes room for persons who came meanwhile, and some more: they count to themselves."""
        known = len(self.into)
        if 0 < known < self.person_count:
            more = np.arange(known, max(self.person_count, known * 9 // 8), dtype=np.int32)
            self.into = np.concatenate([self.into, more])

    def _counting(self, persons: Codes) -> Codes:
        """To whom each counts; those that are NOBODY are left out."""
        persons = persons[persons >= 0]
        return self.into[persons] if len(self.into) else persons
