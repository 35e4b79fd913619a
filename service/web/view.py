"""What the page and the API need of the running service, and nothing more."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import duckdb

from batch_marts.experiments import Experiment
from flows.reconcile import Reconciliation
from flows.rules import FlowRules
from funnels import FunnelDefinition, FunnelResult
from identity.rebuild import Judged
from service.anomalies import Anomalies
from service.marts import Marts
from service.web.models import PersonChange, PersonToForget, SpendFiles, UploadedFile
from sinks.backups import Manifest
from sinks.warehouse import Progress

COMMIT_TIMES: Final = tuple(timedelta(milliseconds=ms) for ms in (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000))
"""Bounds of the histogram of commits."""

_NAMES: Final = {"kafka": "Kafka", "redis": "Redis", "warehouse": "the warehouse"}

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
    lag: timedelta = timedelta()
    progress: Progress | None = None
    """All that is committed of it."""


@dataclass(slots=True)
class CommitTimes:
    """How long commits took, since the process began."""

    count: list[int] = field(default_factory=lambda: [0] * (len(COMMIT_TIMES) + 1))
    """By the first of COMMIT_TIMES that is not below; the last one counts those above all of them."""
    total: timedelta = timedelta()

    def saw(self, took: timedelta) -> None:
        self.count[bisect_left(COMMIT_TIMES, took)] += 1
        self.total += took


@dataclass(frozen=True, slots=True)
class FlowState:
    """What the flow is doing now; `detail` is a sentence for people, empty when there is nothing to say."""

    status: FlowStatus
    detail: str = ""
    events_per_second: float = 0.0
    lag_records: int = 0
    lag: timedelta = timedelta()
    partitions: Sequence[PartitionState] = field(default_factory=tuple)
    waits_for: Sequence[str] = ()
    """What the flow cannot go on without, and is away: kafka, redis, warehouse."""
    silent: Sequence[str] = ()
    """kafka and redis, if they did not answer when they were asked last, whether or not the flow needs them now."""
    recut: int = 0
    """Devices whose sessions were cut again, since the process began."""
    commits: CommitTimes = field(default_factory=CommitTimes)

    def why_not_ready(self) -> list[str]:
        """In plain words, without an address or an event: whoever asks has shown no token. Empty if it is ready."""
        if self.status == "stopped":
            return ["The flow has ended."]
        reasons = [f"The flow waits for {_NAMES.get(name, f'the {name}')}." for name in self.waits_for]
        reasons += [f"{_NAMES[name]} does not answer." for name in self.silent if name not in self.waits_for]
        if self.status == "waiting" and not reasons:
            reasons.append("The flow does not read yet.")
        return reasons


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

    def ask_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        """The funnel as `con`, which is in no transaction, has it now."""
        ...

    def watch_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        """The same, of a funnel that is asked for over and over."""
        ...

    def experiments(self) -> Sequence[Experiment]:
        """What the experiments are judged by."""
        ...

    def reconcile(self, since: datetime | None, *, mend: bool) -> Reconciliation:
        """Compares the stream's sessions with the batch definition, and rewrites what differs if asked to."""
        ...

    def rules(self) -> FlowRules:
        """By which sessions and persons are told."""
        ...

    def change_persons(self, change: PersonChange) -> dict[str, Any]:
        """Merges two persons, or takes that back, and says what it changes."""
        ...

    def rebuild(self) -> Judged:
        """Judges all facts anew, by the rules that are set."""
        ...

    def forget(self, person: PersonToForget) -> dict[str, Any]:
        """Removes all that is stored of a person, and says what that was and what is left elsewhere."""
        ...

    def marts(self) -> Marts:
        """The marts: which build everybody reads, and the making of another one."""
        ...

    def anomalies(self) -> Anomalies:
        """What is out of range, and what became of it."""
        ...

    def load_spend(self, files: SpendFiles) -> list[dict[str, Any]]:
        """Loads exports of advertising platforms, and says of each what became of it."""
        ...

    def load_rates(self, file: UploadedFile) -> dict[str, Any]:
        """Loads rates of currencies, and says what became of them."""
        ...

    def back_up(self, folder: Path) -> Manifest:
        """Makes a backup in `folder`, which is new or empty; the flow goes on."""
        ...
