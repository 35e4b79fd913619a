"""The live numbers: computed once a tick off the event loop, shared by every viewer, slower where they cost more."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from funnels import FunnelDefinition
from service.web import readings, wording
from service.web.health import read_pulse
from service.web.readings import Reading
from service.web.view import FlowState, ServiceView
from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

HISTORY = timedelta(minutes=5)

_REST = 9
"""A reading rests nine times as long as it took: at most a tenth of one thread goes into it, at any size of data."""

_PATIENCE = timedelta(milliseconds=200)
"""A first paint waits this long for fresh numbers when it has older ones to show."""

_PATIENCE_AT_FIRST = timedelta(seconds=2)
"""And this long when it has none: a page of dashes helps nobody, nor does no page."""

_EVERYBODY = ("flow", "partitions", "totals", "pulse", "people", "sessions", "reconciliation")


@dataclass(frozen=True, slots=True)
class Part:
    """The latest reading of one part of the page, ready to send."""

    version: int
    reading: Reading
    message: bytes


@dataclass(slots=True)
class _Schedule:
    read: Callable[[], Reading]
    lane: ThreadPoolExecutor
    every: timedelta
    due: float = 0.0
    running: asyncio.Task[None] | None = None


class LiveFeed:
    """Reads the parts of the page that somebody looks at, and streams what changed.

    `start` and `close` belong to the event loop that serves the page. The rate of events is sampled whether or not
    anybody looks, so that the chart has its past; everything else only for viewers.
    """

    def __init__(self, view: ServiceView, *, tick: timedelta = timedelta(seconds=1)) -> None:
        self._view = view
        self._tick = tick
        self._parts: dict[str, Part] = {}
        self._problems: dict[str, str] = {}
        self._definitions: dict[str, FunnelDefinition] = {}
        self._watched: Counter[str] = Counter()
        self._rates: deque[list[float]] = deque(maxlen=int(HISTORY / tick))
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._closed = False
        self._state = FlowState("waiting")
        self._beat: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cursors: set[duckdb.DuckDBPyConnection] = set()
        self._cursors_lock = threading.Lock()
        # Funnels have a thread of their own: a slow one delays other funnels, never the small numbers.
        self._quick = ThreadPoolExecutor(1, thread_name_prefix="page-numbers")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="page-funnels")
        self._schedules = {
            "flow": _Schedule(self._read_flow, self._quick, tick),
            "partitions": _Schedule(lambda: readings.read_partitions(self._state), self._quick, 2 * tick),
            "totals": _Schedule(self._query(readings.read_totals), self._quick, tick),
            "pulse": _Schedule(self._query(lambda con: read_pulse(con, datetime.now(UTC))), self._quick, 10 * tick),
            "people": _Schedule(self._query(readings.read_people), self._quick, 5 * tick),
            "sessions": _Schedule(self._query(readings.read_sessions), self._quick, 2 * tick),
            "reconciliation": _Schedule(self._query(readings.read_reconciliation), self._quick, 5 * tick),
        }

    # --- what the page uses -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to sample the rate, once a tick."""
        self._loop = asyncio.get_running_loop()
        self._beat = asyncio.create_task(self._beat_forever(), name="page-live")

    def close(self) -> None:
        """Ends every stream and stops reading; may be called from any thread, and again.

        Call it before the web server is asked to stop: a server waits for open streams.
        """
        self._closed = True
        with self._cursors_lock:
            for cursor in self._cursors:
                cursor.interrupt()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._loop.call_soon_threadsafe(self._wake)

    async def closed(self) -> None:
        """Returns when nothing reads the warehouse any more, after `close`."""
        if self._beat is not None:
            await self._beat
        for lane in (self._quick, self._slow):
            await asyncio.to_thread(lane.shutdown, wait=True, cancel_futures=True)

    async def current(
        self, definition: FunnelDefinition | None, cards: Sequence[FunnelDefinition] = ()
    ) -> tuple[dict[str, Reading], dict[str, Reading]]:
        """The readings for a first paint: fresh where that is quick, else the last ones, "funnel" among them; and those
        of funnels on small `cards`, by name, for which no page waits.

        A part that could not be read in time, or at all, is left out.
        """
        names = self._names(definition)
        watched = {one.name: self._funnel(one) for one in cards}
        patience = _PATIENCE if all(name in self._parts for name in names) else _PATIENCE_AT_FIRST
        reads = [read for read in map(self._refresh, names) if read is not None]
        more = [read for read in map(self._refresh, watched.values()) if read is not None and read not in reads]
        if reads:
            await asyncio.wait(reads, timeout=patience.total_seconds())
        if more:
            await asyncio.wait(more, timeout=_PATIENCE.total_seconds())
        found = {name: self._parts[name].reading for name in names if name in self._parts}
        shown = {name: self._parts[part].reading for name, part in watched.items() if part in self._parts}
        return {_kind(name): reading for name, reading in found.items()}, shown

    async def stream(
        self, definition: FunnelDefinition | None, cards: Sequence[FunnelDefinition] = ()
    ) -> AsyncIterator[bytes]:
        """Server-sent events: the chart's past, then every part as it changes, until the client leaves. What a funnel
        on a card says comes as `card`, with its name in it."""
        names = self._names(definition)
        watched = {self._funnel(one): one.name for one in cards}
        looked_at = {*names, *watched}
        told = [*((name, _kind(name)) for name in (*names, "problem")), *((name, "card") for name in watched)]
        self._watched.update(looked_at)
        sent: dict[tuple[str, str], int] = {}
        try:
            yield b"retry: 2000\n\n" + _message("history", {"points": list(self._rates)})
            while not self._closed:
                changed = self._changed
                for name, kind in told:
                    part = self._parts.get(name)
                    if part is not None and sent.get((name, kind)) != part.version:
                        sent[name, kind] = part.version
                        yield (
                            _message(kind, {"name": watched[name], **part.reading}) if kind == "card" else part.message
                        )
                await changed.wait()
        finally:
            self._watched.subtract(looked_at)

    # --- how it is read -----------------------------------------------------------------------------------------

    async def _beat_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closed:
            began = loop.time()
            for name in {"flow", *(name for name, viewers in self._watched.items() if viewers > 0)}:
                self._refresh(name)
            rest = began + self._tick.total_seconds() - loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), max(0.0, rest))

    def _refresh(self, name: str) -> asyncio.Task[None] | None:
        """The running read of a part, begun if it is due; None while it rests."""
        schedule = self._schedules[name]
        if schedule.running is not None and not schedule.running.done():
            return schedule.running
        if self._closed or asyncio.get_running_loop().time() < schedule.due:
            return None
        schedule.running = asyncio.create_task(self._read(name, schedule), name=f"page-{name}")
        return schedule.running

    async def _read(self, name: str, schedule: _Schedule) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            reading = await loop.run_in_executor(schedule.lane, schedule.read)
        except (duckdb.Error, OSError, StitchlineError) as error:
            if not self._closed:
                if name not in self._problems:
                    log.warning("the page's part %s cannot be read: %s", name, error)
                self._problems[name] = str(error)
        else:
            if self._problems.pop(name, None) is not None:
                log.info("the page's part %s can be read again", name)
            if name == "flow":
                self._rates.append(reading["point"])
                reading["texts"]["peak"] = wording.rate(max(rate for _, rate in self._rates))
            self._publish(name, reading)
        problems = [f"{_kind(part).capitalize()} cannot be read: {why}" for part, why in self._problems.items()]
        self._publish("problem", {"texts": {"problem": "; ".join(problems)}})
        took = loop.time() - began
        schedule.due = began + max(schedule.every.total_seconds() * 0.9, took * (1 + _REST))

    def _publish(self, name: str, reading: Reading) -> None:
        last = self._parts.get(name)
        if last is not None and last.reading == reading:
            return
        self._parts[name] = Part(last.version + 1 if last else 0, reading, _message(_kind(name), reading))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _names(self, definition: FunnelDefinition | None) -> tuple[str, ...]:
        return _EVERYBODY if definition is None else (*_EVERYBODY, self._funnel(definition))

    def _funnel(self, definition: FunnelDefinition) -> str:
        """The part that the funnel is; whoever looks at it, large or on a card, has the same one."""
        name = f"funnel:{definition.name}"
        self._definitions[name] = definition
        if name not in self._schedules:
            read = self._query(lambda con: self._read_funnel(con, self._definitions[name]))
            self._schedules[name] = _Schedule(read, self._slow, self._tick)
        return name

    def _read_flow(self) -> Reading:
        self._state = self._view.flow_state()
        return readings.read_flow(self._state, datetime.now(UTC))

    def _read_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> Reading:
        return readings.read_funnel(self._view.watch_funnel(con, definition), definition)

    def _query(self, read: Callable[[duckdb.DuckDBPyConnection], Reading]) -> Callable[[], Reading]:
        def queried() -> Reading:
            con = self._view.reader()
            with self._cursors_lock:
                self._cursors.add(con)
            try:
                return read(con)
            finally:
                with self._cursors_lock:
                    self._cursors.discard(con)
                con.close()

        return queried


def _kind(name: str) -> str:
    """What viewers call a part: there is one large funnel on a page, whatever its name."""
    return name.split(":", 1)[0]


def _message(kind: str, reading: Reading) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(reading, separators=(',', ':'))}\n\n".encode()
