"""What every throughput is compared with: one process that takes all records of a topic and touches each payload.

`python -m bench.yardstick --bootstrap B --topic T --events N` prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

BATCH = 10_000


def read_raw(bootstrap: str, topic: str, events: int) -> dict[str, float]:
    """Reads `events` records; seconds from the first to the last, CPU-seconds and events/s of that time."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-yardstick",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 5,  # librdkafka waits 1 s by default once its queue has been full
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        read = octets = 0
        began = cpu_began = 0.0
        while read < events:
            messages = consumer.consume(BATCH, timeout=10)
            if not messages:
                raise RuntimeError(f"{topic} holds {read} records, not {events}")
            if not read:
                began, cpu_began = time.perf_counter(), time.process_time()
                first = len(messages)
            for message in messages:
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                octets += len(message.value())  # type: ignore[arg-type]
            read += len(messages)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    finally:
        consumer.close()
    return {
        "events": read,
        "bytes": octets,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "events_per_second": (read - first) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    given = parser.parse_args()
    print(json.dumps(read_raw(given.bootstrap, given.topic, given.events)), flush=True)
    os._exit(0)  # the records need not be freed one by one


if __name__ == "__main__":
    main()
