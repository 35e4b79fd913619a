"""The life of an incident, pure: incidents on record + new verdicts + the clock → what they are now, and what changed.

An incident is of one metric and segment, of several that fire together for one cause, or of Stitchline itself. It is a
function of the verdicts and acts that belong to it: the same ones again, in another order, make no other incident.

    open → acknowledged or snoozed → resolved (back in range) or expired (nothing heard of it)
                                   → dismissed (no anomaly: its values stay in the baseline)
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final, Literal

from batch_marts.anomalies.verdicts import Grain, Verdict

Kind = Literal["anomaly", "late", "health"]
"""`late`: data that is not there yet. `health`: Stitchline's own trouble."""
Status = Literal["open", "acknowledged", "snoozed", "resolved", "expired", "dismissed"]
What = Literal[
    "opened", "joined", "worsened", "confirmed", "reopened", "escalated",
    "acknowledged", "snoozed", "woke", "dismissed", "resolved", "expired",
]  # fmt: skip
"""What a change is. `joined`: more metrics of the same cause. `confirmed`: a coarser rule found it, too."""
Deed = Literal["acknowledge", "snooze", "not_anomaly"]
Severity = Literal[1, 2, 3]
"""By SEVERITIES."""
SEVERITIES: Final[dict[Severity, str]] = {1: "minor", 2: "major", 3: "critical"}

HEALTH_RULE: Final = "health"
"""The `rule` of verdicts about Stitchline itself."""

LENGTH: Final[dict[Grain, timedelta]] = {
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "five_minutes": timedelta(minutes=5),
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
OVER: Final[tuple[Status, ...]] = ("resolved", "expired", "dismissed")


@dataclass(frozen=True, slots=True)
class LifeRules:
    """How long and how much, for an incident's life."""

    back_for: timedelta = timedelta(hours=1)
    """Back in range for so long, by the finest grain that found it, and it is resolved."""
    reopen_within: timedelta = timedelta(hours=6)
    """Out of range again so soon after the last time, it is the same incident."""
    expire_after: timedelta = timedelta(days=3)
    """No verdict on it for so long, and nobody knows any more."""
    healthy_for: timedelta = timedelta(minutes=15)
    """The same for Stitchline's own troubles."""
    snooze_for: timedelta = timedelta(hours=4)
    late_after: timedelta = timedelta(hours=1)
    """Data is waited for so long after a value's end before that is an incident."""
    together: int = 5
    """More metrics than these, by one rule in one grain at one time, are one incident."""
    major_z: float = 4.0
    critical_z: float = 6.0
    longer: tuple[timedelta, timedelta] = (timedelta(hours=6), timedelta(hours=24))
    """Going on for so long raises the severity by one, by two."""


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did about an incident. `act_id` tells the same act twice from two acts."""

    act_id: str
    incident_id: str
    deed: Deed
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """Something became of an incident. `change_id` is `<incident_id>-<n>`, counted from 0."""

    change_id: str
    incident_id: str
    what: What
    at: datetime
    actor: str = ""
    """Who did it, if somebody did."""
    about: str = ""
    """A detail: the severity it rose to, the metrics that joined, until when it is snoozed."""
    act_id: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. Times are aware UTC."""

    incident_id: str
    kind: Kind
    team: str
    """Who is told."""
    rule: str
    grain: Grain
    """Of the rule that found it first."""
    status: Status
    severity: Severity
    opened_at: datetime
    """When it was found; when it began is `since`."""
    verdicts: tuple[Verdict, ...]
    """All that belong to it, ordered by `order`; one for each (metric, segment, grain, at)."""
    seen_at: datetime
    """When a verdict was last heard."""
    ended_at: datetime | None = None
    """When its values were back in range, or it was given up; a dismissed one goes on silently until then."""
    acted_by: str = ""
    snoozed_until: datetime | None = None
    changes: tuple[Change, ...] = ()

    @property
    def firing(self) -> list[Verdict]:
        """The verdicts that it is made of, in order."""
        return [verdict for verdict in self.verdicts if fires(verdict, self.kind)]

    @property
    def closest(self) -> list[Verdict]:
        """The same without a day or an hour of which a finer rule tells when within it that was."""
        firing = self.firing
        if len({verdict.grain for verdict in firing}) < 2:
            return firing or list(self.verdicts)
        told = set()
        for coarse in ("day", "hour"):
            length = LENGTH[coarse]
            finer = [verdict for verdict in firing if LENGTH[verdict.grain] < length]
            told |= {(v.metric, v.segment, coarse, v.at - (v.at - _EPOCH) % length) for v in finer}
        return [v for v in firing if (v.metric, v.segment, v.grain, v.at) not in told]

    @property
    def since(self) -> datetime:
        """When it began: the first value that was out of range."""
        return min(verdict.at for verdict in self.closest)

    @property
    def until(self) -> datetime:
        """The end of the last value that was out of range."""
        return max(end(verdict) for verdict in self.closest)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The time that its values are of, whole days included."""
        told = self.firing or self.verdicts
        return min(verdict.at for verdict in told), max(end(verdict) for verdict in told)

    @property
    def members(self) -> list[tuple[str, str]]:
        """(metric, segment) of each series in it, in order."""
        return sorted({(verdict.metric, verdict.segment) for verdict in self.firing or self.verdicts})

    @property
    def is_over(self) -> bool:
        """Whether nothing is asked of anybody any more."""
        return self.status in OVER


def end(verdict: Verdict) -> datetime:
    """The end of the day, hour or five minutes."""
    return verdict.at + LENGTH[verdict.grain]


def order(verdict: Verdict) -> tuple[datetime, str, str, str]:
    """In time, then by name; with it a verdict's key is (metric, segment, grain, at)."""
    return (verdict.at, verdict.metric, verdict.segment, verdict.grain)


def kind_of(verdict: Verdict) -> Kind:
    """Which kind of incident a verdict may be part of."""
    if verdict.rule == HEALTH_RULE:
        return "health"
    return "late" if verdict.said == "waiting" else "anomaly"


def fires(verdict: Verdict, kind: Kind) -> bool:
    """Whether it speaks for an incident of that kind."""
    return verdict.said == ("waiting" if kind == "late" else "anomaly")


def calms(verdict: Verdict, kind: Kind) -> bool:
    """Whether it speaks against one; a value that cannot be judged does neither."""
    return verdict.said in ("normal", "anomaly", "too_few", "quiet") if kind == "late" else verdict.said == "normal"


def advance(
    incidents: Sequence[Incident],
    verdicts: Iterable[Verdict],
    now: datetime,
    team_of: Callable[[Sequence[str], Kind], str],
    escalates_at: Callable[[Incident], datetime | None] = lambda _: None,
    rules: LifeRules = LifeRules(),
) -> list[Incident]:
    """The incidents that are new or other than before, each with all of its changes, the new ones last.

    `team_of` says who is told of these metrics, `escalates_at` when somebody has to be called if nobody has acted.
    `incidents` are those that may still be touched: all that have not ended, and those that ended lately.
    """
    book = _Book(incidents)
    unique = {order(verdict): verdict for verdict in verdicts}
    for _, together in groupby(sorted(unique), key=lambda key: key[0]):
        fresh: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
        for verdict in (unique[key] for key in together):
            for kind in _kinds(verdict):
                if not book.place(verdict, kind, now, rules) and fires(verdict, kind) and _is_due(verdict, now, rules):
                    fresh[("late", "", "") if kind == "late" else (kind, *_cause(verdict))].append(verdict)
        for found in sorted(fresh.values(), key=lambda found: LENGTH[found[0].grain]):
            kind = kind_of(found[0])  # a finer rule may just have opened an incident of the same series
            new = [verdict for verdict in found if not book.place(verdict, kind, now, rules)]
            if new:
                _open(book, new, kind, now, team_of, rules)
        book.end_if_back(now, rules)  # what comes later may be another incident
    for incident_id, incident in book.incidents.items():
        is_known = incident_id in book.before
        book.incidents[incident_id] = _in_time(incident, now, escalates_at, rules, is_known=is_known)
    return [incident for key, incident in book.incidents.items() if book.before.get(key) != incident]


def perform(incident: Incident, act: Act, rules: LifeRules = LifeRules()) -> Incident:
    """The incident after the act; itself if that changes nothing, because it is done already or is over."""
    if incident.is_over or any(change.act_id == act.act_id for change in incident.changes):
        return incident
    match act.deed:
        case "acknowledge" if incident.status != "acknowledged":
            changed = replace(incident, status="acknowledged", acted_by=act.actor, snoozed_until=None)
            return _changed(changed, "acknowledged", act.at, act.actor, act_id=act.act_id)
        case "snooze" if incident.status != "snoozed":
            until = act.at + rules.snooze_for
            changed = replace(incident, status="snoozed", acted_by=act.actor, snoozed_until=until)
            return _changed(changed, "snoozed", act.at, act.actor, until.isoformat(), act.act_id)
        case "not_anomaly":
            changed = replace(incident, status="dismissed", acted_by=act.actor, snoozed_until=None)
            return _changed(changed, "dismissed", act.at, act.actor, act_id=act.act_id)
    return incident


def _kinds(verdict: Verdict) -> tuple[Kind, ...]:
    """What a verdict may have a say in: one of a metric also in whether its data is late."""
    return ("health",) if verdict.rule == HEALTH_RULE else ("anomaly", "late")


def _is_due(verdict: Verdict, now: datetime, rules: LifeRules) -> bool:
    return verdict.said != "waiting" or now >= end(verdict) + rules.late_after


class _Book:
    """The incidents while they are worked on, by id and by the series in them."""

    def __init__(self, incidents: Iterable[Incident]) -> None:
        self.incidents = {incident.incident_id: incident for incident in incidents}
        self.before = dict(self.incidents)
        self._of_series: dict[tuple[Kind, str, str], list[str]] = defaultdict(list)
        self._touched: set[str] = set()
        for incident in self.incidents.values():
            self._index(incident)

    def put(self, incident: Incident) -> None:
        """The incident is like that now."""
        self.incidents[incident.incident_id] = incident
        self._touched.add(incident.incident_id)
        self._index(incident)

    def place(self, verdict: Verdict, kind: Kind, now: datetime, rules: LifeRules) -> bool:
        """Adds a verdict to the incident that it belongs to, if there is one: one that has it already, else one that
        goes on, else one into whose time it falls."""
        ids = self._of_series.get((kind, verdict.metric, verdict.segment), ())
        fit = [self.incidents[incident_id] for incident_id in ids]
        has_it = [each for each in fit if any(order(known) == order(verdict) for known in each.verdicts)]
        going_on = [each for each in fit if each.ended_at is None]
        near = has_it or going_on or [each for each in fit if _falls_into(verdict, each, rules)]
        if not near:
            return False
        incident = max(near, key=lambda each: (each.since, each.incident_id))
        changed = _with(incident, verdict, now)
        if changed is not incident:
            self.incidents[incident.incident_id] = changed
            self._touched.add(incident.incident_id)
        return True

    def end_if_back(self, now: datetime, rules: LifeRules) -> None:
        """Ends those of the incidents touched since the last time that are back in range."""
        for incident_id in self._touched:
            self.incidents[incident_id] = _ended_if_back(self.incidents[incident_id], now, rules)
        self._touched.clear()

    def _index(self, incident: Incident) -> None:
        for metric, segment in incident.members:
            known = self._of_series[incident.kind, metric, segment]
            if incident.incident_id not in known:
                known.append(incident.incident_id)


def _falls_into(verdict: Verdict, incident: Incident, rules: LifeRules) -> bool:
    first, last = incident.span
    if incident.status == "dismissed":  # what comes after it nobody has judged
        return first < end(verdict) and verdict.at < last
    return first < end(verdict) and verdict.at <= last + rules.reopen_within


def _with(incident: Incident, verdict: Verdict, now: datetime) -> Incident:
    """The incident with a verdict more, and what that changes. One that it has already changes nothing."""
    kind = incident.kind
    speaks = fires(verdict, kind)
    known = next((each for each in incident.verdicts if order(each) == order(verdict)), None)
    if not (speaks or calms(verdict, kind)) or (known is not None and known.said == verdict.said):
        return incident
    if known is None and not speaks and not (incident.ended_at is None and _counts(verdict, incident)):
        return incident
    kept = [each for each in incident.verdicts if each is not known]
    changed = replace(incident, verdicts=tuple(sorted([*kept, verdict], key=order)), seen_at=max(incident.seen_at, now))
    if not speaks or incident.status == "dismissed":
        return changed
    if incident.ended_at is not None and verdict.at >= incident.span[1]:
        return _changed(replace(changed, status="open", ended_at=None, acted_by=""), "reopened", now)
    is_news = kind == "anomaly" and incident.opened_at < now and not is_group(incident)
    if is_news and verdict.grain == "day" and all(each.grain != "day" for each in incident.firing):
        return _changed(changed, "confirmed", now, about=verdict.at.isoformat())
    return changed


def _open(
    book: _Book,
    found: Sequence[Verdict],
    kind: Kind,
    now: datetime,
    team_of: Callable[[Sequence[str], Kind], str],
    rules: LifeRules,
) -> None:
    """Opens incidents for these verdicts of one cause: one for all where they are many, else one for each series."""
    first = found[0]
    same = [
        each
        for each in book.incidents.values()
        if each.kind == kind and each.ended_at is None and (kind == "late" or (each.rule, each.grain) == _cause(first))
    ]
    group = next((each for each in same if kind == "late" or _is_group_of(each, first)), None)
    metrics = {verdict.metric for verdict in found}
    alone = {metric for each in same if each.since == first.at for metric, _ in each.members}
    if group is not None:
        joined = replace(group, verdicts=tuple(sorted([*group.verdicts, *found], key=order)), seen_at=now)
        names = sorted(metrics - {metric for metric, _ in group.members})
        if names and group.status != "dismissed":
            joined = _changed(joined, "joined", now, about=", ".join(names))
        book.put(joined)
    elif kind == "late" or (kind == "anomaly" and len(metrics | alone) > rules.together):
        book.put(_opened(found, kind, now, team_of, rules))
    else:
        series: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
        for verdict in found:
            series[verdict.metric, verdict.segment].append(verdict)
        for own in series.values():
            book.put(_opened(own, kind, now, team_of, rules))


def _cause(verdict: Verdict) -> tuple[str, Grain]:
    return (verdict.rule, verdict.grain)


def is_group(incident: Incident) -> bool:
    """Whether several metrics are in it."""
    return len({metric for metric, _ in incident.members}) > 1


def _is_group_of(incident: Incident, verdict: Verdict) -> bool:
    """Whether several metrics are in it, and this one began while they were out of range: it may be for one reason."""
    return is_group(incident) and incident.since <= verdict.at <= incident.until


def _opened(
    found: Sequence[Verdict],
    kind: Kind,
    now: datetime,
    team_of: Callable[[Sequence[str], Kind], str],
    rules: LifeRules,
) -> Incident:
    first = found[0]
    named = "\x1f".join([kind, first.metric, first.segment, first.grain, first.at.isoformat()])
    incident = Incident(
        incident_id=hashlib.sha256(named.encode()).hexdigest()[:16],
        kind=kind,
        team=team_of(sorted({verdict.metric for verdict in found}), kind),
        rule=first.rule,
        grain=first.grain,
        status="open",
        severity=1,
        opened_at=now,
        verdicts=tuple(sorted(found, key=order)),
        seen_at=now,
    )
    return _changed(replace(incident, severity=severity_of(incident, rules)), "opened", now)


def severity_of(incident: Incident, rules: LifeRules = LifeRules()) -> Severity:
    """By the greatest z and by how long it has gone on. A change where nothing ever changed has no z: it is major."""
    if not incident.firing:
        return incident.severity
    if incident.kind == "late":
        level = 1
    else:
        z = max(rules.major_z if verdict.z is None else verdict.z for verdict in incident.firing)
        level = 1 + (z >= rules.major_z) + (z >= rules.critical_z)
    lasted = max(verdict.at for verdict in incident.closest) - incident.since
    level += sum(lasted >= longer for longer in rules.longer)
    return 3 if level >= 3 else 2 if level == 2 else 1


def _last_of(incident: Incident, metric: str, segment: str) -> Verdict | None:
    """The last value of a series that is out of range: of those that begin at one time, the finest."""
    own = [each for each in incident.firing if (each.metric, each.segment) == (metric, segment)]
    return max(own, key=lambda each: (each.at, -LENGTH[each.grain]), default=None)


def _counts(verdict: Verdict, incident: Incident) -> bool:
    """Whether a value in range says something of how the incident goes on.

    It begins after the last value out of range of its series, and is no finer than that one: an hour in range says
    nothing of a day that is out of it.
    """
    last = _last_of(incident, verdict.metric, verdict.segment)
    return last is not None and verdict.at >= end(last) and LENGTH[verdict.grain] >= LENGTH[last.grain]


def back_since(incident: Incident, rules: LifeRules = LifeRules()) -> datetime | None:
    """Since when all of its series are back in range, once each has been for long enough; None before that."""
    long = {"anomaly": rules.back_for, "health": rules.healthy_for, "late": timedelta()}[incident.kind]
    since = incident.since
    for series in incident.members if incident.firing else ():
        own = [verdict for verdict in incident.verdicts if (verdict.metric, verdict.segment) == series]
        calm = [verdict for verdict in own if calms(verdict, incident.kind) and _counts(verdict, incident)]
        if not calm or max(map(end, calm)) - calm[0].at < long:
            return None
        since = max(since, calm[0].at)
    return since


def _ended_if_back(incident: Incident, now: datetime, rules: LifeRules) -> Incident:
    if incident.ended_at is not None or (back := back_since(incident, rules)) is None:
        return incident
    incident = replace(incident, ended_at=back, severity=max(incident.severity, severity_of(incident, rules)))
    if incident.status == "dismissed":
        return incident
    return _changed(replace(incident, status="resolved", snoozed_until=None), "resolved", now)


def _in_time(
    incident: Incident,
    now: datetime,
    escalates_at: Callable[[Incident], datetime | None],
    rules: LifeRules,
    *,
    is_known: bool,
) -> Incident:
    """What the clock does to an incident."""
    if incident.ended_at is not None:
        return incident
    if now - incident.seen_at > rules.expire_after:
        if incident.status == "dismissed":
            return replace(incident, ended_at=now)
        return _changed(replace(incident, status="expired", ended_at=now, snoozed_until=None), "expired", now)
    if incident.status == "dismissed":
        return incident
    if incident.snoozed_until is not None and now >= incident.snoozed_until:
        incident = _changed(replace(incident, status="open", snoozed_until=None), "woke", now)
    severity = max(incident.severity, severity_of(incident, rules))
    if severity > incident.severity:
        incident = replace(incident, severity=severity)
        if is_known and incident.status != "snoozed":
            incident = _changed(incident, "worsened", now, about=SEVERITIES[severity])
    called = any(change.what == "escalated" for change in incident.changes)
    if incident.status == "open" and not called and (at := escalates_at(incident)) is not None and now >= at:
        incident = _changed(incident, "escalated", now)
    return incident


def _changed(
    incident: Incident, what: What, at: datetime, actor: str = "", about: str = "", act_id: str = ""
) -> Incident:
    change_id = f"{incident.incident_id}-{len(incident.changes)}"
    change = Change(change_id, incident.incident_id, what, at, actor, about, act_id)
    return replace(incident, changes=(*incident.changes, change))
