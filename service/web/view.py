"""What the page and the API need of the running service, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

import duckdb

from flows.reconcile import Reconciliation
from funnels import FunnelDefinition
from sinks.backups import Manifest

FlowStatus = Literal["running", "waiting", "stopped", "catching up"]


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Where the flow stands in one partition of the topic."""

    topic: str
    partition: int
    next_offset: int
    end_offset: int
    watermark: datetime | None
    lag_records: int


@dataclass(frozen=True, slots=True)
class FlowState:
    """What the flow is doing now; `detail` is a sentence for people, empty when there is nothing to say."""

    status: FlowStatus
    detail: str = ""
    events_per_second: float = 0.0
    lag_records: int = 0
    lag: timedelta = timedelta()
    partitions: Sequence[PartitionState] = field(default_factory=tuple)


class ServiceView(Protocol):
    """The running service, as the web sees it. Every method is called from several threads at once."""

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A fresh cursor of the warehouse, TimeZone UTC; the caller closes it."""
        ...

    def flow_state(self) -> FlowState:
        """What the flow is doing now; called about once a second, so it answers from memory."""
        ...

    def funnels(self) -> Sequence[FunnelDefinition]:
        """The named funnel definitions that the page offers; the first one is shown first."""
        ...

    def reconcile(self, since: datetime | None, *, mend: bool) -> Reconciliation:
        """Compares the stream's sessions with the batch definition, and rewrites what differs if asked to."""
        ...

    def back_up(self, folder: Path) -> Manifest:
        """Makes a backup in `folder`, which is new or empty; the flow goes on."""
        ...
