"""What was published, as JSON, CSV or Arrow: marts, metrics, spend, experiments. It changes with a build alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

from batch_marts.builds import PUBLISHED
from batch_marts.catalogue import Catalogue
from batch_marts.metrics import DAILY, WHOLE, Metric
from service.web import published
from service.web.models import Problem
from service.web.published import Published
from service.web.questions import Questions
from service.web.tables import ANSWERS, FormatParameter, TaggedRoute, answer_table, form_of, told_as, unless_known
from service.web.view import ServiceView

_NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


def mart_router(view: ServiceView, questions: Questions) -> APIRouter:
    """The routes of what is published; each says so, with 503, as long as nothing is."""
    router = APIRouter(route_class=TaggedRoute)

    @router.get("/api/marts/tables", tags=["marts"], responses=told_as(dict[str, Any]))
    def tables(request: Request) -> Response:
        """Every published mart: the question that it answers, its rows, up to when it reaches, how it is tested."""
        with questions.reading("the marts") as con:
            now = Published.of(con, view.marts().catalogue())
            return unless_known(request, now.state, lambda: _json(now.told | {"tables": published.tables(con, now)}))

    @router.get("/api/marts/tables/{mart}", tags=["marts"], responses=_NOT_THERE | told_as(dict[str, Any]))
    def table(request: Request, mart: str) -> Response:
        """One mart: its columns and what they mean, its tests, what it is made from and who reads it."""
        with questions.reading("the mart") as con:
            now = Published.of(con, view.marts().catalogue())
        named = mart_named(now, mart)
        return unless_known(request, now.state, lambda: _json(now.told | published.table(now, named)))

    @router.get("/api/marts/tables/{mart}/rows", tags=["marts"], responses=_NOT_THERE | ANSWERS)
    def rows(
        request: Request,
        mart: str,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
        offset: Annotated[int, Query(ge=0, le=10**12)] = 0,
        asked: FormatParameter = None,
    ) -> Response:
        """The rows of a mart, ordered by all of its columns, as JSON, CSV or Arrow."""
        form = form_of(request, asked)
        with questions.reading("the rows of the mart") as con:
            now = Published.of(con, view.marts().catalogue())
            name = mart_named(now, mart).name
            sql = f'select * from {PUBLISHED}."{name}" order by all limit $limit offset $offset'
            values = {"limit": limit, "offset": offset}
            return unless_known(request, now.state, lambda: answer_table(con, sql, values, form, name))

    @router.get("/api/metrics", tags=["metrics"], responses=told_as(list[dict[str, Any]]))
    def metrics(
        request: Request,
        q: Annotated[str, Query(description="Plain words; the metrics that speak of them, the best first.")] = "",
    ) -> Response:
        """Every metric: what it means, who owns it, and its value on the last complete day."""
        catalogue = view.marts().catalogue()
        with questions.reading("the metrics") as con:
            try:
                now = Published.of(con, catalogue)
            except published.NothingPublished:
                return _json(_with_values(catalogue, q, {}))
            return unless_known(
                request, now.state, lambda: _json(_with_values(catalogue, q, published.latest(con, now)))
            )

    @router.get("/api/metrics/{name}", tags=["metrics"], responses=_NOT_THERE | told_as(dict[str, Any]))
    def metric(request: Request, name: str) -> Response:
        """One metric: its meaning, its days, its parts of the last 28 days, its tests and what it is made from."""
        with questions.reading("the metric") as con:
            now = Published.of(con, view.marts().catalogue())
            named = metric_named(now, name)
            return unless_known(
                request, now.state, lambda: _json(now.told | published.metric(con, now, named, parts=1000))
            )

    @router.get("/api/metrics/{name}/values", tags=["metrics"], responses=_NOT_THERE | ANSWERS)
    def values(
        request: Request,
        name: str,
        dimension: Annotated[str, Query(description="A part of it, as channel=google; all for the whole.")] = WHOLE,
        since: Annotated[date | None, Query(description="The first UTC day.")] = None,
        until: Annotated[date | None, Query(description="The last UTC day.")] = None,
        asked: FormatParameter = None,
    ) -> Response:
        """The value of a metric, or of a part of it, on each day; days that are not complete say so."""
        form = form_of(request, asked)
        with questions.reading("the days of the metric") as con:
            now = Published.of(con, view.marts().catalogue())
            named = metric_named(now, name).shown_as
            _must_have(now, DAILY)
            bounds = {"name": named, "dimension": dimension, "since": since, "until": until}
            return unless_known(request, now.state, lambda: answer_table(con, published.VALUES, bounds, form, named))

    @router.get("/api/spend", tags=["spend"], responses=_NOT_THERE | ANSWERS)
    def spend(request: Request, asked: FormatParameter = None) -> Response:
        """What was spent, how many customers that won and what they brought in, by month and channel: CAC and ROAS.

        Costs are in US dollars. Orders count to the channel of the last visit before them.
        """
        form = form_of(request, asked)
        with questions.reading("the spend") as con:
            now = Published.of(con, view.marts().catalogue())
            _must_have(now, "mart_acquisition")
            return unless_known(request, now.state, lambda: answer_table(con, published.SPEND, {}, form, "spend"))

    @router.get("/api/experiments/looks", tags=["experiments"], responses=ANSWERS)
    def looks(request: Request, asked: FormatParameter = None) -> Response:
        """How the interval of each variation stood in each build of the marts that is kept, the oldest first."""
        form = form_of(request, asked)
        with questions.reading("the experiments of earlier builds") as con:
            return answer_table(con, published.looks_sql(con), {}, form, "looks")

    return router


def mart_named(now: Published, name: str) -> Any:
    """The published mart of that name. Raises HTTPException 404 if there is none."""
    mart = now.catalogue.marts.get(name)
    if mart is None or not now.has(name):
        there = ", ".join(sorted(now.build.row_counts)) or "none"
        raise HTTPException(404, f"there is no mart {name[:100]!r}. Published are: {there}")
    return mart


def metric_named(now: Published, name: str) -> Metric:
    """The metric that is shown under that name. Raises HTTPException 404 if there is none."""
    metric = now.catalogue.metrics.get(name)
    if metric is None:
        raise HTTPException(404, f"there is no metric {name[:100]!r}. Defined are: {', '.join(now.catalogue.metrics)}")
    return metric


def _must_have(now: Published, mart: str) -> None:
    if not now.has(mart):
        raise HTTPException(404, f"the published marts have no {mart}: the project in marts.project has no such model")


def _with_values(catalogue: Catalogue, words: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    nothing: dict[str, Any] = {"value": None, "date": None, "values": []}
    return [published.described(one) | values.get(one.shown_as, nothing) for one in catalogue.metrics_about(words)]


def _json(told: Any) -> Response:
    return Response(json.dumps(told), media_type="application/json")
