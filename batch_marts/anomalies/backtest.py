"""What would have fired on a metric's past days under other settings, and which settings its past asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from statistics import median
from typing import Any, Final

import duckdb

from batch_marts.anomalies import wording
from batch_marts.anomalies.days import MART, daily_values
from batch_marts.anomalies.judging import DAYS, NOTHING_LEFT_OUT, judged_sql, quoted, rows, settings_of
from batch_marts.anomalies.settings import LEAST_RELATIVE_CHANGES, THRESHOLDS, Anomaly, Rule
from batch_marts.anomalies.verdicts import Verdict
from batch_marts.metrics import WHOLE, Metric

ALARMS_PER_90_DAYS: Final = 1
"""That settings are proposed for: of days that nobody confirmed as anomalies."""
LEAST_DAYS: Final = 28
"""Judged days without which nothing is proposed."""
_STEP: Final = 0.25
_GREATEST: Final = 10.0
"""Above such a threshold a rule is of no use."""

TRIALS: Final[Mapping[str, Anomaly]] = {
    "base": Anomaly(rule="base"),
    "base, z > 3.5": Anomaly(rule="base", threshold=3.5),
    "seasonal": Anomaly(rule="seasonal"),
    "seasonal, z > 2.5": Anomaly(rule="seasonal", threshold=2.5),
    "seasonal, z > 4": Anomaly(rule="seasonal", threshold=4.0),
    "seasonal, changes over 20 %": Anomaly(rule="seasonal", least_relative_change=0.2),
}
"""What is tried beside a metric's own settings."""


@dataclass(frozen=True)
class Tried:
    """What one way of judging said of each day."""

    name: str
    anomaly: Anomaly
    days: tuple[Verdict, ...]
    """By day."""
    confirmed: frozenset[date]
    """Days that people confirmed as anomalies."""

    @cached_property
    def fired(self) -> tuple[Verdict, ...]:
        return tuple(one for one in self.days if one.said == "anomaly")

    @cached_property
    def judged(self) -> int:
        """Days that were judged."""
        return sum(one.said in ("normal", "anomaly") for one in self.days)

    @property
    def found(self) -> int:
        """Confirmed anomalies that fired."""
        return sum(one.at.date() in self.confirmed for one in self.fired)

    @property
    def missed(self) -> int:
        """Confirmed anomalies that did not."""
        return sum(one.at.date() in self.confirmed for one in self.days) - self.found

    @property
    def per_90_days(self) -> float | None:
        """How often what nobody confirmed fired; None if nothing was judged."""
        return None if not self.judged else 90 * (len(self.fired) - self.found) / self.judged


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings that a metric's past asks for."""

    anomaly: Anomaly
    tried: Tried
    """What they say of that past."""
    least_found: float
    """The relative change from which on, on half of the days, it fires: 0.17 is 17 %."""
    because: str


def backtest(
    con: duckdb.DuckDBPyConnection,
    metric: Metric,
    since: date,
    until: date,
    *,
    segment: str = WHOLE,
    trials: Mapping[str, Anomaly] = TRIALS,
    mart: str = MART,
    confirmed: str = NOTHING_LEFT_OUT,
) -> list[Tried]:
    """What `metric`'s own settings and each of `trials` say of its complete days from `since` to `until` (inclusive).

    Trials keep the metric's quiet times. `confirmed` is a query as `left_out` of `check_days`: nothing is learned from
    these anomalies, and they are told apart.
    """
    own = metric.anomaly if metric.anomaly.rule != "none" else metric.anomaly.model_copy(update={"rule": "seasonal"})
    ways = {"as set": own} | {
        name: one.model_copy(update={"quiet": one.quiet + own.quiet}) for name, one in trials.items()
    }
    days = _confirmed(con, metric.shown_as, segment, confirmed)
    return [
        Tried(name, one, _judge(con, metric.shown_as, segment, one, since, until, mart, confirmed), days)
        for name, one in ways.items()
    ]


def propose(
    con: duckdb.DuckDBPyConnection,
    metric: Metric,
    since: date,
    until: date,
    *,
    segment: str = WHOLE,
    mart: str = MART,
    confirmed: str = NOTHING_LEFT_OUT,
) -> Proposal | None:
    """Of each rule the lowest threshold that fires at most ALARMS_PER_90_DAYS on days that nobody confirmed; of both
    rules the one that finds more of what was confirmed, and then smaller changes. The rest is as the metric has it.

    None if fewer than LEAST_DAYS days can be judged, or if neither rule is of use.
    """
    found = []
    for rule in ("seasonal", "base"):
        way = metric.anomaly.model_copy(
            update={"rule": rule, "threshold": THRESHOLDS[rule], "least_relative_change": _relative(metric, rule)}
        )
        tried = backtest(
            con, metric, since, until, segment=segment, trials={rule: way}, mart=mart, confirmed=confirmed
        )[1]
        if tried.judged < LEAST_DAYS:
            continue
        threshold = _threshold(tried)
        if threshold is not None:
            found.append(_proposal(con, metric, segment, tried, threshold, mart, confirmed, since, until))
    return min(found, key=lambda one: (one.tried.missed, one.least_found), default=None)


def _relative(metric: Metric, rule: Rule) -> float:
    told = metric.anomaly.least_relative_change
    return LEAST_RELATIVE_CHANGES[rule] if told is None else told


def _threshold(tried: Tried) -> float | None:
    """The lowest multiple of _STEP from the rule's own on at which few enough unconfirmed days fire."""
    allowed = ALARMS_PER_90_DAYS * tried.judged / 90
    alarms = [one.z for one in tried.fired if one.at.date() not in tried.confirmed]
    threshold = tried.anomaly.deviations
    while sum(z is None or z > threshold for z in alarms) > allowed:
        threshold += _STEP
        if threshold > _GREATEST:
            return None
    return threshold


def _proposal(
    con: duckdb.DuckDBPyConnection,
    metric: Metric,
    segment: str,
    tried: Tried,
    threshold: float,
    mart: str,
    confirmed: str,
    since: date,
    until: date,
) -> Proposal:
    anomaly = tried.anomaly.model_copy(update={"threshold": threshold})
    days = _judge(con, metric.shown_as, segment, anomaly, since, until, mart, confirmed)
    now = Tried(f"{anomaly.rule}, z > {threshold:g}", anomaly, days, tried.confirmed)
    widths = [
        (one.high - one.expected) / abs(one.expected)
        for one in days
        if one.high is not None and one.expected is not None and one.expected != 0
    ]
    least = median(widths) if widths else 0.0
    because = (
        f"By the {anomaly.rule} rule with z > {threshold:g}, {len(now.fired) - now.found} of {now.judged} days "
        f"would have fired that nobody confirmed, and {now.found} of {now.found + now.missed} that somebody did. A "
        f"change of about {100 * least:.0f} % or more fires."
    )
    return Proposal(anomaly, now, least, because)


def _judge(
    con: duckdb.DuckDBPyConnection,
    name: str,
    segment: str,
    anomaly: Anomaly,
    since: date,
    until: date,
    mart: str,
    confirmed: str,
) -> tuple[Verdict, ...]:
    first = since - timedelta(days=DAYS.history)
    where = (
        f"mart.metric_name = {quoted(name)} and mart.dimension = {quoted(segment)} "
        f"and mart.metric_date >= date '{first}' and mart.metric_date <= date '{until}'"
    )
    with settings_of(con, {name: anomaly}):
        found = rows(
            con,
            f"from ({judged_sql(daily_values(mart, where), DAYS, left_out=confirmed)}) "
            f"where began_at >= timestamptz '{since} 00:00:00+00' order by began_at",
        )
    return tuple(wording.verdict_of(row, anomaly, "day") for row in found)


def _confirmed(con: duckdb.DuckDBPyConnection, name: str, segment: str, confirmed: str) -> frozenset[date]:
    found = rows(con, f"from ({confirmed}) where metric_name = $1 and segment = $2", [name, segment])
    return frozenset(row["began_at"].date() for row in found)


def trial_rows(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """A row for each way of judging: what a table of them shows."""
    return [
        {
            "settings": one.name,
            "rule": one.anomaly.rule,
            "threshold": one.anomaly.deviations,
            "least_change": one.anomaly.least_change,
            "least_relative_change": one.anomaly.relative,
            "direction": one.anomaly.direction,
            "days": one.judged,
            "fired": len(one.fired),
            "found": one.found,
            "missed": one.missed,
            "unconfirmed_per_90_days": one.per_90_days,
            "fired_on": [verdict.at.date() for verdict in one.fired],
        }
        for one in tried
    ]
