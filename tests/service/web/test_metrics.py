"""/metrics, read as Prometheus reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from service.web.app import create_app
from service.web.view import CommitTimes, FlowState, PartitionState
from sinks.warehouse import Progress
from tests.service.web.shop import Server, Shop, at

OURS = "stitchline_"


@pytest.fixture
def metrics(shop: Shop, server: Server) -> Iterator[httpx.Client]:
    """A client of a shop that is far behind in one of its two partitions."""
    progress = Progress(
        "events", 0, 9, at(90), at(91), consumed=9, stored=6, duplicates=2, dead=1, late=1, committed_at=at(92)
    )
    commits = CommitTimes()
    for ms in (4, 100, 101, 60_000):
        commits.saw(timedelta(milliseconds=ms))
    shop.state = FlowState(
        "waiting",
        "Kafka is away",
        lag_records=42,
        lag=timedelta(seconds=3.5),
        partitions=(
            PartitionState("events", 0, 9, 51, at(90), 42, timedelta(seconds=3.5), progress),
            PartitionState("events", 1, 0, 0, None, 0),
        ),
        waits_for=("kafka",),
        recut=17,
        commits=commits,
    )
    server.start(create_app(shop))
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def samples(client: httpx.Client) -> dict[str, float]:
    """Every sample by its name and labels, as they are written."""
    answer = client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"][:10]) == (200, "text/plain")
    assert list(text_format(answer.text))
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    assert len({name for name, _ in lines}) == len(lines), "no sample is there twice"
    return {name.removeprefix(OURS): float(value) for name, value in lines}


def test_what_the_flow_and_the_warehouse_know(metrics: httpx.Client) -> None:
    found = samples(metrics)
    expected = {
        "ready": 0,
        'flow_status{status="waiting"}': 1,
        'flow_status{status="running"}': 0,
        'flow_waits{service="kafka"}': 1,
        'flow_waits{service="redis"}': 0,
        'service_up{service="kafka"}': 0,
        'service_up{service="redis"}': 1,
        'lag_records{partition="0",topic="events"}': 42,
        'lag_records{partition="1",topic="events"}': 0,
        'lag_seconds{partition="0",topic="events"}': 3.5,
        'next_offset{partition="0",topic="events"}': 9,
        'watermark_timestamp_seconds{partition="0",topic="events"}': at(90).timestamp(),
        'last_commit_timestamp_seconds{partition="0",topic="events"}': at(92).timestamp(),
        "open_sessions": 1,
        'records_consumed_total{partition="0",topic="events"}': 9,
        'events_stored_total{partition="0",topic="events"}': 6,
        'duplicates_total{partition="0",topic="events"}': 2,
        'late_events_total{partition="0",topic="events"}': 1,
        'foreign_keys_total{partition="0",topic="events"}': 0,
        'rejected_total{reason="not_json",topic="events"}': 1,
        "devices_recut_total": 17,
        'commit_seconds_bucket{le="0.01"}': 1,
        'commit_seconds_bucket{le="0.05"}': 1,
        'commit_seconds_bucket{le="0.1"}': 2,
        'commit_seconds_bucket{le="0.25"}': 3,
        'commit_seconds_bucket{le="10.0"}': 3,
        'commit_seconds_bucket{le="+Inf"}': 4,
        "commit_seconds_count": 4,
        "commit_seconds_sum": 60.205,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)
    assert 'watermark_timestamp_seconds{partition="1",topic="events"}' not in found, "it has none yet"
    behind = datetime.now(UTC) - at(90)
    assert found['watermark_lag_seconds{partition="0",topic="events"}'] == pytest.approx(behind.total_seconds(), abs=60)
    assert found["process_resident_memory_bytes"] > 1e6


def test_drift(metrics: httpx.Client, shop: Shop) -> None:
    assert not [name for name in samples(metrics) if name.startswith("reconcile")], "nothing was compared yet"
    for day, differing, repaired, drift in ((0, 3, False, 3), (1, 3, True, 0), (2, 0, False, 0)):
        compared_at = at(day * 1440)
        shop.write("insert into stream.reconciliations values (?, 2.5, 1000, ?, ?)", compared_at, differing, repaired)
        found = {name: value for name, value in samples(metrics).items() if name.startswith("reconcile")}
        assert found == {
            "reconcile_drift_sessions": drift,
            "reconcile_sessions": 1000,
            "reconcile_seconds": 2.5,
            "reconcile_timestamp_seconds": compared_at.timestamp(),
        }


def test_names_and_words_are_as_prometheus_asks_for(metrics: httpx.Client, shop: Shop) -> None:
    shop.write("insert into stream.reconciliations values (?, 2.5, 1000, 0, false)", at(0))
    answer = metrics.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = [family for family in open_metrics(answer.text) if family.name.startswith(OURS)]
    assert len(families) > 20
    for family in families:
        assert re.fullmatch(r"[A-Z1][^\n]+\.", family.documentation), family.name
        assert family.samples, family.name
        assert re.fullmatch(r"stitchline_[a-z_]+[a-z]", family.name)
        assert ("Unix time" in family.documentation) == family.name.endswith("_timestamp_seconds")


def test_hostile_labels_stay_labels(metrics: httpx.Client, shop: Shop) -> None:
    topic = 'a"} 1\nstitchline_ready 7\\\n#'
    shop.state = replace(shop.state, partitions=(PartitionState(topic, 0, 9, 51, None, 42),))
    (family,) = [f for f in text_format(metrics.get("/metrics").text) if f.name == "stitchline_lag_records"]
    assert [sample.labels["topic"] for sample in family.samples] == [topic]
    assert samples(metrics)["ready"] == 0
