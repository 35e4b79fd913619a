"""Puts a workload onto a topic, in a process of its own: `python -m bench.load --bootstrap B --topic T`."""

from __future__ import annotations

import argparse
import json
import time
from binascii import crc32
from typing import Any

from confluent_kafka import Producer

from bench.workload import EVENTS_PER_SESSION, LOGIN_SHARE, Batch, Workload

QUEUE_RECORDS = 500_000  # what librdkafka may hold unsent: enough to keep it busy, and below 300 MB
SENT_AT_ONCE = 10_000  # records


class Loader:
    """Sends batches of events, keyed by anonymousId. What Kafka would not take is missing on the topic: count there."""

    def __init__(self, bootstrap: str, topic: str, **config: Any) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "1",
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "queue.buffering.max.kbytes": 1_000_000,
                **config,
            }
        )

    def send(self, batch: Batch, partitions: int | None = None) -> None:
        """`partitions`: onto the first so many alone."""
        records: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in batch.records()]
        if partitions is not None:
            for record in records:
                record["partition"] = crc32(record["key"]) % partitions
        for start in range(0, len(records), SENT_AT_ONCE):
            self.send_records(records[start : start + SENT_AT_ONCE])

    def send_records(self, records: list[dict[str, Any]]) -> None:
        """`records` as produce_batch takes them, at most SENT_AT_ONCE; waits while librdkafka's queue is full."""
        while len(self._producer) > QUEUE_RECORDS - SENT_AT_ONCE:
            self._producer.poll(0.01)
        if self._producer.produce_batch(self._topic, records) != len(records):
            raise RuntimeError(f"librdkafka took only a part of a batch for {self._topic}")
        self._producer.poll(0)

    def flush(self) -> None:
        """Returns once the broker has answered for everything."""
        self._producer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--per-session", type=int, default=EVENTS_PER_SESSION, help="events of a session, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=0, help="how many such loads came before")
    parser.add_argument("--late-share", type=float, default=0.0, help="of the events")
    parser.add_argument("--login-share", type=float, default=LOGIN_SHARE, help="of the sessions")
    parser.add_argument("--one-login", type=int, default=0, help="1: the login alone carries the user")
    parser.add_argument("--partitions", type=int, help="only onto the first so many")
    parser.add_argument("--compression", default="none", choices=("none", "lz4", "zstd"))
    given = parser.parse_args()

    workload = Workload(
        given.events,
        given.devices,
        given.seed,
        given.per_session,
        given.number,
        given.late_share,
        given.login_share,
        given.one_login,
    )
    loader = Loader(given.bootstrap, given.topic, **{"compression.type": given.compression})
    began = time.perf_counter()
    for batch in workload.batches():
        loader.send(batch, given.partitions)
    loader.flush()
    seconds = time.perf_counter() - began
    print(json.dumps({"events": workload.events, "sessions": workload.sessions, "seconds": seconds}))


if __name__ == "__main__":
    main()
