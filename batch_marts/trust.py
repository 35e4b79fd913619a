"""Whether a number of the marts can be used today, and why: rules over what is known of their making. Pure.

usable   nothing speaks against it
care     it is right as far as it goes, and one should know how far that is
not      it is not what its definition says, or tells nothing of today
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from batch_marts.builds import Build
from batch_marts.catalogue import Catalogue
from batch_marts.changes import AnnouncedChange
from batch_marts.dbt import Finding
from batch_marts.metrics import DAILY, Metric

Verdict = Literal["usable", "care", "not"]
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("not", "care", "usable")

FRESH: Final = timedelta(hours=30)
"""A refresh a night leaves a build 24 hours old, and has some hours until the next one is published."""
_HOUR: Final = timedelta(hours=1)
STALE: Final = timedelta(days=3)
"""So many nights without a refresh that passed are no hiccup any more."""
OUTDATED: Final = timedelta(days=7)
"""What is complete only so far back tells nothing of today."""
DRIFTED: Final = 0.01
"""Sessions that differ from the batch definition, as a share of all: from here on sums are off by what can be seen."""
SPEND: Final = "fct_ad_spend_daily"
"""The mart that is as complete as the exports that somebody loads."""
_SESSIONS: Final = "pinned.pinned_sessions"
"""The stream's, as a build saw them."""
_STREAM: Final = ("pinned.", "stream.")
"""What the stream's days matter to is made of these; a list of channels, or spend, is not."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An incident that goes on."""

    incident_id: str
    title: str
    kind: str
    """anomaly, late, or health: of Stitchline itself."""
    severity: str
    metrics: tuple[str, ...]
    """As mart_daily_metrics has them."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What the last comparison of the stream's sessions with the batch definition found and did not repair."""

    sessions: int
    differing: int
    compared_at: datetime

    @property
    def share(self) -> float:
        return self.differing / max(self.sessions, self.differing, 1)


@dataclass(frozen=True, slots=True)
class Known:
    """All that the verdicts depend on, as of `now`. Times are aware UTC, days are UTC days."""

    now: datetime
    published: Build
    last: Build
    """The newest build that has ended; the published one, if it passed."""
    findings: Sequence[Finding]
    """What went wrong in the last one."""
    complete_until: date | None
    spent_until: Mapping[str, date]
    """By channel, the last day of which an export was loaded; of channels that are in use."""
    troubles: Sequence[Trouble]
    drift: Drift | None
    pending: Sequence[AnnouncedChange]


@dataclass(frozen=True, slots=True)
class Reason:
    """A sentence that speaks against a number, and how much."""

    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mart or a metric stands."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    """The worst first."""
    failed: tuple[Finding, ...]
    """What did not hold of it in the last refresh, which is not published for that."""
    troubles: tuple[Trouble, ...]
    pending: tuple[AnnouncedChange, ...]


def standing_of_mart(known: Known, catalogue: Catalogue, name: str) -> Standing:
    """How a published mart stands."""
    metrics = set(catalogue.metrics) if name == DAILY else {one.shown_as for one in catalogue.metrics_of(name)}
    behind = {name, *(model.name for model in catalogue.made_from(name))}
    return _standing(known, behind, metrics, [one for one in known.pending if one.mart == name])


def standing_of_metric(known: Known, catalogue: Catalogue, metric: Metric) -> Standing:
    """How a metric stands: by what it is worked out from, and by what is out of range of itself and of its parts."""
    behind = {DAILY, *(model.name for model in catalogue.behind(metric))}
    metrics = {metric.shown_as, *(metric.ratio or ())}
    read = catalogue.read_for(metric)
    pending = [one for one in known.pending if one.metric in metrics or (one.metric is None and one.mart in read)]
    return _standing(known, behind, metrics, pending)


def _standing(known: Known, behind: set[str], metrics: set[str], pending: Sequence[AnnouncedChange]) -> Standing:
    failed = [one for one in known.findings if one.about in behind]
    troubles = [one for one in known.troubles if one.kind == "health" or metrics & set(one.metrics)]
    reasons = [
        *_of_refreshes(known, failed),
        *(_of_days(known) if any(name.startswith(_STREAM) for name in behind) else ()),
        *(_of_spend(known) if SPEND in behind else ()),
        *_of_troubles(troubles),
        *(_of_drift(known) if _SESSIONS in behind else ()),
    ]
    reasons.sort(key=lambda reason: _WORST_FIRST.index(reason.verdict))
    verdict: Verdict = reasons[0].verdict if reasons else "usable"
    return Standing(verdict, tuple(reasons), tuple(failed), tuple(troubles), tuple(pending))


def _of_refreshes(known: Known, failed: Sequence[Finding]) -> Iterator[Reason]:
    age = known.now - (known.published.published_at or known.published.started_at)
    if age > STALE:
        yield Reason("not", f"The last build that passed its tests was published {age.days} days ago.")
    elif age > FRESH:
        yield Reason("care", f"The last build that passed its tests is {age // _HOUR} hours old: a night's is missing.")
    if known.last.status != "failed" or known.last.build_id <= known.published.build_id:
        return
    if failed:
        said = "; ".join(f"{one.about}: {one.says}" for one in failed[:3])
        yield Reason("care", f"The refresh after it failed its tests here ({said}). What is shown is from before that.")
    else:
        yield Reason("care", "The refresh after it failed, for another reason. What is shown is from before that.")


def _of_days(known: Known) -> Iterator[Reason]:
    if known.complete_until is None:
        yield Reason("not", "No day is complete yet: not all of its events are known.")
        return
    behind = known.now.date() - known.complete_until
    if behind > OUTDATED:
        yield Reason("not", f"The last complete day is {known.complete_until}, {behind.days} days ago.")
    elif behind > timedelta(days=1):
        yield Reason("care", f"Days after {known.complete_until} are not complete: their events are not all known yet.")


def _of_spend(known: Known) -> Iterator[Reason]:
    if known.complete_until is None:
        return
    late = {channel: day for channel, day in known.spent_until.items() if day < known.complete_until}
    if late:
        said = ", ".join(f"{channel} up to {day}" for channel, day in sorted(late.items()))
        yield Reason("care", f"Ad spend is loaded for {said}: later days lack its cost.")


def _of_troubles(troubles: Sequence[Trouble]) -> Iterator[Reason]:
    for one in troubles:
        match one.kind:
            case "late":
                yield Reason("care", f"Data is late: {one.title}.")
            case "health":
                yield Reason("care", f"Stitchline has a trouble of its own: {one.title}.")
            case _ if one.severity == "critical":
                yield Reason("not", f"A value is far out of range: {one.title}.")
            case _:
                yield Reason("care", f"A value is out of range: {one.title}.")


def _of_drift(known: Known) -> Iterator[Reason]:
    drift = known.drift
    if drift is not None and drift.differing:
        verdict: Verdict = "not" if drift.share >= DRIFTED else "care"
        yield Reason(
            verdict,
            f"{drift.differing:,} of {drift.sessions:,} sessions differ from their definition and are not repaired.",
        )
