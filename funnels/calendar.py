"""Hours, days and weeks of a time zone, as the instants between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from funnels.rows import micros_of
from stitchline.errors import DefinitionError

Interval = Literal["hour", "day", "week"]

MAX_PERIODS: Final = 10_000
"""More than anybody looks at."""


def begin_of(time: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """When the hour, day or week (from Monday) of `time` begins in `zone`, aware UTC.

    >>> begin_of(datetime(2025, 6, 4, 22, 30, tzinfo=UTC), "week", ZoneInfo("Europe/Berlin")).isoformat()
    '2025-06-01T22:00:00+00:00'
    """
    local = time.astimezone(zone)
    if interval == "hour":
        # Subtracted from the instant: where clocks are put back, two hours have the same name.
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return time.astimezone(UTC) - past
    day = local.date() - timedelta(days=local.weekday() if interval == "week" else 0)
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)


def next_begin(begin: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """When the next hour, day or week begins after the one that begins at `begin`, aware UTC."""
    if interval == "hour":
        return begin_of(begin + timedelta(hours=1), interval, zone)
    days = 7 if interval == "week" else 1
    day = begin.astimezone(zone).date() + timedelta(days=days)
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)


def begins(since: datetime, until: datetime, interval: Interval, zone: ZoneInfo) -> list[datetime]:
    """When each hour, day or week begins that has an instant from `since` to before `until`, and behind them when the
    last one ends. Raises DefinitionError if there are more than MAX_PERIODS."""
    found = [begin_of(since, interval, zone)]
    while found[-1] < until:
        found.append(next_begin(found[-1], interval, zone))
        if len(found) > MAX_PERIODS + 1:
            raise DefinitionError(
                f"more than {MAX_PERIODS:,} times a {interval}: ask for a shorter time or longer periods",
                field="interval",
            )
    return found


def edges_of(times: list[datetime]) -> npt.NDArray[np.int64]:
    """`times` in microseconds since 1970."""
    return np.array([micros_of(time) for time in times], np.int64)
