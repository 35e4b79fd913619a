"""What Kafka's consumer group learns of the flow, as lag tools see it."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from tests.services import Kafka
from tests.whole.runs import Run, event


def known_to_the_group(kafka: Kafka, topic: str, partitions: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "stitchline"})
    try:
        found = consumer.committed([TopicPartition(topic, partition) for partition in range(partitions)], timeout=10)
        return [place.offset for place in found]
    finally:
        consumer.close()


def test_the_group_learns_how_far_the_flow_is(kafka_run: Callable[..., Run]) -> None:
    run = kafka_run(partitions=2)
    assert run.kafka is not None
    run.produce([event(str(i), "10:00:00", f"d{i}") for i in range(50)])
    with run.serving() as service:
        service.until("select count(*) from stream.events", 50, 60)
        until = time.monotonic() + 30
        while sum(known_to_the_group(run.kafka, run.topic, 2)) < 50:
            assert time.monotonic() < until
            time.sleep(0.2)
    run.produce([event("late", "10:00:01", "d1")])
    run.replay()
    assert sum(known_to_the_group(run.kafka, run.topic, 2)) == 51
