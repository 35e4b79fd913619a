"""The service: Kafka and Redis (its own, if none are named), the flow, and the page, started and stopped together."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

import duckdb
import uvicorn

from batch_marts.experiments import Experiment, load_experiments
from flows.reconcile import Reconciliation, reconcile
from flows.rules import FlowRules
from funnels import FunnelDefinition, FunnelResult
from funnels.definition import definitions
from funnels.store import Store, WatchedFunnels
from identity.rebuild import Judged
from service import forgetting, people, spend
from service.anomalies import Anomalies
from service.ask import address_file, write_address
from service.embedded import EmbeddedKafka, EmbeddedValkey
from service.flow import Flow
from service.marts import Marts
from service.schedule import Schedule
from service.settings import Settings
from service.spend_folder import LOOK, SpendFolder
from service.watch import Observer, Watch
from service.web.access import Access
from service.web.app import create_app
from service.web.models import PersonChange, PersonToForget, SpendFiles, UploadedFile
from service.web.view import FlowState
from sinks.backups import Manifest, back_up
from sinks.dead_letters import SUFFIX
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

EMBEDDED_PARTITIONS: Final = 4
"""Of the topic on a Kafka of our own: as many as a machine of a few cores has use for."""


_DRIFT: Final = (
    "%d of %d sessions differ from what the batch definition makes of the stored events. `stitchline reconcile` names "
    "them, `stitchline reconcile --repair` rewrites them. If no setting of the sessions was changed, please report it."
)

_WAREHOUSE_PATIENCE: Final = timedelta(seconds=5)
"""A question on the command line holds the file for a second at most."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where Kafka and Redis are."""

    bootstrap: str | None
    redis_url: str


def home_of(settings: Settings) -> Path:
    """The folder of the embedded services: beside the warehouse, one for each."""
    path = settings.warehouse.path
    return path.parent if path.stem == "warehouse" else path.with_name(f"{path.stem}.services")


@contextmanager
def dependencies(settings: Settings, *, kafka: bool) -> Iterator[Addresses]:
    """Kafka (if asked for) and Redis: those in the settings, else embedded ones for as long as the block lasts."""
    home = home_of(settings)
    with ExitStack() as stack:
        url = settings.redis.url.get_secret_value() if settings.redis.url is not None else None
        if url is None:
            url = stack.enter_context(EmbeddedValkey(home / "valkey")).url
        bootstrap = settings.kafka.bootstrap
        if kafka and bootstrap is None:
            server = stack.enter_context(EmbeddedKafka(home / "kafka"))
            server.create_topic(settings.kafka.topic, settings.kafka.create_topic_partitions or EMBEDDED_PARTITIONS)
            server.create_topic(settings.kafka.topic + SUFFIX, 1)
            bootstrap = server.bootstrap
        yield Addresses(bootstrap if kafka else None, url)


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse of the settings, to write to."""
    return Warehouse.open(
        settings.warehouse.path,
        memory_limit=settings.warehouse.memory_limit,
        threads=settings.warehouse.threads or max(1, (os.cpu_count() or 1) // 2),
        patience=_WAREHOUSE_PATIENCE,
    )


@contextmanager
def stop_on_signals(stopping: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set `stopping`; a second Ctrl-C ends the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_COUNTED: Final = timedelta(minutes=1)
"""How often it is put down who read marts."""

_FLOW_PATIENCE: Final = timedelta(seconds=60)
"""For the flow to come to a stand."""


class Service:
    """The flow and the page over one warehouse, each in a thread of its own. A context manager."""

    def __init__(
        self, settings: Settings, addresses: Addresses, stopping: threading.Event, *, any_port: bool = False
    ) -> None:
        """`any_port`: where the port of the settings is taken, the page takes any free one."""
        self._settings = settings
        self._stopping = stopping
        self._funnels = definitions(settings.funnels)
        self._experiments = load_experiments(settings.experiments)
        self._failure: BaseException | None = None
        self._reconciling = threading.Lock()
        self._comparing: duckdb.DuckDBPyConnection | None = None
        self.warehouse = open_warehouse(settings)
        try:
            if forgetting.finish(self.warehouse):
                log.info("the warehouse was written anew, since a person was forgotten")
            self._store = Store(self.warehouse, settings.warehouse.funnel_bytes)
            self._watched = WatchedFunnels(self._store)
            self.flow = Flow(settings, self.warehouse, addresses.redis_url, addresses.bootstrap, stopping)
        except BaseException:
            self.warehouse.close()
            raise
        self._marts = Marts(self.warehouse, settings, stopping, lambda: self._anomalies.check_days())
        self._schedule = Schedule(settings.schedule.time_zone)
        token = settings.web.token.get_secret_value() if settings.web.token is not None else None
        key = secrets.token_urlsafe(32)
        self._app = create_app(self, access=Access.by(settings.web, key))
        # No proxy_headers: who may say who asks is known by the address that really connects.
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                host=settings.web.host,
                port=settings.web.port,
                log_config=None,
                access_log=False,
                proxy_headers=False,
            )
        )
        try:
            self._sockets = [_bound(settings.web.host, settings.web.port, any_port=any_port)]
        except BaseException:
            self.flow.close()
            self.warehouse.close()
            raise
        host, port = self._sockets[0].getsockname()[:2]
        reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        self.url = f"http://{reachable}:{port}"
        self._anomalies = Anomalies(self.warehouse, settings, settings.web.public_url or self.url)
        refreshes = settings.schedule.refresh_at is not None
        observer = Observer(self.warehouse, self.flow.state, refreshes=refreshes)
        self._watch = Watch(self._anomalies, settings, observer, stopping)
        write_address(settings.warehouse.path, self.url, token, key)
        self._web = threading.Thread(target=self._server.run, args=(self._sockets,), name="web", daemon=True)
        self._flow = threading.Thread(target=self._run_flow, name="flow", daemon=True)

    def __enter__(self) -> Service:
        self._store.start()
        self._web.start()
        self._flow.start()
        schedule, spend_folder = self._settings.schedule, self._settings.spend.folder
        if schedule.refresh_at is not None:
            self._schedule.daily(
                "the marts could not be refreshed", schedule.refresh_at, self._marts.refresh, self._marts.is_due
            )
        if schedule.reconcile_at is not None:
            self._schedule.daily(
                "sessions could not be compared with the batch definition",
                schedule.reconcile_at,
                lambda: self.reconcile(None, mend=False),
            )
        if spend_folder is not None:
            self._schedule.every(LOOK, SpendFolder(spend_folder, self.load_spend, self._stopping).look)
        self._schedule.every(_COUNTED, self._put_down_reads)
        self._schedule.start()
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commits what was read, then lets go of everything. Raises what kept it from being committed."""
        self._stopping.set()
        self._end_comparing()
        self._schedule.end()
        self._watch.end()
        with self._marts.standing_still():  # a refresh ends after the model that it makes
            pass
        self._flow.join()
        self._app.state.live.close()
        self._server.should_exit = True
        self._web.join(timeout=10)
        self._put_down_reads()
        self._store.close()
        self.flow.close()
        self.warehouse.close()
        address_file(self._settings.warehouse.path).unlink(missing_ok=True)
        if self._failure is not None and kind is None:
            raise self._failure

    def wait(self) -> None:
        """Returns when the service was told to stop. Raises what the flow failed with."""
        while not self._stopping.wait(0.5):
            pass
        if self._failure is not None:
            raise self._failure

    # What the page asks for (service.web.view.ServiceView)

    def reader(self) -> duckdb.DuckDBPyConnection:
        return self.warehouse.reader()

    def flow_state(self) -> FlowState:
        return self.flow.state()

    def funnels(self) -> Sequence[FunnelDefinition]:
        return self._funnels

    def ask_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        return self._watched.once(con, definition)

    def watch_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        return self._watched.result(con, definition)

    def experiments(self) -> Sequence[Experiment]:
        return self._experiments

    def reconcile(self, since: datetime | None, *, mend: bool) -> Reconciliation:
        """One at a time. What differs and is not mended is an error in the log."""
        with self._reconciling, self.warehouse.reader() as self._comparing:
            if self._stopping.is_set():
                raise StitchlineError("The service is stopping. Ask again when it runs.")
            rules = self._settings.flow_rules()
            found = reconcile(self.warehouse, rules, since=since, mend=mend, reader=self._comparing)
        told = {"differing": found.differing, "sessions": found.sessions, "seconds": round(found.seconds, 1)}
        if not found.differing:
            log.info("0 of %d sessions differ from the batch definition", found.sessions, extra=told)
        elif found.repaired:
            log.warning(
                "%d of %d sessions differed from the batch definition and were repaired",
                found.differing,
                found.sessions,
                extra=told,
            )
        else:
            log.error(_DRIFT, found.differing, found.sessions, extra=told)
        return found

    def rules(self) -> FlowRules:
        return self._settings.flow_rules()

    def change_persons(self, change: PersonChange) -> dict[str, Any]:
        told = people.change(self.warehouse, self._funnels, change)
        if not change.dry_run:
            log.info(
                "%s: %s of %r and %r, because %s",
                change.actor,
                change.kind,
                change.person,
                change.other,
                change.because,
                extra={"act_id": told["act_id"]},
            )
        return told

    def rebuild(self) -> Judged:
        """The flow stands still meanwhile, and fills Redis again when it goes on."""
        with self.flow.paused(_FLOW_PATIENCE) as graph:
            judged = people.rebuild(self.warehouse, self.rules())
            graph.begin(self.warehouse.generation)
        log.info("judged all facts anew: %d devices are corrected", judged.corrected)
        return judged

    def forget(self, person: PersonToForget) -> dict[str, Any]:
        """One at a time; the flow stands still meanwhile, and so do the marts."""
        if person.dry_run:
            return forgetting.foresee(self.warehouse, self.rules(), self._funnels, person)
        self._end_comparing()
        with self._marts.standing_still(), self._reconciling, self.flow.paused(_FLOW_PATIENCE) as graph:
            return forgetting.forget(self.warehouse, self.rules(), self._funnels, person, graph, self.flow.kept_for)

    def _end_comparing(self) -> None:
        """Interrupts a comparison that runs, statement by statement; one that mends is waited for."""
        while not self._reconciling.acquire(timeout=0.05):
            if self._comparing is not None:
                with suppress(duckdb.ConnectionException):  # it is over
                    self._comparing.interrupt()
        self._reconciling.release()

    def marts(self) -> Marts:
        return self._marts

    def anomalies(self) -> Anomalies:
        return self._anomalies

    def load_spend(self, files: SpendFiles) -> list[dict[str, Any]]:
        return spend.load(self.warehouse, self._settings.spend, files)

    def load_rates(self, file: UploadedFile) -> dict[str, Any]:
        return spend.load_rates(self.warehouse, file)

    def back_up(self, folder: Path) -> Manifest:
        return back_up(self.warehouse, folder, self._stopping)

    def _put_down_reads(self) -> None:
        self._marts.changes.put_down(self._app.state.reads)

    def _run_flow(self) -> None:
        try:
            self.flow.serve()
        except BaseException as error:  # noqa: BLE001 the thread's edge: whoever waits raises it
            self._failure = error
        finally:
            self._stopping.set()


def _bound(host: str, port: int, *, any_port: bool) -> socket.socket:
    """A socket that listens on `port`, or on any free one if that is taken and `any_port` allows it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if any_port and error.errno == errno.EADDRINUSE:
            return socket.create_server((host, 0), family=family)
        raise StitchlineError(
            f"The page cannot listen on {host} port {port}: {error.strerror}. Choose another with --port or "
            "STITCHLINE_WEB__PORT; 0 takes any free one.",
            host=host,
            port=port,
        ) from error
