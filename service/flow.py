"""The running flow: sources, dataflow and checkpointer together, watched, and started again when partitions come."""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flows import dataflow
from flows.checkpoint import Checkpointer, Committed
from flows.decode import Decoder
from flows.files import FileSource
from flows.records import BATCH
from flows.source import KafkaSource, partitions_of
from identity.graph import Graph
from identity.stitch import Stitcher
from service.group import ConsumerGroup
from service.lag import BEHIND, Ends
from service.lost import LostRecords
from service.settings import Settings
from service.topics import create_topic, kept_for
from service.web.view import CommitTimes, FlowState, FlowStatus, PartitionState
from sinks.dead_letters import SUFFIX, DeadLetterTopic
from sinks.warehouse import Progress, Warehouse
from stitchline.errors import SettingsError, SourceError, StitchlineError, TopicMissing, WarehouseUnwritable

log = logging.getLogger(__name__)

_TIDY_EVERY: Final = 2
"""Checkpoints; it takes 30 ms to 100 ms."""
_LOOK_FOR_PARTITIONS: Final = timedelta(seconds=20)
_LOOK_AT_ENDS: Final = timedelta(seconds=1)
_NEW_CLIENT_AFTER: Final = timedelta(seconds=30)
"""Without a word of the brokers: librdkafka may never ask any again (flows/source.py)."""
_ASK_REDIS: Final = timedelta(seconds=2)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds between tries while the warehouse cannot be written
_RATE_OVER: Final = 5.0  # seconds that the shown rate is an average of


@dataclass(slots=True)
class Counts:
    """What the checkpoints of this process did, added up. Times are of the wall clock, aware UTC."""

    consumed: int = 0
    stored: int = 0
    duplicates: int = 0
    dead: int = 0
    late: int = 0
    recut: int = 0
    checkpoints: int = 0
    first_read_at: datetime | None = None
    last_commit_at: datetime | None = None


class Flow:
    """One flow over one warehouse. `stopping`, once set, ends it: what was read is committed."""

    def __init__(
        self,
        settings: Settings,
        warehouse: Warehouse,
        redis_url: str,
        bootstrap: str | None,
        stopping: threading.Event,
        committed: Callable[[Committed], None] = lambda _: None,
    ) -> None:
        self.counts = Counts()
        self._settings = settings
        self._warehouse = warehouse
        self._stopping = stopping
        self._told = committed
        self._waits: dict[str, str] = {}
        self._serving = False
        self._pausing = threading.Event()
        self._paused = threading.Event()
        self._resumed = threading.Event()
        self._pause = _FIRST_PAUSE
        self._silent: dict[str, str] = {}
        self._recent: deque[tuple[float, int]] = deque()
        self._ends = Ends()
        self._commits = CommitTimes()
        self._reading = False
        self._ended: str | None = None
        self._batch = min(BATCH, settings.flow.commit_events)
        self._config = settings.kafka.client_config(bootstrap) if bootstrap is not None else {}
        self._dead_letters = self._dead_letter_topic() if bootstrap is not None else None
        self._group = self._consumer_group() if bootstrap is not None else None
        self._held = warehouse.progress()
        self._checkpointer: Checkpointer | None = None
        self._graph = Graph(
            redis_url,
            warehouse.warehouse_id,
            warehouse.generation,
            stopping,
            lambda why: self._wait("redis", why),
            settings.identity.expire_after,
        )
        self._decoder = Decoder(settings.flow.future_skew)

    def replay_files(self, files: list[str], read: Callable[[str, int], None] = lambda *_: None) -> None:
        """Runs over `files` to their ends and closes every session."""
        checkpointer = self._recover()
        progress = checkpointer.progress
        source = FileSource(
            files, lambda t: p.next_offset if (p := progress.get((t, 0))) else 0, self._stopping, self._batch, read
        )
        try:
            self._run(source, checkpointer)
        except SourceError:
            checkpointer.finish(close_sessions=False)  # what was read before the damage is kept
            raise
        checkpointer.finish(close_sessions=not self._stopping.is_set())

    def replay_topic(self, read: Callable[[int, int], None] = lambda *_: None) -> None:
        """Runs over the topic to its end and closes every session. `read` is told records done, and all."""
        checkpointer = self._recover()
        partitions = partitions_of(self._config, self._settings.kafka.topic, self._stopping, self._kafka_waits)
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(0.5):
                read(sum(p.next_offset for p in checkpointer.progress.values()), self._ends.total())

        for target in (tell, lambda: self._watch(partitions, ended)):
            threading.Thread(target=target, daemon=True).start()
        try:
            self._run(self._kafka_source(partitions, self._stopping, until_end=True), checkpointer)
        finally:
            ended.set()
        checkpointer.finish(close_sessions=not self._stopping.is_set())
        self._tell_group(at_once=True)

    def serve(self) -> None:
        """Runs over the topic until `stopping` is set; partitions added to it are picked up meanwhile."""
        threading.Thread(target=self._ask_redis, name="ask-redis", daemon=True).start()
        self._serving = True
        try:
            self._serve(self._recover())
        except BaseException as error:
            self._ended = str(error)
            raise
        self._ended = "the flow has ended"

    def _serve(self, checkpointer: Checkpointer) -> None:
        partitions: list[int] = []
        while not self._stopping.is_set():
            if self._pausing.is_set():
                checkpointer = self._stand_still(checkpointer)
                continue
            again = _EitherEvent(self._stopping, self._pausing)
            partitions = self._partitions(again) or partitions
            if again.is_set():
                continue
            self._log_offsets("reading topic %s from offsets %s", partitions)
            watcher = threading.Thread(target=self._watch, args=(partitions, again), name="watch", daemon=True)
            watcher.start()
            try:
                self._run(self._kafka_source(partitions, again, until_end=False), checkpointer)
            finally:
                again.set()
                watcher.join()
        checkpointer.finish(close_sessions=False)
        if "kafka" not in self._silent and "kafka" not in self._waits:
            self._tell_group(at_once=True)
        if partitions:
            self._log_offsets("stopped reading topic %s; all is committed up to offsets %s", partitions)

    def _stand_still(self, checkpointer: Checkpointer) -> Checkpointer:
        """Commits what was read, stands still until it may go on, and learns anew what the warehouse has then."""
        checkpointer.finish(close_sessions=False)
        self._reading = False
        self._paused.set()
        while not (self._resumed.wait(0.2) or self._stopping.is_set()):
            pass
        if self._stopping.is_set() and not self._resumed.is_set():
            self._resumed.wait()  # whoever changes the warehouse ends first
        self._paused.clear()
        self._pausing.clear()
        return self._recover()

    @contextmanager
    def paused(self, patience: timedelta) -> Iterator[Graph]:
        """The flow stands still for the block, with all that was read committed, and then knows the warehouse as it is.
        Gives the identity state, which may be changed meanwhile. For one at a time.

        Raises StitchlineError if it does not come to a stand within `patience`.
        """
        self._resumed.clear()
        self._pausing.set()
        try:
            until = time.monotonic() + patience.total_seconds()
            while not self._paused.wait(0.1):
                if self._ended is not None:
                    raise StitchlineError(f"The flow does not run: {self._ended}. Start the service again first.")
                if time.monotonic() > until:
                    why = self.state().detail or "what was read is being committed"
                    self._pausing.clear()
                    raise StitchlineError(f"The flow does not come to a stand ({why}). Nothing was changed; try again.")
            yield self._graph
        finally:
            self._resumed.set()

    def kept_for(self) -> str:
        """How long Kafka keeps the topic's records, in words."""
        return kept_for(self._producer_config(), self._settings.kafka.topic)

    def close(self) -> None:
        self._ended = self._ended or "the flow has ended"
        self._graph.close()

    def _recover(self) -> Checkpointer:
        """Brings Redis to where the warehouse is, and the checkpointer; waits while Redis is away."""
        settings, rules = self._settings, self._settings.flow_rules()
        stitcher = Stitcher(self._graph, rules.legal, settings.sessions.logout_events, rules.links)
        stitcher.recover(self._warehouse)
        self._checkpointer = Checkpointer(
            self._warehouse,
            stitcher,
            rules,
            settings.checkpoint_limits(),
            self._dead_letters,
            self._count,
            self._wait_for_room,
        )
        self._lost = LostRecords(
            self._warehouse,
            self._checkpointer,
            self._producer_config(),
            settings.kafka.topic,
            settings.kafka.on_lost_records,
        )
        return self._checkpointer

    def _progress(self) -> dict[tuple[str, int], Progress]:
        return self._checkpointer.progress if self._checkpointer is not None else self._held

    def _places(self) -> list[Progress]:
        return [p for p in self._progress().values() if p.topic == self._settings.kafka.topic]

    def _place(self, partition: int) -> Progress:
        topic = self._settings.kafka.topic
        return self._progress().get((topic, partition), Progress(topic, partition))

    def state(self) -> FlowState:
        """What the flow is doing, from memory."""
        now = datetime.now(UTC)
        partitions = [self._state_of(p, now) for p in sorted(self._places(), key=lambda p: p.partition)]
        lag = max((p.lag for p in partitions), default=timedelta())
        waits, silent, ended = self._waits.copy(), self._silent.copy(), self._ended
        status: FlowStatus = "catching up" if lag > BEHIND else "running"
        detail = "; ".join((waits or silent).values())
        if ended is not None:
            status, detail = "stopped", ended
        elif waits:
            status = "waiting"
        elif not self._reading:
            status, detail = "waiting", detail or "getting ready to read"
        return FlowState(
            status,
            detail,
            0.0 if ended is not None else self._rate(),
            sum(p.lag_records for p in partitions),
            lag,
            partitions,
            waits_for=tuple(waits),
            silent=tuple(silent),
            recut=self.counts.recut,
            commits=self._commits,
        )

    def _state_of(self, p: Progress, now: datetime) -> PartitionState:
        records, lag = self._ends.lag(p, now)
        return PartitionState(p.topic, p.partition, p.next_offset, self._ends.of(p), p.watermark, records, lag, p)

    def _partitions(self, stopping: threading.Event) -> list[int]:
        """The topic's, which is made, with the one of its dead letters, if the settings want that; an empty list if
        `stopping` came first."""
        kafka = self._settings.kafka
        try:
            found = partitions_of(self._config, kafka.topic, stopping, self._kafka_waits)
        except TopicMissing:
            if kafka.create_topic_partitions is None:
                raise
            create_topic(self._producer_config(), kafka.topic, kafka.create_topic_partitions)
            found = partitions_of(self._config, kafka.topic, stopping, self._kafka_waits)
        if found and kafka.create_topic_partitions is not None:
            create_topic(self._producer_config(), kafka.topic + SUFFIX, 1)
        return found

    def _kafka_source(self, partitions: list[int], stopping: threading.Event, *, until_end: bool) -> KafkaSource:
        topic = self._settings.kafka.topic
        self._lost.recognise()

        def next_offset(partition: int) -> int | None:
            p = self._progress().get((topic, partition))
            return p.next_offset if p else None

        return KafkaSource(
            self._config,
            topic,
            partitions,
            next_offset,
            stopping,
            batch=self._batch,
            until_end=until_end,
            waiting=self._kafka_waits,
            skip=self._lost.skip,
        )

    def _run(self, source: FileSource | KafkaSource, checkpointer: Checkpointer) -> None:
        self.counts.first_read_at = self.counts.first_read_at or datetime.now(UTC)
        # Batches and what becomes of them hold no cycles, yet the collector would look through them again and again.
        # It is called after a checkpoint instead, when they are gone.
        gc.collect()
        gc.freeze()
        gc.disable()
        flow = dataflow.build(source, self._decoder, checkpointer)
        self._reading = True
        dataflow.run(flow, min(self._settings.flow.workers, len(source.list_parts())))

    def _watch(self, partitions: list[int], again: threading.Event) -> None:
        """Looks where the partitions end, and whether there are more of them than the flow reads."""
        topic = self._settings.kafka.topic
        config = {**self._config, "group.id": f"{self._settings.kafka.group}-watch", "log_level": "2"}
        consumer = Consumer(config)
        heard = time.monotonic()
        look_again = heard + _LOOK_FOR_PARTITIONS.total_seconds()
        try:
            while not again.wait(_LOOK_AT_ENDS.total_seconds()):
                try:
                    for partition in partitions:
                        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
                        self._look(partition, end)
                    self._heard("kafka", None)
                    self._tell_group()
                    heard = time.monotonic()
                    if heard >= look_again:
                        look_again = heard + _LOOK_FOR_PARTITIONS.total_seconds()
                        found = sorted(consumer.list_topics(topic, timeout=5).topics[topic].partitions)
                        if found and found != partitions:
                            told = {"topic": topic, "partitions": len(found), "before": len(partitions)}
                            log.info("topic %s has %d partitions now, %d before", *told.values(), extra=told)
                            again.set()
                        if self._lost.is_another_topic():
                            again.set()
                except KafkaException as error:
                    self._heard("kafka", f"Kafka is away ({error.args[0].str()}); waiting for it")
                    if time.monotonic() - heard > _NEW_CLIENT_AFTER.total_seconds():
                        heard = time.monotonic()
                        consumer.close()
                        consumer = Consumer(config)
        finally:
            consumer.close()

    def _tell_group(self, *, at_once: bool = False) -> None:
        if self._group is not None:
            offsets = {p.partition: p.next_offset for p in self._places()}
            self._group.tell(offsets, at_once=at_once)

    def _wait_for_room(self, error: WarehouseUnwritable) -> None:
        """A service waits until its warehouse can be written again. A replay gives up, as does a service that is to
        stop: what was read and not committed is read again."""
        if not self._serving or self._stopping.is_set():
            raise error
        self._wait("warehouse", f"{error} The flow waits, and tries again.")
        if self._stopping.wait(self._pause):
            raise error
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _look(self, partition: int, end: int) -> None:
        """Notes where the partition ends, and tells when that makes it another thing than it was."""
        place, now = self._place(partition), datetime.now(UTC)
        standing = self._ends.look(place, end, now)
        if standing is None:
            return
        records, lag = self._ends.lag(place, now)
        where: dict[str, object] = {"topic": place.topic, "partition": partition, "offset": place.next_offset}
        if standing == "at its end":
            log.info("topic %s partition %d is at its end, offset %d", *where.values(), extra=where)
        else:
            told = where | {"lag_records": records, "lag_seconds": round(lag.total_seconds(), 1)}
            log.info("topic %s partition %d is behind at offset %d: %d records, %.1f s", *told.values(), extra=told)

    def _ask_redis(self) -> None:
        """Asks Redis now and then, so that it is known to be away before the flow needs it."""
        while self._ended is None and not self._stopping.wait(_ASK_REDIS.total_seconds()):
            self._heard("redis", self._graph.why_silent())

    def _log_offsets(self, text: str, partitions: list[int]) -> None:
        topic = self._settings.kafka.topic
        offsets = {str(partition): self._place(partition).next_offset for partition in partitions}
        shown = ", ".join(f"{partition}: {offset}" for partition, offset in offsets.items())
        log.info(text, topic, shown, extra={"topic": topic, "offsets": offsets})

    def _count(self, done: Committed) -> None:
        self._pause = _FIRST_PAUSE
        self._wait("warehouse", None)
        counts = self.counts
        counts.consumed += done.consumed
        counts.stored += done.stored
        counts.duplicates += done.duplicates
        counts.dead += done.dead
        counts.late += done.late
        counts.recut += done.recut
        counts.checkpoints += 1
        counts.last_commit_at = datetime.now(UTC)
        self._commits.saw(timedelta(seconds=done.seconds))
        self._recent.append((time.monotonic(), done.consumed))
        self._told(done)
        if counts.checkpoints % _TIDY_EVERY == 0:
            gc.collect()
            gc.freeze()  # what is still there is for long, and need not be looked through again
            _give_back()

    def _rate(self) -> float:
        horizon = time.monotonic() - _RATE_OVER
        while self._recent and self._recent[0][0] < horizon:
            self._recent.popleft()
        return sum(consumed for _, consumed in list(self._recent)) / _RATE_OVER

    def _kafka_waits(self, why: str | None) -> None:
        self._wait("kafka", why)

    def _wait(self, what: str, why: str | None) -> None:
        if why is None:
            self._back(self._waits, self._silent, what)
        else:
            self._away(self._waits, self._silent, what, why)

    def _heard(self, what: str, why: str | None) -> None:
        """`what` answered when it was asked; or did not, and `why`. Whether the flow needs it now, `_wait` says."""
        if why is None:
            self._back(self._silent, self._waits, what)
        else:
            self._away(self._silent, self._waits, what, why)

    def _away(self, known: dict[str, str], elsewhere: dict[str, str], what: str, why: str) -> None:
        is_news = what not in known and what not in elsewhere
        known[what] = why
        if is_news:
            log.warning("%s", why, extra={"service": what})

    def _back(self, known: dict[str, str], elsewhere: dict[str, str], what: str) -> None:
        if known.pop(what, None) is not None and what not in elsewhere:
            again = "can be written" if what == "warehouse" else "answers"
            log.info("%s %s again", what.capitalize(), again, extra={"service": what})

    def _dead_letter_topic(self) -> DeadLetterTopic:
        """The first client that is given [kafka.config], before anything is connected to."""
        try:
            return DeadLetterTopic(self._producer_config(), self._stopping)
        except KafkaException as error:
            raise SettingsError(
                f"[kafka.config] is not accepted by librdkafka: {error.args[0].str()}. Mend it in the settings.",
                setting="kafka.config",
            ) from None

    def _consumer_group(self) -> ConsumerGroup:
        kafka = self._settings.kafka
        return ConsumerGroup(self._producer_config(), kafka.group, kafka.topic)

    def _producer_config(self) -> dict[str, str]:
        return {name: value for name, value in self._config.items() if name != "group.id"}


def _give_back() -> None:
    """Lets the system have the pages that freed columns left: up to half a gigabyte, which the C library would keep."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


class _EitherEvent(threading.Event):
    """Set when set, or when one of `others` is."""

    def __init__(self, *others: threading.Event) -> None:
        super().__init__()
        self._others = others

    def is_set(self) -> bool:
        return super().is_set() or any(other.is_set() for other in self._others)

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            rest = 0.2 if until is None else min(0.2, until - time.monotonic())
            if rest <= 0:
                break
            super().wait(rest)
        return self.is_set()
