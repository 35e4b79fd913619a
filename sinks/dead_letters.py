"""The dead-letter topic: each record that is not acceptable, as it came, at least once."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import Any, Final

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

SUFFIX: Final = ".dead"
"""The topic's name is that of the events with this after it."""

PRODUCER_DEFAULTS: Final = {
    "log_level": "2",
    "linger.ms": "5",
    "message.max.bytes": "67108864",  # what the brokers took once: a letter may well be too large for an event
    "message.timeout.ms": "0",  # brokers that are away are waited for: giving up would lose letters
    "topic.metadata.propagation.max.ms": "5000",  # how long the flow stands until a topic counts as missing
}
"""librdkafka settings, each of which `[kafka.config]` can override."""

_PAUSE: Final = 1.0  # seconds between two looks at whether all were delivered
_PATIENCE: Final = 10.0  # seconds until a word about it, and what is left to a flow that is to stop
_ANEW_AFTER, _LATEST_ANEW = 30.0, 240.0  # seconds
"""For so long, and each time for twice as long, letters may wait for the brokers until a new producer sends them again:
librdkafka (2.10 to 2.16) that hears of no brokers, from one that has just started, never asks any again."""
_MISSING_FOR: Final = 60.0  # seconds until a topic that was missing is tried again
_AT_ONCE: Final = 10_000  # letters
_PURGED: Final = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
_MISSING: Final = (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


class DeadLetterTopic:
    """Sends dead letters to `<topic>.dead`, with the reason in the headers, and waits until they are there.

    `stopping`, once set, ends the waiting for brokers that are away.
    """

    def __init__(self, config: dict[str, str], stopping: threading.Event | None = None) -> None:
        self._config = {**PRODUCER_DEFAULTS, **config, "acks": "all"}
        self._producer = Producer(self._config)
        self._stopping = stopping or threading.Event()
        self._missing: dict[str, float] = {}
        self._told: set[tuple[str, int]] = set()

    def send(self, letters: list[pa.Table]) -> None:
        """Blocks until every letter is acknowledged; a broker that is away is waited for, with a word in the log. What
        the brokers refuse, as when the topic is not there, is said once: the warehouse's table has every letter.

        Raises StitchlineError if the flow is to stop and the brokers still do not answer.
        """
        rows = (row for table in letters for row in table.to_pylist())
        while some := list(itertools.islice(rows, _AT_ONCE)):
            self._deliver(some)

    def _deliver(self, letters: list[dict[str, Any]]) -> None:
        began, told = time.monotonic(), False
        tried, patience = began, _ANEW_AFTER
        self._produce_all(letters)
        while self._producer.flush(_PAUSE):
            waited = time.monotonic() - began
            if self._stopping.is_set() and waited > _PATIENCE:
                raise StitchlineError(
                    f"{len(self._producer)} dead letters were not acknowledged by Kafka before the stop. Nothing is "
                    "lost: their records are read again at the next start."
                )
            if waited > _PATIENCE and not told:
                told = True
                log.warning("%d dead letters are not acknowledged yet; waiting for Kafka", len(self._producer))
            if time.monotonic() - tried > patience:
                tried, patience = time.monotonic(), min(2 * patience, _LATEST_ANEW)
                self._producer.purge()
                self._producer = Producer(self._config)
                self._produce_all(letters)
        if told:
            log.info("all dead letters are acknowledged now")

    def _produce_all(self, letters: list[dict[str, Any]]) -> None:
        for row in letters:
            self._produce(f"{row['topic']}{SUFFIX}", row)

    def _produce(self, topic: str, row: dict[str, Any]) -> None:
        if time.monotonic() < self._missing.get(topic, 0.0):
            return
        headers = {
            "stitchline.reason": str(row["reason"]),
            "stitchline.detail": str(row["detail"]),
            "stitchline.partition": str(row["partition"]),
            "stitchline.offset": str(row["offset"]),
        }
        while True:
            try:
                self._producer.produce(
                    topic,
                    row["raw"],
                    row["key"],
                    headers=list(headers.items()),
                    on_delivery=lambda error, message: self._delivered(topic, error, message),
                )
            except BufferError:
                self._producer.poll(_PAUSE)
            except KafkaException as error:
                self._refused(topic, error.args[0])
                return
            else:
                return

    def _delivered(self, topic: str, error: KafkaError | None, _: Message) -> None:
        if error is not None and error.code() not in _PURGED:
            self._refused(topic, error)

    def _refused(self, topic: str, error: KafkaError) -> None:
        missing = error.code() in _MISSING
        if missing:
            self._missing[topic] = time.monotonic() + _MISSING_FOR
        problem = (topic, KafkaError._UNKNOWN_TOPIC if missing else error.code())
        if problem in self._told:
            return
        self._told.add(problem)
        if missing:
            log.warning("Topic %s is not there: dead letters go to the table alone until somebody creates it", topic)
        else:
            log.error("Dead letters could not be sent to topic %s (%s); the table has them", topic, error.str())
