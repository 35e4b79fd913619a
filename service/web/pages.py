"""The pages and their live stream: the overview at /, persons at /identity, the way in at /login."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, cast
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from markdown_it import MarkdownIt
from markupsafe import Markup

from batch_marts.anomalies.incidents import Deed
from funnels import FunnelDefinition
from service import forgetting, people
from service.web import health, incidents, readings, wording
from service.web.access import Access
from service.web.live import LiveFeed
from service.web.persons import read_person
from service.web.questions import Questions
from service.web.templating import Templates
from service.web.view import ServiceView
from service.web.visitors import COOKIE, visitor

_RUNBOOK: Final = Path(__file__).parents[2] / "docs" / "runbook.md"
_COOKIE_LIFE = timedelta(days=30)
_LONGEST_FORM = 4096

_CARDS: Final = 6
"""Watched funnels on cards, unless somebody chooses."""
_MOST_CARDS: Final = 24
"""They are counted one after the other, once a second: more would not be live any more."""
_WATCHED: Final = 1000
"""Names in an address."""

_DOCUMENTATION_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""dbt writes one page with its scripts and styles in it; it may not ask anybody else for anything."""


def page_router(
    view: ServiceView, feed: LiveFeed, access: Access, questions: Questions, render: Templates
) -> APIRouter:
    """The routes that browsers open."""
    router = APIRouter()

    def chosen(name: str | None) -> FunnelDefinition | None:
        definitions = view.funnels()
        if name is None:
            return definitions[0] if definitions else None
        for definition in definitions:
            if definition.name == name:
                return definition
        raise HTTPException(404, f"this service has no funnel named {wording.clipped(name, 100)}")

    def on_cards(names: list[str] | None, large: FunnelDefinition | None) -> list[FunnelDefinition]:
        """Those that are to be shown small: the named ones, or without any name the first few beside the large one."""
        if names is None:
            return [one for one in view.funnels() if one is not large][:_CARDS]
        # Names that are no more are left out: a link to the page outlives the definitions.
        return [one for one in view.funnels() if one.name in names][:_MOST_CARDS]

    def beside() -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """What the overview shows that does not change from second to second."""
        with questions.reading("the marts") as con:
            freshness = health.freshness(view, con)
        return freshness, incidents.rows(view.anomalies().listed("open"))

    @router.get("/health", response_class=HTMLResponse, include_in_schema=False)
    def whole_state() -> HTMLResponse:
        with questions.reading("the state") as con:
            told = health.told(view, con)
            compared = readings.read_reconciliation(con)["texts"]["verdict"]
        return render(
            "health.html",
            here="/health",
            told=told,
            partitions=told["partitions"],
            marts=told["marts"],
            services=_services(told, view.anomalies().troubles()),
            compared=f"{compared}.",
        )

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def overview(
        funnel: str | None = None, watch: Annotated[list[str] | None, Query(max_length=_WATCHED)] = None
    ) -> HTMLResponse:
        definition = chosen(funnel)
        cards = on_cards(watch, definition)
        found, readings_of = await feed.current(definition, cards)
        freshness, open_incidents = await run_in_threadpool(beside)
        return render(
            "overview.html",
            here="/",
            definition=definition,
            definitions=view.funnels(),
            parts=found,
            cards=[_card(one, readings_of.get(one.name), watch) for one in cards],
            watch=watch,
            live_of=urlencode({"funnel": definition.name, "watch": [one.name for one in cards]}, doseq=True)
            if definition is not None
            else "",
            marts=freshness,
            incidents=open_incidents,
        )

    @router.get("/identity", response_class=HTMLResponse, include_in_schema=False)
    def find(asked: Annotated[str, Query(alias="id")] = "") -> Response:
        asked = asked.strip()
        return (
            RedirectResponse(readings.person_href(asked), 303)
            if asked
            else render("identity.html", asked="", asked_id="", persons=[], problem="")
        )

    @router.get("/identity/{asked:path}", response_class=HTMLResponse, include_in_schema=False)
    def identity(asked: str) -> HTMLResponse:
        with questions.reading("the person") as con:
            found = [read_person(con, person) for person in people.show(con, view.rules(), asked)]
            problem = "" if found else forgetting.why_not_there(con, asked)
        status = 200 if found else 404
        return render("identity.html", status_code=status, asked=asked, asked_id=asked, persons=found, problem=problem)

    @router.get("/anomalies", response_class=HTMLResponse, include_in_schema=False)
    def anomalies() -> HTMLResponse:
        every = incidents.rows(view.anomalies().listed("all"))
        going_on = [row for row in every if row["ended_at"] is None]
        over = [row for row in every if row["ended_at"] is not None]
        return render(
            "anomalies.html", here="/anomalies", going_on=going_on, over=over, troubles=view.anomalies().troubles()
        )

    @router.get("/anomalies/{incident_id}", response_class=HTMLResponse, include_in_schema=False)
    def anomaly(incident_id: str) -> HTMLResponse:
        incident = view.anomalies().one(incident_id)
        return render(
            "anomaly.html",
            here="/anomalies",
            incident=incident,
            blocks=incidents.drawn(incident["message"]),
            story=incidents.story(incident),
            has_chart=incident["kind"] == "anomaly" and len(incident["metrics"]) == 1,
        )

    @router.post("/anomalies/{incident_id}", include_in_schema=False)
    async def act(incident_id: str, request: Request) -> Response:
        fields = parse_qs((await _short_body(request)).decode(errors="replace"))
        deed, signed = (fields.get(name, [""])[0].strip() for name in ("deed", "actor"))
        actor = visitor().name or signed
        if deed not in ("acknowledge", "snooze", "not_anomaly") or not actor:
            raise HTTPException(422, "say who you are, and what is to be done")
        await run_in_threadpool(view.anomalies().act, incident_id, cast(Deed, deed), actor[:100], f"page-{uuid4().hex}")
        return RedirectResponse(f"/anomalies/{incident_id}", 303)

    @router.get("/runbook", response_class=HTMLResponse, include_in_schema=False)
    def runbook() -> HTMLResponse:
        if not _RUNBOOK.exists():
            raise HTTPException(404, "the runbook is docs/runbook.md in Stitchline's repository")
        text = MarkdownIt("commonmark", {"html": True}).enable("table").render(_RUNBOOK.read_text(encoding="utf-8"))
        return render("runbook.html", text=Markup(text))

    @router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def documentation() -> FileResponse:
        page = view.marts().documentation
        if not page.exists():
            raise HTTPException(404, "the marts have no documentation yet: `stitchline marts refresh` builds both")
        return FileResponse(page, headers={"Content-Security-Policy": _DOCUMENTATION_POLICY})

    @router.get(
        "/api/live",
        tags=["flow"],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}},
    )
    async def live(
        funnel: Annotated[str | None, Query(description="Name of a funnel; else the first.")] = None,
        watch: Annotated[
            list[str] | None, Query(description="Names of more funnels, told as `card`.", max_length=_WATCHED)
        ] = None,
    ) -> Response:
        """The numbers of the page as they change, once a second or so."""
        definition = chosen(funnel)
        stream = feed.stream(definition, on_cards(watch or [], definition))
        return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @router.get("/login", response_class=HTMLResponse, include_in_schema=False)
    async def login(request: Request, token: str | None = None) -> Response:
        return _let_in(request, token)

    @router.post("/login", response_class=HTMLResponse, include_in_schema=False)
    async def login_by_form(request: Request) -> Response:
        fields = parse_qs((await _short_body(request)).decode(errors="replace"))
        return _let_in(request, fields.get("token", [""])[0])

    def _let_in(request: Request, token: str | None) -> Response:
        if not access.tokens:
            return RedirectResponse("/", 303)
        if token is None:
            return render("login.html", wrong=False)
        if access.tokens.holder(token) is None:
            return render("login.html", status_code=401, wrong=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            access.tokens.cookie_for(token),
            max_age=int(_COOKIE_LIFE.total_seconds()),
            httponly=True,
            samesite="lax",
            secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
        )
        return answer

    @router.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> RedirectResponse:
        return RedirectResponse("/static/favicon.svg", 301)

    return router


_SAYS: Final = {"answers": ("running", "answers"), "silent": ("waiting", "does not answer"),
                "waited for": ("stopped", "is away, and the flow waits for it")}  # fmt: skip


def _services(told: dict[str, Any], troubles: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The parts of the service, each with a status to mark it by and what it says."""
    names = {"kafka": "Kafka", "redis": "Redis", "warehouse": "Warehouse"}
    rate = f"{wording.rate(told['events_per_second'])} events per second"
    behind = "nothing is waiting"
    if told["lag_records"]:
        waited = wording.span(timedelta(seconds=told["lag_seconds"]))
        behind = f"{wording.counted(told['lag_records'], 'record')} behind, {waited}"
    found = [{"name": "Flow", "status": told["status"], "says": f"{told['status']}, {rate}, {behind}"}]
    for key, name in names.items():
        status, says = _SAYS[told["services"][key]]
        size = told["warehouse_size"]
        more = f", {size['database_size']} and {size['wal_size']} to be written into it" if key == "warehouse" else ""
        found.append({"name": name, "status": status, "says": says + more})
    if troubles:
        says = f"{wording.clipped(troubles[0]['error'], 200)} ({troubles[0]['channel']})"
        found.append({"name": "Slack", "status": "waiting", "says": says})
    return found


def _card(definition: FunnelDefinition, reading: readings.Reading | None, watch: list[str] | None) -> dict[str, Any]:
    """A watched funnel as the overview shows it small."""
    asked = {"funnel": definition.name, **({} if watch is None else {"watch": watch})}
    names = readings.step_names(definition)
    return {
        "name": definition.name,
        "href": f"/?{urlencode(asked, doseq=True)}",
        "steps": names,
        "reading": reading,
        "bars": reading["bars"] if reading else [{"went_on": 0, "open": 0, "dropped": 0}] * len(names),
    }


async def _short_body(request: Request) -> bytes:
    if int(request.headers.get("content-length") or 0) > _LONGEST_FORM:
        raise HTTPException(413, "that is too long for this form")
    return await request.body()
