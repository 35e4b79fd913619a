"""Changes to the marts, as JSON: who reads what, what was announced, who has seen it; and the log of who reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batch_marts.changes import Coming, Reader
from batch_marts.impact.kinds import What
from batch_marts.metrics import DAILY
from batch_marts.reads import ReadLog
from service.web.models import KEY_HEADER
from service.web.view import ServiceView
from service.web.visitors import visitor

Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"\S")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]

_READS: Final = (
    (re.compile(r"/api/marts/tables/(?P<mart>\w+)/rows"), None),
    (re.compile(r"/api/metrics/(?P<metric>\w+)(?:/values)?"), DAILY),
    (re.compile(r"/api/spend"), "mart_acquisition"),
    (re.compile(r"/api/experiments/looks"), "mart_experiment_results"),
)
"""What is a read of a mart."""
_IN_SQL: Final = re.compile(r'\bmarts"?\s*\.\s*"?(\w+)', re.IGNORECASE)


class _Open(BaseModel):
    model_config = ConfigDict(extra="ignore")  # a report of `marts impact` says more than is needed here


class ReaderOf(_Open):
    """Somebody's that reads what changes."""

    name: Name
    label: Name
    owner: Name
    channel: Annotated[str, StringConstraints(pattern=r"^(#.+|[CG][A-Z0-9]+)$", max_length=100)]


class ComingChange(_Open):
    """A change, as `stitchline marts impact --json` tells it."""

    change_id: Id
    mart: Name
    metric: Name | None = None
    column: Name | None = None
    what: What
    is_breaking: bool
    says: Words
    before: str | None = Field(default=None, max_length=10_000)
    after: str | None = Field(default=None, max_length=10_000)
    comes_on: date | None = None
    consumers: tuple[ReaderOf, ...] = Field(default=(), max_length=1000)


class Announcement(_Open):
    """Changes to announce to those who read what changes."""

    changes: tuple[ComingChange, ...] = Field(max_length=2000)
    by: Name = Field(description="Who announces it.")
    link: Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=1000)] | None = Field(
        default=None, description="Where more can be read, such as the pull request."
    )
    comes_on: date | None = Field(default=None, description="The UTC day from which on a refresh may publish it.")
    because: Words | None = Field(
        default=None, description="Why it does not wait for the notice period; those downstream are told."
    )


class Withdrawal(_Open):
    """Changes that do not come after all."""

    change_ids: tuple[Id, ...] = Field(min_length=1, max_length=2000)


def change_router(view: ServiceView, log: ReadLog) -> APIRouter:
    """The routes of changes to the marts."""
    router = APIRouter()

    @router.get("/api/marts/changes", tags=["marts"])
    def announced() -> dict[str, Any]:
        """Changes that were announced: which are not in force yet, whom they concern, and who has not seen them."""
        return view.marts().changes.announced()

    @router.post("/api/marts/changes", tags=["marts"])
    def announce(asked: Announcement) -> dict[str, Any]:
        """Tells the owners downstream of changes, each owner in one message, and of each change once."""
        told = view.marts().changes.announce(
            [_coming(one) for one in asked.changes],
            by=visitor().name or asked.by,
            link=asked.link,
            comes_on=asked.comes_on,
            because=asked.because,
        )
        view.anomalies().send_if_alone()
        return told

    @router.post("/api/marts/changes/withdrawn", tags=["marts"])
    def withdraw(asked: Withdrawal) -> dict[str, Any]:
        """Takes back changes that were announced and do not come."""
        return view.marts().changes.withdraw(asked.change_ids)

    @router.get("/api/marts/consumers", tags=["marts"])
    def consumers() -> dict[str, Any]:
        """Who reads the marts: those that are declared, and those that a funnel or the log of reads gives away."""
        marts = view.marts()
        marts.changes.put_down(log)
        return marts.changes.consumers(marts.catalogue(), view.funnels())

    return router


def _coming(one: ComingChange) -> Coming:
    return Coming(
        change_id=one.change_id,
        mart=one.mart,
        metric=one.metric,
        column_name=one.column,
        what=one.what,
        is_breaking=one.is_breaking,
        says=one.says,
        before=one.before,
        after=one.after,
        readers=tuple(Reader(each.name, each.label, each.owner, each.channel) for each in one.consumers),
        comes_on=one.comes_on,
    )


class ReadLogMiddleware:
    """Counts who reads marts by the API. Browsers and the owner's own commands are not counted: they are people."""

    def __init__(self, app: ASGIApp, log: ReadLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = _what(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if read is None:
            await self._app(scope, receive, send)
            return

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304):
                saw(self._log, Headers(scope=scope), [read])
            await send(message)

        await self._app(scope, receive, send_and_count)


def _what(path: str) -> tuple[str, str | None] | None:
    """The mart and the metric that somebody reads who asks for that path."""
    for form, mart in _READS:
        if (found := form.fullmatch(path)) is not None:
            named = found.groupdict()
            return (mart or str(named["mart"]), named.get("metric"))
    return None


def marts_in(sql: str) -> list[tuple[str, str | None]]:
    """The marts that a statement names.

    >>> marts_in('select * from marts.dim_person join "marts"."dim_date" on true')
    [('dim_person', None), ('dim_date', None)]
    """
    return [(name.lower(), None) for name in dict.fromkeys(_IN_SQL.findall(sql))]


def saw(log: ReadLog, headers: Headers, read: Sequence[tuple[str, str | None]]) -> None:
    """Counts that whoever asks has read these marts, each with the metric of it, if it was one."""
    agent = headers.get("user-agent", "")
    if agent.startswith("Mozilla/") or KEY_HEADER in headers:
        return
    who = visitor()
    for mart, metric in read:
        log.saw(who.name or who.role.value, agent, mart, metric, datetime.now(UTC))
