"""A verdict in words: why it was given, with the rule's numbers, and how unusual the value is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from batch_marts.anomalies.settings import Anomaly
from batch_marts.anomalies.verdicts import Grain, Part, Said, Verdict

_LEAST_WEEKS_BACK: Final = 3
"""What was as low two weeks ago is not worth a word."""


def verdict_of(
    row: Mapping[str, Any], settings: Anomaly, grain: Grain, *, unusual: str = "", parts: tuple[Part, ...] = ()
) -> Verdict:
    """The verdict that a row of `judging.JUDGED` is."""
    return Verdict(
        metric=row["metric_name"],
        segment=row["segment"],
        grain=grain,
        at=row["began_at"],
        said=row["said"],
        rule=row["rule"],
        actual=row["value"],
        expected=row["expected"],
        low=row["low"],
        high=row["high"],
        z=row["z"],
        baseline=row["baseline"],
        because=_because(row, settings, grain),
        unusual=unusual,
        parts=parts,
    )


def waiting(
    metric: str, segment: str, grain: Grain, at: datetime, rule: str, actual: float | None, why: str
) -> Verdict:
    """The verdict on a value that is not all there."""
    return Verdict(metric, segment, grain, at, "waiting", rule, actual, None, None, None, None, 0, why)


def _because(row: Mapping[str, Any], settings: Anomaly, grain: Grain) -> str:
    said: Said = row["said"]
    if said == "quiet":
        return f"Not judged: {row['reason']}."
    if said == "too_few":
        return _too_few(row, grain)
    if said == "normal":
        return ""
    by_season = row["rule"] == "seasonal"
    actual, expected = number(row["value"]), number(row["expected"])
    if row["z"] is None:
        before = f"{expected} is usual" if by_season else f"it was {expected} on each of the 7 {_UNITS[grain]} before"
        return (
            f"{actual}, and {before}: there was no deviation to measure a change by. Any of more than "
            f"{_least(settings, row['expected'])} is an anomaly."
        )
    side = "below" if row["value"] < row["expected"] else "above"
    if by_season:
        what = f"{expected} ± {number(row['deviation'])}, by {_same(row['baseline'], row['began_at'], grain)}"
        what = f"{what} and the level of the last weeks"
    else:
        what = f"{expected} ± {number(row['deviation'])}, mean and standard deviation of the 7 {_UNITS[grain]} before"
    return f"{actual} is {row['z']:,.1f} deviations {side} {what}; more than {settings.deviations:g} is an anomaly."


def _least(settings: Anomaly, expected: float) -> str:
    return number(max(settings.least_change, settings.relative * abs(expected)))


def _too_few(row: Mapping[str, Any], grain: Grain) -> str:
    if row["rule"] == "base":
        return f"Too few: {row['baseline']} of the 7 {_UNITS[grain]} before have a value, and all of them are needed."
    return (
        f"Too few: {_same(row['baseline'], row['began_at'], grain)} of 6 are known. It takes 3 of them, and 3 weeks in "
        "which that was so, to say what is usual."
    )


def _same(count: int, at: datetime, grain: Grain) -> str:
    """As in: 5 Tuesdays before"""
    if grain == "day":
        return f"{count} {at:%A}{'' if count == 1 else 's'} before"
    return f"the same time of {count} {'week' if count == 1 else 'weeks'} before"


def unusual(is_low: bool, at: datetime, grain: Grain, weeks: int | None, recorded: int) -> str:
    """As in "lowest Tuesday in 9 weeks"; empty if it is not.

    `weeks` is how many weeks ago it was last so low, or so high; None if never in the `recorded` weeks before.
    """
    word = "lowest" if is_low else "highest"
    if weeks is None:
        return f"{word} {place(at, grain)} of all {recorded + 1}" if recorded >= _LEAST_WEEKS_BACK else ""
    return f"{word} {place(at, grain)} in {weeks} weeks" if weeks >= _LEAST_WEEKS_BACK else ""


_UNITS: Final[Mapping[Grain, str]] = {"day": "days", "hour": "hours", "five_minutes": "five minutes"}


def place(at: datetime, grain: Grain) -> str:
    """Where in the week it is (UTC).

    >>> at = datetime(2026, 11, 24, 14, 5)
    >>> place(at, "day"), place(at, "hour"), place(at, "five_minutes")
    ('Tuesday', 'hour from Tuesday 14:05', 'ten minutes up to Tuesday 14:10')
    """
    if grain == "day":
        return f"{at:%A}"
    if grain == "hour":
        return f"hour from {at:%A %H:%M}"
    return f"ten minutes up to {at + timedelta(minutes=5):%A %H:%M}"


def number(value: float) -> str:
    """For people: three digits that count, or all before the point.

    >>> number(1234.5), number(12.345), number(0.02345), number(-3.0), number(1e15)
    ('1,234', '12.3', '0.0234', '−3', '1,000,000,000,000,000')
    """
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.3g}"
    return text.replace("-", "−")
