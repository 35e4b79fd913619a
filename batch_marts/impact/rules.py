"""What a change to the marts has to keep to before it may be merged, and the exit status of each rule. Pure.

meaning    what is worked out otherwise gets a new version, or a commit says why its definition still holds
breaking   what goes has a new version beside it, and a date, announced and past, on which it goes
approval   the teams that own what changes have approved it
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from batch_marts.anomalies.owners import PLATFORM, Owners
from batch_marts.consumers import Consumer
from batch_marts.impact.differences import Change, corrected
from batch_marts.impact.facts import Revision
from batch_marts.metrics import DAILY, Metric

Rule = Literal["meaning", "breaking", "approval"]

STATUS: Final[dict[Rule, int]] = {"meaning": 3, "breaking": 4, "approval": 5}
"""The exit status of each; where several are broken, that of the first."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that is not kept."""

    rule: Rule
    about: str
    """A metric, `mart.column`, or a mart."""
    says: str
    """What is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class SameMeaning:
    """What a commit says of a change: that the definition still holds. `Same-meaning: cac because …`."""

    about: str
    because: str


def same_meanings(trailers: Iterable[str]) -> list[SameMeaning]:
    """What the trailers `Same-meaning:` of commits say; those without a reason say nothing.

    >>> same_meanings(["dim_person.revenue_usd because refunds were taken off twice", "cac"])
    [SameMeaning(about='dim_person.revenue_usd', because='refunds were taken off twice')]
    """
    found = []
    for line in trailers:
        about, _, because = line.strip().partition(" because ")
        if about.strip() and because.strip():
            found.append(SameMeaning(about.strip(), because.strip()))
    return found


def with_corrections(changes: Iterable[Change], said: Sequence[SameMeaning]) -> list[Change]:
    """The changes, those that a commit calls corrections named so. A commit names a metric, a column of a mart, a mart
    for all of it, or where in the SQL it comes from, for all that follows."""
    reasons = {one.about: one.because for one in said}

    def one(change: Change) -> Change:
        names = [change.about, *([] if change.metric else [change.mart]), *_origin(change)]
        because = next((reasons[name] for name in names if name in reasons), None)
        return corrected(change, because) if change.what == "meaning_changed" and because else change

    return [one(change) for change in changes]


def _origin(change: Change) -> list[str]:
    """Where in the SQL a changed meaning comes from: a column, and its model."""
    return [change.way[0], change.way[0].partition(".")[0]] if change.way else []


def owners_of(change: Change, owners: Mapping[str, Sequence[str]]) -> list[str]:
    """The teams of which one has to approve a change: `owners` are those of each mart and metric by `owning`."""
    return list(owners.get(change.metric or change.mart) or (PLATFORM,))


def owning(
    metrics: Iterable[Metric],
    consumers: Iterable[Consumer],
    reads: Mapping[str, Collection[str]],
    marts: Mapping[str, str | None],
) -> dict[str, list[str]]:
    """The teams that own each mart and each metric: a metric has one; so has a mart whose `meta` names one (`marts`, by
    name). Another is owned by those whose metrics are worked out from it (`reads`, by metric) and whose consumers read
    it; a new version by the owners of those before it; what is left by the platform team."""
    found: dict[str, set[str]] = {mart: set() for mart in marts}
    for metric in metrics:
        for mart in (*reads.get(metric.shown_as, ()), DAILY):
            if mart in found:
                found[mart].add(metric.owner)
    for one in consumers:
        for mart in one.marts:
            if mart in found:
                found[mart].add(one.owner)
    told = {}
    for mart, teams in found.items():
        named = marts[mart]
        told[mart] = [named] if named else sorted(teams or found.get(_family(mart), set())) or [PLATFORM]
    return told | {metric.shown_as: [metric.owner] for metric in metrics}


def breaches(
    base: Revision,
    head: Revision,
    changes: Sequence[Change],
    owned: Mapping[str, Sequence[str]],
    owners: Owners,
    approved_by: Collection[str],
    today: date,
) -> list[Breach]:
    """What of the rules these changes do not keep, the gravest first."""
    return [
        *_meanings(changes),
        *_breaking(base, changes, today),
        *_versions(base, head),
        *_approvals(changes, owned, owners, approved_by),
    ]


def status_of(found: Sequence[Breach]) -> int:
    """The exit status: 0 if every rule is kept."""
    return min((STATUS[one.rule] for one in found), default=0)


def _meanings(changes: Sequence[Change]) -> Iterable[Breach]:
    together: dict[str, list[Change]] = {}
    for one in changes:
        if one.what == "meaning_changed":
            together.setdefault(next(iter(_origin(one)), one.about), []).append(one)
    for origin, found in together.items():
        others = [one.about for one in found if one.about != origin]
        told = f"{origin} is worked out otherwise" + (f", and with it {_listed(others)}." if others else ".")
        yield Breach(
            "meaning",
            origin,
            f"{told} Put the new meaning into a new version beside the old one, which gets a date (docs/marts.md, "
            f"Versions); or, if the definitions still hold, say so in a commit: `Same-meaning: {origin} because …`.",
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _breaking(base: Revision, changes: Sequence[Change], today: date) -> Iterable[Breach]:
    for one in changes:
        if not one.is_breaking:
            continue
        mart = base.marts.get(one.mart)
        if one.what == "mart_removed" and mart is not None and mart.deprecated_on is not None:
            if mart.deprecated_on <= today:
                continue
            yield Breach(
                "breaking", one.about, f"{one.says} It was to stay until {mart.deprecated_on}: leave it until then."
            )
            continue
        if one.metric is not None:
            retired = base.metrics[one.metric].metric.retired
            until = f"until {retired}" if retired else "until a date that you set in `retired`"
            yield Breach("breaking", one.about, f"{one.says} Leave it in metrics.yml {until}.")
            continue
        yield Breach(
            "breaking",
            one.about,
            f"{one.says} Whoever reads it breaks: leave {one.mart} as it is, give it a `deprecation_date`, and put the "
            "change into a new version beside it (docs/marts.md, Versions).",
        )


def _versions(base: Revision, head: Revision) -> Iterable[Breach]:
    """A new version is a promise that the old one goes, on a day that people can plan with."""
    for name, mart in head.marts.items():
        if name in base.marts or mart.version == 1:
            continue
        for other in head.marts.values():
            older = _family(other.name) == _family(name) and other.version < mart.version
            if older and other.deprecated_on is None:
                told = f"{name} is to take the place of {other.name}, which has no `deprecation_date`. Set one."
                yield Breach("breaking", other.name, told)
    for name, facts in head.metrics.items():
        if name in base.metrics or facts.metric.version == 1:
            continue
        for each in head.metrics.values():
            older = each.metric.name == facts.metric.name and each.metric.version < facts.metric.version
            if older and each.metric.retired is None:
                shown = each.metric.shown_as
                told = f"{name} is to take the place of {shown}, which has no date in `retired`. Set one."
                yield Breach("breaking", shown, told)


def _family(mart: str) -> str:
    name, _, version = mart.rpartition("_v")
    return name if name and version.isdecimal() else mart


def _approvals(
    changes: Sequence[Change], owned: Mapping[str, Sequence[str]], owners: Owners, approved_by: Collection[str]
) -> Iterable[Breach]:
    approved = set(approved_by)
    waiting: dict[tuple[str, ...], list[str]] = {}
    for one in changes:
        teams = tuple(owners_of(one, owned))
        may = {name for team in teams for name in (team, *owners.team(team).reviewers)}
        if not may & approved:
            about = waiting.setdefault(teams, [])
            if one.about not in about:
                about.append(one.about)
    for teams, about in waiting.items():
        who = " or ".join(teams)
        told = f"Nobody of {who} has approved it (--approved-by {teams[0]}, once they have)."
        yield Breach("approval", _listed(about), told)
