"""The bench: loads a real Kafka, runs the flow over it, and measures it next to a raw consumer of the same run."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench import latency, machine
from bench.flow import FlowRun, run_flow, running_service
from bench.latency import Latency
from bench.results import write_section
from bench.workload import EVENT_BYTES, Workload
from service.embedded import EmbeddedKafka, EmbeddedValkey

PARTITIONS = 4
EVENTS_PER_DEVICE = 20
LARGE = 10_000_000
YARDSTICK_RUNS = 3  # before the flow and again after it; the best counts
HOME = Path(".stitchline/bench")

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Part:
    """One size: the flow, and what a raw consumer did with the same topic before and after."""

    workload: Workload
    yardsticks: list[dict[str, float]]
    flow: FlowRun

    @property
    def best(self) -> dict[str, float]:
        return max(self.yardsticks, key=lambda run: run["events_per_second"])

    @property
    def ratio(self) -> float:
        return self.flow.events_per_second / self.best["events_per_second"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="events of the small load (default 2,000,000)")
    parser.add_argument("--skip-10m", action="store_true", help="leave out the load of 10,000,000 events")
    parser.add_argument("--latency-seconds", type=int, default=60, help="0 leaves the latency part out")
    parser.add_argument("--latency-rate", type=int, default=5_000, help="events a second in the latency part")
    parser.add_argument("--dry", action="store_true", help="print the results, leave RESULTS.md as it is")
    given = parser.parse_args(arguments)

    description = machine.describe()
    console.print(description)
    sizes = [given.events] if given.skip_10m else [given.events, LARGE]
    parts, live = [], None
    for size in sizes:
        workload = Workload(size, size // EVENTS_PER_DEVICE)
        with _services() as (kafka, valkey, home):
            parts.append(_throughput(workload, kafka, valkey, home))
            if size == given.events and given.latency_seconds:
                duration = timedelta(seconds=given.latency_seconds)
                live = _latency(kafka, valkey, home, given.latency_rate, duration)
    text = _report(description, parts, live, given.latency_rate)
    if given.dry:
        print(text)
    else:
        write_section("throughput and latency", text)
        console.print("written to bench/RESULTS.md")


@contextmanager
def _services() -> Iterator[tuple[EmbeddedKafka, EmbeddedValkey, Path]]:
    """Kafka and Valkey with nothing in them, and an empty folder for the warehouse; all removed afterwards."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    try:
        with EmbeddedKafka(HOME / "kafka", heap="1g") as kafka, EmbeddedValkey(HOME / "valkey") as valkey:
            for topic, partitions in (("events", PARTITIONS), ("events.dead", 1)):
                kafka.create_topic(topic, partitions)
            yield kafka, valkey, HOME
    finally:
        shutil.rmtree(HOME, ignore_errors=True)


def _throughput(workload: Workload, kafka: EmbeddedKafka, valkey: EmbeddedValkey, home: Path) -> Part:
    where = ("--bootstrap", kafka.bootstrap, "--topic", "events", "--events", str(workload.events))
    loaded = _python("bench.load", *where, "--devices", str(workload.devices), "--seed", str(workload.seed))
    console.print(
        f"loaded {loaded['events']:,} events of {workload.devices:,} devices in {loaded['seconds']:.1f} s "
        f"({loaded['events'] / loaded['seconds']:,.0f}/s)"
    )
    yardsticks = [_python("bench.yardstick", *where) for _ in range(YARDSTICK_RUNS)]
    flow = run_flow(kafka.bootstrap, "events", valkey.url, home / "warehouse.duckdb")
    yardsticks += [_python("bench.yardstick", *where) for _ in range(YARDSTICK_RUNS)]
    part = Part(workload, yardsticks, flow)
    rates = ", ".join(f"{run['events_per_second'] / 1e6:.2f}" for run in yardsticks)
    console.print(
        f"flow {flow.events_per_second:,.0f} events/s, {flow.cpu_per_million:.2f} CPU µs per event, "
        f"{flow.peak_rss / 2**20:,.0f} MiB; yardstick {rates} M/s; ratio {part.ratio:.3f}"
    )
    if (flow.events, flow.sessions, flow.dead) != (workload.events, workload.sessions, 0):
        raise RuntimeError(
            f"the flow is wrong: {flow.events} events, {flow.sessions} sessions and {flow.dead} dead letters "
            f"instead of {workload.events}, {workload.sessions} and 0"
        )
    return part


def _latency(kafka: EmbeddedKafka, valkey: EmbeddedValkey, home: Path, rate: int, duration: timedelta) -> Latency:
    """On top of what the throughput part has stored."""
    warehouse = home / "warehouse.duckdb"
    with running_service(kafka.bootstrap, "events", valkey.url, warehouse, _free_port()) as address:
        live = latency.measure(kafka.bootstrap, "events", PARTITIONS, address, rate, duration)
    p50, p95, p99 = (live.percentile(share) for share in (50, 95, 99))
    console.print(
        f"visible in a funnel after p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s "
        f"({len(live.seconds)} probes at {live.events_per_second:,.0f} events/s)"
    )
    return live


def _python(module: str, *arguments: str) -> dict[str, Any]:
    """Runs a module of ours in a process of its own and returns the JSON that it prints."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _report(description: str, parts: list[Part], live: Latency | None, rate: int) -> str:
    rows = [
        ("", *(f"{part.workload.events:,} events, {part.workload.devices:,} devices" for part in parts)),
        ("**flow, events/s**", *(f"**{part.flow.events_per_second:,.0f}**" for part in parts)),
        ("yardstick, events/s, best", *(f"{part.best['events_per_second']:,.0f}" for part in parts)),
        ("yardstick, M events/s, before; after", *(_runs(part.yardsticks) for part in parts)),
        ("**flow / yardstick**", *(f"**{part.ratio:.3f}**" for part in parts)),
        ("**flow, CPU µs per event**", *(f"**{part.flow.cpu_per_million:.2f}**" for part in parts)),
        (
            "… with the process's start and end",
            *(f"{part.flow.process_cpu_seconds / part.flow.events * 1e6:.2f}" for part in parts),
        ),
        (
            "yardstick, CPU µs per event",
            *(f"{part.best['cpu_seconds'] / part.workload.events * 1e6:.2f}" for part in parts),
        ),
        ("flow, seconds", *(f"{part.flow.seconds:.1f}" for part in parts)),
        ("flow, peak RSS, MiB", *(f"{part.flow.peak_rss / 2**20:,.0f}" for part in parts)),
        ("sessions, as many as there are", *(f"{part.flow.sessions:,}" for part in parts)),
        ("devices linked to a user", *(f"{part.flow.links:,}" for part in parts)),
        ("warehouse, bytes per event", *(f"{part.flow.warehouse_bytes / part.flow.events:.0f}" for part in parts)),
    ]
    table = ["| " + " | ".join(row) + " |" for row in rows]
    table.insert(1, "|---|" + "---:|" * len(parts))
    text = f"""## Throughput and latency

{description}

Events of {EVENT_BYTES} bytes, from a seed, in a real Kafka with {PARTITIONS} partitions on the same machine. The flow
stores every event, session and link; measured from the first record to the last commit, CPU of its own process alone,
neither Kafka's nor Redis's. The yardstick is one process that calls `consume(10000)` and touches every payload.

{chr(10).join(table)}
"""
    if live is not None:
        p50, p95, p99, worst = (live.percentile(share) for share in (50, 95, 99, 100))
        text += f"""
From produce to visible in a funnel of the service's HTTP API, at {live.events_per_second:,.0f} events/s (asked for:
{rate:,}), on top of {parts[0].workload.events:,} stored events: **p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s**,
worst {worst:.2f} s, of {len(live.seconds):,} probes. One question took {float(np.median(live.questions)) * 1000:.0f} ms
(median), and its wait counts.
"""
    return text


def _runs(yardsticks: list[dict[str, float]]) -> str:
    rates = [f"{run['events_per_second'] / 1e6:.2f}" for run in yardsticks]
    return ", ".join(rates[:YARDSTICK_RUNS]) + "; " + ", ".join(rates[YARDSTICK_RUNS:])
