"""Whether the data is there at all: missing data is another thing than a fall.

The flow may be behind, a partition may be silent that never was at such a time, the day before may not be complete. At
first that is a reason to wait; from a time on it is late, and the platform team's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

import duckdb

from batch_marts.anomalies.judging import rows
from batch_marts.anomalies.verdicts import Verdict

METRIC: Final = "data"
"""The metric's name of verdicts about the data itself."""

LATE_AFTER: Final = timedelta(minutes=15)
"""How long the flow may be behind, or a partition silent against its habit, before that is late."""
DAY_LATE_AFTER: Final = timedelta(hours=6)
"""After the end of a UTC day it should be in the marts: the nightly refresh is over by then."""
LEAST_HABIT: Final = 25.0
"""Events that a partition usually had in as long a time. Were they its habit, chance alone would leave out all of them
once in 10^10 times."""

_LOOK_BACK: Final = timedelta(hours=6)
"""A silence is compared over no more than this."""
_BEHIND: Final = timedelta(minutes=3)
"""What a flow that keeps up is never behind."""

Kind = Literal["behind", "idle", "incomplete"]


@dataclass(frozen=True, slots=True)
class Late:
    """Data that is not there."""

    kind: Kind
    what: str
    """The partition, `events/3`, or the day, `2026-11-26`."""
    since: datetime
    """Up to when it is there, aware UTC."""
    is_late: bool
    """Whether it has been missing for longer than is allowed: before that one waits."""
    because: str

    @property
    def verdict(self) -> Verdict:
        """The same as incidents take it: `waiting` at first, an anomaly once it is late."""
        return Verdict(
            metric=METRIC,
            segment=f"{self.kind}={self.what}",
            grain="day" if self.kind == "incomplete" else "five_minutes",
            at=self.since,
            said="anomaly" if self.is_late else "waiting",
            rule="base",
            actual=None,
            expected=None,
            low=None,
            high=None,
            z=None,
            baseline=0,
            because=self.because,
        )


def late_data(con: duckdb.DuckDBPyConnection, now: datetime, *, late_after: timedelta = LATE_AFTER) -> list[Late]:
    """What of the stream is missing at `now` (aware): partitions whose watermark has stopped, those that are silent
    though they usually had LEAST_HABIT events or more at this time of the week. By partition."""
    now = now.astimezone(UTC)
    found = []
    for row in rows(con, _PROGRESS):
        what = f"{row['topic']}/{row['partition']}"
        if now - row["watermark"] > _BEHIND:
            found.append(_late("behind", what, row["watermark"], now, late_after, "The flow is behind on"))
            continue
        silent_since = max(row["greatest_event_at"], now - _LOOK_BACK)
        if now - silent_since > _BEHIND and (usual := _usual(con, row["partition"], silent_since, now)) >= LEAST_HABIT:
            sentence = f"In as long a time there usually are {usual:,.0f} events of"
            found.append(_late("idle", what, row["greatest_event_at"], now, late_after, sentence))
    return found


def late_day(
    con: duckdb.DuckDBPyConnection, now: datetime, *, mart: str, late_after: timedelta = DAY_LATE_AFTER
) -> Late | None:
    """Whether the day before `now` (aware) is missing from the nightly marts: None if it is there and complete, or if
    there are no complete days at all."""
    now = now.astimezone(UTC)
    row = con.execute(f"select max(metric_date) from {mart} where is_complete").fetchone()
    newest: date | None = None if row is None else row[0]
    yesterday = now.date() - timedelta(days=1)
    if newest is None or newest >= yesterday:
        return None
    missing = newest + timedelta(days=1)
    since = datetime(missing.year, missing.month, missing.day, tzinfo=UTC)
    return Late(
        "incomplete",
        str(missing),
        since,
        now - (since + timedelta(days=1)) > late_after,
        f"{missing} is not complete in the marts, which are refreshed each night; it ended "
        f"{_long(now - since - timedelta(days=1))} ago.",
    )


def _late(kind: Kind, what: str, since: datetime, now: datetime, late_after: timedelta, sentence: str) -> Late:
    missing = now - since
    known = f"{sentence} {what}, and it is known up to {since:%Y-%m-%d %H:%M} UTC only, {_long(missing)} ago."
    return Late(kind, what, since, missing > late_after, known)


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
