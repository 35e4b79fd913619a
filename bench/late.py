"""A burst in which a tenth of the events are late, by hours to 30 days, next to one of as many that are in time; and
how soon a late event is in the sessions while the flow works off such a burst.

For the latter, the burst lies on all partitions but the last. There, devices that have a session already send one event
each, which happened hours before that session: it has to become another one, which the service's HTTP API is asked
for, over and over. The time between is the latency, the interval between two questions included.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np

from bench.flow import FlowRun, Reconciled
from bench.load import Loader
from bench.workload import END

LATE_SHARE = 0.1
PROBE_EVERY = timedelta(milliseconds=200)
PROBES = 300  # at most: 60 s of them
PATIENCE = timedelta(seconds=120)
_EARLIER = timedelta(hours=5)
_SEEN = """
select anonymous_id from stream.sessions where starts_with(anonymous_id, 'probe-') group by all having count(*) > 1
"""


@dataclass(frozen=True)
class Late:
    """What came of both bursts, and of the probes."""

    stored: int
    """Events in the warehouse before."""
    in_time: FlowRun
    late: FlowRun
    reconciled: Reconciled
    """After both."""
    seconds: list[float]
    """Of each probe, from produce to visible."""
    backlog_per_second: float
    """Records of the burst that the flow consumed meanwhile."""

    @property
    def ratio(self) -> float:
        return self.late.events_per_second / self.in_time.events_per_second

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.seconds, share))


def send_probes(bootstrap: str, topic: str, partition: int) -> None:
    """The first event of every probe, in time."""
    loader = Loader(bootstrap, topic)
    loader.send_records([_record(number, partition, "first", END) for number in range(PROBES)])
    loader.flush()


def watch_probes(bootstrap: str, topic: str, partition: int, address: str, burst: int) -> tuple[list[float], float]:
    """Sends late events from when the service at `address` reads until it has worked off a burst of so many records.
    Returns the seconds until each was visible, and how many records a second the service consumed.

    Raises RuntimeError if one never shows.
    """
    loader = Loader(bootstrap, topic, **{"linger.ms": 5})
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    deadline = time.monotonic() + PATIENCE.total_seconds()
    with httpx.Client(base_url=address, timeout=30) as client:
        before = _consumed(client, deadline)
        began = time.perf_counter()
        done = consumed = 0
        while consumed < burst or len(seen) < len(sent):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(sent) - len(seen)} late events were not in the sessions after {PATIENCE}")
            due = int((time.perf_counter() - began) / PROBE_EVERY.total_seconds())
            if consumed < burst and due > done and len(sent) < PROBES:
                done, number = due, len(sent)
                sent[f"probe-{number}"] = time.perf_counter()
                loader.send_records([_record(number, partition, "late", END - _EARLIER)])
            rows = client.post("/api/sql", json={"sql": _SEEN}).raise_for_status().json()
            now = time.perf_counter()
            for row in rows:
                seen.setdefault(row["anonymous_id"], now)
            if consumed < burst:
                consumed = _consumed(client, deadline) - before
                ended = time.perf_counter()
            time.sleep(0.02)
    loader.flush()
    return [seen[device] - at for device, at in sent.items()], consumed / (ended - began)


def _record(number: int, partition: int, what: str, at: datetime) -> dict[str, object]:
    device = f"probe-{number}"
    event = {"messageId": f"{device}-{what}", "type": "track", "event": "Probe", "anonymousId": device}
    event["timestamp"] = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return {"key": device.encode(), "partition": partition, "value": json.dumps(event).encode()}


def _consumed(client: httpx.Client, deadline: float) -> int:
    """Records in all, as soon as the service answers and reads."""
    while True:
        try:
            state = client.get("/api/state").raise_for_status().json()
            if state["status"] != "waiting":
                return sum(place["next_offset"] for place in state["partitions"])
        except httpx.TransportError as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service at {client.base_url} does not answer: {error}") from error
        time.sleep(0.1)


def report(description: str, late: Late) -> str:
    p50, p95, worst = (late.percentile(share) for share in (50, 95, 100))
    return f"""## Late events

{description}

Two bursts of {late.in_time.events:,} events on top of {late.stored:,} stored ones: one in time, then one in
which {LATE_SHARE:.0%} of the events are late by an hour to 30 days, each doubling of the delay as often. Their devices
are those that are stored. Afterwards {late.reconciled.differing:,} of {late.reconciled.sessions:,} sessions differ from
the batch definition.

|  | in time | a tenth late |
|---|---:|---:|
| **events/s** | **{late.in_time.events_per_second:,.0f}** | **{late.late.events_per_second:,.0f}** |
| CPU µs per event | {late.in_time.cpu_per_million:.2f} | {late.late.cpu_per_million:.2f} |
| seconds | {late.in_time.seconds:.1f} | {late.late.seconds:.1f} |
| peak RSS, MiB | {late.in_time.peak_rss / 2**20:,.0f} | {late.late.peak_rss / 2**20:,.0f} |

**Late / in time: {late.ratio:.2f}.**

From produce to visible in `stream.sessions`, asked for by the service's HTTP API, while it works off another such burst
on the other partitions at {late.backlog_per_second:,.0f} records/s: **p50 {p50:.2f} s, p95 {p95:.2f} s, worst
{worst:.2f} s**, of {len(late.seconds):,} late events.
"""
