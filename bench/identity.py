"""Identity: what links cost the flow, how fast Redis is filled again, what a device takes there, and how soon after a
login a funnel counts what was done before it.

The same load is run twice, once without any user in it. For the last, devices that have looked at something sign in one
after the other while the service runs, and a funnel by person is asked for over and over: the step after the login
follows the step before it only once the two are one person's. The interval between two questions counts.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import redis

from bench.flow import FlowRun
from bench.load import Loader
from bench.workload import Workload
from flows.rules import FlowRules
from identity.graph import Graph
from identity.stitch import Stitcher
from sinks.warehouse import Warehouse

LINKED = Workload(events=7_000_000, devices=1_000_000, login_share=0.36, one_login=1)
UNLINKED = Workload(events=7_000_000, devices=1_000_000, login_share=0.0)
PROBES = 200
PROBE_EVERY = timedelta(milliseconds=100)
PATIENCE = timedelta(seconds=60)
_FUNNEL = {
    "name": "probes",
    "steps": [{"event": "Probe Looked"}, {"event": "Probe Signed In"}],
    "window": "1 hour",
    "by": "person",
}


@dataclass(frozen=True)
class Refilled:
    """Redis, emptied and filled again from the ledger."""

    seconds: float
    devices: int
    bytes_per_device: float


@dataclass(frozen=True)
class Identity:
    linked: FlowRun
    unlinked: FlowRun
    users: int
    refilled: Refilled
    attributed: list[float]
    """Seconds from each login to the funnel that counts what was done before it."""

    @property
    def ratio(self) -> float:
        return self.linked.events_per_second / self.unlinked.events_per_second

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.attributed, share))


def refill(warehouse: Path, redis_url: str) -> Refilled:
    """Empties Redis and fills it again from the ledger of `warehouse`, which nobody may hold now."""
    with Warehouse.open(warehouse) as opened, redis.Redis.from_url(redis_url) as client:
        rules = FlowRules()
        graph = Graph(redis_url, opened.warehouse_id, opened.generation, threading.Event())
        client.execute_command("FLUSHDB", "SYNC")
        before = int(client.info("memory")["used_memory"])
        stitcher = Stitcher(graph, rules.legal, rules.sessions.logout_events, rules.links)
        began = time.perf_counter()
        stitcher.recover(opened)
        stitcher.flush()
        seconds = time.perf_counter() - began
        devices = int(client.dbsize()) - 1
        taken = int(client.info("memory")["used_memory"]) - before
        graph.close()
    return Refilled(seconds, devices, taken / devices)


def watch_logins(bootstrap: str, topic: str, address: str) -> list[float]:
    """Seconds from the login of each probe to the funnel that has it. Raises RuntimeError if one never shows."""
    loader = Loader(bootstrap, topic, **{"linger.ms": 0})
    loader.send_records([_record(number, "Probe Looked", None) for number in range(PROBES)])
    loader.flush()
    with httpx.Client(base_url=address, timeout=30) as client:
        _until(client, 0, PROBES)
        produced: list[float] = []

        def sign_in() -> None:
            for number in range(PROBES):
                produced.append(time.perf_counter())
                loader.send_records([_record(number, "Probe Signed In", f"probe-user-{number}")])
                loader.flush()
                time.sleep(PROBE_EVERY.total_seconds())

        signing_in = threading.Thread(target=sign_in)
        signing_in.start()
        seen: list[float] = []
        while len(seen) < PROBES:
            found = _until(client, 1, len(seen) + 1)
            seen += [time.perf_counter()] * (found - len(seen))
        signing_in.join()
    return [shown - sent for shown, sent in zip(seen, produced, strict=True)]


def _until(client: httpx.Client, step: int, count: int) -> int:
    """The count of a step of the funnel, once it is `count` at least."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            answer = client.post("/api/funnel", json=_FUNNEL)
            found = int(answer.raise_for_status().json()["steps"][step]["count"])
            if found >= count:
                return found
        except httpx.TransportError:  # it is starting
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"step {step} of the probes' funnel does not reach {count}")
        time.sleep(0.02)


def _record(number: int, name: str, user: str | None) -> dict[str, object]:
    device = f"probe-{number}"
    event = {
        "messageId": f"{device}-{name}",
        "type": "track",
        "event": name,
        "anonymousId": device,
        "userId": user,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return {"key": device.encode(), "value": json.dumps(event).encode(), "partition": 0}


def report(description: str, measured: Identity) -> str:
    linked, unlinked, refilled = measured.linked, measured.unlinked, measured.refilled
    rate = refilled.devices / refilled.seconds
    p50, p95, worst = (measured.percentile(share) for share in (50, 95, 100))
    return f"""## Identity

{description}

{linked.events:,} events of {LINKED.devices:,} devices, replayed at full speed twice with users and twice without any,
in turn; the better runs count. A twentieth of the events carry both ids.

| | with | without |
|---|---:|---:|
| events/s | {linked.events_per_second:,.0f} | {unlinked.events_per_second:,.0f} |
| CPU µs per event | {linked.cpu_per_million:.2f} | {unlinked.cpu_per_million:.2f} |
| peak RSS, MiB | {linked.peak_rss / 2**20:,.0f} | {unlinked.peak_rss / 2**20:,.0f} |
| users | {measured.users:,} | 0 |
| devices linked to a user | {linked.links:,} | {unlinked.links:,} |
| **with / without** | **{measured.ratio:.2f}** | |

Redis, emptied, is filled again from the ledger in {refilled.seconds:.1f} s: **{rate:,.0f} links/s**. A device takes
**{refilled.bytes_per_device:.0f} bytes** there, a user none.

From the login to the funnel that counts what its device did before: **p50 {p50:.2f} s, p95 {p95:.2f} s**, worst
{worst:.2f} s, of {PROBES} logins, {1 / PROBE_EVERY.total_seconds():.0f} a second, with {linked.events:,} events stored.
"""
