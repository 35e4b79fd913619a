"""The checkpoint: what was decoded becomes events, sessions, identity facts and offsets, in one transaction.

Batches of all partitions of this process are gathered until enough rows or enough time have come together; then a
thread of its own takes them through four steps: deduplicate, stitch, sessionize, commit. Meanwhile the workers read and
decode on; when they have gathered as much again they wait, which is all the back-pressure there is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from flows.arrivals import activity_of, arrivals
from flows.bots import BotWatch
from flows.clock import PartitionClock
from flows.decode import DecodedBatch
from flows.duplicates import Duplicates, Flags, Hashes, Ints, Messages
from flows.recut import Kept, kept_of, late_devices
from flows.refusals import FORGOTTEN, without_forgotten
from flows.rules import CheckpointLimits, FlowRules
from flows.session_store import devices_of, previous_sessions, write_sessions
from flows.sessions import SESSIONS, cut, in_order
from flows.tails import Tails
from identity.ids import PERSON_PREFIX
from identity.stitch import Stitcher, Stitching
from identity.tombstones import Tombstones
from sinks import tables
from sinks.dead_letters import DeadLetterTopic
from sinks.warehouse import ROW_GROUP, Progress, Warehouse, save_progress, stored_progress
from stitchline.bloom import BloomFilter
from stitchline.errors import WarehouseUnwritable
from stitchline.hashing import hash_pairs, hash_texts

log = logging.getLogger(__name__)

T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST: Final = -(2**62)  # before every time, in microseconds

KNOWN_DEVICES: Final = 10_000_000
"""Size of the filter that tells devices never seen before: 20 MB."""

LOOKED_UP_AT_ONCE: Final = 500_000
"""Rows that the filters are filled again with at a time, after a stop."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What one checkpoint did, for whoever watches."""

    consumed: int
    stored: int
    duplicates: int
    dead: int
    late: int
    recut: int
    seconds: float
    greatest_kafka_at: int | None
    """Kafka's time of the youngest record in it, microseconds UTC."""


_FOREIGN_KEYS: Final = (
    "Topic %s has records whose key is not their anonymousId (first seen in partition %d). They are kept; sessions "
    "stay right, but cost more. Key the topic by anonymousId."
)


class Checkpointer:
    """Takes decoded batches from any thread and commits them. `committed` is called after every commit.

    `unwritable` is told each time that the warehouse could not be written. When it returns, the same is tried again, as
    if it had never been tried: what is remembered of a commit in memory changes after it alone. It raises to give up.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        stitcher: Stitcher,
        rules: FlowRules,
        limits: CheckpointLimits,
        dead_letters: DeadLetterTopic | None = None,
        committed: Callable[[Committed], None] = lambda _: None,
        unwritable: Callable[[WarehouseUnwritable], None] | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._stitcher = stitcher
        self._rules = rules
        self._limits = limits
        self._dead_letters = dead_letters
        self._committed = committed
        self._unwritable = unwritable
        self._gathering = threading.Lock()
        self._gathered: list[_Gathered] = []
        self._rows = 0
        self._since = time.monotonic()
        self._committer = ThreadPoolExecutor(1, "commit")
        self._running: Future[None] | None = None
        self._beside = ThreadPoolExecutor(1, "append")
        self._looking = ThreadPoolExecutor(1, "look up")
        self._progress = warehouse.progress()
        self._sources = _Sources(self._progress)
        self._warned_of_keys: set[str] = set()
        self._duplicates = Duplicates(limits.forget_every)
        self._bots = BotWatch(rules.bots, warehouse.reader, ThreadPoolExecutor(1, "bots"))
        self._tails = Tails()
        self._repairs = 0
        self._devices = BloomFilter(KNOWN_DEVICES)
        self._recover()

    def _recover(self) -> None:
        """Remembers what the filters and the list of seen messages held before the stop."""
        with self._warehouse.reader() as con:
            for some in con.execute(tables.KNOWN_DEVICES).to_arrow_reader(LOOKED_UP_AT_ONCE):
                self._devices.add(hash_texts(some.column(0)))
            self._tombstones = Tombstones.read(con)
            marks = [p.watermark or _EPOCH for p in self._progress.values()]
            rows = con.execute(tables.REMEMBERED, {"least": min(marks, default=_EPOCH)}).to_arrow_table()
        messages = Messages(
            *hash_pairs(rows["anonymous_id"], rows["message_id"]),
            rows["at"].to_numpy(),
            self._sources.lowest(self._progress)[rows["partition"].to_numpy()],
        )
        self._duplicates.recover(messages, self._watermarks())
        self._look_up_endings()

    def _look_up_endings(self) -> None:
        """Learns anew how closed sessions ended, where they were written by others."""
        tails, repairs = Tails(), self._warehouse.repairs
        with self._warehouse.reader() as con:
            ties: list[str] = []
            for some in con.execute(tables.CLOSED_ENDINGS).to_arrow_reader(LOOKED_UP_AT_ONCE):
                ties += tails.put_latest(pl.DataFrame(some)).to_list()
            if ties:
                tails.put(tables.last_closed_sessions(con, pl.Series(ties)))
        self._tails, self._repairs = tails, repairs

    def add(self, batch: DecodedBatch) -> None:
        """Gathers `batch`. If it is time, what was gathered is committed, in a thread of its own.

        Waits while one is running and as much again is gathered. Raises what an earlier commit raised.
        """
        gathered = _Gathered(*without_forgotten(batch, arrivals(batch.events, self._rules), self._tombstones))
        with self._gathering:
            self._gathered.append(gathered)
            self._rows += batch.consumed
        while (running := self._commit_if_due()) is not None:
            running.result()

    def _commit_if_due(self) -> Future[None] | None:
        """Begins a commit if it is time. Returns the one that has to end first, if all room is taken."""
        with self._gathering:
            full = self._rows >= self._limits.events
            if not full and time.monotonic() - self._since < self._limits.interval.total_seconds():
                return None
            if self._running is not None and not self._running.done():
                return self._running if full else None
            running, self._running = self._running, None
            if running is not None:
                running.result()
            self._running = self._committer.submit(self._commit, self._take())
            return None

    def _take(self) -> list[_Gathered]:
        gathered, self._gathered, self._rows = self._gathered, [], 0
        self._since = time.monotonic()
        return gathered

    def finish(self, *, close_sessions: bool) -> None:
        """Commits what is gathered. `close_sessions`, at the end of a replay: nothing will ever come again."""
        with self._gathering:
            running, self._running = self._running, None
            if running is not None:
                running.result()
            self._commit(self._take())
            self._stitcher.flush()
            ended: list[pl.DataFrame] = []
            self._patiently(lambda: self._write_end(ended, close_sessions=close_sessions))
            for sessions in ended:
                self._tails.put(sessions)

    def _write_end(self, ended: list[pl.DataFrame], *, close_sessions: bool) -> None:
        """`ended` gets what it closes. Of each try: one may have worked that was said to have failed."""
        with self._warehouse.transaction() as con:
            self._bots.look(con)
            if close_sessions:
                ended.append(con.execute(tables.OPEN_ENDINGS).pl())
                con.execute(tables.CLOSE_ALL_SESSIONS)
                con.execute(tables.WATERMARK_AT_THE_END)
        self._bots.rest()

    def begin_anew(self, topic: str) -> None:
        """Puts every partition of `topic` back to its first record. What was counted and the watermarks stay.
        For a flow that does not run: what it gathered is committed before."""
        self.finish(close_sessions=False)
        anew = {key: replace(p, next_offset=0) for key, p in self._progress.items() if key[0] == topic}
        with self._warehouse.transaction() as con:
            save_progress(con, list(anew.values()))
        self._progress.update(anew)

    @property
    def progress(self) -> dict[tuple[str, int], Progress]:
        """Where the partitions stand, as committed."""
        return dict(self._progress)

    def _commit(self, gathered: list[_Gathered]) -> None:
        if not gathered:
            return
        began = time.monotonic()
        batches = [g.batch for g in gathered]
        decoded = pa.concat_tables([b.events for b in batches])
        arrived = pl.concat([g.events for g in gathered], rechunk=True).with_columns(
            source=np.repeat([self._sources.index(b) for b in batches], [b.events.num_rows for b in batches])
        )
        gathered.clear()  # `arrived` has their rows now
        arrived, new = self._deduplicate(arrived)
        progress = self._advance(batches, arrived, new)
        events = arrived
        if not new.all():
            decoded, events = decoded.filter(pa.array(new)), arrived.filter(pl.Series(new))
        if not any(b.consumed for b in batches) and not self._moved(progress):
            return
        letters = [b.dead for b in batches if b.dead.num_rows]
        if self._dead_letters is not None:
            self._dead_letters.send([dead.filter(pc.field("reason") != FORGOTTEN) for dead in letters])
        written = _Written()
        self._patiently(lambda: self._write(decoded, events, letters, progress, written))
        assert written.stitching is not None
        stitching, recuts = written.stitching, written.recuts
        for ended in written.ended:
            self._tails.put(ended)
        if not written.is_bulk:  # with a backlog ahead there is better to do than to look
            self._bots.go_on()
        self._progress.update(progress)
        log.debug("committed %d events up to %s", events.height, {key: p.next_offset for key, p in progress.items()})
        self._stitcher.committed(
            stitching, {f"{p.topic}/{p.partition}": p.next_offset for p in self._progress.values()}
        )
        self._remember(events)
        times = [b.last_kafka_at for b in batches if b.last_kafka_at is not None]
        self._committed(
            Committed(
                consumed=sum(b.consumed for b in batches),
                stored=events.height,
                duplicates=arrived.height - events.height,
                dead=sum(b.dead.num_rows for b in batches),
                late=int(events["is_late"].sum()) if events.height else 0,
                recut=recuts,
                seconds=time.monotonic() - began,
                greatest_kafka_at=max(times, default=None),
            )
        )

    def _write(
        self,
        decoded: pa.Table,
        events: pl.DataFrame,
        letters: list[pa.Table],
        progress: dict[tuple[str, int], Progress],
        written: _Written,
    ) -> None:
        """The transaction. What memory has to learn of it goes to `written`, and there is of the last try alone."""
        written.is_bulk = decoded.num_rows >= ROW_GROUP
        with self._warehouse.transaction(bulk=written.is_bulk) as con:
            if written.stitching is not None and stored_progress(con).items() >= progress.items():
                return  # the try before was said to have failed, and had not
            if self._repairs != self._warehouse.repairs:
                self._look_up_endings()
            late = late_devices(events)
            looking = self._looking.submit(self._look_up_late, late, events) if len(late) else None
            try:
                stitching = self._stitcher.stitch(con, events, self._devices.may_contain)
                written.recuts, written.ended = self._store(con, decoded, events, stitching, progress, looking)
            finally:
                if looking is not None:
                    wait([looking])
            ended = tables.close_sessions(con, progress.values(), self._rules.sessions.longest_gap)
            if ended is not None:
                written.ended.append(ended)
            tables.append_dead_letters(con, letters)
            tables.append_identity(con, stitching.facts, stitching.verdicts, stitching.gone)
            tables.change_overrides(con, stitching.cuts, stitching.overrides)
            self._warehouse.moved.note([*stitching.cuts["anonymous_id"], *stitching.overrides["anonymous_id"]])
            self._bots.note(events)
            self._bots.name(con)
            save_progress(con, list(progress.values()))
            written.stitching = stitching

    def _patiently(self, action: Callable[[], T]) -> T:
        """What `action` returns, once the warehouse lets it."""
        while True:
            try:
                return action()
            except WarehouseUnwritable as error:
                if self._unwritable is None:
                    raise
                self._unwritable(error)

    def _deduplicate(self, arrived: pl.DataFrame) -> tuple[pl.DataFrame, Flags]:
        """`arrived` with `is_late`, and which of them are new."""
        messages, watermarks = messages_of(arrived), self._watermarks()

        def stored_already(rows: Ints) -> Ints:
            with self._warehouse.reader() as con:
                return tables.stored_already(con, arrived[rows].select("anonymous_id", "message_id"))

        new = self._duplicates.new(
            messages,
            arrived["foreign_key"].to_numpy(),
            watermarks,
            lambda rows: self._patiently(lambda: stored_already(rows)),
        )
        return arrived.with_columns(is_late=messages.at <= watermarks[messages.source]), new

    def _remember(self, events: pl.DataFrame) -> None:
        self._devices.add(events["device_hash"].to_numpy())

        def open_devices() -> Hashes:
            with self._warehouse.reader() as con:
                return hash_texts(_column(con, "select anonymous_id from stream.open_sessions"))

        self._duplicates.forget(lambda: self._patiently(open_devices), self._watermarks())

    # Event time

    def _watermarks(self) -> np.ndarray:
        """By source index, microseconds UTC."""
        marks = np.full(len(self._sources), _EARLIEST, np.int64)
        for key, p in self._progress.items():
            if p.watermark is not None:
                marks[self._sources.of(key)] = (p.watermark - _EPOCH) // _MICROSECOND
        return marks

    def _advance(
        self, batches: list[DecodedBatch], arrived: pl.DataFrame, new: Flags
    ) -> dict[tuple[str, int], Progress]:
        """Where the partitions of these batches stand once this is committed."""
        source, at = arrived["source"].to_numpy(), arrived["event_at"].to_physical().to_numpy()
        late, foreign = arrived["is_late"].to_numpy() & new, arrived["foreign_key"].to_numpy() & new
        advanced: dict[tuple[str, int], Progress] = {}
        now = datetime.now(UTC)
        for key in dict.fromkeys((b.topic, b.partition) for b in batches):
            mine = [b for b in batches if (b.topic, b.partition) == key]
            rows = source == self._sources.of(key)
            before = self._progress.get(key, Progress(*key))
            clock = PartitionClock(before.greatest_event_at, before.watermark)
            kafka_at = max((b.last_kafka_at for b in mine if b.last_kafka_at is not None), default=None)
            last_kafka_at = _time(kafka_at) if kafka_at is not None else before.last_kafka_at
            if rows.any():
                clock = clock.saw(_time(int(at[rows].max())), self._rules.reorder_window)
            if mine[-1].at_end and mine[-1].read_at is not None:
                clock = clock.at_end(mine[-1].read_at, last_kafka_at, self._rules.reorder_window)
            stored = int((rows & new).sum())
            advanced[key] = replace(
                before,
                next_offset=mine[-1].next_offset,
                watermark=clock.watermark,
                greatest_event_at=clock.greatest_event_at,
                consumed=before.consumed + sum(b.consumed for b in mine),
                stored=before.stored + stored,
                duplicates=before.duplicates + int(rows.sum()) - stored,
                dead=before.dead + sum(b.dead.num_rows for b in mine),
                last_kafka_at=last_kafka_at,
                late=before.late + int((late & rows).sum()),
                foreign_keys=before.foreign_keys + int((foreign & rows).sum()),
                committed_at=now,
            )
            if advanced[key].foreign_keys and key[0] not in self._warned_of_keys:
                self._warned_of_keys.add(key[0])
                log.warning(_FOREIGN_KEYS, *key, extra={"topic": key[0], "partition": key[1]})
        return advanced

    def _moved(self, progress: dict[tuple[str, int], Progress]) -> bool:
        """Whether anything is worth a commit without events: other offsets, or a watermark a second further on."""
        least = timedelta(seconds=1)
        for key, p in progress.items():
            old = self._progress.get(key, Progress(*key))
            if p.next_offset != old.next_offset:
                return True
            if p.watermark is not None and (old.watermark is None or p.watermark - old.watermark >= least):
                return True
        return False

    # Store

    def _store(
        self,
        con: duckdb.DuckDBPyConnection,
        decoded: pa.Table,
        events: pl.DataFrame,
        stitching: Stitching,
        progress: dict[tuple[str, int], Progress],
        looking: Future[Kept] | None,
    ) -> tuple[int, list[pl.DataFrame]]:
        """Appends the events, and meanwhile cuts their sessions, which takes about as long; then writes the sessions.
        Returns how many devices were cut again, and for `Tails` the last sessions that are closed now."""
        owners = stitching.owners.of(events.select("anonymous_id", "message_id", at=pl.col("event_at").to_physical()))
        known = events.select(
            *tables.KNOWN,
            person_id=pl.coalesce("known_user", owners, PERSON_PREFIX + pl.col("anonymous_id")),
        )
        appending = self._beside.submit(tables.append_events, con, decoded, known)
        try:
            active = events.filter(~pl.col("is_background")) if events["is_background"].any() else events
            activity = in_order(activity_of(active))
            devices = devices_of(active, activity)
            with self._warehouse.reader() as reader:  # this transaction has not touched the sessions yet
                previous = previous_sessions(
                    reader, devices, self._devices, self._tails, self._rules.sessions.longest_gap
                )
            made = cut(previous.select(SESSIONS.names()), activity, self._rules.sessions)
            kept = self._kept(made.unsettled, active, looking)
        finally:
            appending.result()
        places = self._sources.frame(progress)
        ended = write_sessions(con, devices, previous, activity, made, kept, stitching.owners, places, self._rules)
        return len(made.unsettled), [ended]

    def _look_up_late(self, devices: pl.Series, events: pl.DataFrame) -> Kept:
        """What is stored of `devices`, which is what all but the transaction that runs still sees."""
        with self._warehouse.reader() as reader:
            return kept_of(reader, devices, events.filter(~pl.col("is_background")), self._rules)

    def _kept(self, devices: pl.Series, active: pl.DataFrame, looking: Future[Kept] | None) -> Kept | None:
        """What is stored of `devices`, which have to be cut again; that of most was looked up meanwhile."""
        if devices.is_empty():
            return None
        if looking is None:
            return self._look_up_late(devices, active)
        kept = looking.result().of(devices)
        missed = devices.filter(~devices.is_in(late_devices(active).implode()))
        return kept if missed.is_empty() else kept.and_of(self._look_up_late(missed, active))


@dataclass(slots=True)
class _Written:
    """What a transaction made that memory learns of once it is committed."""

    stitching: Stitching | None = None
    """None until all was written but the commit."""
    recuts: int = 0
    ended: list[pl.DataFrame] = field(default_factory=list)
    is_bulk: bool = False


@dataclass(frozen=True, slots=True)
class _Gathered:
    """A batch, and its `events` as flows.arrivals made them."""

    batch: DecodedBatch
    events: pl.DataFrame


class _Sources:
    """Every (topic, partition) of this run, by a small number that rows can carry."""

    def __init__(self, known: dict[tuple[str, int], Progress]) -> None:
        self._index = {key: i for i, key in enumerate(known)}

    def __len__(self) -> int:
        return len(self._index)

    def of(self, key: tuple[str, int]) -> int:
        return self._index.setdefault(key, len(self._index))

    def index(self, batch: DecodedBatch) -> int:
        return self.of((batch.topic, batch.partition))

    def lowest(self, progress: dict[tuple[str, int], Progress]) -> npt.NDArray[np.int64]:
        """By partition, its source with the lowest watermark: stored events do not say of which topic they are."""
        sources = np.zeros(1 + max((partition for _, partition in progress), default=0), np.int64)
        for key in sorted(progress, key=lambda key: progress[key].watermark or _EPOCH, reverse=True):
            sources[key[1]] = self.of(key)
        return sources

    def frame(self, progress: dict[tuple[str, int], Progress]) -> pl.DataFrame:
        """source, topic, partition and watermark of the partitions in `progress`."""
        return pl.DataFrame(
            [(self.of(key), *key, p.watermark) for key, p in progress.items()],
            schema={
                "source": pl.Int64,
                "topic": pl.String,
                "partition": pl.Int32,
                "watermark": pl.Datetime("us", "UTC"),
            },
            orient="row",
        )


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def messages_of(arrived: pl.DataFrame) -> Messages:
    """What tells the messages in `arrived` (flows.arrivals, and source) apart."""
    return Messages(
        arrived["hash_1"].to_numpy(),
        arrived["hash_2"].to_numpy(),
        arrived["device_hash"].to_numpy(),
        arrived["event_at"].to_physical().to_numpy(),
        arrived["source"].to_numpy(),
    )


def _column(con: duckdb.DuckDBPyConnection, sql: str) -> pa.ChunkedArray:
    return con.execute(sql).to_arrow_table().column(0)
