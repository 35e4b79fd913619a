"""Kafka's data lost, or with holes: what the flow makes of offsets that are not there, and of those that never were."""

from __future__ import annotations

import time
from collections.abc import Callable

import duckdb
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from tests.faults.waiting import until
from tests.services import Kafka
from tests.whole.runs import EVENTS, SESSIONS, Run, event, key_of

Make = Callable[..., Run]
LOST = 'select topic, "partition", from_offset, to_offset from stream.lost_records order by all'


def clicks(first: int, last: int) -> list[bytes]:
    """Events number `first` to before `last`, a second apart, of five devices."""
    return [event(f"m{i}", f"10:{i // 60:02d}:{i % 60:02d}", f"d{i % 5}") for i in range(first, last)]


def make_anew(kafka: Kafka, topic: str, partitions: int = 1) -> None:
    """Deletes the topic and makes it again, empty."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic], operation_timeout=30)[topic].result()
    deadline = time.monotonic() + 30
    while topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kafka.create_topic(topic, partitions)


def truncate(kafka: Kafka, topic: str, before: int, partition: int = 0) -> None:
    """Deletes the records below offset `before`, as retention does."""
    place = TopicPartition(topic, partition, before)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_records([place])[place].result()


def refused(run: Run) -> str:
    """What the service says before it exits with status 1."""
    said = " ".join(run.command("up", "--port", "0", exits=1).split())
    assert "Traceback" not in said
    return said[said.index("Error: ") :]


def test_deleted_before_they_were_read(kafka_run: Make) -> None:
    run = kafka_run()
    assert run.kafka is not None
    run.produce(clicks(0, 100))
    run.replay()
    run.produce(clicks(100, 300))
    truncate(run.kafka, run.topic, 150)

    said = refused(run)
    assert f"Topic '{run.topic}' partition 0 no longer has offset 100, where the warehouse would go on" in said
    assert "its first is 150. The 50 offsets from 100 to 149 were deleted before they were read" in said
    assert "Nothing was skipped." in said
    assert 'kafka.on_lost_records = "skip"' in said
    assert "or begin with an empty warehouse" in said
    assert run.counts() == (100, 100, 0, 0)
    assert run.rows(LOST) == []

    run.settings["KAFKA__ON_LOST_RECORDS"] = "skip"
    run.replay()
    assert run.counts() == (250, 250, 0, 0)
    assert run.rows(LOST) == [(run.topic, 0, 100, 150)]
    assert run.value("select next_offset from stream.progress") == 300


def test_deleted_while_the_flow_is_behind(kafka_run: Make) -> None:
    """A service that may skip says so as an error, and goes on."""
    run = kafka_run(partitions=2, KAFKA__ON_LOST_RECORDS="skip", FLOW__COMMIT_INTERVAL="200 milliseconds")
    assert run.kafka is not None
    run.produce(clicks(0, 100), partition=0)
    run.produce(clicks(100, 110), partition=1)
    truncate(run.kafka, run.topic, 40)
    with run.serving() as service:
        service.until("select count(*) from stream.events", 70, 60)  # a partition never read begins where it begins
        run.produce(clicks(110, 120), partition=1)
        service.until("select count(*) from stream.events", 80, 60)
    assert run.rows(LOST) == []
    run.produce(clicks(120, 200), partition=0)
    truncate(run.kafka, run.topic, 150)
    with run.serving() as service:
        service.until("select count(*) from stream.events", 110, 60)
        run.produce(clicks(200, 210), partition=1)
        service.until("select count(*) from stream.events", 120, 60)
    said = [line for line in service.log.rest() if "no longer has offset" in line]
    assert len(said) == 1
    assert "ERROR" in said[0]
    assert "Going on at offset 150" in said[0]
    assert run.rows(LOST) == [(run.topic, 0, 100, 150)]
    assert run.counts() == (120, 120, 0, 0)


@pytest.mark.parametrize("records", [50, 500])
def test_made_anew(records: int, kafka_run: Make) -> None:
    """With fewer records than the warehouse has read, and with more, where the offsets alone would not tell."""
    run = kafka_run()
    assert run.kafka is not None
    run.produce(clicks(0, 100))
    run.replay()
    make_anew(run.kafka, run.topic)
    run.produce(clicks(90, 90 + records))

    said = refused(run)
    assert f"Topic '{run.topic}' was made anew since the warehouse read it (next offsets by partition: 0: 100)" in said
    assert 'kafka.on_lost_records = "skip"' in said
    assert run.counts() == (100, 100, 0, 0)

    run.settings["KAFKA__ON_LOST_RECORDS"] = "skip"
    run.replay()
    assert run.counts() == (100 + records, 90 + records, 10, 0)
    assert run.rows(LOST) == [(run.topic, 0, 100, 0)]
    run.replay()
    assert run.counts() == (100 + records, 90 + records, 10, 0), "the new one is known now"
    whole = kafka_run()
    whole.produce(clicks(0, 90 + records))
    whole.replay()
    assert run.rows(EVENTS) == whole.rows(EVENTS)
    assert run.rows(SESSIONS) == whole.rows(SESSIONS)


def test_acknowledged_and_lost(kafka_run: Make) -> None:
    """The brokers lost their last records, the topic is the same: it ends before the warehouse's offset."""
    run = kafka_run()
    run.produce(clicks(0, 100))
    run.replay()
    with duckdb.connect(str(run.warehouse)) as con:
        con.execute("update stream.progress set next_offset = 130")
    said = refused(run)
    assert "partition 0 no longer has offset 130, where the warehouse would go on: it ends at 100" in said
    assert "what was stored of them stays stored" in said
    run.settings["KAFKA__ON_LOST_RECORDS"] = "skip"
    run.replay()
    assert run.counts() == (200, 100, 100, 0)
    assert run.rows(LOST) == [(run.topic, 0, 130, 0)]
    assert run.value("select next_offset from stream.progress") == 100


def test_transactions(kafka_run: Make) -> None:
    """Offsets of markers and of aborted records hold no events; an open transaction holds up what lies behind it."""
    run = kafka_run()
    assert run.kafka is not None

    def transaction(name: str) -> Producer:
        producer = Producer(
            {"bootstrap.servers": run.kafka.bootstrap if run.kafka else "", "transactional.id": f"{run.topic}-{name}"}
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        return producer

    def put(producer: Producer, values: list[bytes]) -> None:
        for value in values:
            producer.produce(run.topic, value, key_of(value))
        assert producer.flush(30) == 0

    first = transaction("a")
    with run.serving() as service:
        put(first, clicks(0, 50))
        first.commit_transaction(30)  # 0 to 49, and a marker
        service.until("select count(*) from stream.events", 50, 60)
        first.begin_transaction()
        put(first, clicks(900, 950))
        first.abort_transaction(30)  # 51 to 100, and a marker
        service.until("select max(next_offset) from stream.progress", 102, 60)
        first.begin_transaction()
        put(first, clicks(50, 60))  # 102 to 111, and open
        run.produce(clicks(60, 70))  # 112 to 121, of nobody's transaction
        time.sleep(1.5)
        assert service.value("select count(*) from stream.events") == 50
        assert service.value("select max(next_offset) from stream.progress") == 102
        first.commit_transaction(30)
        service.until("select count(*) from stream.events", 70, 60)
        service.until("select max(next_offset) from stream.progress", 123, 60)
        # The end of the partition is known behind a marker too: the watermark goes with the clock.
        before = service.value("select max(watermark) from stream.progress")
        service.until(f"select max(watermark) > '{before}'::timestamptz from stream.progress", True, 30)
    assert run.counts() == (70, 70, 0, 0)
    run.replay()
    assert run.counts() == (70, 70, 0, 0)
    assert run.value("select sum(event_count) from stream.sessions where not is_open") == 70


def test_a_compacted_topic(kafka_run: Make) -> None:
    """Whole ranges of offsets are gone, the last one of all as well; what is left is read, once."""
    run = kafka_run()
    assert run.kafka is not None
    topic = f"{run.topic}-compacted"
    admin = AdminClient({"bootstrap.servers": run.kafka.bootstrap})
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "segment.bytes": "1048576",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "100",
        "min.compaction.lag.ms": "0",
        "delete.retention.ms": "0",
    }
    admin.create_topics([NewTopic(topic, 1, -1, config=config)])[topic].result()
    run.topic = topic
    # Fifty values of one key, of which compaction leaves the last; then, in later segments, what is never cleaned.
    for i in range(5):
        run.produce(clicks(10 * i, 10 * i + 10), [b"same"] * 10)
        time.sleep(0.25)
    run.produce(clicks(100, 110))
    compact(run)
    run.replay()
    consumed, stored, duplicates, dead = run.counts()
    assert (duplicates, dead) == (0, 0)
    assert 10 <= consumed == stored < 60
    assert run.value("select next_offset from stream.progress") == 60
    run.produce(clicks(110, 120))
    run.replay()
    assert run.counts() == (consumed + 10, stored + 10, 0, 0)
    assert run.value("select next_offset from stream.progress") == 70


def test_partitions_that_stand_hours_apart(kafka_run: Make, replayed: Run, shop: list[bytes]) -> None:
    """One partition with a backlog, read to the end by others long before, and one that nobody ever writes to."""
    run = kafka_run(partitions=4, FLOW__COMMIT_EVENTS="1000")
    mine = [[line for line in shop if hash_of(line) == i] for i in range(3)]
    with run.serving() as service:
        run.produce(mine[0], partition=0)
        run.produce(mine[1], partition=1)
        run.produce(mine[2][:1], partition=2)
        service.until("select count(*) from stream.events", len(mine[0]) + len(mine[1]) + 1, 60)
        # The others are at their ends, and go with the clock; the one that was never used holds nothing up.
        unused = 'select watermark > now() - interval 2 minutes from stream.progress where "partition" = 3'
        service.until(f"select coalesce(({unused}), false)", True, 30)
        run.produce(mine[2][1:], partition=2)
        service.until("select count(*) from stream.events", len(shop), 60)
        assert service.value("select coalesce(sum(late), 0) from stream.progress") == 0
    run.replay()
    assert run.counts() == (31_106, 31_106, 0, 0)
    assert run.rows(EVENTS) == replayed.rows(EVENTS)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)


def compact(run: Run) -> None:
    """Returns once the cleaner has been over the topic; by itself it looks every 15 s."""
    assert run.kafka is not None
    admin = AdminClient({"bootstrap.servers": run.kafka.bootstrap})

    def look_every(milliseconds: str | None) -> None:
        how = AlterConfigOpType.SET if milliseconds is not None else AlterConfigOpType.DELETE
        entry = ConfigEntry("log.cleaner.backoff.ms", milliseconds, incremental_operation=how)
        for broker in admin.list_topics(timeout=10).brokers:
            resource = ConfigResource(ConfigResource.Type.BROKER, str(broker), incremental_configs=[entry])
            admin.incremental_alter_configs([resource])[resource].result()

    look_every("100")
    try:
        until(lambda: records_on(run) < 60, 60)
    finally:
        look_every(None)


def records_on(run: Run) -> int:
    """How many records partition 0 has."""
    assert run.kafka is not None
    consumer = Consumer({"bootstrap.servers": run.kafka.bootstrap, "group.id": "test", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(run.topic, 0, 0)])
        found = 0
        while True:
            messages = consumer.consume(1000, 1.0)
            found += sum(message.error() is None for message in messages)
            if any(message.error() is not None for message in messages):
                return found
    finally:
        consumer.close()


def hash_of(line: bytes) -> int:
    return sum(key_of(line) or b"") % 3
