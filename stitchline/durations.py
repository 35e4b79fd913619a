"""Durations as people write them: "30 minutes", "14 days", "500 ms"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_SPELLINGS = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def parse_duration(value: object) -> timedelta:
    """The duration that `value` says; a timedelta is returned as it is.

    Raises ValueError for anything that is not a number and a unit; a bare number is refused,
    because nobody can tell seconds from milliseconds by looking at it.

    >>> parse_duration("30 minutes")
    datetime.timedelta(seconds=1800)
    >>> parse_duration("1.5h")
    datetime.timedelta(seconds=5400)
    """
    if isinstance(value, timedelta):
        return value
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    unit = _SPELLINGS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{value!r} is no duration: write a number and a unit, like '30 minutes' or '14 days'")
    try:
        return float(match[1]) * _UNITS[unit]
    except OverflowError:
        raise ValueError(f"{value!r} is too long a duration") from None


def format_duration(value: timedelta) -> str:
    """`value` in its largest unit that leaves a whole number: the inverse of parse_duration.

    >>> format_duration(timedelta(days=14))
    '14 days'
    """
    for name, unit in (("day", "d"), ("hour", "h"), ("minute", "m"), ("second", "s"), ("ms", "ms")):
        number, rest = divmod(value, _UNITS[unit])
        if not rest and (number or unit == "ms"):
            return f"{number} {name}{'s' if number != 1 and name != 'ms' else ''}"
    return f"{value / _UNITS['ms']} ms"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)]
