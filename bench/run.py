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

import duckdb
import numpy as np
from rich.console import Console

from bench import anomalies, devices, funnels, identity, late, latency, machine, marts, viewers
from bench.anomalies import Anomalies
from bench.devices import Devices
from bench.flow import FlowRun, run_flow, run_reconcile, running_service
from bench.funnels import Funnels
from bench.identity import Identity
from bench.late import LATE_SHARE, Late
from bench.latency import Latency
from bench.marts import Marts
from bench.results import write_section
from bench.viewers import Viewers
from bench.workload import EVENT_BYTES, Workload
from service.embedded import EmbeddedKafka, EmbeddedValkey

PARTITIONS = 4
EVENTS_PER_DEVICE = 20
LARGE = 10_000_000
RUNS = 2  # with and without users, in turn; the better of each counts
YARDSTICK_RUNS = 3  # before the flow and again after it; the best counts
PARTS = ("throughput", "late", "devices", "identity", "marts", "anomalies", "funnels")
VIEWING = timedelta(seconds=90)
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
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--events", type=int, default=2_000_000, help="events of the small load (default 2,000,000)")
    parser.add_argument("--skip-10m", action="store_true", help="leave out the load of 10,000,000 events")
    parser.add_argument("--latency-seconds", type=int, default=60, help="0 leaves the latency part out")
    parser.add_argument("--latency-rate", type=int, default=5_000, help="events a second in the latency part")
    parser.add_argument("--dry", action="store_true", help="print the results, leave RESULTS.md as it is")
    given = parser.parse_args(arguments)

    description = machine.describe()
    console.print(description)
    sections = {
        "throughput and latency": lambda: _throughput_and_latency(given, description),
        "late events": lambda: late.report(description, _late(given.events)),
        "many devices": lambda: devices.report(description, _devices()),
        "identity": lambda: identity.report(description, _identity()),
        "marts": lambda: _marts_and_viewers(description),
        "anomalies": lambda: anomalies.report(description, _anomalies()),
        "funnels": lambda: funnels.report(description, _funnels()),
    }
    for part, (name, measured) in zip(PARTS, sections.items(), strict=True):
        if part not in given.parts:
            continue
        text = measured()
        if given.dry:
            print(text)
        else:
            write_section(name, text)
            console.print(f"{name}: written to bench/RESULTS.md")


def _throughput_and_latency(given: argparse.Namespace, description: str) -> str:
    sizes = [given.events] if given.skip_10m else [given.events, LARGE]
    parts, live = [], None
    for size in sizes:
        workload = Workload(size, size // EVENTS_PER_DEVICE)
        with _services() as (kafka, valkey, home):
            parts.append(_throughput(workload, kafka, valkey, home))
            if size == given.events and given.latency_seconds:
                duration = timedelta(seconds=given.latency_seconds)
                live = _latency(kafka, valkey, home, given.latency_rate, duration)
    return _report(description, parts, live, given.latency_rate)


@contextmanager
def _services(home: Path = HOME) -> Iterator[tuple[EmbeddedKafka, EmbeddedValkey, Path]]:
    """Kafka and Valkey with nothing in them, and an empty folder for the warehouse; all removed afterwards."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        with EmbeddedKafka(home / "kafka", heap="1g") as kafka, EmbeddedValkey(home / "valkey") as valkey:
            for topic, partitions in (("events", PARTITIONS), ("events.dead", 1)):
                kafka.create_topic(topic, partitions)
            yield kafka, valkey, home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _load(workload: Workload, kafka: EmbeddedKafka, *more: str) -> None:
    where = ("--bootstrap", kafka.bootstrap, "--topic", "events", *more)
    named = ("events", "devices", "seed", "per_session", "number", "late_share", "login_share", "one_login")
    asked = [word for name in named for word in (f"--{name.replace('_', '-')}", str(getattr(workload, name)))]
    loaded = _python("bench.load", *where, *asked)
    console.print(
        f"loaded {loaded['events']:,} events of {workload.devices:,} devices in {loaded['seconds']:.1f} s "
        f"({loaded['events'] / loaded['seconds']:,.0f}/s)"
    )


def _throughput(workload: Workload, kafka: EmbeddedKafka, valkey: EmbeddedValkey, home: Path) -> Part:
    _load(workload, kafka)
    where = ("--bootstrap", kafka.bootstrap, "--topic", "events", "--events", str(workload.events))
    yardsticks = [_python("bench.yardstick", *where) for _ in range(YARDSTICK_RUNS)]
    flow = run_flow(kafka.bootstrap, "events", valkey.url, home / "warehouse.duckdb")
    yardsticks += [_python("bench.yardstick", *where) for _ in range(YARDSTICK_RUNS)]
    part = Part(workload, yardsticks, flow)
    rates = ", ".join(f"{run['events_per_second'] / 1e6:.2f}" for run in yardsticks)
    console.print(
        f"flow {flow.events_per_second:,.0f} events/s, {flow.cpu_per_million:.2f} CPU µs per event, "
        f"{flow.peak_rss / 2**20:,.0f} MiB; yardstick {rates} M/s; ratio {part.ratio:.3f}"
    )
    _check(flow, workload)
    return part


def _check(flow: FlowRun, workload: Workload) -> None:
    if (flow.stored, flow.sessions, flow.dead) != (workload.events, workload.sessions, 0):
        raise RuntimeError(
            f"the flow is wrong: {flow.stored} events, {flow.sessions} sessions and {flow.dead} dead letters "
            f"instead of {workload.events}, {workload.sessions} and 0"
        )


def _latency(kafka: EmbeddedKafka, valkey: EmbeddedValkey, home: Path, rate: int, duration: timedelta) -> Latency:
    """On top of what the throughput part has stored."""
    warehouse = home / "warehouse.duckdb"
    with running_service(kafka.bootstrap, "events", valkey.url, warehouse, _free_port()) as (address, _):
        live = latency.measure(kafka.bootstrap, "events", PARTITIONS, address, rate, lambda passed: passed >= duration)
    p50, p95, p99 = (live.percentile(share) for share in (50, 95, 99))
    console.print(
        f"visible in a funnel after p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s "
        f"({len(live.seconds)} probes at {live.events_per_second:,.0f} events/s)"
    )
    return live


def _late(events: int) -> Late:
    """Two bursts on top of `events` stored events, each of half as many, and a third that the probes come beside."""
    burst, count = events // 2, events // EVENTS_PER_DEVICE
    with _services() as (kafka, valkey, home):
        warehouse = home / "warehouse.duckdb"
        _load(Workload(events, count), kafka)
        late.send_probes(kafka.bootstrap, "events", PARTITIONS - 1)
        stored = run_flow(kafka.bootstrap, "events", valkey.url, warehouse).events

        def run(number: int, late_share: float) -> FlowRun:
            _load(Workload(burst, count, number=number, late_share=late_share), kafka)
            flow = run_flow(kafka.bootstrap, "events", valkey.url, warehouse)
            console.print(f"{late_share:.0%} late: {flow.events_per_second:,.0f} events/s")
            return flow

        in_time, tenth_late = run(2, 0), run(3, LATE_SHARE)
        reconciled = run_reconcile(warehouse)
        _load(Workload(burst, count, number=4, late_share=LATE_SHARE), kafka, "--partitions", str(PARTITIONS - 1))
        with running_service(kafka.bootstrap, "events", valkey.url, warehouse, _free_port()) as (address, _):
            seconds, rate = late.watch_probes(kafka.bootstrap, "events", PARTITIONS - 1, address, burst)
    measured = Late(stored, in_time, tenth_late, reconciled, seconds, rate)
    console.print(
        f"late / in time {measured.ratio:.2f}; visible after p50 {measured.percentile(50):.2f} s, worst "
        f"{measured.percentile(100):.2f} s; {reconciled.differing} of {reconciled.sessions} sessions differ"
    )
    if reconciled.differing:
        raise RuntimeError("the flow is wrong: its sessions are not those of the batch definition")
    return measured


def _funnels() -> Funnels:
    shutil.rmtree(HOME, ignore_errors=True)
    try:
        measured = funnels.measure(HOME)
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
    console.print(
        f"store {min(measured.store):.2f} s, chDB {min(measured.chdb):.2f} s; refreshed in p50 "
        f"{1000 * measured.refresh(50):.0f} ms, p95 {1000 * measured.refresh(95):.0f} ms"
    )
    if not measured.same:
        raise RuntimeError("the store is wrong: what is watched is not what the same question says")
    return measured


def _devices() -> Devices:
    with _services() as (kafka, valkey, home):
        _load(devices.WORKLOAD, kafka)
        flow = run_flow(kafka.bootstrap, "events", valkey.url, home / "warehouse.duckdb")
        _check(flow, devices.WORKLOAD)
        measured = Devices(flow, run_reconcile(home / "warehouse.duckdb"))
    console.print(
        f"{flow.events_per_second:,.0f} events/s, peak RSS {flow.marked_rss[0] / 2**20:,.0f} MiB in the middle, "
        f"{flow.marked_rss[1] / 2**20:,.0f} at the end; compared in {measured.reconciled.seconds:.1f} s"
    )
    return measured


def _identity() -> Identity:
    """A machine is another one from minute to minute: both are measured in turn, and the better run of each counts."""
    other_place = HOME.with_name(f"{HOME.name}-without")
    with _services(other_place) as (other_kafka, other_valkey, other_home), _services() as (kafka, valkey, home):
        _load(identity.UNLINKED, other_kafka)
        _load(identity.LINKED, kafka)
        without: list[FlowRun] = []
        with_users: list[FlowRun] = []
        for number in range(RUNS):
            warehouse = home / f"warehouse-{number}.duckdb"
            without.append(run_flow(other_kafka.bootstrap, "events", other_valkey.url, other_home / warehouse.name))
            with_users.append(run_flow(kafka.bootstrap, "events", valkey.url, warehouse))
            _check(without[-1], identity.UNLINKED)
            _check(with_users[-1], identity.LINKED)
        linked, unlinked = (max(runs, key=lambda run: run.events_per_second) for runs in (with_users, without))
        refilled = min((identity.refill(warehouse, valkey.url) for _ in range(RUNS)), key=lambda one: one.seconds)
        with duckdb.connect(str(warehouse), read_only=True) as con:
            counted = con.execute("select count(distinct user_id) from stream.identity_facts").fetchone()
        with running_service(kafka.bootstrap, "events", valkey.url, warehouse, _free_port()) as (address, _):
            attributed = identity.watch_logins(kafka.bootstrap, "events", address)
    assert counted is not None
    measured = Identity(linked, unlinked, counted[0], refilled, attributed)
    console.print(
        f"with / without users {measured.ratio:.2f}; {refilled.devices / refilled.seconds:,.0f} links/s filled again, "
        f"{refilled.bytes_per_device:.0f} bytes a device; attributed after p95 {measured.percentile(95):.2f} s"
    )
    return measured


def _marts_and_viewers(description: str) -> str:
    measured, seen = _marts()
    return f"{marts.report(description, measured)}\n{viewers.report(seen)}"


def _marts() -> tuple[Marts, Viewers]:
    """A full refresh by itself and by plain DuckDB, then a full and a nightly one beside the flow; and what the people
    see who look at all that."""
    with _services() as (kafka, valkey, home):
        for workload in marts.HISTORY:
            _load(workload, kafka)
        warehouse = home / "warehouse.duckdb"
        flow = run_flow(kafka.bootstrap, "events", valkey.url, warehouse)
        alone = marts.refresh(warehouse)
        plain = _python("bench.marts", "--warehouse", str(warehouse))
        _load(marts.NIGHT, kafka)
        run_flow(kafka.bootstrap, "events", valkey.url, warehouse)
        nightly_alone = marts.refresh(warehouse)
        settings = marts.SETTINGS
        with running_service(kafka.bootstrap, "events", valkey.url, warehouse, _free_port(), **settings) as service:
            full, nightly = (
                marts.refresh_beside(kafka.bootstrap, "events", PARTITIONS, warehouse, service, full=full)
                for full in (True, False)
            )
            seen = viewers.measure(kafka.bootstrap, "events", PARTITIONS, service[0], flow.stored, VIEWING)
    measured = Marts(flow.stored, flow.sessions, alone, nightly_alone, plain, full, nightly)
    kinds = [one.kind for one in (alone, nightly_alone, full[0], nightly[0])]
    if kinds != ["full", "incremental"] * 2:
        raise RuntimeError(f"the refreshes were {kinds}")
    console.print(
        f"full {alone.seconds:.1f} s, beside the flow {measured.full[0].seconds:.1f} s, plain DuckDB "
        f"{plain['seconds']:.1f} s; nightly {nightly_alone.seconds:.1f} s, beside the flow "
        f"{measured.nightly[0].seconds:.1f} s, visible after p95 {measured.nightly[1].percentile(95):.2f} s; with "
        f"viewers after p95 {seen.fresh.percentile(95):.2f} s, and a page takes p95 {seen.page(95):.2f} s"
    )
    return measured, seen


def _anomalies() -> Anomalies:
    measured = anomalies.measure()
    seasonal = measured.right["seasonal"]
    console.print(
        f"the seasonal rule finds {seasonal.recall:.1%} of the falls with {seasonal.false_alarms_per_90_days:.2f} "
        f"false alarms in 90 days; every day in {measured.seconds['seasonal, every day']} s"
    )
    return measured


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
