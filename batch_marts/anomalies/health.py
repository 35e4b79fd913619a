"""Stitchline's own troubles as verdicts, so that they go the road of all incidents, to the platform team. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from batch_marts.anomalies.incidents import HEALTH_RULE
from batch_marts.anomalies.numbers import lasting
from batch_marts.anomalies.verdicts import Verdict

FlowStatus = Literal["running", "waiting", "restarting", "down"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong. `anchor` is its heading in docs/runbook.md."""

    label: str
    definition: str
    unit: str
    anchor: str


CHECKS: Final[Mapping[str, Check]] = {
    "stitchline_flow": Check(
        "Stitchline's flow",
        "Reads events from Kafka into the warehouse. While it does not, no figure moves.",
        "",
        "flow",
    ),
    "stitchline_restarts": Check(
        "Restarts of the flow", "How often the flow had to be started again within an hour.", "restarts", "restarts"
    ),
    "stitchline_lag": Check(
        "Lag of the flow", "How far the flow is behind what Kafka holds, in event time.", "minutes", "lag"
    ),
    "stitchline_dead_letters": Check(
        "Dead letters",
        "Records of the last hour that are no acceptable events, against their habit.",
        "records",
        "dead",
    ),
    "stitchline_drift": Check(
        "Drift of sessions",
        "Sessions that differ from what the batch definition makes of the events.",
        "sessions",
        "drift",
    ),
    "stitchline_refresh": Check(
        "Refresh of the marts", "The nightly build of the tables that everybody reads.", "", "refresh"
    ),
    "stitchline_kafka": Check("Kafka", "Where events come from.", "", "kafka"),
    "stitchline_redis": Check("Redis", "The fast copy of who is behind a device.", "", "redis"),
    "stitchline_disk": Check("Disk of the warehouse", "What is free where the warehouse lies.", "share", "disk"),
}


@dataclass(frozen=True, slots=True)
class Observed:
    """Stitchline's state at one moment. What is None was not looked at, and says nothing."""

    at: datetime
    flow: FlowStatus | None = None
    flow_detail: str = ""
    """Why it is not running, in words."""
    restarts: int | None = None
    """Of the flow, in the last hour."""
    lag: timedelta | None = None
    """The greatest of all partitions."""
    dead_letters: int | None = None
    """In the last hour."""
    dead_letters_usual: tuple[int, ...] = ()
    """In hours before; what is usual there."""
    drifted: int | None = None
    """Sessions that the last comparison found to differ."""
    refresh_error: str | None = None
    """Why the last refresh was not published; empty: it was."""
    kafka_away: timedelta | None = None
    """Since when it does not answer; zero: it does."""
    redis_away: timedelta | None = None
    disk_free: int | None = None
    """Octets."""
    disk_size: int | None = None
    warehouse_size: int | None = None
    """Octets; a backup or an erasure needs as much again."""


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """From where on it is somebody's matter."""

    restarts: int = 3
    lag: timedelta = timedelta(minutes=10)
    dead_letters: int = 20
    """Fewer in an hour are never one."""
    dead_letters_times: float = 5.0
    """As many times the most of the usual hours."""
    away: timedelta = timedelta(minutes=2)
    disk_free: float = 0.1
    """Share of the disk."""


@dataclass(slots=True)
class _Judge:
    at: datetime
    verdicts: list[Verdict] = field(default_factory=list)

    def say(
        self, metric: str, wrong: bool, because: str, actual: float | None = None, limit: float | None = None
    ) -> None:
        self.verdicts.append(
            Verdict(
                metric=metric,
                segment="all",
                grain="five_minutes",
                at=self.at,
                said="anomaly" if wrong else "normal",
                rule=HEALTH_RULE,
                actual=actual,
                expected=None,
                low=None if metric != "stitchline_disk" else limit,
                high=None if metric == "stitchline_disk" else limit,
                z=None,
                baseline=0,
                because=because,
            )
        )


def judged(observed: Observed, limits: HealthLimits = HealthLimits()) -> list[Verdict]:
    """A verdict, normal or not, for each thing that was looked at; of the five minutes that `observed.at` is in."""
    five = timedelta(minutes=5)
    judge = _Judge(observed.at - (observed.at - datetime(1970, 1, 1, tzinfo=observed.at.tzinfo)) % five)
    if observed.flow is not None:
        detail = f": {observed.flow_detail}" if observed.flow_detail else ""
        judge.say("stitchline_flow", observed.flow == "down", f"the flow is {observed.flow}{detail}")
    if observed.restarts is not None:
        told = f"it was started again {observed.restarts} times in an hour"
        judge.say(
            "stitchline_restarts", observed.restarts >= limits.restarts, told, observed.restarts, limits.restarts - 1
        )
    if observed.lag is not None:
        minutes, limit = observed.lag / timedelta(minutes=1), limits.lag / timedelta(minutes=1)
        told = f"it is {lasting(observed.lag)} behind; up to {lasting(limits.lag)} are taken as usual"
        judge.say("stitchline_lag", observed.lag > limits.lag, told, minutes, limit)
    if observed.dead_letters is not None:
        usual = max(observed.dead_letters_usual, default=0)
        most = max(limits.dead_letters, limits.dead_letters_times * usual)
        told = f"{observed.dead_letters:,} records in an hour were no acceptable events; {usual:,} at most are usual"
        judge.say("stitchline_dead_letters", observed.dead_letters > most, told, observed.dead_letters, most)
    if observed.drifted is not None:
        told = f"{observed.drifted:,} sessions differ from the batch definition"
        judge.say("stitchline_drift", observed.drifted > 0, told, observed.drifted, 0)
    if observed.refresh_error is not None:
        told = f"the marts are those of the refresh before: {observed.refresh_error}"
        judge.say("stitchline_refresh", bool(observed.refresh_error), told if observed.refresh_error else "published")
    for name, away in (("kafka", observed.kafka_away), ("redis", observed.redis_away)):
        if away is not None:
            told = f"{name.capitalize()} has not answered for {lasting(away)}" if away else "it answers"
            judge.say(f"stitchline_{name}", away > limits.away, told)
    if observed.disk_free is not None and observed.disk_size:
        share = observed.disk_free / observed.disk_size
        copy = observed.warehouse_size or 0
        told = f"{share:.0%} of the disk is free ({_size(observed.disk_free)})"
        if copy > observed.disk_free:
            told += f", less than the warehouse takes ({_size(copy)}): a backup would not fit"
        wrong = share < limits.disk_free or copy > observed.disk_free
        judge.say("stitchline_disk", wrong, told, share, max(limits.disk_free, copy / observed.disk_size))
    return judge.verdicts


def _size(octets: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000:
            return f"{octets:,.0f} {unit}"
        octets = round(octets / 1000)
    return f"{octets:,} TB"
