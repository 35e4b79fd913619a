"""A warehouse's events in memory, which answer a funnel in a fraction of the time that SQL takes.

The store follows the warehouse when it is asked: each question first takes in what was committed since the last one, so
that an answer is never older than the question. Where it cannot answer (it is not filled yet, the warehouse was
rewritten, a definition asks of sessions), it says so, and SQL answers.

One question at a time looks at the events, and with it all cores: a lock keeps them from changing under it. What SQL
has to say of many rows is asked before, without the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from weakref import WeakValueDictionary

import duckdb
import numpy as np

from funnels.definition import FunnelDefinition
from funnels.query import follow
from funnels.rows import rules_of
from funnels.store import reading
from funnels.store.codes import Codes
from funnels.store.collecting import Collected, Part, Selection, collect, in_parts
from funnels.store.contents import BeyondStore, Contents
from funnels.store.copies import settle
from funnels.store.reading import Moment
from funnels.store.selecting import LookedUp, answers, select
from funnels.store.values import FieldValues
from funnels.walk import Entries, Rows, Rules, walk
from sinks.warehouse import Warehouse

log = logging.getLogger(__name__)

EVENT_BYTES: Final = 40
"""About what an event takes: 23 bytes of its own, a quarter as much again to grow into, and its part of what is kept of
devices and persons."""

_KEEP_UP: Final = timedelta(seconds=5)
"""The store is so far behind at most, whether or not anybody asks."""

_KEPT: Final = 64
"""Definitions of which what SQL said of rows is kept for the next time, in half as much memory as events may take."""


class Store:
    """The events of `warehouse`, as long as they take at most `limit` bytes; 0 keeps none."""

    def __init__(self, warehouse: Warehouse, limit: int, threads: int = 2) -> None:
        self._warehouse = warehouse
        self._limit = limit
        self._lock = threading.Lock()
        self._contents: Contents | None = None
        self._looked_up: OrderedDict[str, LookedUp] = OrderedDict()
        self._values: WeakValueDictionary[str, FieldValues] = WeakValueDictionary()
        """By field, as long as one of the definitions breaks down by it."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="funnels")
        self._wanted = threading.Event()
        self._closed = False
        self._filler: threading.Thread | None = None

    # --- its life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fills it, and again whenever that is needed, in a thread of its own."""
        if self._limit:
            self._filler = threading.Thread(target=self._keep_filled, name="funnels-store", daemon=True)
            self._wanted.set()
            self._filler.start()

    def close(self) -> None:
        """Returns when nothing of it reads the warehouse any more."""
        self._closed = True
        self._wanted.set()
        if self._filler is not None:
            self._filler.join()
        self._threads.shutdown()

    def fill(self) -> bool:
        """Reads all events anew. Whether they are there now."""
        began = time.monotonic()
        opening, position = self._warehouse.openings, self._warehouse.moved.committed
        try:
            with self._warehouse.reader() as con, _snapshot(con):
                contents = self._read(con, opening, position)
        except (BeyondStore, MemoryError) as error:
            self._give_up(error)
            return False
        if contents is None or opening != self._warehouse.openings:
            return False
        with self._lock:
            self._contents = contents
            self._looked_up.clear()
            self._values = WeakValueDictionary()
        taken = {"events": contents.units.live, "bytes": contents.nbytes}
        log.info("funnels have the events in memory, after %.1f s", time.monotonic() - began, extra=taken)
        return True

    @property
    def is_filled(self) -> bool:
        """Whether it answers."""
        return self._contents is not None

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        contents = self._contents
        return contents.nbytes if contents is not None else 0

    @property
    def state(self) -> tuple[int, int]:
        """Another one after each commit to the warehouse."""
        return self._warehouse.openings, self._warehouse.commits

    # --- questions -----------------------------------------------------------------------------------------------

    def follow(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> tuple[Entries, Sequence[str]]:
        """What became of the subjects of `definition`, as funnels.query.follow says it."""
        with self.looking(con, definition) as looking:
            if looking is not None:
                return looking.all(rules_of(definition)), looking.shown
        return follow(con, definition)

    @contextmanager
    def looking(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> Iterator[Looking | None]:
        """The events of `definition` as they are now, for one question; None if the store cannot tell. `con` is used as
        long as the block lasts, and is in no transaction."""
        contents = self._contents
        if contents is None or not answers(definition):
            yield None
            return
        looked_up = self._looked_up_for(definition)
        with looked_up.lock:
            looked_up.follow(con, contents.next_row)
            with self._lock, _snapshot(con):
                moment = self._follow(con, contents) if self._contents is contents else None
                if moment is None:
                    yield None
                    return
                selection = select(con, contents, definition, looked_up)
                yield Looking(
                    con, contents, definition, selection, looked_up, moment.as_of, self._threads, threading.Lock()
                )

    def _looked_up_for(self, definition: FunnelDefinition) -> LookedUp:
        key, field = definition.model_dump_json(exclude={"name"}), definition.breakdown
        with self._lock:
            found = self._looked_up.get(key)
            if found is None:
                values = self._values.setdefault(field, FieldValues(field)) if field else None
                found = self._looked_up[key] = LookedUp(definition, values)
            self._looked_up.move_to_end(key)
            while len(self._looked_up) > 1 and (len(self._looked_up) > _KEPT or self._said_bytes > self._limit // 2):
                self._looked_up.popitem(last=False)
            return found

    @property
    def _said_bytes(self) -> int:
        of_definitions, of_fields = self._looked_up.values(), self._values.values()
        return sum(kept.nbytes for kept in of_definitions) + sum(kept.nbytes for kept in of_fields)

    def _follow(self, con: duckdb.DuckDBPyConnection, contents: Contents) -> Moment | None:
        """Takes in what is new, and says what `con` sees; None if all has to be read anew."""
        position = self._warehouse.moved.committed
        moment = reading.moment(con)
        moved = self._warehouse.moved.since(contents.moved)
        known = contents.moment
        same = (moment.generation, moment.forgotten) == (known.generation, known.forgotten) and moment.is_erased
        if moved is None or not same or contents.opening != self._warehouse.openings:
            self._give_up()
            return None
        try:
            contents.follow(con, moved)
            if contents.nbytes > self._limit:
                raise BeyondStore(f"they take {contents.nbytes:,} bytes, {self._limit:,} are allowed")
        except (BeyondStore, MemoryError) as error:
            self._give_up(error)
            return None
        except BaseException:  # a question that took too long was ended: what is there now may be half of it
            self._give_up()
            raise
        contents.moved = position
        return moment

    def _give_up(self, for_good: Exception | None = None) -> None:
        """Answers no more until all is read anew, or not at all."""
        self._contents = None
        if for_good is not None:
            self._limit = 0
            log.warning("funnels are answered by SQL, as the events do not fit into memory: %s", for_good)
        self._wanted.set()

    # --- how it is filled ----------------------------------------------------------------------------------------

    def _keep_filled(self) -> None:
        while not self._closed and self._limit:
            if not self._wanted.wait(_KEEP_UP.total_seconds()) and self._contents is not None:
                self._keep_up()
            self._wanted.clear()
            while not self._closed and self._limit and self._contents is None:
                try:
                    filled = self.fill()
                except duckdb.Error as error:
                    log.warning("the events could not be read into memory, which is tried again: %s", error)
                    filled = False
                if not filled:
                    time.sleep(1)

    def _keep_up(self) -> None:
        """Takes in what is new although nobody asks, so that the next question has little to take in."""
        with self._lock, self._warehouse.reader() as con, _snapshot(con):
            if self._contents is not None:
                self._follow(con, self._contents)

    def _read(self, con: duckdb.DuckDBPyConnection, opening: int, position: int) -> Contents | None:
        moment = reading.moment(con)
        if not moment.is_erased:
            return None
        events = reading.events(con)
        if (needed := events * EVENT_BYTES) > self._limit:
            raise BeyondStore(f"{events:,} events take about {needed:,} bytes, {self._limit:,} are allowed")
        contents = Contents(moment, opening, position)
        contents.follow(con, [])
        return contents


@dataclass(frozen=True, slots=True)
class Looking:
    """The events of one question, while the store stands still."""

    con: duckdb.DuckDBPyConnection
    contents: Contents
    definition: FunnelDefinition
    selection: Selection
    looked_up: LookedUp
    as_of: int | None
    threads: ThreadPoolExecutor
    asking: threading.Lock
    """Held by the thread that uses `con`."""

    def all(self, rules: Rules) -> Entries:
        """What became of all subjects."""
        parts = in_parts(self._part(None), self.contents.units.begin, self.contents.units.end)
        found = [*self.threads.map(lambda part: self._walk(part, rules), parts)]
        return _together(found, rules)

    def some(self, subjects: Codes, rules: Rules) -> Entries:
        """What became of those."""
        parts = in_parts(self._part(subjects), self.contents.units.begin, self.contents.units.end)
        return _together([self._walk(part, rules) for part in parts], rules)

    @property
    def shown(self) -> list[str]:
        """The text of each code of a value."""
        values = self.looked_up.values
        return [] if values is None else list(values.shown)

    @property
    def subject_count(self) -> int:
        """Subjects are numbered below that."""
        return self.contents.person_count if self.definition.by == "person" else self.contents.device_count

    def changed_since(self, version: int) -> Codes | None:
        """The subjects whose events are others than at that version of the contents; None if that is not known."""
        changes = self.contents.changes_since(version)
        if changes is None:
            return None
        ours = [change.persons if self.definition.by == "person" else change.devices for change in changes]
        subjects = np.unique(np.concatenate([np.empty(0, np.int32), *ours]))
        return subjects[subjects >= 0]

    def _part(self, subjects: Codes | None) -> Part:
        """The units of `subjects`, or of all."""
        units = self.contents.units
        if self.definition.by == "device":
            devices = np.arange(len(units.first_of_device), dtype=np.int32) if subjects is None else subjects
            found = units.of_devices(devices)
            return Part(found, units.device[found])
        return Part(*self.contents.units_of_persons(subjects))

    def _walk(self, part: Part, rules: Rules) -> Entries:
        collected = collect(part, self.selection, self.contents.is_bot, self.contents.units)
        return walk(self._settled(collected), rules)

    def _settled(self, collected: Collected) -> Rows:
        if not collected.ties and not len(collected.copied):
            return collected.rows
        with self.asking:
            return settle(self.con, self.contents, self.selection, collected)


def _together(found: list[Entries], rules: Rules) -> Entries:
    if not found:
        nothing = np.empty(0, np.int64)
        return Entries(
            nothing.astype(np.uint64),
            nothing,
            nothing,
            np.empty((0, rules.steps), np.int64),
            nothing.astype(np.int32),
            nothing,
            nothing,
        )
    names = ("subjects", "began", "reached", "at", "values", "first", "last")
    return Entries(*(np.concatenate([getattr(entries, name) for entries in found]) for name in names))


@contextmanager
def _snapshot(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All statements of the block see the same."""
    con.execute("begin transaction")
    try:
        yield
    finally:
        con.execute("rollback")
