"""The page on which a funnel is built: /funnels, whose address holds the definition, so that a link shows the same."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import pyarrow as pa
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from funnels import FunnelDefinition, FunnelResult, load_definition
from funnels.as_sql import funnel_sql
from funnels.people import State, funnel_people, next_events
from service.web import funnels, vocabulary, wording
from service.web.questions import Questions
from service.web.shared import Shared
from service.web.tables import ARROW, CSV, FormatParameter, TaggedRoute, as_file, form_of
from service.web.templating import Templates
from service.web.view import ServiceView
from stitchline.errors import DefinitionError

_PATIENCE: Final = timedelta(milliseconds=150)
"""A page waits so long for its answer; one that takes longer comes after the page."""

_LONGEST: Final = 100_000
_PEOPLE_ON_A_PAGE: Final = 100
_PEOPLE_IN_A_FILE: Final = 100_000

DefinitionText = Annotated[
    str, Query(alias="definition", description="A funnel definition, JSON.", max_length=_LONGEST)
]


def funnel_pages(view: ServiceView, questions: Questions, render: Templates) -> APIRouter:
    """The routes that browsers open, and the downloads."""
    router = APIRouter(route_class=TaggedRoute)

    def answered(text: str) -> tuple[FunnelDefinition, FunnelResult]:
        definition = load_definition(text)
        with questions.reading("the funnel") as con:
            return definition, view.ask_funnel(con, definition)

    shared = Shared(answered)

    @router.get("/funnels", response_class=HTMLResponse, include_in_schema=False)
    def builder(
        text: Annotated[str, Query(alias="definition", max_length=_LONGEST)] = "",
        funnel: str = "",
        wait: bool = False,
    ) -> HTMLResponse:
        saved = list(view.funnels())
        if not text and funnel:
            text = next((_text(one) for one in saved if one.name == funnel), "")
            if not text:
                raise HTTPException(404, f"this service has no funnel named {wording.clipped(funnel, 100)}")
        if not text:
            with questions.reading("the events") as con:
                seen = vocabulary.events(con, "", 1)
            first = json.dumps({"steps": [{"event": seen[0]["name"]}]}) if seen else ""
            text = _text(saved[0]) if saved and seen else first
        problem, found, name, status = "", None, "", 200
        if text:
            try:
                name, text = load_definition(text).name, _text(load_definition(text))
                answer = shared.ask(text, None if wait else _PATIENCE)
                found = None if answer is None else funnels.shown(*answer)
            except DefinitionError as error:
                problem, status = str(error), 422
        return render(
            "funnels.html",
            status_code=status,
            here="/funnels",
            text=text,
            funnel_name=name,
            problem=problem,
            found=found,
            asked=urlencode({"definition": text}),
            counting=bool(text) and found is None and not problem,
            saved=[
                {"name": one.name, "href": f"/funnels?{urlencode({'funnel': one.name})}", "current": one.name == name}
                for one in saved
            ],
        )

    @router.get("/funnels/result", response_class=HTMLResponse, include_in_schema=False)
    def part(text: DefinitionText) -> HTMLResponse:
        try:
            text = _text(load_definition(text))
        except DefinitionError as error:  # as it may be while somebody builds one
            return render("funnel_result.html", found=None, asked="", problem=str(error), counting=False)
        answer = shared.ask(text)
        assert answer is not None
        asked = urlencode({"definition": text})
        return render("funnel_result.html", found=funnels.shown(*answer), asked=asked, problem="", counting=False)

    @router.get("/funnels/people", response_class=HTMLResponse, include_in_schema=False)
    def people(
        text: DefinitionText,
        step: Annotated[int, Query(ge=0, description="Counted from 0.")],
        state: State = "reached",
        after: str | None = None,
        form: Annotated[Literal["html", "csv"], Query(alias="format")] = "html",
    ) -> Response:
        definition = load_definition(text)
        limit = _PEOPLE_ON_A_PAGE if form == "html" else _PEOPLE_IN_A_FILE
        with questions.reading("the people of the funnel") as con:
            page = funnel_people(con, definition, step, state, limit=limit, after=after)
            following = next_events(con, definition, step) if state == "dropped" and form == "html" else []
        if form == "csv":
            return as_file(funnels.people_table(page), "csv", "people")
        asked = {"definition": _text(definition), "step": step, "state": state}
        return render(
            "funnel_people.html",
            here="/funnels",
            funnel_name=definition.name,
            title=funnels.who(definition, step, state),
            people=[funnels.behind(definition, one) for one in page.people],
            following=following,
            most=max((one.entries for one in following), default=1),
            back=f"/funnels?{urlencode({'definition': _text(definition)})}",
            csv=f"/funnels/people?{urlencode(asked | {'format': 'csv'})}",
            newest=f"/funnels/people?{urlencode(asked)}",
            after=after,
            more=f"/funnels/people?{urlencode(asked | {'after': page.after})}" if page.after else None,
        )

    @router.get(
        "/api/funnel",
        tags=["funnels"],
        responses={
            200: {"model": FunnelResult, "content": {CSV: {}, ARROW: {}}, "description": "The answer."},
        },
    )
    def answer(request: Request, text: DefinitionText, asked: FormatParameter = None) -> Response:
        """The answer to the definition in the address: as JSON, or a row for each value and step as CSV or Arrow."""
        _, result = answered(text)
        form = form_of(request, asked)
        if form == "json":
            return Response(result.model_dump_json(), media_type="application/json")
        table = pa.Table.from_pylist(funnels.csv_rows(result)).select(list(funnels.CSV_COLUMNS))
        return as_file(table, form, "funnel")

    @router.get(
        "/api/funnel/sql",
        tags=["funnels"],
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {}}, "description": "One statement that only reads."}},
    )
    def statement(text: DefinitionText) -> PlainTextResponse:
        """The funnel of the definition in the address as one SQL statement, which counts the same.

        It runs here (`/api/sql`, `stitchline sql`) and in DuckDB over a backup. What SQL cannot say is refused.
        """
        return PlainTextResponse(funnel_sql(load_definition(text)))

    @router.get(
        "/api/funnel.png",
        tags=["funnels"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def picture(text: DefinitionText) -> Response:
        """The funnel of the definition in the address, as a picture to paste."""
        definition, result = answered(text)
        headers = {"Content-Disposition": 'inline; filename="funnel.png"'}
        return Response(funnels.picture(definition, result), media_type="image/png", headers=headers)

    return router


def _text(definition: FunnelDefinition) -> str:
    """The definition as people write it: what is as it is without being said is left out."""
    told: dict[str, Any] = definition.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"name": definition.name, **told}, ensure_ascii=False)
