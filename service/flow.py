"""The running flow: sources, dataflow and checkpointer together, watched, and started again when partitions come."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
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
from service.lost import LostRecords
from service.settings import Settings
from service.topics import create_topic
from service.web.view import FlowState, PartitionState
from sinks.dead_letters import SUFFIX, DeadLetterTopic
from sinks.warehouse import Warehouse
from stitchline.errors import SettingsError, SourceError, TopicMissing

log = logging.getLogger(__name__)

_LOOK_FOR_PARTITIONS: Final = timedelta(seconds=20)
_LOOK_AT_ENDS: Final = timedelta(seconds=1)
_BEHIND: Final = timedelta(seconds=10)
"""A flow further behind than this is catching up."""
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
        self._recent: deque[tuple[float, int]] = deque()
        self._ends: dict[int, int] = {}
        self._lag_since: datetime | None = None
        self._ended = False
        self._batch = min(BATCH, settings.flow.commit_events)
        self._config = settings.kafka.client_config(bootstrap) if bootstrap is not None else {}
        dead_letters = self._dead_letter_topic() if bootstrap is not None else None
        rules = settings.flow_rules()
        self._graph = Graph(
            redis_url,
            warehouse.warehouse_id,
            warehouse.generation,
            stopping,
            lambda why: self._wait("redis", why),
        )
        stitcher = Stitcher(self._graph, rules.legal, settings.sessions.logout_events, settings.identity.look_back)
        stitcher.recover(warehouse)
        self._checkpointer = Checkpointer(
            warehouse, stitcher, rules, settings.checkpoint_limits(), dead_letters, self._count
        )
        self._lost = LostRecords(
            warehouse,
            self._checkpointer,
            self._producer_config(),
            settings.kafka.topic,
            settings.kafka.on_lost_records,
        )
        self._decoder = Decoder(settings.flow.future_skew)

    def replay_files(self, files: list[str], read: Callable[[str, int], None] = lambda *_: None) -> None:
        """Runs over `files` to their ends and closes every session."""
        progress = self._checkpointer.progress
        source = FileSource(
            files, lambda t: p.next_offset if (p := progress.get((t, 0))) else 0, self._stopping, self._batch, read
        )
        try:
            self._run(source)
        except SourceError:
            self._checkpointer.finish(close_sessions=False)  # what was read before the damage is kept
            raise
        self._checkpointer.finish(close_sessions=not self._stopping.is_set())

    def replay_topic(self, read: Callable[[int, int], None] = lambda *_: None) -> None:
        """Runs over the topic to its end and closes every session. `read` is told records done, and all."""
        partitions = partitions_of(self._config, self._settings.kafka.topic, self._stopping, self._kafka_waits)
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(0.5):
                read(sum(p.next_offset for p in self._checkpointer.progress.values()), sum(self._ends.values()))

        for target in (tell, lambda: self._watch(partitions, ended)):
            threading.Thread(target=target, daemon=True).start()
        try:
            self._run(self._kafka_source(partitions, self._stopping, until_end=True))
        finally:
            ended.set()
        self._checkpointer.finish(close_sessions=not self._stopping.is_set())

    def serve(self) -> None:
        """Runs over the topic until `stopping` is set; partitions added to it are picked up meanwhile."""
        topic = self._settings.kafka.topic
        while not self._stopping.is_set():
            partitions = self._partitions()
            if not partitions:
                break
            log.info("reading topic %s, partitions %s", topic, ", ".join(map(str, partitions)))
            again = _EitherEvent(self._stopping)
            watcher = threading.Thread(target=self._watch, args=(partitions, again), name="watch", daemon=True)
            watcher.start()
            try:
                self._run(self._kafka_source(partitions, again, until_end=False))
            finally:
                again.set()
                watcher.join()
        self._checkpointer.finish(close_sessions=False)

    def close(self) -> None:
        self._ended = True
        self._graph.close()

    def state(self) -> FlowState:
        """What the flow is doing, from memory."""
        progress = self._checkpointer.progress
        partitions = [
            PartitionState(
                topic=p.topic,
                partition=p.partition,
                next_offset=p.next_offset,
                end_offset=max(self._ends.get(p.partition, 0), p.next_offset),
                watermark=p.watermark,
                lag_records=max(self._ends.get(p.partition, 0) - p.next_offset, 0),
            )
            for p in sorted(progress.values(), key=lambda p: (p.topic, p.partition))
            if p.topic == self._settings.kafka.topic
        ]
        records = sum(p.lag_records for p in partitions)
        newest = max((p.last_kafka_at for p in progress.values() if p.last_kafka_at), default=None)
        lag = max(datetime.now(UTC) - newest, timedelta()) if records and newest is not None else timedelta()
        if self._ended:
            return FlowState("stopped", "the flow has ended", 0.0, records, lag, partitions)
        if self._waits:
            return FlowState("waiting", "; ".join(self._waits.values()), self._rate(), records, lag, partitions)
        return FlowState("catching up" if lag > _BEHIND else "running", "", self._rate(), records, lag, partitions)

    def _partitions(self) -> list[int]:
        """The topic's, which is made, with the one of its dead letters, if the settings want that."""
        kafka = self._settings.kafka
        try:
            found = partitions_of(self._config, kafka.topic, self._stopping, self._kafka_waits)
        except TopicMissing:
            if kafka.create_topic_partitions is None:
                raise
            create_topic(self._producer_config(), kafka.topic, kafka.create_topic_partitions)
            found = partitions_of(self._config, kafka.topic, self._stopping, self._kafka_waits)
        if found and kafka.create_topic_partitions is not None:
            create_topic(self._producer_config(), kafka.topic + SUFFIX, 1)
        return found

    def _kafka_source(self, partitions: list[int], stopping: threading.Event, *, until_end: bool) -> KafkaSource:
        topic = self._settings.kafka.topic
        self._lost.recognise()

        def next_offset(partition: int) -> int | None:
            p = self._checkpointer.progress.get((topic, partition))
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

    def _run(self, source: FileSource | KafkaSource) -> None:
        self.counts.first_read_at = self.counts.first_read_at or datetime.now(UTC)
        # A batch of records is many thousand objects without a cycle among them, which the collector would look through
        # again and again: a tenth of the time. It is called after each checkpoint instead, when they are gone.
        gc.collect()
        gc.freeze()
        gc.disable()
        flow = dataflow.build(source, self._decoder, self._checkpointer)
        dataflow.run(flow, min(self._settings.flow.workers, len(source.list_parts())))

    def _watch(self, partitions: list[int], again: threading.Event) -> None:
        """Looks where the partitions end, and whether there are more of them than the flow reads."""
        topic = self._settings.kafka.topic
        consumer = Consumer({**self._config, "group.id": f"{self._settings.kafka.group}-watch", "log_level": "2"})
        look_again = time.monotonic() + _LOOK_FOR_PARTITIONS.total_seconds()
        try:
            while not again.wait(_LOOK_AT_ENDS.total_seconds()):
                try:
                    for partition in partitions:
                        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
                        self._ends[partition] = end
                    if time.monotonic() >= look_again:
                        look_again = time.monotonic() + _LOOK_FOR_PARTITIONS.total_seconds()
                        found = sorted(consumer.list_topics(topic, timeout=5).topics[topic].partitions)
                        if found and found != partitions:
                            log.info("topic %s has %d partitions now, %d before", topic, len(found), len(partitions))
                            again.set()
                        if self._lost.is_another_topic():
                            again.set()
                except KafkaException as error:
                    log.debug("could not look at topic %s: %s", topic, error)
        finally:
            consumer.close()

    def _count(self, done: Committed) -> None:
        counts = self.counts
        counts.consumed += done.consumed
        counts.stored += done.stored
        counts.duplicates += done.duplicates
        counts.dead += done.dead
        counts.late += done.late
        counts.recut += done.recut
        counts.checkpoints += 1
        counts.last_commit_at = datetime.now(UTC)
        self._recent.append((time.monotonic(), done.consumed))
        self._told(done)
        gc.collect()
        gc.freeze()  # what is still there is for long, and need not be looked through again

    def _rate(self) -> float:
        horizon = time.monotonic() - _RATE_OVER
        while self._recent and self._recent[0][0] < horizon:
            self._recent.popleft()
        return sum(consumed for _, consumed in list(self._recent)) / _RATE_OVER

    def _kafka_waits(self, why: str | None) -> None:
        self._wait("kafka", why)

    def _wait(self, what: str, why: str | None) -> None:
        if why is None:
            if self._waits.pop(what, None) is not None:
                log.info("%s answers again", what.capitalize())
        elif what not in self._waits:
            self._waits[what] = why
            log.warning("%s", why)
        else:
            self._waits[what] = why

    def _dead_letter_topic(self) -> DeadLetterTopic:
        """The first client that is given [kafka.config], before anything is connected to."""
        try:
            return DeadLetterTopic(self._producer_config(), self._stopping)
        except KafkaException as error:
            raise SettingsError(
                f"[kafka.config] is not accepted by librdkafka: {error.args[0].str()}. Mend it in the settings.",
                setting="kafka.config",
            ) from None

    def _producer_config(self) -> dict[str, str]:
        return {name: value for name, value in self._config.items() if name != "group.id"}


class _EitherEvent(threading.Event):
    """Set when set, or when `other` is."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            rest = 0.2 if until is None else min(0.2, until - time.monotonic())
            if rest <= 0:
                break
            super().wait(rest)
        return self.is_set()
