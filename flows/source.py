"""Where events come from: the partitions of a Kafka topic, or files. Both hand on RawBatches, whole batches as items.

Offsets to start from are the warehouse's; Kafka's consumer group only learns them so that lag tools can see them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException

from flows.consumer import PartitionConsumer, Read
from flows.records import BATCH, RawBatch
from stitchline.errors import RecordsLost, SourceError, TopicMissing

log = logging.getLogger(__name__)

CONSUMER_DEFAULTS: Final = {
    "enable.auto.commit": "false",
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",  # the warehouse says where to read; a silent jump would lose events
    "fetch.queue.backoff.ms": "5",  # the default second starves a consumer that is faster than its queue
    "fetch.message.max.bytes": "4194304",
    "queued.max.messages.kbytes": "8192",  # a partition; bounds memory when the sink is slow
    "reconnect.backoff.max.ms": "5000",
    "socket.timeout.ms": "10000",  # a question to a broker that goes away can hold up its reader for so long
    "topic.metadata.refresh.interval.ms": "30000",
    "log_level": "2",  # what matters is said by the flow itself
}
"""librdkafka settings, each of which `[kafka.config]` can override."""

_WAIT_FOR_MORE: Final = 0.02  # seconds that a read may wait for a full batch
_PAUSE: Final = 0.1  # seconds
"""Between two reads of a partition that gave less than a quarter of a batch: small ones cost more than they are worth,
and what is visible within two seconds may wait a tenth of one. Bytewax would wait by the wall clock, which may be set
back by an hour, so the partition does it itself."""
_LOOK_FIRST, _LOOK_FOR = 1.0, 0.2  # seconds that a broker may take to say that it is there, and that it is back
_LOOK_AFTER_LOSS: Final = 5.0  # seconds that a broker may take to say what it has
_ASK_EVERY: Final = 30.0  # seconds of silence after which a partition asks whether the brokers are there
_ANEW_AFTER, _LATEST_ANEW = 10.0, 60.0  # seconds
"""For so long, and each time for twice as long, nothing may come before a partition's client is made anew: librdkafka
(2.10 to 2.16) that hears of no brokers, from one that has just started, never asks any again."""
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 10.0  # seconds

Waiting = Callable[[str | None], None]
"""Told why the source waits, and None when it no longer does."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that Kafka no longer has though the warehouse would go on with them, from `offset` to before `first`.

    Where `offset` is beyond `end`, no such records are known: the topic was made anew, or its brokers forgot what they
    had acknowledged, and `first` is where all that is there begins.
    """

    topic: str
    partition: int
    offset: int
    first: int
    """The first offset that is there now."""
    end: int

    @property
    def anew(self) -> bool:
        return self.offset > self.end

    def __str__(self) -> str:
        where = f"Topic {self.topic!r} partition {self.partition} no longer has offset {self.offset:,}"
        if self.anew:
            return (
                f"{where}, where the warehouse would go on: it ends at {self.end:,}. The topic was made anew, or its "
                "brokers lost records that they had acknowledged; what was stored of them stays stored"
            )
        return (
            f"{where}, where the warehouse would go on: its first is {self.first:,}. The {self.first - self.offset:,} "
            f"offsets from {self.offset:,} to {self.first - 1:,} were deleted before they were read"
        )


Skip = Callable[[Lost], None]
"""Records a loss, after which the flow goes on behind it."""


def partitions_of(
    config: Mapping[str, str], topic: str, stopping: threading.Event, waiting: Waiting = lambda _: None
) -> list[int]:
    """The topic's partitions. Waits, with back-off, while no broker answers; an empty list if `stopping` came first.

    Raises TopicMissing if the brokers do not know the topic.
    """
    retry = _FIRST_RETRY
    while not stopping.is_set():
        consumer = Consumer({"group.id": "stitchline", **CONSUMER_DEFAULTS, **config})
        try:
            found = consumer.list_topics(topic, timeout=10).topics[topic]
        except KafkaException as error:
            waiting(f"no broker at {config.get('bootstrap.servers')} answers ({error.args[0].str()}); trying again")
            stopping.wait(retry)
            retry = min(2 * retry, _LONGEST_RETRY)
            continue
        finally:
            consumer.close()
        waiting(None)
        if found.error is None and found.partitions:
            return sorted(found.partitions)
        raise TopicMissing(
            f"Topic {topic!r} is not on the brokers at {config.get('bootstrap.servers')}. Create it, or name "
            "another with the setting kafka.topic (STITCHLINE_KAFKA__TOPIC).",
            topic=topic,
            bootstrap=config.get("bootstrap.servers"),
        )
    return []


class KafkaSource(FixedPartitionedSource[RawBatch, None]):
    """One Bytewax partition for each Kafka partition, assigned by hand.

    `next_offset` gives where a partition resumes (None: from its beginning).
    The source ends when `stopping` is set, or at the end of each partition if `until_end`.
    """

    def __init__(
        self,
        config: Mapping[str, str],
        topic: str,
        partitions: list[int],
        next_offset: Callable[[int], int | None],
        stopping: threading.Event,
        *,
        batch: int = BATCH,
        until_end: bool = False,
        waiting: Waiting = lambda _: None,
        skip: Skip | None = None,
    ) -> None:
        """`skip` is told of lost records before they are passed over; without it they end the flow (RecordsLost)."""
        self.topic = topic
        self.batch = batch
        self.until_end = until_end
        self.next_offset = next_offset
        self.stopping = stopping
        self.skip = skip
        self.busy: dict[int, float] = {}
        """By thread: when a partition that it reads gave a large batch last, by the monotonic clock."""
        self.config = {"group.id": "stitchline", **CONSUMER_DEFAULTS, **config}
        self._partitions = partitions
        self._waiting = waiting
        self._away: set[int] = set()
        self._telling = threading.Lock()

    def list_parts(self) -> list[str]:
        return [f"{partition:05d}" for partition in self._partitions]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> KafkaPartition:
        return KafkaPartition(self, int(for_part))

    def away(self, partition: int, why: str | None) -> None:
        """Passes on why the first partition that cannot be read waits, and when none does any more."""
        with self._telling:
            before = bool(self._away)
            if why is None:
                self._away.discard(partition)
            else:
                self._away.add(partition)
            if before != bool(self._away):
                self._waiting(why)


class KafkaPartition(StatefulSourcePartition[RawBatch, None]):
    """Reads one partition in batches and says how it stands."""

    def __init__(self, source: KafkaSource, partition: int) -> None:
        self._source = source
        self._partition = partition
        self._committed = source.next_offset(partition)
        self._next = self._committed or 0
        self._at_end = False
        self._doubt: str | None = None
        self._away = False
        self._due = 0.0  # by the monotonic clock, as is:
        self._heard = time.monotonic()
        """When something came, or nothing was there to come, or the client was made."""
        self._patience = _ANEW_AFTER
        self._consumer = self._client(OFFSET_BEGINNING if self._committed is None else self._committed)

    def _client(self, start: int) -> PartitionConsumer:
        return PartitionConsumer(self._source.config, self._source.topic, self._partition, start)

    def next_batch(self) -> Iterable[RawBatch]:
        if self._source.stopping.is_set():
            raise StopIteration
        read = self._consumer.read(self._source.batch, self._wait_until_due())
        count = len(read.values)
        if self._at_end and self._source.until_end and not count and not read.told:
            raise StopIteration
        if count:
            self._at_end = False
            self._back()
            self._hear()
        for error, offset in read.told:  # the end of the partition is told behind its last record
            self._note(error, offset)
        if not count and (self._doubt is not None or time.monotonic() - self._heard > _ASK_EVERY):
            self._look_whether_away()
        if count < self._source.batch // 4:  # meanwhile librdkafka goes on fetching
            self._due = time.monotonic() + _PAUSE
        else:
            self._source.busy[threading.get_ident()] = time.monotonic()
        if count:
            self._next = max(self._next, int(read.offsets[-1]) + 1)
            log.debug("read %d records of partition %d, up to offset %d", count, self._partition, self._next)
        return [self._batch(read)]

    def next_awake(self) -> datetime | None:
        return None  # at once: `_wait_until_due` waits

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._consumer.close()

    def _wait_until_due(self) -> float:
        """Waits, unless that held up another partition of this thread. Returns how long a read may wait for more."""
        now = time.monotonic()
        if now >= self._due:
            return _WAIT_FOR_MORE
        if now - self._source.busy.get(threading.get_ident(), 0.0) < _PAUSE:
            return 0.0
        self._source.stopping.wait(self._due - now)
        return _WAIT_FOR_MORE

    def _batch(self, read: Read) -> RawBatch:
        return RawBatch(
            topic=self._source.topic,
            partition=self._partition,
            next_offset=self._next,
            values=read.values,
            keys=read.keys,
            offsets=read.offsets,
            kafka_at=read.kafka_at,
            at_end=self._at_end,
            read_at=datetime.now(UTC),
        )

    def _note(self, error: KafkaError, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end = True
            self._next = max(self._next, offset)
            self._back()
            self._hear()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._miss()
        elif error.fatal() or error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART):
            raise SourceError(
                f"Topic {self._source.topic!r} partition {self._partition} cannot be read: {error.str()}.",
                topic=self._source.topic,
                partition=self._partition,
            )
        else:
            self._on_error(error)

    def _miss(self) -> None:
        """Kafka does not have what was asked for: the flow ends, or goes on with the first record that is there."""
        try:
            first, end = self._consumer.ends(_LOOK_AFTER_LOSS)
        except KafkaException as error:  # it is asked again once the brokers answer
            self._consumer.assign(self._next)
            self._on_error(error.args[0])
            return
        lost = Lost(self._source.topic, self._partition, self._next, first, end)
        if lost.anew or first > self._next:
            if self._source.skip is None:
                raise RecordsLost(
                    f"{lost}. Nothing was skipped. Bring the records back, or begin with an empty warehouse, or let "
                    f'the flow go on at offset {first:,} by kafka.on_lost_records = "skip" '
                    "(STITCHLINE_KAFKA__ON_LOST_RECORDS): copies of what is stored are dropped as ever, and the loss "
                    "is kept in stream.lost_records.",
                    topic=lost.topic,
                    partition=lost.partition,
                    offset=lost.offset,
                    first=first,
                    end=end,
                )
            self._source.skip(lost)
            self._next = first
        self._consumer.assign(self._next)

    def _on_error(self, error: KafkaError) -> None:
        """Brokers come and go; librdkafka connects again with back-off, and meanwhile nothing is at its end. An error
        may be of a connection that nobody needs any more: whether it matters is looked into once nothing comes."""
        self._at_end = False
        self._doubt = error.str()

    def _look_whether_away(self) -> None:
        """The end is told once: where nothing came meanwhile, a broker that is back has to be asked."""
        try:
            _, end = self._consumer.ends(_LOOK_FOR if self._away else _LOOK_FIRST)
        except KafkaException as error:
            if self._doubt is None:
                self._on_error(error.args[0])
            if not self._away:
                self._away = True
                self._source.away(self._partition, f"Kafka is away ({self._doubt}); waiting for it")
        else:
            self._back()
            self._at_end = end <= self._next
            if self._at_end:
                self._hear()
        if time.monotonic() - self._heard > self._patience:
            self._begin_anew()

    def _begin_anew(self) -> None:
        log.debug("a new client reads partition %d from offset %d on", self._partition, self._next)
        self._consumer.close()
        self._consumer = self._client(self._next if self._next or self._committed is not None else OFFSET_BEGINNING)
        self._heard = time.monotonic()
        self._patience = min(2 * self._patience, _LATEST_ANEW)

    def _hear(self) -> None:
        self._heard, self._patience = time.monotonic(), _ANEW_AFTER

    def _back(self) -> None:
        self._doubt = None
        if self._away:
            self._away = False
            self._source.away(self._partition, None)
