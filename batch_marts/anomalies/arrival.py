"""Whether the data is there at all: missing data is another thing than a fall.

The flow may be behind, a partition may be silent that never was at such a time, the day before may not be complete. At
first that is a reason to wait; an incident, and the platform team's, it is from a time on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import duckdb

from batch_marts.anomalies.judging import rows

DAY_LATE_AFTER: Final = timedelta(hours=6)
"""After the end of a UTC day it has to be in the marts: the nightly refresh is over by then."""
LEAST_HABIT: Final = 25.0
"""Events that a partition usually had in as long a time. Were they its habit, chance alone would leave out all of them
once in 10^10 times."""

_LOOK_BACK: Final = timedelta(hours=6)
"""A silence is compared over no more than this."""
_BEHIND: Final = timedelta(minutes=3)
"""What a flow that keeps up is never behind."""

Kind = Literal["behind", "idle"]


@dataclass(frozen=True, slots=True)
class Late:
    """Data of a partition that is not there."""

    kind: Kind
    what: str
    """The partition, `events/3`."""
    since: datetime
    """Up to when it is there, aware UTC."""
    because: str


def late_data(con: duckdb.DuckDBPyConnection, now: datetime) -> list[Late]:
    """What of the stream is missing at `now` (aware): partitions whose watermark has stopped, those that are silent
    though they usually had LEAST_HABIT events or more at this time of the week. By partition."""
    now = now.astimezone(UTC)
    found = []
    for row in rows(con, _PROGRESS):
        what = f"{row['topic']}/{row['partition']}"
        if now - row["watermark"] > _BEHIND:
            found.append(_late("behind", what, row["watermark"], now, "The flow is behind on"))
            continue
        silent_since = max(row["greatest_event_at"], now - _LOOK_BACK)
        if now - silent_since > _BEHIND and (usual := _usual(con, row["partition"], silent_since, now)) >= LEAST_HABIT:
            sentence = f"In as long a time there usually are {usual:,.0f} events of"
            found.append(_late("idle", what, row["greatest_event_at"], now, sentence))
    return found


def late_day(con: duckdb.DuckDBPyConnection, now: datetime, mart: str) -> str | None:
    """Which day is not in the nightly marts although it is over for DAY_LATE_AFTER at `now` (aware), in words; None if
    all are there, or none is."""
    now = now.astimezone(UTC)
    ((newest,),) = con.execute(f"select max(metric_date) from {mart} where is_complete").fetchall()
    if newest is None or newest >= (now - DAY_LATE_AFTER).date() - timedelta(days=1):
        return None
    missing = newest + timedelta(days=1)
    ended = datetime(missing.year, missing.month, missing.day, tzinfo=UTC) + timedelta(days=1)
    return f"{missing} is not complete in the marts; it ended {_long(now - ended)} ago"


def _late(kind: Kind, what: str, since: datetime, now: datetime, sentence: str) -> Late:
    known = f"{sentence} {what}, and it is known up to {since:%Y-%m-%d %H:%M} UTC only, {_long(now - since)} ago."
    return Late(kind, what, since, known)


def _long(duration: timedelta) -> str:
    minutes = int(duration.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _usual(con: duckdb.DuckDBPyConnection, partition: int, since: datetime, until: datetime) -> float:
    """The median of how many events a partition had between the same times of the six weeks before; those before its
    first event do not count."""
    counts = "\nunion all\n".join(_week(since, until, weeks) for weeks in range(1, 7))
    row: Any = con.execute(
        f"select coalesce(median(events), 0) from ({counts}) where began >= ("
        'select min(event_at) from stream.events where "partition" = $1)',
        [partition],
    ).fetchone()
    return float(row[0])


def _week(since: datetime, until: datetime, weeks: int) -> str:
    first, last = (at - timedelta(weeks=weeks) for at in (since, until))
    return (
        f"select timestamptz '{first}' as began, count(*) as events from stream.events "
        f"where event_at >= timestamptz '{first}' and event_at < timestamptz '{last}' and \"partition\" = $1"
    )


_PROGRESS: Final = """
select topic, "partition", watermark, greatest_event_at from stream.progress
where watermark is not null and greatest_event_at is not null
order by topic, "partition"
"""
