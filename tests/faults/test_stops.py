"""Stops under load, records that nobody thought of, and a clock that is set back."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from flows.decode import Decoder
from flows.records import RawBatch, octets
from flows.source import KafkaSource
from tests.faults.test_kills import SEED, check
from tests.flows.inputs import ACCEPTED, REJECTED
from tests.identity.worlds import World
from tests.services import Kafka
from tests.whole.runs import Log, Run, event

DECODER = Decoder(timedelta(minutes=5))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_sigterm_under_load(proving: bool, kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes]) -> None:
    """SIGTERM at any moment of a backlog: exit status 0 within seconds, and a flow that goes on from there is equal."""
    rng = random.Random(SEED)
    for _ in range(3 if proving else 1):
        run = kafka_run(partitions=4, FLOW__COMMIT_EVENTS="1000")
        run.produce(shop)
        longest, offsets = 0.0, []
        for _ in range(3):
            process = run.start("-v", "up", "--port", "0")
            log = Log(process)
            log.until("committed", 60)
            process.wait(rng.uniform(0, 0.1))
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, "".join(log.rest())
            longest = max(longest, time.monotonic() - began)
            offsets.append(run.value("select sum(next_offset)::bigint from stream.progress"))
        print(f"seed {SEED}: stopped at {offsets} of {len(shop)} records, within {longest:.1f} s at most")
        assert longest < 5
        assert offsets[-1] < len(shop), "in the middle"
        run.replay()
        check(run, replayed)


def test_no_record_stops_a_commit(proving: bool, redis_url: str, tmp_path: Path) -> None:
    """Records that are damaged in every way that comes to a machine's mind, and committed: each is stored, a copy, or a
    dead letter, and none raises anything."""
    rng = random.Random(SEED)
    commits = 1_000 if proving else 20
    with World(tmp_path / "w.duckdb", redis_url).opened() as world:
        for commit in range(commits):
            values = list(damaged(rng, 500))
            add(world, values, first=500 * commit)
            world.checkpointer.finish(close_sessions=False)
        row = world.rows("select consumed, stored, duplicates, dead from stream.progress")[0]
        stored = world.rows("select count(*) from stream.events")[0][0]
        dead = world.rows("select count(*) from stream.dead_letters")[0][0]
    print(f"seed {SEED}: {row[0]} records, of which {row[1]} stored, {row[2]} copies, {row[3]} dead")
    assert row[0] == 500 * commits == row[1] + row[2] + row[3]
    assert (stored, dead) == (row[1], row[3])
    assert min(row[1:]) > 100


TIMES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59Z", "2026-01-01T10:00:00+23:59"]
TIMES += ["2026-02-30T00:00:00Z", "", "0", "-1", "1e300", "253402300799"]
TEXTS = [
    "",
    " ",
    "\x00",
    "\ud800",
    "\U0010ffff",
    "'; drop schema stream cascade; --",
    "anon:x",
    "a" * 300,
    "\\",
    "\r\n",
]
FIELDS = [
    "messageId",
    "anonymousId",
    "userId",
    "previousId",
    "event",
    "name",
    "type",
    "context",
    "properties",
    "traits",
]
CLOCKS = ["timestamp", "originalTimestamp", "sentAt", "receivedAt"]


def damaged(rng: random.Random, count: int) -> Iterator[bytes | None]:
    """Known records with bytes flipped, left out, doubled or spliced, and events with hostile fields and times."""
    known = [value or b"" for value, _ in (*ACCEPTED.values(), *REJECTED.values())]
    known = [value for value in known if len(value) < 5_000]
    for _ in range(count):
        if rng.random() < 0.5:
            fields: dict[str, Any] = {
                name: rng.choice([*TEXTS, 0, -1.5, None, [], {}, True]) for name in rng.sample(FIELDS, 2)
            }
            clocks = {name: rng.choice(TIMES) for name in rng.sample(CLOCKS, rng.randrange(4))}
            kind = rng.choice(["track", "page", "screen", "identify", "alias", "group"])
            said = {"type": kind} | fields | clocks
            yield event(f"m{rng.randrange(10**6)}", "10:00:00", f"d{rng.randrange(50)}", **said)
            continue
        value = bytearray(rng.choice(known))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(value) + 1)
            match rng.randrange(4):
                case 0:
                    value[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    del value[at : at + rng.randrange(1, 8)]
                case 2:
                    value[at:at] = value[at : at + rng.randrange(1, 16)]
                case 3:
                    value[at:] = rng.choice(known)[at:]
        yield bytes(value)


def add(world: World, values: list[bytes | None], *, first: int, now: datetime | None = None) -> None:
    """Gathers `values` as what Kafka gave at `now`, at the end of the partition."""
    at = now or NOON
    batch = RawBatch(
        topic="events",
        partition=0,
        next_offset=first + len(values),
        values=octets(values),
        keys=octets([b"d"] * len(values)),
        offsets=np.arange(first, first + len(values), dtype=np.int64),
        kafka_at=np.full(len(values), int(at.timestamp() * 1_000_000), np.int64),
        at_end=now is not None,
        read_at=at,
    )
    world.checkpointer.add(DECODER.decode(batch))


def test_the_wall_clock_is_set_back(redis_url: str, tmp_path: Path) -> None:
    """The watermark stands until the clock has caught up; what comes meanwhile is stored, in its session."""
    with World(tmp_path / "w.duckdb", redis_url).opened() as world:

        def at(now: datetime, *values: bytes) -> datetime:
            """The watermark after what came at `now` was committed."""
            first = world.rows("select coalesce(max(next_offset), 0) from stream.progress")[0][0]
            add(world, list(values), first=first, now=now)
            world.checkpointer.finish(close_sessions=False)
            mark: datetime = world.rows("select watermark from stream.progress")[0][0]
            return mark

        minute = timedelta(minutes=1)
        assert at(NOON, event("a", "12:00:00")) == NOON - minute
        assert at(NOON + 10 * minute) == NOON + 9 * minute
        assert at(NOON - 120 * minute) == NOON + 9 * minute
        # A device whose own clock is right, and a Kafka whose clock went back too: the event counts as received then.
        assert at(NOON - 119 * minute, event("b", "10:01:00")) == NOON + 9 * minute
        assert at(NOON + 5 * minute) == NOON + 9 * minute
        assert at(NOON + 12 * minute, event("c", "12:12:00")) == NOON + 11 * minute
        sessions = "select first_message_id, event_count from stream.sessions order by started_at"
        assert world.rows(sessions) == [("b", 1), ("a", 2)]


def test_a_partition_sleeps_by_no_clock_that_can_be_set_back(kafka: Kafka) -> None:
    """Bytewax waits for a time of day: an hour too long, where that is set back by one. So it is never given any."""
    kafka.create_topic("quiet")
    source = KafkaSource({"bootstrap.servers": kafka.bootstrap}, "quiet", [0], lambda _: None, threading.Event())
    part = source.build_part("read", "00000", None)
    try:
        began = time.monotonic()
        for _ in range(11):
            assert len(list(part.next_batch())) == 1, "after an empty one it would wait for a time of day, too"
            assert part.next_awake() is None
        assert time.monotonic() - began >= 1.0, "a quiet partition is read ten times a second"
    finally:
        part.close()
