"""The late road: a device is cut again from what is stored. DESIGN: session rule 10.

The device's sessions from the one that the late event falls into (or follows) up to its last are made anew from the
stored events and the batch's. Looking up what is stored takes most of the time: it can go on beside other work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb
import polars as pl

from flows.arrivals import activity_of, told
from flows.rules import FlowRules
from flows.sessions import ACTIVITY, SESSIONS, cut, in_order
from sinks.tables import registered

# Which sessions of so few devices matter is found sooner than the file is read again.
_KNOWN: Final = f"""
with all_sessions as (
    select *, true as is_stored_closed from stream.closed_sessions
    union all by name
    select *, false as is_stored_closed from stream.open_sessions
)
select f.device, {", ".join(f"s.{name}" for name in SESSIONS.names())}, s.revision, s.is_stored_closed
from all_sessions s join late_devices f using (anonymous_id)
"""
# The devices are numbered, as texts cost more to hand over than all the rest.
_STORED: Final = """
select f.device, e.event_at, e.message_id, e.user_id, e.name, e.type, e.is_bot, e.path, e.referrer,
    e.utm_source, e.utm_medium, e.utm_campaign, e.device_type, e.browser, e.os,
    case when $by_library then e.context->>'$.library.name' end as library
from stream.events e join late_from f using (anonymous_id)
where not e.is_background and e.event_at >= $since and e.event_at >= f.start_at
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
        .unique("anonymous_id", keep="first", maintain_order=True)
        .select("anonymous_id", first_at="event_at", late_message_id="message_id")
        .with_row_index("device")
    )
    with registered(con, "late_devices", first.select("device", "anonymous_id").to_arrow()):
        known = _placed(con.execute(_KNOWN).pl(), first)
    before = known.filter(pl.col("place") == -2).select(SESSIONS.names()).cast(SESSIONS)
    sessions = known.filter(pl.col("place") >= -1).select("device", *SESSIONS.names(), "revision", "is_stored_closed")
    start = sessions.unique("device", keep="first", maintain_order=True).select(
        "device", "anonymous_id", start_at="started_at", start_message_id="first_message_id"
    )
    # Given as a number, so that what is older needs not be read at all.
    asked = {"since": start["start_at"].min(), "by_library": bool(rules.sessions.gap_by_library)}
    with registered(con, "late_from", start.to_arrow()):
        stored = con.execute(_STORED, asked).pl().join(start, on="device")
    is_before = (pl.col("event_at") == pl.col("start_at")) & (pl.col("message_id") < pl.col("start_message_id"))
    events = activity_of(told(stored.filter(~is_before), rules)).cast(ACTIVITY)
    return Kept(before, sessions.drop("device"), events)


def _placed(known: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """`known` sessions in order, device by device, and their `place`: that of the one is −1 that the device's first new
    event, in `first`, falls into or follows."""
    late = (pl.col("first_at"), pl.col("late_message_id"))
    is_not_after = (pl.col("started_at") < late[0]) | (
        (pl.col("started_at") == late[0]) & (pl.col("first_message_id") <= late[1])
    )
    return (
        known.join(first.drop("anonymous_id"), on="device")
        .sort("device", "started_at", "first_message_id")
        .with_columns(place=pl.int_range(pl.len()).over("device") - is_not_after.sum().over("device").cast(pl.Int64))
    )


def recut(kept: Kept, devices: pl.Series, activity: pl.DataFrame, rules: FlowRules) -> Recut:
    """Cuts `devices`, of which `kept` is stored, again, together with `activity` (by ACTIVITY): the batch's events, of
    these devices and others."""
    new = activity.join(devices.to_frame("anonymous_id"), on="anonymous_id", how="semi").select(ACTIVITY.names())
    made = cut(kept.before, in_order(pl.concat([kept.events, new.cast(ACTIVITY)])), rules.sessions)
    assert made.unsettled.is_empty(), "nothing precedes the session that the cut starts from"
    return Recut(made.sessions.join(kept.before.select("session_id"), on="session_id", how="anti"), kept.sessions)
