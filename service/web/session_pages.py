"""The pages of sessions: the list at /sessions, one at /sessions/ID; /people/ID leads to a person's page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from flows.session_rules import SessionRules
from service.web import readings, sessions, wording
from service.web.questions import Questions
from service.web.rows import query_rows
from service.web.templating import Templates
from service.web.view import ServiceView
from stitchline.durations import format_duration
from stitchline.errors import UsageError

_ON_A_PAGE: Final = 50
_EVENTS_ON_A_PAGE: Final = 200
_IN_A_FILE: Final = 1000

_PROPERTIES_SHOWN: Final = 8
"""Of an event, without opening it."""

_LONGEST_RAW: Final = 20_000

_LONGEST_NAME: Final = 160
_NAMES: Final = ("device", "entry_path", "exit_path", "referrer", "utm_source", "utm_campaign")
"""Of a session in the list, and how much of each is shown."""

_RECENT: Final = 10_000
"""Sessions whose sources and paths are offered: the newest."""

_CHOICES: Final = f"""
with newest as (
    select utm_source, utm_medium, utm_campaign, entry_path, device_type from stream.sessions
    where started_at > (select max(started_at) from stream.sessions) - interval 7 day
    limit {_RECENT}
),
counted as (
    select 'source' as name, utm_source as value, count(*) as sessions from newest group by all
    union all select 'medium', utm_medium, count(*) from newest group by all
    union all select 'campaign', utm_campaign, count(*) from newest group by all
    union all select 'entry', entry_path, count(*) from newest group by all
    union all select 'device_type', device_type, count(*) from newest group by all
)
select name, list(value order by sessions desc, value)[:20] as "values"
from counted where length(value) <= 120
group by name
"""


def session_pages(view: ServiceView, questions: Questions, render: Templates) -> APIRouter:
    """The routes that browsers open."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/sessions")
    def found(
        q: str = "",
        since: str = "",
        until: str = "",
        source: str = "",
        medium: str = "",
        campaign: str = "",
        device_type: str = "",
        entry: str = "",
        bots: sessions.Bots = "with",
        only_open: Annotated[bool, Query(alias="open")] = False,
        after: str = "",
    ) -> HTMLResponse:
        texts = {"q": q.strip(), "source": source, "medium": medium, "campaign": campaign}
        texts |= {"device_type": device_type, "entry": entry}
        days = {"since": _midnight(since), "until": _midnight(until, later=timedelta(days=1))}
        known: dict[str, Any] = {name: text or None for name, text in texts.items()} | days
        wanted = sessions.Wanted(**known, bots=bots, open=only_open)
        told = {name: text for name, text in (texts | {"since": since, "until": until}).items() if text}
        told |= ({"bots": bots} if bots != "with" else {}) | ({"open": "true"} if only_open else {})
        with questions.reading("the list of sessions") as con:
            rows, following = sessions.find(con, wanted, _ON_A_PAGE, after or None)
            choices = {row["name"]: row["values"] for row in query_rows(con, _CHOICES)}
        if wanted.device_type and wanted.device_type not in choices.get("device_type", []):
            choices.setdefault("device_type", []).append(wanted.device_type)
        in_api = told | {name: at.isoformat() for name, at in days.items() if at is not None}
        return render(
            "sessions.html",
            here="/sessions",
            wanted=wanted,
            asked={"since": since, "until": until},
            choices={name: choices.get(name, []) for name in ("source", "medium", "campaign", "entry", "device_type")},
            rows=[_row(row) for row in rows],
            after=after,
            is_narrowed=bool(told),
            newest_href=_href("/sessions", told),
            next_href=_href("/sessions", told | {"after": following}) if following else None,
            api_href=_href("/api/sessions", in_api | ({"after": after} if after else {})),
            csv_href=_href("/api/sessions", in_api | {"limit": str(_IN_A_FILE), "format": "csv"}),
        )

    @router.get("/sessions/{session_id}")
    def session(session_id: str, skipped: Annotated[int, Query(ge=0, le=100_000_000)] = 0) -> Response:
        with questions.reading("the session") as con:
            one = sessions.one(con, session_id)
            if one is None:
                why, heir = sessions.why_not_there(con, session_id)
                if heir is None:
                    raise HTTPException(
                        404, f"{why}. /sessions finds sessions by their person, device or first letters"
                    )
                return RedirectResponse(f"/sessions/{quote(heir, safe='')}", 303)
            events, more = sessions.events(con, one, _EVENTS_ON_A_PAGE, skipped)
            changes = sessions.changes(con, session_id)
            around = sessions.neighbours(con, one)
        rules = view.rules().sessions
        began, ended = why_it_began(one["start_reason"], rules), why_it_ended(one, rules)
        return render(
            "session.html",
            here="/sessions",
            session=one,
            lead=_lead(one),
            facts=_facts(one),
            began=began,
            ended=ended,
            story=_story(one, changes),
            around=around,
            events=[_event(event, one["started_at"]) for event in events],
            skipped=skipped,
            shown=_EVENTS_ON_A_PAGE,
            more=more,
        )

    @router.get("/people/{asked:path}")
    def person(asked: str) -> RedirectResponse:
        return RedirectResponse(readings.person_href(asked), 308)

    return router


def why_it_began(reason: str, rules: SessionRules) -> str:
    """A start_reason in words."""
    gap = format_duration(rules.gap)
    return {
        "first": "it is the first of the device.",
        "logout": "somebody had signed out before.",
        "user_switch": "another user was known from here on.",
        "gap": f"nothing had happened for more than {gap}.",
        "cap": f"the session before had lasted {format_duration(rules.cap)}, which is the most.",
        "midnight": "a new day began.",
        "campaign": "another campaign brought the visitor.",
    }.get(reason, reason)


def why_it_ended(session: Mapping[str, Any], rules: SessionRules) -> str:
    """An end_reason in words."""
    if session["is_open"]:
        return f"it goes on, until nothing happens for more than {format_duration(rules.gap)}."
    return {
        "logout": "somebody signed out.",
        "user_switch": "another user was known after it.",
        "gap": f"nothing happened for more than {format_duration(rules.gap)} after it.",
        "cap": f"it had lasted {format_duration(rules.cap)}, which is the most.",
        "midnight": "the day ended.",
        "campaign": "another campaign brought the visitor again.",
    }.get(session["end_reason"] or "", "the stream has ended.")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the list: fifty of the longest names there are must not make it heavy."""
    row |= {"device": row["anonymous_id"]}
    clipped = {name: row[name] and wording.clipped(row[name], _LONGEST_NAME) for name in _NAMES}
    return readings.session_row(row | clipped)


def _lead(session: Mapping[str, Any]) -> str:
    lasted = datetime.fromisoformat(session["ended_at"]) - datetime.fromisoformat(session["started_at"])
    parts = [
        wording.counted(session["event_count"], "event"),
        wording.counted(session["page_count"], "page"),
        wording.span(lasted),
    ]
    return f"{', '.join(parts)}, from {readings.source_of(dict(session))}."


def _facts(session: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
    """Name, value and where it leads."""
    person = session["person_id"]
    origin = {"source": "utm_source", "medium": "utm_medium", "campaign": "utm_campaign"}
    campaign = {name: session[column] for name, column in origin.items() if session[column]}
    facts: list[tuple[str, str | None, str | None]] = [
        ("Person, as known now", person, readings.person_href(person)),
        ("User in it", session["user_id"], None),
        ("Device", session["anonymous_id"], None),
        ("Kind of device", " · ".join(v for v in (session[n] for n in ("device_type", "browser", "os")) if v), None),
        ("Campaign", " · ".join(campaign.values()), _href("/sessions", campaign)),
        ("Referrer", session["referrer"], None),
        ("First page", session["entry_path"], _href("/sessions", {"entry": session["entry_path"] or ""})),
        ("Last page", session["exit_path"], None),
        ("Session id", session["session_id"], None),
        ("Revision", str(session["revision"]), None),
    ]
    return [(name, wording.clipped(value), href) for name, value, href in facts if value]


def _story(session: Mapping[str, Any], changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What late events did to the session, in words."""
    story = []
    for change in changes:
        if change["session_id"] == session["session_id"]:
            said, other = "Late events had made it part of another one for a while:", change["superseded_by"]
        else:
            said, other = "Late events made another one part of this:", change["session_id"]
        story.append(
            {
                "at": change["changed_at"],
                "said": said,
                "short_id": other[:8] if other else "",
                "href": f"/sessions/{other}" if other and other != session["session_id"] else None,
            }
        )
    return story


def _event(event: Mapping[str, Any], started_at: str) -> dict[str, Any]:
    at = datetime.fromisoformat(event["event_at"])
    properties = event["properties"] if isinstance(event["properties"], dict) else {}
    plain = [(key, value) for key, value in properties.items() if not isinstance(value, (dict, list))]
    badges = [event["type"]] if event["type"] in ("identify", "alias", "group") else []
    badges += ["in the background"] if event["is_background"] else []
    badges += ["clock was wrong"] if event["clock_skewed"] else []
    raw = json.dumps(dict(event), indent=2, ensure_ascii=False)
    return {
        "at": event["event_at"],
        "offset": f"+{wording.span(at - datetime.fromisoformat(started_at))}",
        "kind": "background" if event["is_background"] else event["type"],
        "name": wording.clipped(event["name"]),
        "path": wording.clipped(event["path"]),
        "user": wording.clipped(event["user_id"], 200),
        "badges": badges,
        "properties": [
            (wording.clipped(key, 100), wording.clipped(_said(value), 200)) for key, value in plain[:_PROPERTIES_SHOWN]
        ],
        "raw": wording.clipped(raw, _LONGEST_RAW),
    }


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _midnight(text: str, later: timedelta = timedelta()) -> datetime | None:
    """The beginning of a UTC day out of a form. Raises UsageError for what is no day."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC) + later
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:40]!r} is no day: write one as 2026-01-31") from None


def _href(path: str, fields: Mapping[str, str | None]) -> str:
    kept = {name: value for name, value in fields.items() if value}
    return f"{path}?{urlencode(kept)}" if kept else path
