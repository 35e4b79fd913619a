"""Devices that behave as no person does. DESIGN: session rule 9.

Their events and sessions are kept; what asks about people leaves them out, as it does known bots' user agents.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from sinks.tables import registered

log = logging.getLogger(__name__)

Span = tuple[datetime, datetime]
"""The first time and the last."""

LOOK_EVERY: Final = timedelta(minutes=1)
_LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)  # the day after still is a day
_EVERY_DAY: Final[Span] = (datetime(1, 1, 1, tzinfo=UTC), _LATEST)

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
select anonymous_id, arg_min(reason, first_seen_at) as reason, min(first_seen_at) as first_seen_at from found
where anonymous_id not in (select anonymous_id from stream.bot_devices)
group by anonymous_id
"""

_NAME: Final = """
insert into stream.bot_devices (anonymous_id, reason, first_seen_at)
select anonymous_id, reason, first_seen_at from found
where anonymous_id not in (select anonymous_id from stream.bot_devices)
"""


@dataclass(frozen=True, slots=True)
class BotRules:
    """More than this is no person."""

    events_per_minute: int = 300
    """In one calendar minute, UTC."""
    hours_per_day: int = 20
    """Distinct hours of a UTC day with activity."""


class BotWatch:
    """Looks at the days in which events were stored since it looked last, `every` so often; at first at every day, for
    what a process before this one stored may not have been looked at. It looks in a thread `beside` the flow: over a
    long history that takes many seconds, which no commit may wait for."""

    def __init__(
        self,
        rules: BotRules,
        reader: Callable[[], duckdb.DuckDBPyConnection],
        beside: Executor,
        every: timedelta = LOOK_EVERY,
    ) -> None:
        self._rules = rules
        self._reader = reader
        self._beside = beside
        self._every = every.total_seconds()
        self._days: Span | None = _EVERY_DAY
        """In which events were stored that nobody has looked at."""
        self._look_at = time.monotonic() + self._every
        self._looking: Future[pa.Table] | None = None
        self._looked_at: Span | None = None
        self._is_named = False

    def note(self, events: pl.DataFrame) -> None:
        """`events` (event_at) are about to be stored."""
        if events.is_empty():
            return
        first, last = events["event_at"].min(), events["event_at"].max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        self._days = _both(self._days, (first, last))

    def name(self, con: duckdb.DuckDBPyConnection) -> None:
        """Names in stream.bot_devices what was found meanwhile, inside the transaction on `con`."""
        if self._looking is None or not self._looking.done():
            return
        self._is_named = True
        try:
            found = self._looking.result()
        except duckdb.Error as error:
            log.warning("could not look for devices that behave as bots, and will try again: %s", error)
            self._days = _both(self._days, self._looked_at)
        else:
            _insert(con, found)

    def go_on(self) -> None:
        """The transaction is committed. Begins to look at what is stored now, if it is time to."""
        if self._is_named:
            self._looking, self._looked_at, self._is_named = None, None, False
        if self._looking is None and self._days is not None and time.monotonic() >= self._look_at:
            self._looked_at, self._days = self._days, None
            self._look_at = time.monotonic() + self._every
            self._looking = self._beside.submit(self._look_beside, self._looked_at)

    def look(self, con: duckdb.DuckDBPyConnection) -> None:
        """Looks at once, and names what it finds, inside the transaction on `con`; call `rest` when it is committed."""
        if self._looking is not None:
            wait([self._looking])
        days = _both(self._days, self._looked_at)
        if days is not None:
            _insert(con, self._look(con, days))

    def rest(self) -> None:
        """All that there was has been looked at."""
        self._days = self._looking = self._looked_at = None
        self._is_named = False
        self._look_at = time.monotonic() + self._every

    def _look_beside(self, days: Span) -> pa.Table:
        with self._reader() as con:
            return self._look(con, days)

    def _look(self, con: duckdb.DuckDBPyConnection, days: Span) -> pa.Table:
        limits = {"per_minute": self._rules.events_per_minute, "hours": self._rules.hours_per_day}
        return con.execute(_BEHAVIOUR, {"first": days[0], "last": min(days[1], _LATEST), **limits}).to_arrow_table()


def _insert(con: duckdb.DuckDBPyConnection, found: pa.Table) -> None:
    if found.num_rows:
        with registered(con, "found", found):
            con.execute(_NAME)


def _both(one: Span | None, other: Span | None) -> Span | None:
    """From the first of both to the last."""
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])
