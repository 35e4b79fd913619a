"""What the page of a person shows: the devices on one axis of time, and in words whose each was when, and by what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb

from service.web import readings, wording
from service.web.rows import query_rows

SESSIONS_SHOWN = 200
"""Of a person, the newest; the others are counted."""

WIDTH = 1000
"""Of the axis, in units of its drawing."""

_TICKS = 5
_LEAST = 4.0
"""Width of what would be too short to be seen."""

_SESSIONS = f"""
select s.session_id, s.anonymous_id, s.anonymous_id as device, $person as person_id, s.started_at, s.ended_at,
    s.event_count, s.entry_path, s.exit_path, s.referrer, s.utm_source, s.utm_campaign, s.is_bot, s.is_open,
    count(*) over () as all_of_them
from stream.sessions s
{readings.AS_KNOWN_NOW}where {readings.PERSON_NOW} = $person
  and (s.user_id in (select unnest($members)) or s.anonymous_id in (select unnest($devices)))
order by s.started_at desc, s.session_id
limit $limit
"""

_SAID = {
    "claim": "signed in",
    "alias": "was named as the owner (alias)",
    "logout": "Somebody signed out",
    "forgotten": "signed in, and was forgotten since",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """A span of time, drawn from 0 to WIDTH."""

    start: datetime
    end: datetime

    @classmethod
    def over(cls, times: Iterable[str | None]) -> Axis:
        """From the first of `times` to the last, ISO 8601; a little more than that, so that both can be seen."""
        known = sorted(datetime.fromisoformat(at) for at in times if at is not None)
        margin = max((known[-1] - known[0]) / 50, timedelta(minutes=1))
        return cls(known[0] - margin, known[-1] + margin)

    def place(self, at: str | None, *, otherwise: float) -> float:
        """Where `at` is drawn; what is open or beyond is at the end of the drawing."""
        if at is None:
            return otherwise
        share = (datetime.fromisoformat(at) - self.start) / (self.end - self.start)
        return round(min(max(share, 0.0), 1.0) * WIDTH, 1)

    def ticks(self) -> list[str]:
        """The times to write under it, at equal distances."""
        step = (self.end - self.start) / (_TICKS - 1)
        form = "%Y-%m-%d" if self.end - self.start > timedelta(days=10) else "%m-%d %H:%M"
        return [f"{self.start + i * step:{form}}" for i in range(_TICKS)]


def read_person(con: duckdb.DuckDBPyConnection, person: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of `person`, as service.people.show tells it."""
    devices = person["devices"]
    asked = {
        "person": person["person_id"],
        "members": person["members"],
        "devices": [device["anonymous_id"] for device in devices],
        "limit": SESSIONS_SHOWN,
    }
    sessions = query_rows(con, _SESSIONS, asked)
    times = [device[name] for device in devices for name in ("first_seen_at", "last_seen_at")]
    times += [fact["event_at"] for device in devices for fact in device["evidence"]]
    times += [session[name] for session in sessions for name in ("started_at", "ended_at")]
    axis = Axis.over(times) if any(times) else None
    return {
        **person,
        "is_anonymous": person["person_id"].startswith("anon:"),
        "ticks": axis.ticks() if axis else [],
        "lanes": [_lane(device, person, sessions, axis) for device in devices if axis],
        "rows": [readings.session_row(session) for session in sessions],
        "more_sessions": max(0, sessions[0]["all_of_them"] - SESSIONS_SHOWN) if sessions else 0,
    }


def _lane(device: dict[str, Any], person: dict[str, Any], sessions: list[dict[str, Any]], axis: Axis) -> dict[str, Any]:
    def stretch(told: dict[str, Any]) -> dict[str, Any]:
        start = axis.place(told["from"], otherwise=0.0)
        end = axis.place(told["to"], otherwise=float(WIDTH))
        whose = told["person_id"]
        kind = "own" if whose == person["person_id"] else "nobody" if whose.startswith("anon:") else "other"
        return told | {"x": start, "width": round(end - start, 1), "kind": kind, "whose": _whose(whose)}

    def block(session: dict[str, Any]) -> dict[str, Any]:
        start = axis.place(session["started_at"], otherwise=0.0)
        end = axis.place(session["ended_at"], otherwise=float(WIDTH))
        came_from = readings.source_of(session)
        return {
            "x": min(start, WIDTH - _LEAST),
            "width": round(max(end - start, _LEAST), 1),
            "title": f"Session of {session['event_count']} events, {_moment(session['started_at'])}, from {came_from}",
        }

    def mark(fact: dict[str, Any]) -> dict[str, Any]:
        said = _SAID[fact["kind"] if fact["user_id"] is not None else "logout"]
        who = wording.clipped(fact["user_id"], 100) if fact["user_id"] is not None else None
        who = "Somebody" if fact["kind"] == "forgotten" and who is not None else who
        return {
            "x": axis.place(fact["event_at"], otherwise=0.0),
            "kind": "out" if fact["user_id"] is None else "in",
            "at": fact["event_at"],
            "said": said,
            "who": who,
            "message_id": wording.clipped(fact["message_id"], 100),
        }

    name = device["anonymous_id"]
    return {
        **device,
        "stretches": [stretch(told) for told in device["timeline"]],
        "blocks": [block(session) for session in sessions if session["anonymous_id"] == name],
        "marks": [mark(fact) for fact in device["evidence"]],
    }


def _whose(person: str) -> str:
    return "nobody known" if person.startswith("anon:") else wording.clipped(person, 100)


def _moment(at: str) -> str:
    return wording.exact(datetime.fromisoformat(at))
