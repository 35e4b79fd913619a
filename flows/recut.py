"""The late road: a device is cut again from what is stored. DESIGN: session rule 10.

The device's sessions from the one that the late event falls into (or follows) up to its last are made anew from the
stored events and the batch's. Looking up what is stored takes most of the time: it can go on beside other work.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import duckdb
import polars as pl

from flows.arrivals import activity_of, told
from flows.rules import FlowRules
from flows.sessions import ACTIVITY, SESSIONS, cut, in_order

_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)  # no event is older
_COLUMNS: Final = ", ".join(f"s.{name}" for name in SESSIONS.names())

# The late events' devices, each with its earliest new event; then the session before which nothing changes, if any.
_FROM: Final = """
select anonymous_id, start.at as start_at, start.message_id as start_message_id
from (
    select f.anonymous_id, max({'at': s.started_at, 'message_id': s.first_message_id})
        filter (s.started_at < f.first_at
            or (s.started_at = f.first_at and s.first_message_id <= f.first_message_id)) as start
    from late_first f left join stream.sessions s using (anonymous_id)
    group by all
)
"""
# Compared one after the other: tuples take several times as long.
_BEFORE_START: Final = (
    "(s.started_at < f.start_at or (s.started_at = f.start_at and s.first_message_id < f.start_message_id))"
)
_BEFORE: Final = f"""
select {_COLUMNS} from stream.sessions s join late_from f using (anonymous_id)
where {_BEFORE_START}
qualify row_number() over (partition by s.anonymous_id order by s.started_at desc, s.first_message_id desc) = 1
"""
_AFFECTED: Final = f"""
with all_sessions as (
    select *, true as is_stored_closed from stream.closed_sessions
    union all by name
    select *, false as is_stored_closed from stream.open_sessions
)
select {_COLUMNS}, s.revision, s.is_stored_closed from all_sessions s join late_from f using (anonymous_id)
where s.started_at >= $since and (f.start_at is null or not {_BEFORE_START})
"""
_STORED: Final = """
select e.anonymous_id, e.event_at, e.message_id, e.user_id, e.name, e.type, e.is_bot, e.path, e.referrer,
    e.utm_source, e.utm_medium, e.utm_campaign, e.device_type, e.browser, e.os,
    case when $by_library then e.context->>'$.library.name' end as library
from stream.events e join late_from f using (anonymous_id)
where not e.is_background and e.event_at >= $since
  and (f.start_at is null or e.event_at > f.start_at
       or (e.event_at = f.start_at and e.message_id >= f.start_message_id))
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of some devices from the session on that their first new event falls into or follows: the session
    `before` that (SESSIONS), the `sessions` (SESSIONS, revision, is_stored_closed) and the `events` (ACTIVITY)."""

    before: pl.DataFrame
    sessions: pl.DataFrame
    events: pl.DataFrame

    def of(self, devices: pl.Series) -> Kept:
        """Of those of `devices` that it knows."""
        named = devices.to_frame("anonymous_id")
        return Kept(*(rows.join(named, on="anonymous_id", how="semi") for rows in self._frames()))

    def and_of(self, others: Kept) -> Kept:
        return Kept(*(pl.concat(pair) for pair in zip(self._frames(), others._frames(), strict=True)))

    def _frames(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        return self.before, self.sessions, self.events


@dataclass(frozen=True, slots=True)
class Recut:
    """`sessions` (by SESSIONS) take the place of `replaced` (SESSIONS, revision, is_stored_closed) of the same
    devices."""

    sessions: pl.DataFrame
    replaced: pl.DataFrame


def late_devices(events: pl.DataFrame) -> pl.Series:
    """The devices of `events` (anonymous_id, is_late, is_background) that will most likely have to be cut again."""
    return events["anonymous_id"].filter(events["is_late"] & ~events["is_background"]).unique()


def kept_of(con: duckdb.DuckDBPyConnection, devices: pl.Series, activity: pl.DataFrame, rules: FlowRules) -> Kept:
    """What is stored of `devices`, as `con` sees it; of `activity` (anonymous_id, event_at, message_id), new events of
    these devices and others, nothing is stored yet."""
    first = (
        activity.join(devices.to_frame("anonymous_id"), on="anonymous_id", how="semi")
        .sort("anonymous_id", "event_at", "message_id")
        .unique("anonymous_id", keep="first")
        .select("anonymous_id", first_at="event_at", first_message_id="message_id")
    )
    con.register("late_first", first.to_arrow())
    try:
        start = con.execute(_FROM).pl()
        con.register("late_from", start.to_arrow())
        # Given as a number, so that what is older needs not be read at all.
        since = {"since": _BEGINNING if start["start_at"].has_nulls() else start["start_at"].min()}
        before = con.execute(_BEFORE).pl().cast(SESSIONS)
        sessions = con.execute(_AFFECTED, since).pl()
        by_library = {"by_library": bool(rules.sessions.gap_by_library)}
        events = activity_of(told(con.execute(_STORED, since | by_library).pl(), rules)).cast(ACTIVITY)
    finally:
        con.unregister("late_from")
        con.unregister("late_first")
    return Kept(before, sessions, events)


def recut(kept: Kept, devices: pl.Series, activity: pl.DataFrame, rules: FlowRules) -> Recut:
    """Cuts `devices`, of which `kept` is stored, again, together with `activity` (by ACTIVITY): the batch's events, of
    these devices and others."""
    new = activity.join(devices.to_frame("anonymous_id"), on="anonymous_id", how="semi").select(ACTIVITY.names())
    made = cut(kept.before, in_order(pl.concat([kept.events, new.cast(ACTIVITY)])), rules.sessions)
    assert made.unsettled.is_empty(), "nothing precedes the session that the cut starts from"
    return Recut(made.sessions.join(kept.before.select("session_id"), on="session_id", how="anti"), kept.sessions)
