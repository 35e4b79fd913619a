"""Sessions as JSON: found a page at a time, and one with its events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import AwareDatetime

from service.web import sessions
from service.web.models import Problem, Session, Sessions, SessionWithEvents
from service.web.questions import Questions
from service.web.tables import ARROW, CSV, FormatParameter, TaggedRoute, as_file, form_of, table_of


def wanted_sessions(
    q: Annotated[
        str | None, Query(description="A session's id or its first letters, a user, device or person.")
    ] = None,
    device: Annotated[str | None, Query(description="Of this anonymous id only.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="That began then or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="That began before.")] = None,
    source: Annotated[str | None, Query(description="With this utm_source.")] = None,
    medium: Annotated[str | None, Query(description="With this utm_medium.")] = None,
    campaign: Annotated[str | None, Query(description="With this utm_campaign.")] = None,
    device_type: Annotated[str | None, Query(description="desktop, mobile, tablet, …")] = None,
    entry: Annotated[str | None, Query(description="That began on this path.")] = None,
    bots: Annotated[sessions.Bots, Query(description="Sessions of bots as well, none of them, or no others.")] = "with",
    only_open: Annotated[bool, Query(alias="open", description="Open ones only.")] = False,
) -> sessions.Wanted:
    """Which sessions a list is to have."""
    return sessions.Wanted(
        q, device, since, until, source, medium, campaign, device_type, entry, bots=bots, open=only_open
    )


def session_router(questions: Questions) -> APIRouter:
    """Routes that only read."""
    router = APIRouter(route_class=TaggedRoute)

    @router.get(
        "/api/sessions",
        tags=["sessions"],
        responses={200: {"model": Sessions, "content": {CSV: {}, ARROW: {}}, "description": "The sessions."}},
    )
    def list_sessions(
        request: Request,
        wanted: Annotated[sessions.Wanted, Depends(wanted_sessions)],
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        after: Annotated[str | None, Query(description="`next` of the page before.")] = None,
        asked: FormatParameter = None,
    ) -> Response:
        """The sessions that began last, newest first, open ones included; those that all conditions hold of.

        As CSV and Arrow a row each, and the next page in the header `Link`.
        """
        with questions.reading("the list of sessions") as con:
            found, following = sessions.find(con, wanted, limit, after)
        answer = Sessions.model_validate({"sessions": found, "next": following})
        form = form_of(request, asked)
        if form == "json":
            return Response(answer.model_dump_json(), media_type="application/json")
        file = as_file(table_of(Session, answer.sessions), form, "sessions")
        if following is not None:
            more = request.url.include_query_params(after=following)
            file.headers["Link"] = f'<{more.path}?{more.query}>; rel="next"'
        return file

    @router.get("/api/sessions/{session_id}", tags=["sessions"], responses={404: {"model": Problem}})
    def session(
        session_id: str,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
        skipped: Annotated[int, Query(ge=0, le=100_000_000, description="So many events are left out first.")] = 0,
    ) -> SessionWithEvents:
        """One session and its events, in order; and what late events made of it, and it of others."""
        with questions.reading("the session") as con:
            found = sessions.one(con, session_id)
            if found is None:
                raise HTTPException(404, sessions.why_not_there(con, session_id)[0])
            events, more = sessions.events(con, found, limit, skipped)
            changes = sessions.changes(con, session_id)
        answer = {"session": found, "events": events, "more": more, "changes": changes}
        return SessionWithEvents.model_validate(answer)

    return router
