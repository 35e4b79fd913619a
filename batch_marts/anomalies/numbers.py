"""Numbers, changes and times as people say them. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from batch_marts.anomalies.verdicts import Grain, Verdict

_NO: Final = "nothing"


def amount(value: float | None, unit: str) -> str:
    """A value with its unit, with as many digits as say something.

    >>> amount(12340.4, "views"), amount(1234567, "USD"), amount(43.1, "USD per customer"), amount(0.0421, "share")
    ('12,340 views', '$1,234,567', '$43.10 per customer', '4.21 %')
    """
    if value is None or not math.isfinite(value * 100):
        return _NO
    if unit == "share":
        return f"{_digits(value * 100)} %"
    if unit == "USD per USD":
        return f"{_digits(value)} USD per USD"
    if unit == "USD" or unit.startswith("USD per "):
        money = _digits(abs(value)) if abs(value) >= 1e15 else f"{abs(value):,.0f}"
        money = money if abs(value) >= 1000 or value == 0 else f"{abs(value):,.2f}"
        return f"{'−' if value < 0 else ''}${money}{unit.removeprefix('USD')}"
    return f"{_digits(value)} {unit}".rstrip()


def span(low: float | None, high: float | None, unit: str) -> str:
    """An expected range, the unit once; counts and shares are never below zero.

    >>> span(-20.0, 1290.0, "views"), span(0.031, 0.045, "share"), span(None, 12.0, "views")
    ('0 to 1,290 views', '3.1 to 4.5 %', 'at most 12 views')
    """
    if low is None and high is None:
        return _NO
    if low is None:
        return f"at most {amount(high, unit)}"
    if high is None:
        return f"at least {amount(low, unit)}"
    if not unit.startswith("USD"):
        low = max(low, 0.0)
    return amount(high, unit) if low == high else f"{_bare(low, unit)} to {amount(high, unit)}"


def instead(actual: float | None, expected: float | None, unit: str) -> str:
    """What is in place of what was expected.

    >>> instead(3000.0, 7800.0, "views"), instead(12.5, 20.0, "USD")
    ('3,000 instead of 7,800 views', '$12.50 instead of $20.00')
    """
    return f"{_bare(actual, unit)} instead of {amount(expected, unit)}"


def _bare(value: float | None, unit: str) -> str:
    """A value whose unit is told by the next one."""
    suffix = " %" if unit == "share" else unit.removeprefix("USD") if unit.startswith("USD per ") else f" {unit}"
    return amount(value, unit).removesuffix(" USD per USD" if unit == "USD per USD" else suffix)


def change(actual: float | None, expected: float | None) -> str:
    """How a value stands to what was expected, in a word or two.

    >>> change(60.0, 100.0), change(130.0, 100.0), change(340.0, 100.0), change(5.0, 0.0)
    ('40 % below', '30 % above', '3.4 times', 'above')
    """
    if actual is None or expected is None or not (math.isfinite(actual) and math.isfinite(expected)):
        return "other than"
    if expected == 0 or actual / expected < 0:
        return "above" if actual > expected else "below"
    share = actual / expected
    if share >= 1000:
        return "far above"
    if share >= 2:
        return f"{_digits(share)} times"
    percent = abs(share - 1) * 100
    return f"{percent:.0f} % {'below' if share < 1 else 'above'}" if percent >= 1 else f"{percent:.1f} % off"


def is_sum(unit: str) -> bool:
    """Whether values of several times add up to something."""
    return unit != "share" and " per " not in unit


def lasting(time: timedelta) -> str:
    """A time span, to two units.

    >>> lasting(timedelta(hours=1, minutes=35)), lasting(timedelta(days=2, hours=3)), lasting(timedelta(minutes=5))
    ('1 h 35 min', '2 days 3 h', '5 min')
    """
    minutes = max(round(time.total_seconds() / 60), 0)
    days, hours, rest = minutes // 1440, minutes % 1440 // 60, minutes % 60
    if days:
        whole = f"{days} day{'s' if days > 1 else ''}"
        return f"{whole} {hours} h" if hours else whole
    if hours:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{rest} min"


def moment(at: datetime) -> str:
    """A time, in UTC: Tue 24 Nov 14:05 UTC."""
    return f"{at.astimezone(UTC):%a} {at.astimezone(UTC).day} {at.astimezone(UTC):%b %H:%M} UTC"


def day(at: datetime) -> str:
    """A day, in UTC: Tue 24 Nov."""
    return f"{at.astimezone(UTC):%a} {at.astimezone(UTC).day} {at.astimezone(UTC):%b}"


_FOR: Final[dict[Grain, str]] = {"day": "", "hour": "the hour from ", "five_minutes": "the five minutes from "}


def value_of(verdict: Verdict) -> str:
    """Which value a verdict is of: Tue 24 Nov, the hour from Tue 24 Nov 14:00 UTC."""
    return day(verdict.at) if verdict.grain == "day" else f"{_FOR[verdict.grain]}{moment(verdict.at)}"


def _digits(value: float) -> str:
    """Three digits that say something, more where there are more before the point."""
    if abs(value) >= 1e15:
        return f"{value:.2e}"
    if value == round(value):
        return f"{value:,.0f}"
    before = len(f"{abs(value):.0f}") if abs(value) >= 1 else 0
    after = max(3 - before, 0) if before else min(2 - math.floor(math.log10(abs(value))), 8)
    text = f"{value:,.{after}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
