"""Dead letters that Kafka takes late: each is there in the end, also if the producer was given up."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition

from service.embedded import EmbeddedKafka
from sinks import dead_letters
from sinks.dead_letters import SUFFIX, DeadLetterTopic
from tests.services import IN_A_HURRY


def letters(count: int) -> pa.Table:
    rows = [
        {"topic": "t", "reason": "not_json", "detail": "", "partition": 0, "offset": i, "raw": b"%d" % i, "key": None}
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows)


def test_a_producer_that_hears_nothing_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dead_letters, "_ANEW_AFTER", 1.0)
    monkeypatch.setattr(dead_letters, "_PATIENCE", 2.0)
    monkeypatch.setattr(dead_letters, "_AT_ONCE", 7)
    caplog.set_level(logging.INFO)
    with EmbeddedKafka(tmp_path / "kafka", java=IN_A_HURRY) as kafka:
        kafka.create_topic("t" + SUFFIX, 1)
        topic = DeadLetterTopic({"bootstrap.servers": kafka.bootstrap})
        topic.send([letters(3)])
        first = topic._producer
        kafka.stop()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(topic.send, [letters(10), letters(10)])
            until = time.monotonic() + 30
            while topic._producer is first or "waiting for Kafka" not in caplog.text:
                assert time.monotonic() < until
                assert not sending.done()
                time.sleep(0.05)
            kafka.start()
            sending.result(60)
        assert topic._producer is not first
        said = [record.message for record in caplog.records if record.name == "sinks.dead_letters"]
        assert said == [
            "7 dead letters are not acknowledged yet; waiting for Kafka",
            "all dead letters are acknowledged now",
        ]
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.assign([TopicPartition("t" + SUFFIX, 0, 0)])
        there: list[bytes | None] = []
        until = time.monotonic() + 30
        while len(there) < 23 and time.monotonic() < until:
            if (message := consumer.poll(1)) is not None:
                there.append(message.value())
        consumer.close()
    assert set(there) == {b"%d" % i for i in range(10)}
    assert len(there) >= 23
