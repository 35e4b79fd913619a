"""How long an event takes from being produced to being counted in a funnel, while 5,000 others arrive every second.

Among the load, devices of their own send "Probe R Sent" and "Probe R Seen", R being the measurement, with the partition
that both are produced to. A funnel of these two steps, broken down by partition, is asked for five times a second.
Within a partition the order is kept, so the k-th device in the funnel is the k-th that was produced, and the time
between is its latency, the interval between two questions included. The funnel is that of the time since the
measurement began: what is measured is how fresh an answer is, not how long one over all history takes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np

from bench.load import Loader
from bench.workload import render

TICK = timedelta(milliseconds=20)
PROBE_EVERY = timedelta(milliseconds=100)
PATIENCE = timedelta(seconds=60)
ASK_EVERY = timedelta(milliseconds=200)  # oftener would measure what asking costs
WARM_UP = timedelta(seconds=5)  # the service has only just started: what is produced then does not count
FUNNEL_PATH = "/api/funnel"
_FIRST_MESSAGE = 500_000_000_000  # apart from those of the standard load
_DEVICES = 100_000


@dataclass
class Latency:
    """Of every probe, seconds from produce to visible; how long a question took; what was produced a second."""

    seconds: list[float]
    questions: list[float]
    events_per_second: float

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.seconds, share))


@dataclass
class _Probes:
    """When each probe was produced, by partition, and how many of each have been seen."""

    run: str
    since: datetime
    produced: list[list[float]]
    seen: list[int]

    @property
    def name(self) -> str:
        return f"Probe {self.run}"

    def definition(self) -> dict[str, object]:
        return {
            "name": self.name,
            "steps": [{"event": f"{self.name} Sent"}, {"event": f"{self.name} Seen"}],
            "order": "ordered",
            "window": "1 hour",
            "by": "device",
            "breakdown": "properties.partition",
            "since": self.since.isoformat(),
        }

    @property
    def missing(self) -> int:
        return sum(map(len, self.produced)) - sum(self.seen)


def measure(
    bootstrap: str, topic: str, partitions: int, address: str, rate: int, ended: Callable[[timedelta], bool]
) -> Latency:
    """Produces for WARM_UP and then until `ended`, which hears how long that has been, and watches the service at
    `address`.

    Raises RuntimeError if a probe never shows.
    """
    probes = _Probes(f"{time.time_ns():x}", datetime.now(UTC), [[] for _ in range(partitions)], [0] * partitions)
    with httpx.Client(base_url=address, timeout=30) as client, ThreadPoolExecutor(1) as pool:
        _await_service(client, probes)
        counted_from = time.perf_counter() + WARM_UP.total_seconds()
        producing = pool.submit(_produce, bootstrap, topic, probes, rate, ended)
        latencies, questions = _watch(client, probes, producing, counted_from)
    return Latency(latencies, questions, producing.result())


def _await_service(client: httpx.Client, probes: _Probes) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            client.post(FUNNEL_PATH, json=probes.definition()).raise_for_status()
            return
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service at {client.base_url} does not answer: {error}") from error
            time.sleep(0.2)


def _produce(bootstrap: str, topic: str, probes: _Probes, rate: int, ended: Callable[[timedelta], bool]) -> float:
    """Sends events of now in small steps, and a probe now and then; the events a second that came of it."""
    loader = Loader(bootstrap, topic, **{"linger.ms": 5})
    rng = np.random.default_rng(5)
    began = time.perf_counter()
    events = steps = number = 0
    while not ended(timedelta(seconds=(elapsed := time.perf_counter() - began)) - WARM_UP):
        due = int(elapsed * rate) - events
        if due > 0:
            at = np.full(due, time.time_ns() // 1_000_000)
            device = rng.integers(0, _DEVICES, due)
            loader.send(render(rng, _FIRST_MESSAGE + events, at, device, rng.random(due) < 0.05))
            events += due
        if elapsed >= number * PROBE_EVERY.total_seconds():
            partition = number % len(probes.produced)
            probes.produced[partition].append(time.perf_counter())
            loader.send_records(_probe(probes, partition, number))
            number += 1
        steps += 1
        time.sleep(max(0.0, began + steps * TICK.total_seconds() - time.perf_counter()))
    loader.flush()
    return events / (time.perf_counter() - began)


def _probe(probes: _Probes, partition: int, number: int) -> list[dict[str, object]]:
    device = f"probe-{probes.run}-{number}"
    at = datetime.now(UTC)
    return [
        {
            "key": device.encode(),
            "partition": partition,
            "value": json.dumps(
                {
                    "messageId": f"{device}-{step}",
                    "type": "track",
                    "event": f"{probes.name} {step}",
                    "anonymousId": device,
                    "timestamp": at.isoformat(timespec="milliseconds"),
                    "properties": {"partition": partition},
                }
            ).encode(),
        }
        for step in ("Sent", "Seen")
    ]


def _watch(
    client: httpx.Client, probes: _Probes, producing: Future[float], counted_from: float
) -> tuple[list[float], list[float]]:
    latencies: list[float] = []
    questions: list[float] = []
    deadline: float | None = None
    while not producing.done() or probes.missing:
        if producing.done():
            deadline = deadline or time.monotonic() + PATIENCE.total_seconds()
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{probes.missing} probes were not in the funnel {PATIENCE} after the last was produced"
                )
        asked = time.perf_counter()
        answer = client.post(FUNNEL_PATH, json=probes.definition()).raise_for_status().json()
        now = time.perf_counter()
        questions.append(now - asked)
        for part in answer["breakdown"]:
            partition, count = int(part["value"]), part["steps"][-1]["count"]
            fresh = probes.produced[partition][probes.seen[partition] : count]
            latencies += [now - produced for produced in fresh if produced >= counted_from]
            probes.seen[partition] = count
        time.sleep(max(0.0, asked + ASK_EVERY.total_seconds() - time.perf_counter()))
    return latencies, questions
