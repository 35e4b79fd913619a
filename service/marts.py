"""The marts as the service runs them: their rules out of the settings, one refresh at a time, what there is to say."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from batch_marts import builds, promises
from batch_marts.builds import Build
from batch_marts.catalogue import Catalogue, load_catalogue
from batch_marts.changes import Coming
from batch_marts.dbt import PROJECT, Finding
from batch_marts.metrics import METRICS, every_metric
from batch_marts.refresh import Funnels, MartRules, refresh, rollback
from funnels import FunnelDefinition
from funnels.days import funnel_days
from funnels.definition import definitions
from service.changes import MartChanges
from service.settings import Settings
from sinks.tables import registered
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError, UsageError

log = logging.getLogger(__name__)

_FUNNEL_DAYS: Final = "funnel_days"


def folder_of(settings: Settings) -> Path:
    """Where dbt works, and where the documentation is: beside the warehouse, one for each."""
    path = settings.warehouse.path
    return path.with_name(f"{path.stem}.marts")


def progress_file(settings: Settings) -> Path:
    """What a refresh is doing now; read by whoever waits for it."""
    return folder_of(settings) / "progress.json"


def rules_of(settings: Settings) -> MartRules:
    """How the settings want the marts to be made."""
    marts = settings.marts
    return MartRules(
        folder=folder_of(settings),
        project=PROJECT if marts.project is None else marts.project,
        own_hosts=tuple(sorted(host.lower().removeprefix("www.") for host in marts.own_hosts)),
        variables=marts.variables,
        kept=marts.kept_builds,
        experiments=settings.experiments,
        metrics=METRICS if marts.metrics is None else marts.metrics,
    )


class Marts:
    """The marts over one warehouse."""

    def __init__(
        self,
        warehouse: Warehouse,
        settings: Settings,
        stopping: threading.Event,
        published: Callable[[], object] = lambda: None,
    ) -> None:
        """`published` is called after each build that everybody reads from then on."""
        self._published = published
        self._warehouse = warehouse
        self._settings = settings
        self._stopping = stopping
        self._one = threading.Lock()
        self.documentation = folder_of(settings) / "target" / "static_index.html"
        """The page on the marts, which a refresh writes."""
        self.changes = MartChanges(warehouse, settings)
        progress_file(settings).unlink(missing_ok=True)  # of a process that was killed

    def refresh(self, *, full: bool = False, because: str | None = None, by: str = "") -> dict[str, Any]:
        """Builds, tests and publishes the marts. With a reason, `because`, also where that breaks what reads them and
        its owners were not told in time: they are told then, with the reason.

        Raises UsageError while another refresh runs, and RefreshFailed if a test fails.
        """
        # On all cores: it takes less from the flow to be over soon.
        broken: list[Coming] = []

        def promised(con: duckdb.DuckDBPyConnection, build: Build) -> Sequence[Finding]:
            now = datetime.now(UTC)
            broken[:] = promises.broken(con, build, every_metric(rules_of(self._settings).metrics), now)
            return promises.findings(con, broken, now) if because is None else ()

        with self._alone(), self._warehouse.allowed(self._settings.marts.memory_limit, threads=os.cpu_count() or 1):
            try:
                build = refresh(
                    self._warehouse,
                    rules_of(self._settings),
                    funnels_for_marts(definitions(self._settings.funnels)),
                    full=full,
                    told=self._tell,
                    stopping=self._stopping,
                    promises=promised,
                )
            finally:
                progress_file(self._settings).unlink(missing_ok=True)
        log.info("build %d of the marts is published", build.build_id, extra={"kind": build.kind})
        if broken:
            self.changes.announce_for_readers(broken, by=by or "somebody", because=because)
        try:
            self._published()
        except (StitchlineError, duckdb.Error) as error:
            log.error("the new values of the metrics could not be judged: %s", error)
        return self._told(build)

    def roll_back(self, build_id: int | None) -> dict[str, Any]:
        """Publishes an earlier build again. Raises UsageError if there is none such, or while a refresh runs."""
        with self._alone():
            return self._told(rollback(self._warehouse, build_id))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._one.acquire(blocking=False):
            raise UsageError("A refresh of the marts runs already: `stitchline marts status` says how far it is.")
        try:
            yield
        finally:
            self._one.release()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """No refresh runs as long as the block lasts; one that runs is waited for."""
        with self._one:
            yield

    def status(self) -> dict[str, Any]:
        """Which build everybody reads, how old it is, and whether another one is being made."""
        with self._warehouse.reader() as con:
            every = builds.builds(con)
            shown = next((build for build in every if build.status == "published"), None)
            last = every[0] if every else None
            complete = None
            if shown is not None:
                row = con.execute(f"select max(date_day) from {builds.PUBLISHED}.dim_date where is_complete").fetchone()
                complete = row[0].isoformat() if row and row[0] is not None else None
        running = None
        with suppress(OSError, ValueError):
            running = json.loads(progress_file(self._settings).read_text(encoding="utf-8"))
        return {
            "published": None if shown is None else self._told(shown),
            "complete_until": complete,
            "last": None if last is None else self._told(last),
            "running": running,
            "documentation": str(self.documentation),
        }

    def history(self) -> list[dict[str, Any]]:
        """Every build on record, the newest first, with what failed."""
        with self._warehouse.reader() as con:
            there = builds.schemas(con)
            return [
                self._told(build)
                | {
                    "kept": build.build_schema in there,
                    "findings": [asdict(finding) for finding in builds.findings_of(con, build.build_id)],
                }
                for build in builds.builds(con)
            ]

    def catalogue(self) -> Catalogue:
        """What the marts and the metrics mean, as their files say now. Raises DefinitionError if one is wrong."""
        rules = rules_of(self._settings)
        return load_catalogue(rules.project, rules.metrics)

    def is_due(self, since: datetime) -> bool:
        """Whether there were refreshes before, and none has begun since then."""
        with self._warehouse.reader() as con:
            last = next(iter(builds.builds(con)), None)
        return last is not None and last.started_at < since

    def _tell(self, what: str, done: int, of: int) -> None:
        """From several threads at once."""
        file = progress_file(self._settings)
        new = file.with_suffix(f".{threading.get_ident()}")
        with suppress(OSError):  # nothing is worse for want of it
            file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps({"what": what, "done": done, "of": of}), encoding="utf-8")
            new.replace(file)

    @staticmethod
    def _told(build: Build) -> dict[str, Any]:
        told: dict[str, Any] = {
            name: getattr(build, name) for name in ("build_id", "kind", "status", "message", "row_counts", "changes")
        }
        times = {name: getattr(build, name) for name in ("started_at", "finished_at", "published_at")}
        times["as_of"] = None if build.pin is None else build.pin.as_of
        told |= {name: None if at is None else at.astimezone(UTC).isoformat() for name, at in times.items()}
        ended = build.finished_at
        told["seconds"] = None if ended is None else round((ended - build.started_at).total_seconds(), 1)
        return told


def funnels_for_marts(every: Sequence[FunnelDefinition]) -> Funnels:
    """What the marts have to know of these funnels."""

    def days(con: duckdb.DuckDBPyConnection, copies: str, since: datetime | None) -> str:
        con.execute(
            f"create or replace temp table {_FUNNEL_DAYS} (funnel_name varchar, entry_date date, step_number integer, "
            "step_name varchar, subject_count bigint)"
        )
        asked = []
        for funnel in every:
            # By session, copies are found among the events that are asked for: an earlier one must be among them.
            known = None if funnel.by == "session" else since
            begun = max((time for time in (known, funnel.since) if time is not None), default=None)
            asked.append(funnel.model_copy(update={"since": begun}))
        for funnel, answer in zip(every, funnel_days(con, asked, copies), strict=True):
            with registered(con, "answer", answer):
                con.execute(
                    f"insert into {_FUNNEL_DAYS} select $funnel, * from answer where entry_date >= $first_day",
                    {"funnel": funnel.name, "first_day": since.date() if since else date.min},
                )
        return _FUNNEL_DAYS

    return Funnels(
        days,
        window=max((funnel.window for funnel in every), default=timedelta()),
        definitions=json.dumps([funnel.model_dump(mode="json") for funnel in every], sort_keys=True),
    )
