"""How the published marts and the metrics stand today, out of the warehouse; as the page and the API say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any, Final

import duckdb

from batch_marts import builds
from batch_marts.builds import PUBLISHED, Build
from batch_marts.catalogue import Catalogue, Mart
from batch_marts.changes import AnnouncedChange, pending
from batch_marts.metrics import Metric
from batch_marts.trust import SPEND, Drift, Known, Standing, Trouble, standing_of_mart, standing_of_metric
from flows.reconcile import last_reconciliation

WORDS: Final[Mapping[str, str]] = {"usable": "Use it", "care": "Use with care", "not": "Do not use"}
"""By verdict: what to do."""

_COMPLETE: Final = f"select max(date_day) from {PUBLISHED}.dim_date where is_complete"
_SPENT: Final = f"""
select channel, max(spend_date) as day from {PUBLISHED}.{SPEND}
group by channel
having max(spend_date) > (select max(spend_date) from {PUBLISHED}.{SPEND}) - 28
"""
"""A channel that nothing was spent on for four weeks while there was spend on others has ended."""


def known_of(
    con: duckdb.DuckDBPyConnection, published: Build, incidents: Sequence[Mapping[str, Any]], now: datetime
) -> Known:
    """All that the verdicts depend on. `incidents` are the open ones, as the API says them."""
    ended = (build for build in builds.builds(con) if build.status != "building")
    last = next(ended, published)
    compared = last_reconciliation(con)
    drift = None
    if compared is not None:
        differing = 0 if compared.repaired else compared.differing
        drift = Drift(compared.sessions, differing, compared.compared_at)
    return Known(
        now=now,
        published=published,
        last=last,
        findings=builds.findings_of(con, last.build_id) if last.status == "failed" else (),
        complete_until=_day(con) if "dim_date" in published.row_counts else None,
        spent_until=dict(con.execute(_SPENT).fetchall()) if SPEND in published.row_counts else {},
        troubles=[_trouble(one) for one in incidents],
        drift=drift,
        pending=pending(con, now),
    )


def _day(con: duckdb.DuckDBPyConnection) -> date | None:
    row = con.execute(_COMPLETE).fetchone()
    day: date | None = row[0] if row is not None else None
    return day


def _trouble(incident: Mapping[str, Any]) -> Trouble:
    return Trouble(
        incident_id=incident["incident_id"],
        title=incident["title"],
        kind=incident["kind"],
        severity=incident["severity"],
        metrics=tuple(dict.fromkeys(each["metric"] for each in incident["metrics"])),
    )


def told_of_all(known: Known, catalogue: Catalogue, reaches: Mapping[str, str | None]) -> dict[str, Any]:
    """Everything that /trust shows; `reaches` is up to when each mart does."""
    shown = [catalogue.marts[name] for name in sorted(known.published.row_counts) if name in catalogue.marts]
    marts = [told_of_mart(known, catalogue, mart) | {"reaches": reaches.get(mart.name)} for mart in shown]
    metrics = [
        {"name": metric.shown_as, "label": metric.label, "owner": metric.owner}
        | told_of_metric(known, catalogue, metric)
        for metric in catalogue.metrics.values()
    ]
    return {
        "now": known.now.isoformat(),
        "complete_until": _iso(known.complete_until),
        "last_refresh": {
            "build_id": known.last.build_id,
            "passed": known.last.status != "failed",
            "finished_at": _iso(known.last.finished_at),
            "message": known.last.message,
            "findings": [asdict(one) for one in known.findings],
        },
        "drift": None
        if known.drift is None
        else {
            "sessions": known.drift.sessions,
            "differing": known.drift.differing,
            "compared_at": known.drift.compared_at.isoformat(),
        },
        "marts": marts,
        "metrics": metrics,
    }


def told_of_metric(known: Known, catalogue: Catalogue, metric: Metric) -> dict[str, Any]:
    """How a metric stands: verdict, `because`, anomalies, pending."""
    return _told(standing_of_metric(known, catalogue, metric))


def told_of_mart(known: Known, catalogue: Catalogue, mart: Mart) -> dict[str, Any]:
    """How a mart stands, with its owner and its tests."""
    standing = standing_of_mart(known, catalogue, mart.name)
    return {
        "name": mart.name,
        "question": mart.question,
        "owner": mart.owner,
        "rows": known.published.row_counts.get(mart.name),
        "published_at": _iso(known.published.published_at),
        "tests": {
            "passed": mart.test_count,  # of what is published: it would not be, if one had failed
            "failed_since": [asdict(one) for one in standing.failed],
        },
    } | _told(standing)


def _told(standing: Standing) -> dict[str, Any]:
    return {
        "verdict": standing.verdict,
        "because": [asdict(reason) for reason in standing.reasons],
        "anomalies": [
            {"incident_id": one.incident_id, "title": one.title, "severity": one.severity} for one in standing.troubles
        ],
        "pending": [_change(one) for one in standing.pending],
    }


def _change(change: AnnouncedChange) -> dict[str, Any]:
    told = asdict(change)
    return told | {name: _iso(told[name]) for name in ("announced_at", "in_force_at")}


def _iso(at: date | datetime | None) -> str | None:
    return None if at is None else at.isoformat()
