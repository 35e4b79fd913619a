"""The marts over 20 million events: a full refresh and a nightly one, by themselves and beside the flow; and what plain
DuckDB takes for the same statements, which is what is left if dbt, its tests' bookkeeping and the policy cost nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batch_marts.experiments import settings_table
from batch_marts.joined import JOINED
from batch_marts.pins import pin
from bench import latency
from bench.flow import Watch, run_command
from bench.latency import Latency
from bench.workload import Workload
from demo import FUNNELS
from funnels.definition import definitions
from service.marts import folder_of, funnels_for_marts
from service.settings import Settings
from sinks.warehouse import Warehouse

HISTORY: Final = [Workload(1_000_000, 75_000, number=number) for number in range(20)]
"""Forty days: twenty times as many sessions of the same devices, in spans of two days."""
NIGHT: Final = Workload(1_000_000, 75_000, number=20)
SETTINGS: Final = {"STITCHLINE_FUNNELS": str(FUNNELS)}
RATE: Final = 5_000
"""Events a second beside a refresh."""
_PLAIN: Final = "build_9999"


@dataclass(frozen=True)
class Refreshed:
    """One refresh: what it said, and the peak RSS of the process that did it, in bytes."""

    kind: str
    seconds: float
    peak_rss: int


@dataclass(frozen=True)
class Marts:
    """What was measured; `plain` is what `python -m bench.marts` said."""

    events: int
    sessions: int
    alone: Refreshed
    nightly_alone: Refreshed
    plain: dict[str, Any]
    full: tuple[Refreshed, Latency]
    nightly: tuple[Refreshed, Latency]


def refresh(warehouse: Path, *options: str) -> Refreshed:
    """`stitchline marts refresh` over a warehouse that nobody holds, or that a service does."""
    told, peak_rss = run_command("marts", "refresh", "--warehouse", str(warehouse), *options, **SETTINGS)
    return Refreshed(told["kind"], told["seconds"], peak_rss)


def refresh_beside(
    bootstrap: str, topic: str, partitions: int, warehouse: Path, service: tuple[str, Watch], full: bool
) -> tuple[Refreshed, Latency]:
    """A refresh by the running service, from its beginning to its end under RATE events a second."""
    address, watch = service
    began = time.time()
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(_after_warming_up, warehouse, *(["--full"] if full else []))
        measured = latency.measure(bootstrap, topic, partitions, address, RATE, lambda seconds: refreshing.done())
    made = refreshing.result()
    return Refreshed(made.kind, made.seconds, watch.peak(time.time(), began)), measured


def _after_warming_up(warehouse: Path, *options: str) -> Refreshed:
    time.sleep(latency.WARM_UP.total_seconds())
    return refresh(warehouse, *options)


def by_plain_duckdb(path: Path) -> dict[str, Any]:
    """Pins what there is now and runs the statements of the last refresh, tests included, one after the other."""
    settings = Settings(warehouse={"path": path}, funnels=FUNNELS)
    target = folder_of(settings) / "target"
    results = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
    nodes = json.loads((target / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    threads = os.cpu_count() or 1
    with Warehouse.open(path, memory_limit=settings.marts.memory_limit, threads=threads) as warehouse:
        funnels = funnels_for_marts(definitions(settings.funnels))
        began = time.perf_counter()
        with warehouse.reader() as con:
            pin(con, _PLAIN, None, funnels.window, funnels.days, settings_table([]))
            pinned = time.perf_counter() - began
            con.execute("create schema rows_9999")
            slowest: dict[str, float] = {}
            left_out: set[str] = set()  # made in Python, of no experiment, and what is made of that
            for result in results:
                node = nodes.get(result["unique_id"]) or _tests_of_a_model(result)
                if not result.get("compiled_code") and not node.get("build_path"):
                    continue  # who reads the marts
                if node.get("language") == "python" or left_out.intersection(
                    node.get("depends_on", {}).get("nodes", ())
                ):
                    left_out.add(result["unique_id"])
                    continue
                statement = _statement(node, result, target.parent)
                at = time.perf_counter()
                con.execute(statement).fetchall()
                slowest[node["name"]] = time.perf_counter() - at
        seconds = time.perf_counter() - began
        with warehouse.transaction() as con:
            con.execute(f"drop schema {_PLAIN} cascade; drop schema if exists rows_9999 cascade")
    first = sorted(slowest.items(), key=lambda item: -item[1])[:8]
    return {"seconds": seconds, "pinned": pinned, "statements": len(slowest), "slowest": dict(first)}


def _tests_of_a_model(result: dict[str, Any]) -> dict[str, Any]:
    """What stands for a node where several tests were joined, which are none in the manifest."""
    name = result["unique_id"].rsplit(".", 1)[-1]
    return {"name": name, "depends_on": {"nodes": [f"model.stitchline.{name.removeprefix(JOINED)}"]}}


def _statement(node: dict[str, Any], result: dict[str, Any], folder: Path) -> str:
    """What dbt ran, in another schema; dbt makes each table under another name, and then gives it its own."""
    if node.get("build_path"):
        ran = (folder / node["build_path"]).read_text(encoding="utf-8")
    else:
        ran = f"select count(*) from ({result['compiled_code']})"
    return re.sub(r"\b(build|rows)_\d{4}\b", r"\1_9999", ran).replace("__dbt_tmp", "")


def report(description: str, measured: Marts) -> str:
    (full, while_full), (nightly, while_nightly), plain = measured.full, measured.nightly, measured.plain
    slowest = ", ".join(f"{name} {seconds:.1f}" for name, seconds in plain["slowest"].items())
    return f"""## Marts

{description}

{measured.events:,} events and {measured.sessions:,} sessions of 40 days; the nightly refresh is that after
{NIGHT.events:,} more of two further days. Beside the flow: the service makes them while it takes {RATE:,} events/s.

| | full | nightly |
|---|---:|---:|
| by itself, seconds | {measured.alone.seconds:.1f} | {measured.nightly_alone.seconds:.1f} |
| … peak RSS, MiB | {measured.alone.peak_rss / 2**20:,.0f} | {measured.nightly_alone.peak_rss / 2**20:,.0f} |
| **beside the flow, seconds** | **{full.seconds:.1f}** | **{nightly.seconds:.1f}** |
| … peak RSS of the service, MiB | {full.peak_rss / 2**20:,.0f} | {nightly.peak_rss / 2**20:,.0f} |
| … events/s that came in meanwhile | {while_full.events_per_second:,.0f} | {while_nightly.events_per_second:,.0f} |
| … visible in a funnel, p95, seconds | {while_full.percentile(95):.2f} | {while_nightly.percentile(95):.2f} |

Plain DuckDB takes **{plain["seconds"]:.1f} s** for the {plain["statements"]} statements of the full refresh, tests
included, {plain["pinned"]:.1f} s of them to hold the stream's state still. By itself the refresh takes
**{measured.alone.seconds / plain["seconds"]:.2f}** times as long. The slowest, in seconds: {slowest}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=by_plain_duckdb.__doc__)
    parser.add_argument("--warehouse", type=Path, required=True)
    print(json.dumps(by_plain_duckdb(parser.parse_args().warehouse.absolute())))


if __name__ == "__main__":
    main()
