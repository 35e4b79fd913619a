"""Devices that behave as no person does. DESIGN: session rule 9.

Their events and sessions are kept; what asks about people leaves them out, as it does known bots' user agents.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import duckdb
import polars as pl

_LOOK_EVERY: Final = 60.0  # seconds
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)  # the day after still is a day

# Whole days, so that an hour counts whichever commit brought it. Hours are counted from year 1: a calendar is slow.
# Only in an hour with so many events can there be such a minute.
_BEHAVIOUR: Final = """
with activity as (
    select anonymous_id, event_at, (epoch_us(event_at) + 62135596800000000) // 3600000000 as hour from stream.events
    where anonymous_id is not null and not is_background
      and event_at >= date_trunc('day', $first::timestamptz)
      and event_at < date_trunc('day', $last::timestamptz) + interval 1 day
),
hours as (
    select anonymous_id, hour, count(*) as events, min(event_at) as first_at from activity group by all
),
found as (
    select anonymous_id, 'more than ' || $per_minute || ' events in a minute' as reason, min(event_at) as first_seen_at
    from activity semi join (select * from hours where events > $per_minute) using (anonymous_id, hour)
    group by anonymous_id, (epoch_us(event_at) + 62135596800000000) // 60000000 having count(*) > $per_minute
    union all
    select anonymous_id, 'active in more than ' || $hours || ' hours of a day', min(first_at)
    from hours group by anonymous_id, hour // 24 having count(*) > $hours
)
insert into stream.bot_devices (anonymous_id, reason, first_seen_at)
select anonymous_id, arg_min(reason, first_seen_at), min(first_seen_at) from found
where anonymous_id not in (select anonymous_id from stream.bot_devices)
group by anonymous_id
"""


@dataclass(frozen=True, slots=True)
class BotRules:
    """More than this is no person."""

    events_per_minute: int = 300
    """In one calendar minute, UTC."""
    hours_per_day: int = 20
    """Distinct hours of a UTC day with activity."""


class BotWatch:
    """Looks at the days in which events were stored since it looked last, once a minute; at first at every day, for
    what a process before this one stored may not have been looked at."""

    def __init__(self, rules: BotRules) -> None:
        self._rules = rules
        self._first: datetime | None = _EARLIEST
        self._last: datetime | None = _LATEST
        self._look_at = time.monotonic() + _LOOK_EVERY

    def note(self, events: pl.DataFrame) -> None:
        """`events` (event_at) are about to be stored."""
        if events.is_empty():
            return
        first, last = events["event_at"].min(), events["event_at"].max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        self._first = first if self._first is None else min(self._first, first)
        self._last = last if self._last is None else max(self._last, last)

    def look(self, con: duckdb.DuckDBPyConnection, *, now: bool = False) -> bool:
        """Names the devices in stream.bot_devices, inside the transaction on `con`; if it is time to, or `now`.

        Returns whether it looked: then `rest` is to be called once that is committed.
        """
        if self._first is None or (not now and time.monotonic() < self._look_at):
            return False
        con.execute(
            _BEHAVIOUR,
            {
                "first": self._first,
                "last": min(self._last or self._first, _LATEST),
                "per_minute": self._rules.events_per_minute,
                "hours": self._rules.hours_per_day,
            },
        )
        return True

    def rest(self) -> None:
        """What was looked at is committed."""
        self._first = self._last = None
        self._look_at = time.monotonic() + _LOOK_EVERY
