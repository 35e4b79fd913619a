"""Kafka that is stopped for a while: the service waits, says so once, and goes on with nothing lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.embedded import EmbeddedKafka
from tests.faults.waiting import until, waits_for
from tests.services import Kafka
from tests.whole.runs import EVENTS, SESSIONS, Run

GROWTH = 64 * 2**20  # bytes: the buffers of the clients that try to connect, not more the longer it lasts


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka of the test's own, to be stopped."""
    with EmbeddedKafka(tmp_path / "kafka") as server:
        yield server


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_kafka_away_and_back(
    how: str,
    server: EmbeddedKafka,
    redis_url: str,
    proving: bool,
    replayed: Run,
    shop: list[bytes],
    tmp_path: Path,
) -> None:
    """In the middle of a stream, with more produced as soon as it is back."""
    away = 60 if proving else 15 if how == "stopped" else 3  # seconds; after ten each partition's client is made anew
    settings = {"FLOW__COMMIT_EVENTS": "1000", "KAFKA__CREATE_TOPIC_PARTITIONS": "4"}
    run = Run(tmp_path / "warehouse.duckdb", redis_url, Kafka(server.bootstrap, "own"), settings=settings)
    server.create_topic(run.topic, 4)
    half = len(shop) // 2
    run.produce(shop[:half])
    with run.serving() as service:
        until(lambda: service.value("select count(*) from stream.events") > 0, 60)
        if how == "killed":
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
        server.stop()
        until(lambda: "Kafka is away" in waits_for(service), 30)
        process = psutil.Process(service.pid)
        before, until_then = process.memory_info().rss, time.monotonic() + away
        grew = 0
        while time.monotonic() < until_then:
            time.sleep(1)
            grew = max(grew, process.memory_info().rss - before)
        assert "Kafka is away" in waits_for(service)
        stored = service.value("select count(*) from stream.events")
        server.start()
        run.produce(shop[half:])
        service.until("select count(*) from stream.events", len(shop), 60)
        until(lambda: waits_for(service) == "", 30)
    print(
        f"away for {away} s with {stored} of {len(shop)} stored; the service grew by {grew / 2**20:.0f} MiB meanwhile"
    )
    assert grew < GROWTH
    said = "".join(service.log.rest())
    assert said.count("Kafka is away") == 1
    assert said.count("Kafka answers again") == 1
    assert away < 10 or "a new client reads partition" in said
    run.replay()
    assert run.counts() == (31_106, 31_106, 0, 0)
    assert run.rows(EVENTS) == replayed.rows(EVENTS)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)
