"""Two more reports on the funnels' engine: /trends, how often something happens; /retention, who comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import duckdb
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ValidationError

from funnels.query import known_until
from funnels.retention import RetentionDefinition, RetentionResult, run_retention
from funnels.trends import TrendDefinition, TrendResult, run_trend
from service.web import drawing, readings, vocabulary, wording
from service.web.questions import Questions
from service.web.templating import Templates
from stitchline.definitions import problems
from stitchline.errors import DefinitionError

_EVENTS_OFFERED: Final = 100
_LONGEST_OFFERED: Final = 200
_LINES: Final = 8
"""That are drawn; the table has all."""
_SINCE: Final = timedelta(days=27)
"""Before the last day that is known, unless somebody says."""
_COHORTS_SINCE: Final = timedelta(days=55)
_PERIODS_IN_TABLE: Final = 200

Definition = TypeVar("Definition", bound=BaseModel)


def report_pages(questions: Questions, render: Templates) -> APIRouter:
    """The routes that browsers open."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/trends")
    def trends(
        event: str = "",
        measure: str = "events",
        by: str = "person",
        interval: str = "day",
        breakdown: str = "",
        since: str = "",
        until: str = "",
    ) -> HTMLResponse:
        problem, found = "", None
        with questions.reading("the trend") as con:
            offered = _offered(con)
            event = event or (offered[0] if offered else "")
            since = since or _day(con, _SINCE)
            told: dict[str, Any] = {"events": [{"event": event}], "measure": measure, "by": by, "interval": interval,
                                    "breakdown": breakdown or None, "since": since, "until": until or None}  # fmt: skip
            if event:
                try:
                    found = _trend(run_trend(con, _checked(TrendDefinition, told)))
                except DefinitionError as error:
                    problem = str(error)
        asked = {"event": event, "measure": measure, "by": by, "interval": interval, "breakdown": breakdown,
                 "since": since, "until": until}  # fmt: skip
        return render("trends.html", here="/funnels", asked=asked, offered=offered, found=found, problem=problem,
                      address=f"/trends?{urlencode({k: v for k, v in asked.items() if v})}",
                      status_code=422 if problem else 200)  # fmt: skip

    @router.get("/retention")
    def retention(
        start: str = "", back: str = "", by: str = "person", interval: str = "week", since: str = "", until: str = ""
    ) -> HTMLResponse:
        problem, found = "", None
        with questions.reading("the retention") as con:
            offered = _offered(con)
            start = start or (offered[0] if offered else "")
            back = back or start
            since = since or _day(con, _COHORTS_SINCE)
            told: dict[str, Any] = {"start": {"event": start}, "back": {"event": back}, "by": by, "interval": interval,
                                    "since": since, "until": until or None}  # fmt: skip
            if start:
                try:
                    found = _cohorts(run_retention(con, _checked(RetentionDefinition, told)))
                except DefinitionError as error:
                    problem = str(error)
        asked = {"start": start, "back": back, "by": by, "interval": interval, "since": since, "until": until}
        return render("retention.html", here="/funnels", asked=asked, offered=offered, found=found, problem=problem,
                      status_code=422 if problem else 200)  # fmt: skip

    return router


def _offered(con: duckdb.DuckDBPyConnection) -> list[str]:
    names = [row["name"] for row in vocabulary.events(con, "", _EVENTS_OFFERED)]
    return [name for name in names if len(name) <= _LONGEST_OFFERED]


def _day(con: duckdb.DuckDBPyConnection, before: timedelta) -> str:
    """The day so long before the last that is known."""
    return f"{(known_until(con) or datetime.now(UTC)) - before:%Y-%m-%d}"


def _checked(model: type[Definition], told: dict[str, Any]) -> Definition:
    try:
        return model.model_validate(told)
    except ValidationError as error:
        found = problems(error, model.model_fields, "a JSON object: write one in braces")
        raise DefinitionError("; ".join(f"{field}: {what}" for field, what in found), field=found[0][0]) from error


def _trend(result: TrendResult) -> dict[str, Any]:
    """What the template draws: the greatest series as lines on one scale, all of them as a table."""
    shown = result.series[:_LINES]
    paths = drawing.lines([series.counts for series in shown], 960, 220)
    return {
        "as_of": None if result.as_of is None else readings.iso_utc(result.as_of),
        "most": wording.number(max((count for series in shown for count in series.counts), default=0)),
        "first": readings.iso_utc(result.periods[0]) if result.periods else None,
        "last": readings.iso_utc(result.periods[-1]) if result.periods else None,
        "series": [
            {
                "name": wording.clipped(series.event if series.value is None else series.value, 200),
                "total": wording.number(series.total),
                "last": wording.number(series.counts[-1] if series.counts else None),
                "path": paths[at] if at < len(paths) else None,
            }
            for at, series in enumerate(result.series[:_PERIODS_IN_TABLE])
        ],
        "rows": [
            (readings.iso_utc(period), [wording.number(series.counts[at]) for series in shown])
            for at, period in list(enumerate(result.periods))[-_PERIODS_IN_TABLE:]
        ],
        "empty": not any(series.total for series in result.series),
    }


def _cohorts(result: RetentionResult) -> dict[str, Any]:
    """What the template draws: of each cohort its size, and how much of it came back, shaded by tenths."""
    rows = []
    for cohort in result.cohorts:
        cells = [
            None
            if count is None or not cohort.size
            else {
                "share": wording.share(count / cohort.size),
                "count": f"{count:,} came back",
                "tenth": min(10, round(10 * count / cohort.size)),
            }
            for count in cohort.back
        ]
        rows.append(
            {"begins_at": readings.iso_utc(cohort.begins_at), "size": wording.number(cohort.size), "cells": cells}
        )
    return {
        "as_of": None if result.as_of is None else readings.iso_utc(result.as_of),
        "rows": rows,
        "width": len(result.cohorts[0].back) if result.cohorts else 0,
        "empty": not any(cohort.size for cohort in result.cohorts),
    }
