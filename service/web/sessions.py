"""Sessions as the API and the page list them: found by id, time, origin and kind, a page at a time; and one, whole."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import duckdb

from identity.ids import PERSON_PREFIX
from service.web import readings
from service.web.rows import query_rows
from stitchline.errors import UsageError

Bots = Literal["with", "without", "only"]

_BOT: Final = "(s.is_bot or s.anonymous_id in (select anonymous_id from stream.bot_devices))"

_SHORTEST_START: Final = 4
"""Letters of a session's id by which it is found."""

_NO_SESSION: Final = "no session"
"""What no id begins with."""

_CONDITIONS: Final[Mapping[str, str]] = {
    "q": """(
        s.anonymous_id in ($q, $q_device) or s.user_id = $q or s.session_id ^@ $q_session
        or s.anonymous_id in (select anonymous_id from stream.person_overrides where person_id = $q)
        or s.user_id in (select person_id from stream.person_merges where merged_into = $q)
    )""",
    "device": "s.anonymous_id = $device",
    "since": "s.started_at >= $since::timestamptz",
    "until": "s.started_at < $until::timestamptz",
    "source": "s.utm_source = $source",
    "medium": "s.utm_medium = $medium",
    "campaign": "s.utm_campaign = $campaign",
    "device_type": "s.device_type = $device_type",
    "entry": "s.entry_path = $entry",
    "open": "s.is_open",
}

_PLACES: Final = """
select s.session_id, s.started_at from stream.sessions s
where {conditions}
order by s.started_at desc, s.session_id
limit $limit
"""

_ROWS: Final = """
select * from stream.sessions
where session_id in (select unnest($ids)) and started_at between $oldest::timestamptz and $newest::timestamptz
"""

_FOUND: Final = f"""
select s.* exclude (person_id), {readings.PERSON_NOW} as person_id
from found s
{readings.AS_KNOWN_NOW}order by s.started_at desc, s.session_id
"""

# Straight from the events of one device: the view session_events would join everything first. Tuples are spelt out,
# because DuckDB 1.5 makes a BETWEEN of two comparisons with constant tuples, which it then refuses.
_EVENTS: Final = """
select message_id, type, name, user_id, event_at, received_at, path, properties, context, is_background, clock_skewed
from stream.events
where anonymous_id = $anonymous_id and event_at between $started_at::timestamptz and $ended_at::timestamptz
  and (event_at > $started_at::timestamptz or message_id >= $first_message_id)
  and (event_at < $ended_at::timestamptz or message_id <= $last_message_id)
order by event_at, message_id
limit $limit offset $skipped
"""

_CHANGES: Final = """
select session_id, superseded_by, revision, changed_at from stream.session_changes
where session_id = $id or superseded_by = $id
order by changed_at, session_id
limit 200
"""

_NEIGHBOURS: Final = """
select
    (select arg_max(session_id, (started_at, first_message_id)) from stream.sessions
        where anonymous_id = $device and (started_at, first_message_id) < ($at::timestamptz, $first)) as before,
    (select arg_min(session_id, (started_at, first_message_id)) from stream.sessions
        where anonymous_id = $device and (started_at, first_message_id) > ($at::timestamptz, $first)) as after
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions; what is None (or False) does not matter."""

    q: str | None = None
    """A session's id or its first letters, a user, a device or a person."""
    device: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    device_type: str | None = None
    entry: str | None = None
    bots: Bots = "with"
    open: bool = False

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        values = {name: value for name in _CONDITIONS if (value := getattr(self, name))}
        conditions = [_CONDITIONS[name] for name in values]
        values.pop("open", None)
        if self.q:
            long_enough = len(self.q) >= _SHORTEST_START
            values["q_device"] = self.q.removeprefix(PERSON_PREFIX)
            values["q_session"] = self.q if long_enough else _NO_SESSION
        if self.bots != "with":
            conditions.append(_BOT if self.bots == "only" else f"not {_BOT}")
        return conditions, values


def find(
    con: duckdb.DuckDBPyConnection, wanted: Wanted, limit: int, after: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """The sessions that began last, newest first, and where the next page begins, None if there is none.

    Raises UsageError for an `after` that no page ended with.
    """
    conditions, values = wanted.conditions()
    if after is not None:
        at, last = _place(after)
        values |= {"at": at, "last": last}
        conditions.append(
            "s.started_at <= $at::timestamptz and (s.started_at < $at::timestamptz or s.session_id > $last)"
        )
    values["limit"] = limit + 1
    if not conditions and (least := readings.newest_since(con, limit + 1)) is not None:
        conditions, values["least"] = ["s.started_at >= $least::timestamptz"], least
    # Which they are is asked first, because that reads few columns: sorting whole sessions takes a second at some
    # millions of them.
    places = query_rows(con, _PLACES.format(conditions=" and ".join(conditions) or "true"), values)
    if not places:
        return [], None
    shown = places[:limit]
    asked = {
        "ids": [place["session_id"] for place in shown],
        "oldest": shown[-1]["started_at"],
        "newest": shown[0]["started_at"],
    }
    rows = query_rows(con, f"with found as ({_ROWS}) {_FOUND}", asked)
    return rows, _named(shown[-1]) if len(places) > limit else None


def one(con: duckdb.DuckDBPyConnection, session_id: str) -> dict[str, Any] | None:
    """The session of that id; None if there is none now."""
    sql = f"with found as (select * from stream.sessions where session_id = $session_id) {_FOUND}"
    return next(iter(query_rows(con, sql, {"session_id": session_id})), None)


def events(
    con: duckdb.DuckDBPyConnection, session: Mapping[str, Any], limit: int, skipped: int = 0
) -> tuple[list[dict[str, Any]], bool]:
    """What happened in a session, in order, and whether there is more beyond `limit`."""
    names = ("anonymous_id", "started_at", "ended_at", "first_message_id", "last_message_id")
    span = {name: session[name] for name in names}
    found = query_rows(con, _EVENTS, span | {"limit": limit + 1, "skipped": skipped})
    return found[:limit], len(found) > limit


def changes(con: duckdb.DuckDBPyConnection, session_id: str) -> list[dict[str, Any]]:
    """What late events made of a session, and of others that are part of it now, in the order in which it happened."""
    return query_rows(con, _CHANGES, {"id": session_id})


def neighbours(con: duckdb.DuckDBPyConnection, session: Mapping[str, Any]) -> dict[str, str | None]:
    """The ids of the device's sessions `before` and `after` this one."""
    asked = {"device": session["anonymous_id"], "at": session["started_at"], "first": session["first_message_id"]}
    (found,) = query_rows(con, _NEIGHBOURS, asked)
    return found


def why_not_there(con: duckdb.DuckDBPyConnection, session_id: str) -> tuple[str, str | None]:
    """Why no session has that id, and the session that it became, if it became one."""
    became = [change["superseded_by"] for change in changes(con, session_id) if change["session_id"] == session_id]
    heir: str | None = became[-1] if became else None
    told = f"there is no session {session_id[:100]}"
    return (f"{told}: late events made it part of {heir}" if heir else told), heir


def _named(row: Mapping[str, Any]) -> str:
    """A place in the list, as text for an address."""
    told = json.dumps([row["started_at"], row["session_id"]], separators=(",", ":"))
    return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")


def _place(text: str) -> tuple[str, str]:
    try:
        at, session_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        datetime.fromisoformat(at)
        return at, str(session_id)
    except (ValueError, TypeError) as error:
        raise UsageError(
            "`after` is not where a page ended: take `next` of the answer before, or leave it out"
        ) from error
