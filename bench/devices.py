"""Many devices: 20 million events of five million, for the memory that each of them takes, and for the comparison of so
many sessions with the batch definition."""

from __future__ import annotations

from dataclasses import dataclass

from bench.flow import FlowRun, Reconciled
from bench.workload import Workload

WORKLOAD = Workload(events=20_000_000, devices=5_000_000, per_session=3)


@dataclass(frozen=True)
class Devices:
    """The flow over WORKLOAD, and the comparison after it."""

    flow: FlowRun
    reconciled: Reconciled

    @property
    def growth(self) -> float:
        half, whole = self.flow.marked_rss
        return whole / half - 1


def report(description: str, devices: Devices) -> str:
    flow, reconciled = devices.flow, devices.reconciled
    half, whole = flow.marked_rss
    return f"""## Many devices

{description}

{flow.events:,} events of {WORKLOAD.devices:,} devices, {WORKLOAD.per_session} a session, replayed at full speed from an
empty warehouse.

| | |
|---|---:|
| events/s | {flow.events_per_second:,.0f} |
| peak RSS up to the middle, MiB | {half / 2**20:,.0f} |
| peak RSS up to the end, MiB | {whole / 2**20:,.0f} |
| **growth** | **{devices.growth:.1%}** |
| sessions | {flow.sessions:,} |
| **`stitchline reconcile`, seconds** | **{reconciled.seconds:.1f}** |
| … peak RSS, MiB | {reconciled.peak_rss / 2**20:,.0f} |
| … sessions that differ | {reconciled.differing:,} |
"""
