"""The dead-letter topic: each record that is not acceptable, as it came, at least once."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import pyarrow as pa
from confluent_kafka import KafkaException, Producer

log = logging.getLogger(__name__)

SUFFIX: Final = ".dead"
"""The topic's name is that of the events with this after it."""

_PAUSE: Final = 1.0  # seconds between two looks at whether all were delivered


class DeadLetterTopic:
    """Sends dead letters to `<topic>.dead`, with the reason in the headers, and waits until they are there."""

    def __init__(self, config: dict[str, str]) -> None:
        self._producer = Producer({"log_level": "2", "linger.ms": "5", **config, "acks": "all"})

    def send(self, letters: list[pa.Table]) -> None:
        """Blocks until every letter is acknowledged; a broker that is away is waited for, with a word in the log."""
        for table in letters:
            for row in table.to_pylist():
                self._produce(row)
        waited = time.monotonic()
        while self._producer.flush(_PAUSE):
            if time.monotonic() - waited > 10:
                waited = time.monotonic()
                log.warning("%d dead letters are not acknowledged yet; waiting for Kafka", len(self._producer))

    def _produce(self, row: dict[str, Any]) -> None:
        headers = {
            "stitchline.reason": str(row["reason"]),
            "stitchline.detail": str(row["detail"]),
            "stitchline.partition": str(row["partition"]),
            "stitchline.offset": str(row["offset"]),
        }
        while True:
            try:
                self._producer.produce(f"{row['topic']}{SUFFIX}", row["raw"], row["key"], headers=list(headers.items()))
            except BufferError:
                self._producer.poll(_PAUSE)
            except KafkaException as error:
                log.error(
                    "A dead letter of %s partition %s offset %s could not be sent to the topic (%s); the table has it",
                    row["topic"],
                    row["partition"],
                    row["offset"],
                    error,
                )
                return
            else:
                return
