"""Records as librdkafka gives them, in columns: what was produced, byte by byte, and how the partition stands."""

from __future__ import annotations

import gc
from random import Random
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Producer

from flows.consumer import PartitionConsumer, Read
from flows.source import CONSUMER_DEFAULTS
from tests.services import Kafka

Record = tuple[bytes | None, bytes | None, int]  # key, value, milliseconds UTC


def produced(kafka: Kafka, records: list[Record]) -> str:
    """A topic of one partition with these records."""
    topic = f"consumer-{uuid4().hex}"
    kafka.create_topic(topic)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})
    for key, value, at in records:
        producer.produce(topic, value, key, partition=0, timestamp=at)
    assert producer.flush(30) == 0
    return topic


def consumer(
    kafka: Kafka, topic: str, offset: int = OFFSET_BEGINNING, config: dict[str, str] | None = None
) -> PartitionConsumer:
    settled = {**CONSUMER_DEFAULTS, "group.id": "test", "bootstrap.servers": kafka.bootstrap, **(config or {})}
    return PartitionConsumer(settled, topic, 0, offset)


def read_to_the_end(reader: PartitionConsumer, most: int = 100) -> list[Read]:
    reads = []
    while True:
        reads.append(reader.read(most, 1.0))
        assert all(error.code() == KafkaError._PARTITION_EOF for error, _ in reads[-1].told)
        if reads[-1].told:
            return reads


def test_what_was_produced_is_read(kafka: Kafka) -> None:
    rng = Random(7)
    texts = [None, b"", b"d", *(rng.randbytes(rng.choice([3, 8, 40, 400, 20_000])) for _ in range(30))]
    records = [(rng.choice(texts), rng.choice(texts), rng.randrange(1, 2**40)) for _ in range(300)]
    topic = produced(kafka, records)
    reader = consumer(kafka, topic)
    reads = read_to_the_end(reader, most=70)
    found = [
        (key, value, at // 1000)
        for read in reads
        if read.kafka_at is not None
        for key, value, at in zip(read.keys.to_pylist(), read.values.to_pylist(), read.kafka_at.tolist(), strict=True)
    ]
    assert found == records
    assert [offset for read in reads for offset in read.offsets.tolist()] == list(range(len(records)))
    assert reads[-1].told[0][1] == len(records)
    reader.close()


def test_it_begins_and_goes_on_where_it_is_told(kafka: Kafka) -> None:
    topic = produced(kafka, [(b"k", b"%d" % i, 1000) for i in range(5)])
    reader = consumer(kafka, topic, 3)
    assert [v for read in read_to_the_end(reader) for v in read.values.to_pylist()] == [b"3", b"4"]
    reader.assign(1)
    assert [v for read in read_to_the_end(reader) for v in read.values.to_pylist()] == [b"1", b"2", b"3", b"4"]
    assert reader.ends(5.0) == (0, 5)
    reader.close()


def test_what_was_read_stays_when_the_consumer_is_gone(kafka: Kafka) -> None:
    topic = produced(kafka, [(b"key", b"v" * 100, 1000)] * 50)
    reader = consumer(kafka, topic)
    reads = read_to_the_end(reader)
    del reader  # not closed: what is left of it ends with it
    gc.collect()
    assert b"".join(v for read in reads for v in read.values.to_pylist()) == b"v" * 5000


def test_a_setting_that_librdkafka_does_not_have_is_named(kafka: Kafka) -> None:
    with pytest.raises(KafkaException, match=r"no\.such\.setting"):
        consumer(kafka, "any", config={"no.such.setting": "1"})
    with pytest.raises(KafkaException, match=r"isolation\.level"):
        consumer(kafka, "any", config={"isolation.level": "wrong"})


def test_an_offset_that_is_not_there_is_told(kafka: Kafka) -> None:
    topic = produced(kafka, [(b"k", b"v", 1000)])
    reader = consumer(kafka, topic, 7)
    told: list[int] = []
    while not told:
        told = [error.code() for error, _ in reader.read(10, 1.0).told]
    assert told == [KafkaError._AUTO_OFFSET_RESET]
    reader.close()


def test_a_broker_that_is_not_there_is_told() -> None:
    config = {"group.id": "test", "bootstrap.servers": "127.0.0.1:1", "log_level": "2"}
    reader = PartitionConsumer(config, "any", 0, 0)
    told: list[KafkaError] = []
    while not told:
        read = reader.read(10, 0.1)
        assert len(read.values) == 0
        told = [error for error, _ in read.told]
    assert told[0].code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
    with pytest.raises(KafkaException):
        reader.ends(0.2)
    reader.close()
