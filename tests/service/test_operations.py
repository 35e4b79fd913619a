"""A running service as those who operate it see it: its health, its metrics and its log, while services come and go."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from service.embedded import EmbeddedKafka, EmbeddedValkey
from tests.services import Kafka
from tests.whole.runs import Log, Run, event

READY: list[str] = []


@dataclass
class Watched:
    """A service, asked the way a probe and Prometheus ask it: they do not wait long."""

    url: str
    log: Log

    def ready(self) -> list[str]:
        """Why it is not."""
        live = httpx.get(f"{self.url}/health/live", timeout=5)
        assert (live.status_code, live.json()) == (200, {"status": "alive"})
        answer = httpx.get(f"{self.url}/health/ready", timeout=5)
        reasons = answer.json()["reasons"]
        assert answer.status_code == (503 if reasons else 200)
        return reasons

    def until(self, reasons: list[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.ready()) != reasons:
            assert time.monotonic() < deadline, f"{found}, not {reasons}, after {seconds} s"
            time.sleep(0.1)

    def metrics(self) -> dict[str, float]:
        """Ours, by name; those of several partitions added up."""
        found: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines():
            if line.startswith("stitchline_"):
                name, value = line.removeprefix("stitchline_").rsplit(" ", 1)
                name = re.sub(r',?(partition|topic)="[^"]*"', "", name).replace("{}", "").replace("{,", "{")
                found[name] = found.get(name, 0) + float(value)
        return found

    def count(self, name: str, expected: float, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.metrics()).get(name) != expected:
            assert time.monotonic() < deadline, f"{name} is not {expected} after {seconds} s: {found}"
            time.sleep(0.1)


@contextmanager
def watched(run: Run) -> Iterator[Watched]:
    """`stitchline up` with its log in JSON, until SIGTERM, which must exit 0."""
    run.settings |= {"LOG__FORMAT": "json"}
    process = run.start("up", "--port", "0")
    log = Log(process)
    try:
        yield Watched(json.loads(log.until("the page is at", 60))["url"], log)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        log.rest()
    assert status == 0, "".join(log.seen)


@contextmanager
def halted(server: EmbeddedKafka | EmbeddedValkey) -> Iterator[None]:
    """The server hangs: it neither answers nor refuses."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def told(log: Log) -> list[dict[str, Any]]:
    """The log, of which every line has to be JSON."""
    return [json.loads(line) for line in log.seen]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """One that ran and is away now."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    server.stop()
    yield server
    server.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path / "kafka") as server:
        yield server


def test_health_metrics_and_log(tmp_path: Path, valkey: EmbeddedValkey, own_kafka: EmbeddedKafka) -> None:
    run = Run(tmp_path / "warehouse.duckdb", valkey.url, Kafka(own_kafka.bootstrap, "embedded"))
    own_kafka.create_topic(run.topic, 2)
    own_kafka.create_topic(f"{run.topic}.dead")
    run.settings["SCHEDULE__RECONCILE_AT"] = "off"
    with watched(run) as service:
        service.until(["The flow waits for Redis."], 10)
        assert service.metrics()['flow_waits{service="redis"}'] == 1
        valkey.start()
        service.until(READY, 15)
        now = datetime.now(UTC).isoformat()
        run.produce([event("a", now), event("b", now, "e"), event("a", now), b"bad"], [b"d", b"e", b"d", b"d"])
        service.count("records_consumed_total", 4, 10)
        found = service.metrics()
        assert {name: found[name] for name in found if name.endswith("_total") or "reason" in name} == {
            "records_consumed_total": 4,
            "events_stored_total": 2,
            "duplicates_total": 1,
            'rejected_total{reason="not_json"}': 1,
            "late_events_total": 0,
            "foreign_keys_total": 0,
            "devices_recut_total": 0,
        }
        assert (found["open_sessions"], found["lag_records"], found["lag_seconds"], found["ready"]) == (2, 0, 0, 1)
        assert found["commit_seconds_count"] >= 1
        assert 0 <= found["watermark_lag_seconds"] < 2 * 120
        with halted(valkey):
            service.until(["Redis does not answer."], 10)
            assert service.metrics()['service_up{service="redis"}'] == 0
        service.until(READY, 10)
        with halted(own_kafka):
            service.until(["Kafka does not answer."], 15)
        service.until(READY, 20)
        run.produce([event("c", now)])
        service.count("records_consumed_total", 5, 20)
    log = told(service.log)
    lines = [line["message"] for line in log]
    assert [line for line in lines if line.startswith("the page is at")] == [f"the page is at {service.url}"]
    for state in (  # in this order, and each once
        f"Redis at {valkey.url} does not answer",
        "Redis answers again",
        f"reading topic {run.topic} from offsets 0: 0, 1: 0",
        f"Redis at {valkey.url} does not answer",
        "Redis answers again",
        "Kafka is away",
        "Kafka answers again",
        f"stopped reading topic {run.topic}; all is committed up to offsets",
    ):
        assert any(line.startswith(state) for line in lines), f"{state} is not told, or too early: {lines}"
        while not lines.pop(0).startswith(state):
            pass
    assert {line["service"] for line in log if "answer" in line["message"]} == {"redis", "kafka"}
    assert sum(log[-1]["offsets"].values()) == 5
    assert [line for line in log if line["level"] == "error"] == []
    ends = [(line["partition"], line["offset"]) for line in log if "is at its end" in line["message"]]
    assert sorted({partition for partition, _ in ends}) == [0, 1]
    assert len(log) <= 14, "a line for each change of state, and no more"

    with duckdb.connect(str(run.warehouse)) as con:
        con.execute("update stream.open_sessions set page_count = 77")
    run.settings["SCHEDULE__RECONCILE_AT"] = (datetime.now(UTC) + timedelta(seconds=15)).time().isoformat()
    with watched(run) as service:
        found = service.metrics()
        assert (found["records_consumed_total"], found["duplicates_total"]) == (5, 1), "it counts on after a restart"
        assert "reconcile_drift_sessions" not in found
        drift = json.loads(service.log.until("differ from what the batch definition makes", 40))
        assert (drift["level"], drift["differing"], drift["sessions"]) == ("error", 2, 2)
        assert "stitchline reconcile --repair" in drift["message"]
        assert service.metrics()["reconcile_drift_sessions"] == 2
        assert service.ready() == READY, "the flow went on"
        answer = httpx.post(f"{service.url}/api/reconcile", json={"repair": True}, timeout=30).json()
        assert (answer["differing"], answer["repaired"]) == (2, True)
        assert service.metrics()["reconcile_drift_sessions"] == 0
    (started,) = [line for line in told(service.log) if line["message"].startswith("reading topic")]
    assert sum(started["offsets"].values()) == 5
