"""Stitchline's own troubles: what is one, and that each has words in the runbook."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batch_marts.anomalies.health import CHECKS, Observed, judged
from batch_marts.anomalies.owners import PLATFORM
from tests.batch_marts.anomalies.made import FIVE, NOON, lived, office

WELL = Observed(
    at=NOON + timedelta(minutes=3, seconds=20),
    flow="running",
    restarts=0,
    lag=timedelta(seconds=4),
    dead_letters=3,
    dead_letters_usual=(2, 8, 5),
    drifted=0,
    refresh_error="",
    kafka_away=timedelta(),
    redis_away=timedelta(),
    disk_free=200_000_000_000,
    disk_size=400_000_000_000,
    warehouse_size=10_000_000_000,
)
ILL: dict[str, dict[str, Any]] = {
    "stitchline_flow": {"flow": "down", "flow_detail": "the warehouse cannot be written"},
    "stitchline_restarts": {"restarts": 3},
    "stitchline_lag": {"lag": timedelta(minutes=11)},
    "stitchline_dead_letters": {"dead_letters": 41},  # 5 times 8 are usual
    "stitchline_drift": {"drifted": 1},
    "stitchline_refresh": {"refresh_error": "dim_person: first_channel is not in dim_channel"},
    "stitchline_kafka": {"kafka_away": timedelta(minutes=3)},
    "stitchline_redis": {"redis_away": timedelta(minutes=3)},
    "stitchline_disk": {"disk_free": 30_000_000_000},
}


def test_all_is_well() -> None:
    verdicts = judged(WELL)
    assert {verdict.metric for verdict in verdicts} == set(CHECKS)
    assert {verdict.said for verdict in verdicts} == {"normal"}
    assert {verdict.at for verdict in verdicts} == {NOON}, "of the five minutes in which it was looked at"


@pytest.mark.parametrize("check", CHECKS)
def test_one_thing_is_wrong(check: str) -> None:
    wrong = [verdict.metric for verdict in judged(replace(WELL, **ILL[check])) if verdict.said == "anomaly"]
    assert wrong == [check]


@pytest.mark.parametrize(
    "told",
    [
        {"flow": "waiting"},
        {"flow": "restarting"},
        {"restarts": 2},
        {"lag": timedelta(minutes=10)},
        {"dead_letters": 40},
        {"dead_letters": 20, "dead_letters_usual": ()},
        {"kafka_away": timedelta(minutes=2)},
        {"disk_free": 40_000_000_000},
    ],
)
def test_what_is_no_trouble_yet(told: dict[str, Any]) -> None:
    assert [verdict.metric for verdict in judged(replace(WELL, **told)) if verdict.said == "anomaly"] == []


def test_a_disk_without_room_for_a_backup() -> None:
    verdicts = judged(replace(WELL, disk_free=60_000_000_000, warehouse_size=70_000_000_000))
    (disk,) = [verdict for verdict in verdicts if verdict.said == "anomaly"]
    assert disk.because == (
        "15% of the disk is free (60 GB), less than the warehouse takes (70 GB): a backup would not fit"
    )


def test_what_was_not_looked_at_says_nothing() -> None:
    assert judged(Observed(NOON)) == []


def test_it_is_an_incident_of_the_platform_team_until_a_quarter_of_an_hour_after_it_is_over() -> None:
    assert office().team_of(["stitchline_lag"], "health") == PLATFORM
    ill = replace(WELL, **ILL["stitchline_lag"])
    (incident,) = lived(judged(ill))
    assert (incident.kind, incident.members) == ("health", [("stitchline_lag", "all")])
    for minutes, status in ((5, "open"), (10, "open"), (15, "resolved")):
        at = NOON + timedelta(minutes=minutes)
        (incident,) = lived(judged(replace(WELL, at=at)), at + FIVE, [incident])
        assert incident.status == status, minutes


def test_the_runbook_has_a_heading_for_each() -> None:
    runbook = Path(__file__).parents[3].joinpath("docs", "runbook.md").read_text(encoding="utf-8")
    anchors = set(re.findall(r'<a id="([a-z-]+)"></a>', runbook))
    assert anchors == {check.anchor for check in CHECKS.values()} | {"anomaly", "together", "late", "slack"}
