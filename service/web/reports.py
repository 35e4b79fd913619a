"""Questions behind and beside a funnel: its people, what those who dropped out did next, trends and retention."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from funnels import FunnelDefinition
from funnels.people import Behind, State, funnel_people, next_events
from funnels.retention import RetentionDefinition, RetentionResult, run_retention
from funnels.trends import TrendDefinition, TrendResult, run_trend
from service.web.funnels import people_table
from service.web.questions import Questions
from service.web.tables import ARROW, CSV, FormatParameter, as_file, form_of


class PeopleQuestion(BaseModel):
    """Which number of which funnel."""

    definition: FunnelDefinition
    step: int = Field(ge=0, description="Counted from 0.")
    state: State = Field(default="reached", description="Of those who reached the step, all, or what became of them.")
    limit: int = Field(default=100, ge=1, le=100_000)
    after: str | None = Field(default=None, description="`after` of the page before.")


class Person(BaseModel):
    """A subject of the funnel: a person, a session or a device."""

    subject: str
    entered_at: datetime = Field(description="When its entry's first event was.")
    reached_at: datetime = Field(description="When it reached the step.")


class People(BaseModel):
    people: list[Person] = Field(description="In the order in which they entered.")
    after: str | None = Field(description="What to ask for to get those who come next; null if these are the last.")


class NextQuestion(BaseModel):
    """At which step of which funnel people dropped out."""

    definition: FunnelDefinition
    step: int = Field(ge=0, description="Counted from 0.")
    limit: int = Field(default=20, ge=1, le=1000)


class Next(BaseModel):
    event: str = Field(description="(nothing) of those of whom no later event is known.")
    entries: int = Field(description="How many did this first after the last step that they reached.")


def reports_router(questions: Questions) -> APIRouter:
    """Routes that only read."""
    router = APIRouter(tags=["funnels"])

    @router.post(
        "/api/funnel/people",
        responses={200: {"model": People, "content": {CSV: {}, ARROW: {}}}},
    )
    def people(asked: PeopleQuestion, request: Request, form: FormatParameter = None) -> Response:
        """Who is behind a number of a funnel: as JSON, or a row for each as CSV or Arrow."""
        with questions.reading("the people of the funnel") as con:
            page = funnel_people(con, asked.definition, asked.step, asked.state, limit=asked.limit, after=asked.after)
        wanted = form_of(request, form)
        if wanted != "json":
            return as_file(people_table(page), wanted, "people")
        found = People(people=[Person(**_told(one)) for one in page.people], after=page.after)
        return Response(found.model_dump_json(), media_type="application/json")

    @router.post("/api/funnel/next")
    def next_of_dropped(asked: NextQuestion) -> list[Next]:
        """What those did next who dropped out at a step, the most frequent first."""
        with questions.reading("what people did next") as con:
            found = next_events(con, asked.definition, asked.step, limit=asked.limit)
        return [Next(event=one.event, entries=one.entries) for one in found]

    @router.post("/api/trend")
    def trend(definition: TrendDefinition) -> TrendResult:
        """How often events happened, or how many people did them, by hour, day or week."""
        with questions.reading("the trend") as con:
            return run_trend(con, definition)

    @router.post("/api/retention")
    def retention(definition: RetentionDefinition) -> RetentionResult:
        """How many of those who began in a period came back in each one after it."""
        with questions.reading("the retention") as con:
            return run_retention(con, definition)

    return router


def _told(one: Behind) -> dict[str, object]:
    return {"subject": one.subject, "entered_at": one.entered_at, "reached_at": one.reached_at}
