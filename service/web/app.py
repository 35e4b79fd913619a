"""Makes the web application: the page, its live stream, the JSON API, and who may see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from batch_marts.reads import ReadLog
from funnels import load_definition
from service.web.access import Access, AccessMiddleware
from service.web.api import FUNNEL_PATH, api_router, body_text
from service.web.catalog_api import catalog_router
from service.web.change_api import ReadLogMiddleware, change_router
from service.web.funnel_pages import funnel_pages
from service.web.live import LiveFeed
from service.web.mart_api import mart_router
from service.web.mart_pages import mart_pages
from service.web.models import REFUSALS
from service.web.pages import page_router
from service.web.questions import Questions
from service.web.report_pages import report_pages
from service.web.session_pages import session_pages
from service.web.statement import DeadlinePassed
from service.web.templating import Templates
from service.web.view import ServiceView
from stitchline import __version__
from stitchline.errors import DefinitionError, RequestRefused, StitchlineError, UsageError

_STATIC = Path(__file__).parent / "static"

_STATUS: tuple[tuple[type[StitchlineError], int], ...] = (
    (DefinitionError, 422),
    (UsageError, 422),
    (RequestRefused, 401),
    (DeadlinePassed, 504),
    (StitchlineError, 503),
)


def create_app(
    view: ServiceView,
    *,
    access: Access | None = None,
    tick: timedelta = timedelta(seconds=1),
    question_timeout: timedelta = timedelta(seconds=30),
) -> FastAPI:
    """The web application over `view`.

    `access` says who may read and who may change; by default whoever is on this machine. The page is refreshed every
    `tick`; one SQL statement or funnel may take `question_timeout`. Whoever asks for files to be written has to know
    the key of `access`, if there is one. `app.state.live.close()` ends the open streams: call it before the server is
    asked to stop, because a server waits for them. `app.state.reads` counts who reads marts, until that is put down.
    """
    access = access if access is not None else Access()
    feed = LiveFeed(view, tick=tick)
    questions = Questions(view, question_timeout)
    reads = ReadLog()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await feed.start()
        yield
        feed.close()
        await feed.closed()

    # FastAPI's own documentation pages load scripts from elsewhere, which the page's policy forbids.
    app = FastAPI(
        title="Stitchline",
        version=__version__,
        summary="Stitched sessions and live funnels out of a stream of product events.",
        description="Times are ISO 8601 in UTC. Every refusal says what was wrong and what to do, in `error`.",
        responses=REFUSALS,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.live = feed
    app.state.reads = reads
    render = Templates()
    app.include_router(mart_pages(view, questions, render))  # before the API: /metrics is a page for browsers alone
    app.include_router(mart_router(view, questions))
    app.include_router(change_router(view, reads))
    app.include_router(catalog_router(view, questions))
    app.include_router(api_router(view, questions, key=access.key))
    app.include_router(session_pages(view, questions, render))
    app.include_router(funnel_pages(view, questions, render))
    app.include_router(report_pages(questions, render))
    app.include_router(page_router(view, feed, access, questions, render))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.add_middleware(ReadLogMiddleware, log=reads)
    app.add_middleware(AccessMiddleware, access=access)
    _explain_errors(app, render)
    return app


def _explain_errors(app: FastAPI, render: Templates) -> None:
    """Every refusal is `{"error": …}`, or a page where a browser asked for one."""

    def refuse(request: Request, status: int, error: str, headers: dict[str, str] | None = None) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return render("error.html", status_code=status, status=status, error=error)
        return JSONResponse({"error": error}, status, headers)

    @app.exception_handler(StitchlineError)
    async def stitchline_error(request: Request, error: StitchlineError) -> Response:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return refuse(request, status, str(error))

    @app.exception_handler(duckdb.Error)
    async def warehouse_error(request: Request, error: duckdb.Error) -> Response:
        return refuse(request, 503, f"the warehouse cannot answer: {error}")

    @app.exception_handler(RequestValidationError)
    async def wrong_request(request: Request, error: RequestValidationError) -> Response:
        if request.url.path == FUNNEL_PATH:
            try:
                load_definition(await body_text(request))
            except DefinitionError as refusal:
                return refuse(request, 422, str(refusal))
        found = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        return refuse(request, 422, "; ".join(found))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = str(error.detail)
        if error.status_code == 400 and isinstance(error.__cause__, UnicodeDecodeError):
            told = f"the body is no text in UTF-8: {error.__cause__}"
        return refuse(request, error.status_code, told, dict(error.headers or {}))
