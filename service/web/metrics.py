"""/metrics: what the flow and the warehouse know, for Prometheus. Read when it is asked for; nothing is counted twice.

What the warehouse knows (records, events, duplicates, …) goes on counting over restarts; the times of commits and the
devices that were cut again are those of this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import duckdb
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flows.reconcile import last_reconciliation
from service.web.view import COMMIT_TIMES, CommitTimes, FlowState, PartitionState, ServiceView
from stitchline import __version__

_SERVICES: Final = ("kafka", "redis")
_PLACE: Final = ("topic", "partition")

_COUNTERS: Final = {
    "consumed": ("stitchline_records_consumed", "Records read and committed: stored, duplicates and rejected ones."),
    "stored": ("stitchline_events_stored", "Records accepted and stored as events."),
    "duplicates": ("stitchline_duplicates", "Records accepted, but stored before: the first one counts."),
    "late": ("stitchline_late_events", "Stored events older than the watermark, whose sessions were cut again."),
    "foreign_keys": ("stitchline_foreign_keys", "Stored events whose message key was not their anonymousId."),
}
"""By the field of sinks.warehouse.Progress."""

_REJECTED: Final = "select topic, reason, count(*) from stream.dead_letters group by all order by all"
_OPEN_SESSIONS: Final = "select count(*) from stream.open_sessions"


class Metrics:
    """Everything that /metrics shows of one service."""

    def __init__(self, view: ServiceView) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(view))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their media type: OpenMetrics for whoever accepts that, else Prometheus's text format."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Collector(Collector):
    def __init__(self, view: ServiceView) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        now = datetime.now(UTC)
        state = self._view.flow_state()
        yield InfoMetricFamily("stitchline_build", "The version of Stitchline.", {"version": __version__})
        yield from _flow(state)
        yield from _partitions(state.partitions, now)
        yield from _counters(state)
        yield _commits(state.commits)
        with self._view.reader() as con:
            yield from _warehouse(con)


def _flow(state: FlowState) -> Iterator[Metric]:
    yield GaugeMetricFamily("stitchline_ready", "1 if /health/ready says so.", int(not state.why_not_ready()))
    status = GaugeMetricFamily("stitchline_flow_status", "1 for what the flow does now.", labels=("status",))
    for name in ("running", "catching up", "waiting", "stopped"):
        status.add_metric((name,), int(state.status == name))
    yield status
    waits = GaugeMetricFamily(
        "stitchline_flow_waits", "1 if the flow cannot go on until this service is back.", labels=("service",)
    )
    silent = GaugeMetricFamily(
        "stitchline_service_up", "1 if this service answered when it was asked last.", labels=("service",)
    )
    for name in dict.fromkeys((*_SERVICES, *state.waits_for, *state.silent)):
        waits.add_metric((name,), int(name in state.waits_for))
        silent.add_metric((name,), int(name not in state.silent and name not in state.waits_for))
    yield from (waits, silent)


def _partitions(partitions: Iterable[PartitionState], now: datetime) -> Iterator[Metric]:
    records = GaugeMetricFamily("stitchline_lag_records", "Records that are not committed yet.", labels=_PLACE)
    seconds = GaugeMetricFamily(
        "stitchline_lag_seconds", "How long the oldest record that is not committed has waited, at most.", labels=_PLACE
    )
    offset = GaugeMetricFamily("stitchline_next_offset", "The offset after the last one committed.", labels=_PLACE)
    watermark = GaugeMetricFamily(
        "stitchline_watermark_timestamp_seconds",
        "The watermark, in event time, as a Unix time: what is older is late.",
        labels=_PLACE,
    )
    behind = GaugeMetricFamily(
        "stitchline_watermark_lag_seconds", "How far the watermark is behind the clock.", labels=_PLACE
    )
    committed = GaugeMetricFamily(
        "stitchline_last_commit_timestamp_seconds",
        "When the partition was last committed, as a Unix time.",
        labels=_PLACE,
    )
    for place in partitions:
        labels = (place.topic, str(place.partition))
        records.add_metric(labels, place.lag_records)
        seconds.add_metric(labels, place.lag.total_seconds())
        offset.add_metric(labels, place.next_offset)
        if place.watermark is not None:
            watermark.add_metric(labels, place.watermark.timestamp())
            behind.add_metric(labels, (now - place.watermark).total_seconds())
        if place.progress is not None and place.progress.committed_at is not None:
            committed.add_metric(labels, place.progress.committed_at.timestamp())
    yield from (records, seconds, offset, watermark, behind, committed)


def _counters(state: FlowState) -> Iterator[Metric]:
    for field, (name, meaning) in _COUNTERS.items():
        counter = CounterMetricFamily(name, meaning, labels=_PLACE)
        for place in state.partitions:
            if place.progress is not None:
                counter.add_metric((place.topic, str(place.partition)), getattr(place.progress, field))
        yield counter
    yield CounterMetricFamily(
        "stitchline_devices_recut", "Devices whose sessions were cut again from what is stored.", state.recut
    )


def _commits(commits: CommitTimes) -> Metric:
    buckets, below = [], 0
    for bound, count in zip(COMMIT_TIMES, commits.count, strict=False):
        below += count
        buckets.append((str(bound.total_seconds()), below))
    buckets.append(("+Inf", sum(commits.count)))
    meaning = "How long commits took, from what was gathered to the end of the transaction."
    return HistogramMetricFamily("stitchline_commit_seconds", meaning, buckets, commits.total.total_seconds())


def _warehouse(con: duckdb.DuckDBPyConnection) -> Iterator[Metric]:
    row = con.execute(_OPEN_SESSIONS).fetchone()
    assert row is not None
    yield GaugeMetricFamily("stitchline_open_sessions", "Sessions that the watermark has not passed yet.", row[0])
    rejected = CounterMetricFamily(
        "stitchline_rejected", "Records that were no acceptable events: dead letters.", labels=("topic", "reason")
    )
    for topic, reason, letters in con.execute(_REJECTED).fetchall():
        rejected.add_metric((topic, reason), letters)
    yield rejected
    last = last_reconciliation(con)
    if last is None:
        return
    yield GaugeMetricFamily(
        "stitchline_reconcile_drift_sessions",
        "Sessions that the last comparison found to differ from the batch definition, and that were not repaired.",
        0 if last.repaired else last.differing,
    )
    yield GaugeMetricFamily(
        "stitchline_reconcile_sessions", "Sessions that the batch definition had at the last comparison.", last.sessions
    )
    yield GaugeMetricFamily(
        "stitchline_reconcile_timestamp_seconds",
        "When sessions were last compared with the batch definition, as a Unix time.",
        last.compared_at.timestamp(),
    )
    yield GaugeMetricFamily("stitchline_reconcile_seconds", "How long the last comparison took.", last.seconds)
