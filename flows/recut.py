"""The late road: a device is cut again from what is stored. DESIGN: session rule 10.

Plain and right rather than fast: the device's sessions from the one that the late event falls into (or follows) up to
its last are made anew from the stored events and the batch's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb
import polars as pl

from flows.arrivals import activity_of, told
from flows.rules import FlowRules
from flows.sessions import ACTIVITY, SESSIONS, cut, in_order

_COLUMNS: Final = ", ".join(f"s.{name}" for name in SESSIONS.names())

# The late events' devices, each with its earliest new event; then the session before which nothing changes.
_FROM: Final = """
select f.anonymous_id, f.first_at, f.first_message_id,
    max({'at': s.started_at, 'message_id': s.first_message_id})
        filter ((s.started_at, s.first_message_id) <= (f.first_at, f.first_message_id)) as start
from late_first f left join stream.sessions s using (anonymous_id)
group by all
"""
_BEFORE: Final = f"""
select {_COLUMNS} from stream.sessions s join late_from f using (anonymous_id)
where f.start is not null and (s.started_at, s.first_message_id) < (f.start.at, f.start.message_id)
qualify row_number() over (partition by s.anonymous_id order by s.started_at desc, s.first_message_id desc) = 1
"""
_AFFECTED: Final = f"""
with all_sessions as (
    select *, true as is_stored_closed from stream.closed_sessions
    union all by name
    select *, false as is_stored_closed from stream.open_sessions
)
select {_COLUMNS}, s.revision, s.is_stored_closed from all_sessions s join late_from f using (anonymous_id)
where f.start is null or (s.started_at, s.first_message_id) >= (f.start.at, f.start.message_id)
"""
_STORED: Final = """
select e.anonymous_id, e.event_at, e.message_id, e.user_id, e.name, e.type, e.is_bot, e.path, e.referrer,
    e.utm_source, e.utm_medium, e.utm_campaign, e.device_type, e.browser, e.os, e.context->>'$.library.name' as library
from stream.events e join late_from f using (anonymous_id)
where not e.is_background
  and (f.start is null or (e.event_at, e.message_id) >= (f.start.at, f.start.message_id))
  and e.event_at >= coalesce((select min(start.at) from late_from having count(*) = count(start)),
                             timestamptz '0001-01-01 00:00:00+00')
"""


@dataclass(frozen=True, slots=True)
class Recut:
    """`sessions` (by SESSIONS) take the place of `replaced` (SESSIONS, revision, is_stored_closed) of the same
    devices."""

    sessions: pl.DataFrame
    replaced: pl.DataFrame


def recut(con: duckdb.DuckDBPyConnection, devices: pl.Series, activity: pl.DataFrame, rules: FlowRules) -> Recut:
    """Cuts `devices` again. `activity` (by ACTIVITY) are the batch's events, of these devices and others, which `con`
    sees as stored already: this runs inside the checkpoint's transaction."""
    new = activity.join(devices.to_frame("anonymous_id"), on="anonymous_id", how="semi")
    first = (
        new.sort("anonymous_id", "event_at", "message_id")
        .unique("anonymous_id", keep="first")
        .select("anonymous_id", first_at="event_at", first_message_id="message_id")
    )
    con.register("late_first", first.to_arrow())
    con.register("late_from", con.execute(_FROM).to_arrow_table())
    try:
        before = con.execute(_BEFORE).pl().cast(SESSIONS)
        replaced = con.execute(_AFFECTED).pl()
        stored = activity_of(told(con.execute(_STORED).pl(), rules)).cast(ACTIVITY)
    finally:
        con.unregister("late_from")
        con.unregister("late_first")
    made = cut(before, in_order(stored), rules.sessions)
    assert made.unsettled.is_empty(), "nothing precedes the session that the cut starts from"
    return Recut(made.sessions.join(before.select("session_id"), on="session_id", how="anti"), replaced)
