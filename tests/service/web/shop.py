"""A small warehouse of literal rows, and the service over it that the tests ask."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import uvicorn
from fastapi import FastAPI

from batch_marts.experiments import Experiment
from flows.reconcile import Reconciliation, compare
from flows.rules import FlowRules
from funnels import FunnelDefinition, FunnelResult, run_funnel
from identity.rebuild import Judged
from service.anomalies import Anomalies
from service.marts import Marts
from service.settings import Settings
from service.web.models import PersonChange, PersonToForget, SpendFiles, UploadedFile
from service.web.view import FlowState, PartitionState
from sinks.backups import Manifest
from sinks.warehouse import Warehouse

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

PURCHASE = FunnelDefinition.model_validate(
    {
        "name": "purchase",
        "steps": [{"event": "Page Viewed"}, {"event": "Viewed Product"}, {"event": "Signed Up"}],
        "window": "1 hour",
    }
)


def at(minute: float) -> datetime:
    """So many minutes after noon of the day that the rows are of."""
    return NOON + timedelta(minutes=minute)


class Shop:
    """A ServiceView over a warehouse file of its own; the flow's state is what the test says it is."""

    def __init__(self, path: Path, funnels: Sequence[FunnelDefinition] = (PURCHASE,)) -> None:
        self.warehouse = Warehouse.open(path)
        self.state = FlowState("running")
        self.definitions = funnels
        self.trials: Sequence[Experiment] = ()
        self.reads = 0
        self._settings = Settings(warehouse={"path": path})

    def reader(self) -> duckdb.DuckDBPyConnection:
        self.reads += 1
        return self.warehouse.reader()

    def flow_state(self) -> FlowState:
        return self.state

    def funnels(self) -> Sequence[FunnelDefinition]:
        return self.definitions

    def ask_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        return run_funnel(con, definition)

    def watch_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        return run_funnel(con, definition)

    def experiments(self) -> Sequence[Experiment]:
        return self.trials

    def rules(self) -> FlowRules:
        return FlowRules()

    def change_persons(self, change: PersonChange) -> dict[str, Any]:
        raise AssertionError("nothing here writes persons")

    def rebuild(self) -> Judged:
        raise AssertionError("nothing here judges")

    def forget(self, person: PersonToForget) -> dict[str, Any]:
        raise AssertionError("nothing here forgets persons")

    def marts(self) -> Marts:
        return Marts(self.warehouse, self._settings, threading.Event())

    def anomalies(self) -> Anomalies:
        return Anomalies(self.warehouse, self._settings)

    def load_spend(self, files: SpendFiles) -> list[dict[str, Any]]:
        raise AssertionError("nothing here loads spend")

    def load_rates(self, file: UploadedFile) -> dict[str, Any]:
        raise AssertionError("nothing here loads rates")

    def back_up(self, folder: Path) -> Manifest:
        raise AssertionError("nothing here makes backups")

    def reconcile(self, since: datetime | None, *, mend: bool) -> Reconciliation:
        assert not mend, "nothing here writes sessions"
        with self.reader() as con:
            sessions, found = compare(con, FlowRules(), since)
        return Reconciliation(sessions, len(found), tuple(found), repaired=False, compared_at=NOON, seconds=0.0)

    def write(self, sql: str, *values: object) -> None:
        """Runs one statement on a cursor of its own, as the flow does."""
        with self.warehouse.reader() as cursor:
            cursor.execute(sql, values)

    def event(self, message_id: str, name: str, device: str, event_at: datetime, **columns: object) -> None:
        row: dict[str, object] = {
            "message_id": message_id,
            "type": "track",
            "name": name,
            "anonymous_id": device,
            "user_id": None,
            "person_id": f"anon:{device}",
            "event_at": event_at,
            "received_at": event_at,
            "path": "/",
            "properties": "{}",
            "context": "{}",
            "clock_skewed": False,
            "is_bot": False,
            "is_background": False,
            "partition": 0,
            "offset": 0,
        }
        self._insert("events", row | columns)

    def session(self, session_id: str, device: str, started: datetime, ended: datetime, **columns: object) -> None:
        """A session; an open one if `topic` and `partition` say whose watermark closes it."""
        row: dict[str, object] = {
            "session_id": session_id,
            "anonymous_id": device,
            "user_id": None,
            "person_id": f"anon:{device}",
            "started_at": started,
            "ended_at": ended,
            "event_count": 2,
            "page_count": 1,
            "entry_path": "/",
            "exit_path": "/cart",
            "referrer": None,
            "utm_source": None,
            "utm_medium": None,
            "utm_campaign": None,
            "device_type": "desktop",
            "browser": "Firefox",
            "os": "Linux",
            "start_reason": "first",
            "end_reason": None if "topic" in columns else "gap",
            "is_bot": False,
            "revision": 1,
            "first_message_id": "a",
            "last_message_id": "z",
        }
        self._insert("open_sessions" if "topic" in columns else "closed_sessions", row | columns)

    def progress(self, partition: int = 0, **columns: object) -> None:
        row: dict[str, object] = {
            "topic": "events",
            "partition": partition,
            "next_offset": 0,
            "watermark": at(90),
            "greatest_event_at": at(91),
            "consumed": 0,
            "stored": 0,
            "duplicates": 0,
            "dead": 0,
            "late": 0,
            "foreign_keys": 0,
            "committed_at": at(91),
        }
        self._insert("progress", row | columns)

    def override(self, device: str, person: str, to: datetime) -> None:
        """From the beginning until `to`, the device's events without a user are the person's."""
        row = {
            "anonymous_id": device,
            "from_at": datetime(1, 1, 2, tzinfo=UTC),
            "from_message_id": "",
            "to_at": to,
            "to_message_id": "",
            "person_id": person,
        }
        self._insert("person_overrides", row)

    def claim(self, device: str, user: str, message_id: str, event_at: datetime) -> None:
        """What the ledger has of a sign-in."""
        row = {"kind": "claim", "anonymous_id": device, "user_id": user, "event_at": event_at, "message_id": message_id}
        self._insert("identity_facts", row | {"reason": "the event carries both ids", "recorded_at": event_at})

    def _insert(self, table: str, row: dict[str, object]) -> None:
        columns = ", ".join(f'"{name}"' for name in row)
        places = ", ".join("?" for _ in row)
        self.write(f"insert into stream.{table} ({columns}) values ({places})", *row.values())

    def fill(self) -> None:
        """Three devices: d1 looks around and signs up as u1, d2 sees one page, d3 looks at a product and is open."""
        self.event("d1-1", "Page Viewed", "d1", at(0), type="page", properties='{"price": 9.5, "tags": ["a"]}')
        self.event("d1-2", "Viewed Product", "d1", at(1), path="/scarf")
        self.event("d1-3", "Signed Up", "d1", at(5), user_id="u1", person_id="u1", path="/welcome")
        self.event("d2-1", "Page Viewed", "d2", at(0.5), type="page")
        self.event("d3-1", "Page Viewed", "d3", at(10), type="page")
        self.event("d3-2", "Viewed Product", "d3", at(12), path="/hat")
        self.override("d1", "u1", at(5))
        self.session(
            "5e551011" * 4, "d1", at(0), at(5), user_id="u1", person_id="u1", event_count=3, exit_path="/welcome",
            utm_source="google", utm_campaign="spring", first_message_id="d1-1", last_message_id="d1-3",
        )  # fmt: skip
        self.session(
            "5e551022" * 4, "d2", at(0.5), at(0.5), event_count=1, first_message_id="d2-1", last_message_id="d2-1"
        )
        self.session(
            "5e551033" * 4, "d3", at(10), at(12), exit_path="/hat", topic="events", partition=0,
            first_message_id="d3-1", last_message_id="d3-2",
        )  # fmt: skip
        self.progress(0, next_offset=9, consumed=9, stored=6, duplicates=2, dead=1, late=1)
        self.progress(1, next_offset=1200, consumed=1200, stored=1200, watermark=at(100))
        self.write(
            "insert into stream.dead_letters values "
            "('events', 0, 3, 'not_json', 'No JSON: Expecting value', 'd1'::blob, '{\"a\": \\xFF'::blob, null, ?)",
            at(3),
        )
        self.state = FlowState(
            status="running",
            detail="all partitions assigned",
            events_per_second=1234.5,
            lag_records=42,
            lag=timedelta(seconds=3.5),
            partitions=(
                PartitionState("events", 0, 9, 51, at(90), 42),
                PartitionState("events", 1, 1200, 1200, None, 0),
            ),
        )


class Server:
    """Uvicorn on a loopback port, in a thread: one that the system picks, or `port`; `start` again takes the same."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._app: FastAPI | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._server is not None

    def start(self, app: FastAPI) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", proxy_headers=False)
        self._app, self._server = app, uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < until, "the server takes more than 20 s to start"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._server is None or self._thread is None or self._app is None:
            return
        self._app.state.live.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server does not stop: a stream is still open"
        self._server = None
