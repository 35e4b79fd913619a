"""Verdicts, incidents and an office, made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from batch_marts.anomalies.incidents import Incident, LifeRules, advance
from batch_marts.anomalies.message import Places, Telling, subjects_of
from batch_marts.anomalies.owners import load_owners
from batch_marts.anomalies.record import Office
from batch_marts.anomalies.verdicts import Grain, Said, Verdict
from batch_marts.metrics import load_metrics

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)  # a Tuesday
DAY = datetime(2026, 11, 24, tzinfo=UTC)
FIVE, HOUR, ONE_DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)
PLACES = Places(
    incident="https://stitchline.example/anomalies#{incident}",
    definition="https://stitchline.example/metrics#{metric}",
    runbook="https://stitchline.example/runbook#{anchor}",
)
METRICS = load_metrics()
TELLING = Telling(subjects_of(METRICS), PLACES, "<@U012ABCDEF>")


def verdict(
    metric: str = "page_views",
    at: datetime = NOON,
    said: Said = "anomaly",
    grain: Grain = "five_minutes",
    z: float | None = 3.0,
    **values: Any,
) -> Verdict:
    """A value 40 % below the 12,000 that are expected, or in range."""
    made = Verdict(
        metric=metric,
        segment="all",
        grain=grain,
        at=at,
        said=said,
        rule="seasonal",
        actual=7_200.0 if said == "anomaly" else 12_100.0,
        expected=12_000.0,
        low=11_200.0,
        high=12_800.0,
        z=z if said == "anomaly" else 0.2,
        baseline=36,
        because="7,200 is 3.0 deviations below the median of 6 weeks",
    )
    return replace(made, **values)


def run(
    start: datetime, stop: datetime, said: Said = "anomaly", metric: str = "page_views", **values: Any
) -> list[Verdict]:
    """One verdict for each five minutes from `start` until before `stop`."""
    count = (stop - start) // FIVE
    return [verdict(metric, start + FIVE * n, said, **values) for n in range(count)]


def everybody(_metrics: object, _kind: object) -> str:
    """All of it is one team's."""
    return "product"


def lived(
    verdicts: list[Verdict],
    now: datetime = NOON,
    incidents: list[Incident] | None = None,
    rules: LifeRules | None = None,
) -> list[Incident]:
    """All incidents after these verdicts."""
    before = incidents or []
    changed = advance(before, verdicts, now, everybody, rules=rules or LifeRules())
    new = {incident.incident_id: incident for incident in changed}
    return [new.pop(each.incident_id, each) for each in before] + list(new.values())


def office(*, in_slack: bool = True) -> Office:
    """Of a shop."""
    owner_of = {metric.shown_as: metric.owner for metric in METRICS}
    return Office(load_owners(), TELLING.subjects, owner_of, PLACES, in_slack=in_slack)
