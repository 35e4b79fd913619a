"""The JSON API: what the page shows and what the command line asks of a running service."""

from __future__ import annotations

import hmac
import json
from base64 import b64decode
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from flows.reconcile import Reconciliation
from funnels import FunnelDefinition, FunnelResult, load_definition
from identity.rebuild import Judged
from service import experiments, forgetting, people
from service.web import health, readings, vocabulary
from service.web.change_api import marts_in, saw
from service.web.metrics import Metrics
from service.web.models import (
    KEY_HEADER,
    PICTURE,
    BackupQuestion,
    ChannelToTest,
    DeadLetters,
    Health,
    IncidentAct,
    PartitionAnswer,
    PersonChange,
    PersonToForget,
    Problem,
    Readiness,
    ReconcileQuestion,
    RefreshQuestion,
    RollbackQuestion,
    SpendFiles,
    SqlQuestion,
    State,
    Totals,
    UploadedFile,
)
from service.web.questions import Questions
from service.web.reports import reports_router
from service.web.rows import query_rows
from service.web.session_api import session_router
from service.web.statement import read_rows, read_table
from service.web.tables import ANSWERS, ARROW, CSV, FormatParameter, TaggedRoute, as_file, form_of
from service.web.view import ServiceView
from service.web.visitors import for_operators, visitor
from sinks.backups import Manifest

FUNNEL_PATH = "/api/funnel"

OwnersKey = Annotated[str, Header(alias=KEY_HEADER, description="The owner's key.")]

_DEAD_LETTERS = """
select topic, "partition", "offset", reason, detail, key, raw[1:4096] as head, octet_length(raw) as size,
    case when $raw then raw end as raw, kafka_at, dead_at
from stream.dead_letters
where $reason is null or reason = $reason
order by dead_at desc, topic, "partition", "offset" desc
limit $limit
"""


def api_router(view: ServiceView, questions: Questions, *, key: str | None = None) -> APIRouter:
    """The routes under /api and /health, and /metrics. What writes files or
    cannot be undone is for those who know the `key`, if there is one."""
    router = APIRouter(route_class=TaggedRoute)
    router.include_router(reports_router(questions))
    router.include_router(session_router(questions))
    metrics = Metrics(view)

    def for_the_owner(shown: str, command: str) -> None:
        if key is not None and not hmac.compare_digest(shown.encode(), key.encode()):
            raise HTTPException(403, f"only the service's own user may do that: use `{command}`")

    @router.post(FUNNEL_PATH, tags=["funnels"])
    def funnel(definition: FunnelDefinition, text: Annotated[str, Depends(body_text)]) -> FunnelResult:
        """How many came how far through a funnel, with conversion, drop-out and times."""
        # `definition` is for the OpenAPI document: the text is read again by the rules that files are read by.
        with questions.reading("the funnel") as con:
            return view.ask_funnel(con, load_definition(text))

    @router.get("/api/funnels", tags=["funnels"])
    def funnels() -> list[FunnelDefinition]:
        """The named definitions that this service shows on its page."""
        return list(view.funnels())

    @router.get("/api/events", tags=["funnels"])
    def event_names(
        q: Annotated[str, Query(description="A part of the name.", max_length=500)] = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
    ) -> list[dict[str, Any]]:
        """The events that were seen in the last 30 days, the most frequent first, with their counts; without bots."""
        with questions.reading("the events") as con:
            return vocabulary.events(con, q, limit)

    @router.get("/api/events/fields", tags=["funnels"])
    def event_fields(
        event: Annotated[str, Query(description="Its name.")], limit: Annotated[int, Query(ge=1, le=10_000)] = 200
    ) -> dict[str, Any]:
        """What can be asked of an event: its properties and columns, each with how many of a sample have it."""
        with questions.reading("the event's fields") as con:
            return vocabulary.properties(con, event, limit)

    @router.get("/api/events/values", tags=["funnels"])
    def event_values(
        event: Annotated[str, Query(description="Its name.")],
        field: Annotated[str, Query(description="As in a funnel definition: properties.plan.")],
        q: Annotated[str, Query(description="A part of the value.", max_length=500)] = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
    ) -> dict[str, Any]:
        """The values of a field of an event, the most frequent first, with their counts in a sample."""
        with questions.reading("the field's values") as con:
            return vocabulary.values(con, event, field, q, limit)

    @router.post(
        "/api/sql",
        tags=["sql"],
        responses={
            200: {
                "model": list[dict[str, Any]],
                "content": {CSV: {}, ARROW: {}},
                "description": "One object a row; or the table, in the form that was asked for.",
            }
        },
    )
    def sql(question: SqlQuestion, request: Request, wanted: FormatParameter = None) -> Response:
        """Runs one statement that only reads the warehouse, and answers all its rows.

        As JSON, times are ISO 8601 UTC, blobs base64. An answer of more than 100,000 rows is refused, never cut; as CSV
        or Arrow, one of more than a million.
        """
        form = form_of(request, wanted)
        with questions.seat() as con:
            if form != "json":
                answer = as_file(read_table(con, question.sql, timeout=questions.timeout)[0], form, "answer")
            else:
                rows = read_rows(con, question.sql, timeout=questions.timeout)
                answer = Response(json.dumps(rows), media_type="application/json")
        saw(request.app.state.reads, request.headers, marts_in(question.sql))
        return answer

    @router.post("/api/reconcile", tags=["flow"])
    def reconcile(asked: ReconcileQuestion) -> Reconciliation:
        """Compares the stream's sessions with what the batch definition makes of the stored events, row for row.

        With `repair`, sessions that differ are rewritten, while the flow waits; that is for operators.
        """
        if asked.repair:
            for_operators("repairing sessions")
        return view.reconcile(asked.since, mend=asked.repair)

    @router.post("/api/backup", tags=["flow"])
    def backup(asked: BackupQuestion, shown: OwnersKey = "") -> Manifest:
        """Copies the warehouse, as it is committed now, into a folder on the service's machine. The flow goes on.

        For the user alone that the service runs as, who can read the key in the file beside the warehouse.
        """
        for_the_owner(shown, "stitchline backup")
        return view.back_up(Path(asked.directory))

    @router.get("/api/identity", tags=["identity"], responses={404: {"model": Problem}})
    def identity(
        asked: Annotated[str, Query(alias="id", description="A user id, an anonymous id, or a person_id.")],
    ) -> dict[str, Any]:
        """The persons behind an id: their devices, who had each when, and the messages that say so."""
        with questions.reading("the persons") as con:
            persons = people.show(con, view.rules(), asked)
            if not persons:
                raise HTTPException(404, forgetting.why_not_there(con, asked))
        return {"id": asked, "persons": persons}

    @router.get("/api/identity/refused", tags=["identity"])
    def refused(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        """What the rules do not link, the most frequent first: refused ids, shared devices, held links."""
        with questions.reading("the verdicts") as con:
            return query_rows(con, people.REFUSED, {"limit": limit})

    @router.get("/api/identity/audit", tags=["identity"])
    def audit(limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> dict[str, list[dict[str, Any]]]:
        """The users with the most devices, and the devices with the most users."""
        with questions.reading("the audit") as con:
            return {
                "users": query_rows(con, people.MOST_CLAIMED, {"limit": limit}),
                "devices": query_rows(con, people.MOST_SHARED, {"limit": limit}),
            }

    @router.post("/api/identity/change", tags=["identity"])
    def change_persons(asked: PersonChange) -> dict[str, Any]:
        """Merges two persons, or takes that back. It shows at once, and is kept in the ledger.

        Whom a proxy logged in is the `actor`, whatever is sent.
        """
        return view.change_persons(asked.model_copy(update={"actor": visitor().name or asked.actor}))

    @router.post("/api/identity/rebuild", tags=["identity"])
    def rebuild() -> Judged:
        """Judges all facts anew, by the rules that are set: shared devices, held links, whose stored events are.

        The flow stands still meanwhile, and fills Redis again.
        """
        return view.rebuild()

    @router.post("/api/identity/forget", tags=["identity"])
    def forget_person(asked: PersonToForget, shown: OwnersKey = "") -> dict[str, Any]:
        """Removes all that is stored of a person, for good, and says what that was and what is left elsewhere.

        The flow stands still meanwhile, and the warehouse's file is written anew. For the user alone that the service
        runs as, who can read the key in the file beside the warehouse.
        """
        for_the_owner(shown, "stitchline identity forget")
        return view.forget(asked.model_copy(update={"actor": visitor().name or asked.actor}))

    @router.get("/api/marts", tags=["marts"])
    def marts() -> dict[str, Any]:
        """Which build of the marts everybody reads, how old it is, and whether another one is being made."""
        return view.marts().status()

    @router.get("/api/marts/history", tags=["marts"])
    def marts_history() -> list[dict[str, Any]]:
        """Every build of the marts, the newest first, with what failed."""
        return view.marts().history()

    @router.post("/api/marts/refresh", tags=["marts"])
    def refresh_marts(asked: RefreshQuestion, shown: OwnersKey = "") -> dict[str, Any]:
        """Builds the marts apart, runs every test, and publishes them if all pass.

        Whoever reads meanwhile sees the last ones. For the user alone that the service runs as.
        """
        for_the_owner(shown, "stitchline marts refresh")
        told = view.marts().refresh(full=asked.full, because=asked.because, by=visitor().name or asked.by)
        view.anomalies().send_if_alone()
        return told

    @router.post("/api/marts/rollback", tags=["marts"])
    def roll_back_marts(asked: RollbackQuestion, shown: OwnersKey = "") -> dict[str, Any]:
        """Publishes an earlier build of the marts again. For the user alone that the service runs as."""
        for_the_owner(shown, "stitchline marts rollback")
        return view.marts().roll_back(asked.build_id)

    @router.post("/api/spend/files", tags=["spend"])
    def load_spend(asked: SpendFiles, shown: OwnersKey = "") -> list[dict[str, Any]]:
        """Loads exports of advertising platforms, and says of each what became of it: loaded, already loaded, or
        refused, with the line and the reason.

        They replace what is there of the same campaigns and days. For the user alone that the service runs as, who
        can read the key in the file beside the warehouse.
        """
        for_the_owner(shown, "stitchline spend load")
        return view.load_spend(asked)

    @router.post("/api/spend/rates", tags=["spend"])
    def load_rates(asked: UploadedFile, shown: OwnersKey = "") -> dict[str, Any]:
        """Loads rates of currencies, a CSV file of rate_date, currency and usd, and says what became of it.

        They replace those of the same days. For the user alone that the service runs as.
        """
        for_the_owner(shown, "stitchline spend rates")
        return view.load_rates(asked)

    @router.get("/api/experiments", tags=["experiments"], responses=ANSWERS | {404: {"model": Problem}})
    def experiment_results(
        request: Request,
        asked: Annotated[str | None, Query(alias="id", description="This experiment alone.")] = None,
        wanted: FormatParameter = None,
    ) -> Response:
        """How the experiments stand now: the rows that `mart_experiment_results` would have."""
        known = view.experiments()
        chosen = [experiment for experiment in known if asked in (None, experiment.id)]
        if asked is not None and not chosen:
            names = ", ".join(experiment.id for experiment in known) or "none"
            raise HTTPException(404, f"there is no experiment {asked[:100]!r}. Defined are: {names}")
        form = form_of(request, wanted)
        with questions.reading("the experiments") as con:
            if form != "json":
                return as_file(experiments.results_table(con, chosen), form, "experiments")
            return Response(json.dumps(experiments.results(con, chosen)), media_type="application/json")

    @router.get("/api/anomalies", tags=["anomalies"])
    def incidents(
        every: Annotated[bool, Query(alias="all", description="Those that are over as well.")] = False,
    ) -> list[dict[str, Any]]:
        """What is out of range, the last one first."""
        return view.anomalies().listed("all" if every else "open")

    @router.get("/api/anomalies/backtest", tags=["anomalies"])
    def backtest(
        metric: str,
        since: Annotated[date, Query(alias="from", description="The first UTC day.")],
        until: Annotated[date, Query(alias="to", description="The last UTC day.")],
        segment: Annotated[str, Query(description="'all' or dimension=value.")] = "all",
    ) -> dict[str, Any]:
        """What would have fired of a metric under other settings, and the settings that its past asks for."""
        return view.anomalies().backtest(metric, since, until, segment)

    @router.get("/api/anomalies/backtest.png", tags=["anomalies"], response_class=Response, responses=PICTURE)
    def backtest_picture(
        metric: str,
        since: Annotated[date, Query(alias="from")],
        until: Annotated[date, Query(alias="to")],
        segment: str = "all",
    ) -> Response:
        """The same days as a chart, by the metric's own settings."""
        return _picture(view.anomalies().backtest_picture(metric, since, until, segment))

    @router.get("/api/anomalies/{incident_id}", tags=["anomalies"])
    def incident(incident_id: str) -> dict[str, Any]:
        """One incident: the values that it is made of, what became of it, and its message."""
        return view.anomalies().one(incident_id)

    @router.get(
        "/api/anomalies/{incident_id}/chart.png", tags=["anomalies"], response_class=Response, responses=PICTURE
    )
    def picture(incident_id: str) -> Response:
        """Its values, the range that they were expected in, and those that are out of it."""
        return _picture(view.anomalies().picture(incident_id))

    @router.post("/api/anomalies/check", tags=["anomalies"])
    def check_anomalies() -> dict[str, Any]:
        """Judges all that can be judged now, and says what changed and what is open."""
        return view.anomalies().check()

    @router.post("/api/anomalies/test", tags=["anomalies"])
    def test_channel(asked: ChannelToTest, shown: OwnersKey = "") -> dict[str, Any]:
        """Posts a sample to a channel. For the user alone that the service runs as."""
        for_the_owner(shown, "stitchline anomalies test")
        return view.anomalies().test(asked.channel)

    @router.post("/api/anomalies/{incident_id}", tags=["anomalies"])
    def act_on_incident(incident_id: str, asked: IncidentAct) -> dict[str, Any]:
        """Acknowledges, snoozes or dismisses an incident. Whom a proxy logged in is the `actor`, whatever is sent."""
        return view.anomalies().act(incident_id, asked.deed, visitor().name or asked.actor, f"page-{uuid4().hex}")

    @router.post("/slack/actions", include_in_schema=False)
    async def slack_actions(request: Request) -> Response:
        """Buttons, as Slack sends them; it shows no token, but signs."""
        body = await request.body()
        await run_in_threadpool(view.anomalies().from_slack, body, dict(request.headers))
        return Response()

    @router.get("/api/dead-letters", tags=["flow"])
    def dead_letters(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        reason: Annotated[str | None, Query(description="With this reason only.")] = None,
        raw: Annotated[bool, Query(description="With the whole record, in base64.")] = False,
    ) -> DeadLetters:
        """Records that are no acceptable events, with why and what they held."""
        with questions.reading("the list of dead letters") as con:
            counts = {row["reason"]: row["letters"] for row in query_rows(con, health.DEAD_BY_REASON)}
            found = query_rows(con, _DEAD_LETTERS, {"limit": limit, "reason": reason, "raw": raw})
        letters = [
            row | {"key": _text(row["key"]), "text": _text(row["head"]), "raw_base64": row["raw"]} for row in found
        ]
        return DeadLetters.model_validate({"total": sum(counts.values()), "by_reason": counts, "dead_letters": letters})

    @router.get("/api/state", tags=["flow"])
    def state() -> State:
        """What the flow is doing, how far behind it is, and all that it has counted."""
        now = view.flow_state()
        with questions.reading("the totals") as con:
            totals = Totals.model_validate(readings.totals(con))
        return State(
            status=now.status,
            detail=now.detail,
            events_per_second=now.events_per_second,
            lag_records=now.lag_records,
            lag_seconds=now.lag.total_seconds(),
            partitions=[PartitionAnswer.model_validate(place, from_attributes=True) for place in now.partitions],
            totals=totals,
        )

    @router.get("/api/health", tags=["health"])
    def whole_state() -> dict[str, Any]:
        """How the service stands: the flow, what it needs, its partitions and records, the marts."""
        with questions.reading("the state") as con:
            return health.told(view, con)

    @router.get("/api/overview", tags=["health"])
    def overview() -> dict[str, Any]:
        """Events and sessions of the last 24 hours and of the same a week before, what is out of range, and up to when
        each mart reaches (null if none is published)."""
        with questions.reading("the overview") as con:
            now = health.pulse(con, datetime.now(UTC))
            marts = health.freshness(view, con)
        return {"last_24_hours": now, "open_anomalies": view.anomalies().listed("open"), "marts": marts}

    @router.get("/health/live", tags=["health"])
    async def live() -> Health:
        """Whether the process answers; needs no token."""
        return Health(status="alive")

    @router.get("/health/ready", tags=["health"], responses={503: {"model": Readiness, "description": "Not ready."}})
    async def ready(response: Response) -> Readiness:
        """Whether the flow runs and Kafka and Redis answer, and else why not; needs no token.

        From memory, so that it answers at once whatever is away.
        """
        reasons = view.flow_state().why_not_ready()
        if reasons:
            response.status_code = 503
        return Readiness(status="not ready" if reasons else "ready", reasons=reasons)

    @router.get(
        "/metrics",
        tags=["health"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format, or OpenMetrics."}},
    )
    def prometheus(request: Request) -> Response:
        """What the flow did and how it stands, for Prometheus."""
        text, media_type = metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type})

    return router


async def body_text(request: Request) -> str:
    """The request's body, as it was sent."""
    return (await request.body()).decode(errors="replace")


def _picture(image: bytes | None) -> Response:
    if image is None:
        raise HTTPException(404, "there is nothing to draw")
    return Response(image, media_type="image/png")


def _text(base64_blob: str | None) -> str | None:
    """The bytes as text, for people."""
    return None if base64_blob is None else b64decode(base64_blob).decode(errors="replace")
