"""Bad records among good ones, through a real Kafka: nothing stops the flow, and every record is accounted for."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import duckdb
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.flows.inputs import ACCEPTED, REJECTED
from tests.services import Kafka
from tests.whole.runs import SESSIONS, Run, event

Make = Callable[..., Run]


def letters_on(kafka: Kafka, topic: str) -> list[Message]:
    """Everything on partition 0 of `topic`."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "test", "fetch.message.max.bytes": 4_000_000}
    )
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=60)
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[Message] = []
        deadline = time.monotonic() + 120
        while len(found) < end:
            assert time.monotonic() < deadline, f"{len(found)} of {end} dead letters came"
            found += [message for message in consumer.consume(100, 1.0) if message.error() is None]
        return found
    finally:
        consumer.close()


def test_every_bad_record_among_good_ones(kafka_run: Make) -> None:
    run = kafka_run(FLOW__COMMIT_EVENTS="20")
    assert run.kafka is not None
    odd = list(ACCEPTED.values())
    values: list[bytes | None] = []
    expected: list[tuple[int, str, bytes | None]] = []
    for i, (value, reason) in enumerate(REJECTED.values()):
        expected.append((len(values), reason, value))
        values += [value, event(f"good-{i}", f"10:{i // 60:02d}:{i % 60:02d}", f"d{i % 7}")]
        values += [record for record, _ in odd[i : i + 1]]
    assert len(odd) < len(REJECTED)
    run.produce(values, keys=[b"k"] * len(values))

    run.replay()

    stored = {(device, message_id) for _, (message_id, device, _, _) in odd}
    duplicates = len(odd) - len(stored)
    assert run.counts() == (len(values), len(REJECTED) + len(stored), duplicates, len(REJECTED))
    found = run.rows('select "offset", reason, raw from stream.dead_letters order by "offset"')
    assert found == expected
    assert run.value("select count(*) from stream.dead_letters where detail = '' or key <> 'k'::blob") == 0
    assert {tuple(row) for row in run.rows("select anonymous_id, message_id from stream.events")} == stored | {
        (f"d{i % 7}", f"good-{i}") for i in range(len(REJECTED))
    }

    sent = letters_on(run.kafka, f"{run.topic}.dead")
    told: Counter[tuple[int, str, bytes | None]] = Counter()
    for message in sent:
        headers = {
            name: value.decode() for name, value in dict(message.headers() or []).items() if isinstance(value, bytes)
        }
        told[int(headers["stitchline.offset"]), headers["stitchline.reason"], message.value()] += 1
        assert message.key() == b"k"
        assert headers["stitchline.partition"] == "0"
        assert headers["stitchline.detail"]
    assert set(told) == set(expected), "each at least once"


def test_they_do_not_stop_the_service(kafka_run: Make) -> None:
    run = kafka_run(partitions=2)
    bad = [value for value, _ in REJECTED.values()]
    good = [event(f"m{i}", f"10:00:{i:02d}", f"d{i % 5}") for i in range(50)]
    with run.serving() as service:
        run.produce(chain.from_iterable(zip(bad[:50], good, strict=True)))
        service.until("select count(*) from stream.events", 50, 120)
        run.produce([*bad[50:], event("last", "10:01:00")])
        service.until("select count(*) from stream.events", 51, 120)
        service.until("select count(*) from stream.dead_letters", len(bad), 120)
        assert service.value("select count(*) from stream.sessions where is_open") == 6
    assert run.counts() == (len(bad) + 51, 51, 0, len(bad))


def test_without_a_dead_letter_topic_the_table_has_them(
    kafka: Kafka, tmp_path: Path, redis_url: str, kafka_run: Make
) -> None:
    run = Run(tmp_path / "w.duckdb", redis_url, kafka)
    kafka.create_topic(run.topic, 1)  # and none for the dead
    with run.serving() as service:
        for i in range(3):
            run.produce([b"bad", event(f"m{i}", f"10:00:0{i}"), None])
            service.until("select count(*) from stream.events", i + 1, 120)
        service.until("select count(*) from stream.dead_letters", 6, 120)
    warned = [line for line in service.log.rest() if f"{run.topic}.dead" in line]
    assert len(warned) == 1
    assert "is not there" in warned[0]
    assert "WARNING" in warned[0]
    assert run.counts() == (9, 3, 0, 6)


class TestCopies:
    """The same (anonymous_id, message_id), whatever time the copy carries: the first committed wins."""

    FIRST = event("m", "10:00:00", sentAt="2026-01-01T10:00:01Z", receivedAt="2026-01-01T10:00:01Z")
    COPY = event("m", "10:20:00", sentAt="2026-01-01T10:20:30Z", receivedAt="2026-01-01T10:20:31Z")
    NEXT = event("n", "10:10:00")
    FARTHER = event("o", "10:29:00")

    def check(self, run: Run, copies: int = 1) -> None:
        run.replay()  # closes what is open
        assert run.counts() == (3 + copies, 3, copies, 0)
        assert run.rows("select message_id, event_at::varchar from stream.events order by 1") == [
            ("m", "2026-01-01 10:00:00+00"),
            ("n", "2026-01-01 10:10:00+00"),
            ("o", "2026-01-01 10:29:00+00"),
        ]
        assert run.rows("select started_at::varchar, ended_at::varchar, event_count from stream.sessions") == [
            ("2026-01-01 10:00:00+00", "2026-01-01 10:29:00+00", 3)
        ]

    def test_in_the_same_batch(self, kafka_run: Make) -> None:
        run = kafka_run()
        run.produce([self.FIRST, self.NEXT, self.COPY, self.FARTHER])
        self.check(run)

    def test_in_a_later_commit(self, kafka_run: Make) -> None:
        run = kafka_run(FLOW__COMMIT_EVENTS="1")
        run.produce([self.FIRST, self.NEXT, self.COPY, self.FARTHER])
        self.check(run)

    def test_after_a_restart(self, kafka_run: Make) -> None:
        # Recent events, so that the watermark at the end of the topic leaves their session open.
        run = kafka_run(FLOW__REORDER_WINDOW="36500 days")
        with run.serving() as service:
            run.produce([self.FIRST, self.NEXT])
            service.until("select count(*) from stream.events", 2, 120)
        assert run.value("select count(*) from stream.sessions where is_open") == 1
        with run.serving() as service:
            run.produce([self.COPY, self.FARTHER])
            service.until("select count(*) from stream.events", 3, 120)
        self.check(run)

    def test_by_another_partition(self, kafka_run: Make) -> None:
        run = kafka_run(partitions=2, FLOW__COMMIT_EVENTS="1")
        run.produce([self.FIRST, self.NEXT], partition=0)
        run.replay()
        run.produce([self.COPY, self.FARTHER], partition=1)
        self.check(run)

    def test_the_same_message_id_of_another_device_is_no_copy(self, kafka_run: Make) -> None:
        run = kafka_run()
        run.produce([event("m", "10:00:00", "d1"), event("m", "10:00:00", "d2"), event("m", "10:00:00", "d1")])
        run.replay()
        assert run.counts() == (3, 2, 1, 0)


def test_a_key_that_is_not_the_device(kafka_run: Make) -> None:
    run = kafka_run(partitions=2)
    values = [event(f"m{i}", f"10:0{i}:00") for i in range(6)]
    with run.serving() as service:
        run.produce(values[:4], [b"d", b"other", None, b"d"])
        service.until("select count(*) from stream.events", 4, 120)
        run.produce(values[4:], [b"another", b"d"])
        service.until("select count(*) from stream.events", 6, 120)
    assert len([line for line in service.log.rest() if "whose key is not their anonymousId" in line]) == 1
    assert run.counts() == (6, 6, 0, 0)
    assert run.value("select sum(foreign_keys) from stream.progress") == 3
    run.replay()
    assert run.rows("select event_count from stream.sessions") == [(6,)]


def test_records_without_any_key_are_counted_as_such(kafka_run: Make) -> None:
    """A producer without keys: kept, counted, and no event is taken for another's."""
    run = kafka_run()
    run.produce([event("m1", "10:00:00"), event("m2", "10:01:00")], [None, None])
    run.replay()
    assert run.counts() == (2, 2, 0, 0)
    assert run.value("select sum(foreign_keys) from stream.progress") == 2


@pytest.mark.parametrize("command", [["up", "--port", "0"], ["replay", "--topic"]])
def test_a_topic_that_is_not_there(command: list[str], kafka: Kafka, tmp_path: Path, redis_url: str) -> None:
    run = Run(tmp_path / "w.duckdb", redis_url, kafka, topic="no-such-topic")
    said = run.command(*command, *([run.topic] if command[0] == "replay" else []), exits=1)
    assert "Error: Topic 'no-such-topic' is not on the brokers" in said
    assert "Traceback" not in said


def test_a_gzip_that_is_cut_off(run: Run, tmp_path: Path) -> None:
    """What was read is kept; the whole file, replayed later, makes up for the rest."""
    lines = [event(f"m{i:05d}", f"10:{i // 60 % 60:02d}:{i % 60:02d}", f"d{i % 100}") for i in range(120_000)]
    whole = gzip.compress(b"\n".join(lines))
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(whole[: len(whole) * 2 // 3])

    said = run.command("replay", str(file), exits=1)
    assert f"{file} cannot be read beyond line" in " ".join(said.split())
    assert "Traceback" not in said
    told = int(said.split("beyond line")[1].split()[0].rstrip(":").replace(",", ""))
    kept, _, _, _ = run.counts()
    assert 0 < kept == told < 120_000

    file.write_bytes(whole)
    run.replay(file)
    assert run.value("select count(*) from stream.events") == 120_000
    assert run.value("select count(distinct message_id) from stream.events") == 120_000
    straight = Run(tmp_path / "straight.duckdb", run.redis_url)
    straight.replay(file)
    assert run.rows(SESSIONS) == straight.rows(SESSIONS)


def test_a_gzip_damaged_in_the_middle(run: Run, tmp_path: Path) -> None:
    lines = [event(f"m{i:05d}", f"10:{i // 60 % 60:02d}:{i % 60:02d}", f"d{i * 7919 % 1000}") for i in range(20_000)]
    whole = bytearray(gzip.compress(b"\n".join(lines)))
    middle = len(whole) // 2
    whole[middle : middle + 64] = bytes(64)
    (tmp_path / "events.jsonl.gz").write_bytes(whole)
    said = run.command("replay", str(tmp_path / "events.jsonl.gz"), exits=1)
    assert "cannot be read beyond line" in " ".join(said.split())
    assert "Traceback" not in said


def test_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    said = run.command("replay", str(tmp_path / "nothing.jsonl"), exits=1)
    assert "nothing.jsonl cannot be read: No such file or directory" in " ".join(said.split())
    assert "Traceback" not in said


def test_a_newer_schema_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(event("m", "10:00:00"))
    run.replay(tmp_path / "events.jsonl")
    with duckdb.connect(str(run.warehouse)) as con:
        con.execute("update stream.warehouse set schema_version = 99")
    for command in (["replay", str(tmp_path / "events.jsonl")], ["sql", "select 1"]):
        said = " ".join(run.command(*command, exits=1).split())
        assert "has schema version 99; this Stitchline knows up to" in said
        assert "Traceback" not in said
    assert run.value("select count(*) from stream.events") == 1


def test_a_file_that_is_no_warehouse(run: Run) -> None:
    run.warehouse.write_bytes(b"no database at all" * 1000)
    said = run.command("sql", "select 1", exits=1)
    assert "cannot be opened" in said
    assert "Traceback" not in said
    assert run.warehouse.read_bytes() == b"no database at all" * 1000


def test_a_warehouse_that_another_process_holds(run: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(event("m", "10:00:00"))
    run.replay(tmp_path / "events.jsonl")
    with duckdb.connect(str(run.warehouse)):
        for command in (["replay", str(tmp_path / "events.jsonl")], ["sql", "select 1"]):
            said = " ".join(run.command(*command, exits=1).split())
            assert f"The warehouse {run.warehouse} is held by another process" in said
            assert "Traceback" not in said


def test_records_without_a_time_of_kafka(kafka_run: Make) -> None:
    """Record times of year 1970, as a careless copy between clusters leaves them: received then, and clock-skewed."""
    run = kafka_run()
    assert run.kafka is not None
    producer = Producer({"bootstrap.servers": run.kafka.bootstrap})
    producer.produce(run.topic, event("m", "10:00:00"), b"d", timestamp=1)
    assert producer.flush(60) == 0
    run.replay()
    assert run.counts() == (1, 1, 0, 0)
    assert run.rows("select event_at::varchar, clock_skewed from stream.events") == [
        ("1970-01-01 00:00:00.001+00", True)
    ]


def test_what_is_wrong_can_be_listed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"bad\n\xff\n" + event("m", "10:00:00") + b"\n[]\n")
    run.replay(tmp_path / "events.jsonl")
    told = json.loads(run.command("dead-letters", "list", "--json"))
    assert told["by_reason"] == {"not_json": 1, "not_utf8": 1, "not_an_object": 1}
    assert {(letter["offset"], letter["reason"], letter["text"]) for letter in told["dead_letters"]} == {
        (0, "not_json", "bad"),
        (1, "not_utf8", "�"),
        (3, "not_an_object", "[]"),
    }
