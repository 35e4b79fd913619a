"""A warehouse that no flow writes to now, as the web and the commands see it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import httpx

from batch_marts.experiments import Experiment, load_experiments
from flows.reconcile import Reconciliation, reconcile
from flows.rules import FlowRules
from funnels import FunnelDefinition, FunnelResult, run_funnel
from funnels.definition import definitions
from identity.graph import Graph
from identity.rebuild import Judged
from service import forgetting, people, spend
from service.anomalies import Anomalies
from service.marts import Marts
from service.settings import Settings
from service.topics import kept_for
from service.web.app import create_app
from service.web.models import PersonChange, PersonToForget, SpendFiles, UploadedFile
from service.web.view import FlowState
from sinks.backups import Manifest, back_up
from sinks.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Unserved:
    """The warehouse, opened here, and the settings: a ServiceView without a service."""

    warehouse: Warehouse
    settings: Settings

    def reader(self) -> duckdb.DuckDBPyConnection:
        return self.warehouse.reader()

    def flow_state(self) -> FlowState:
        return FlowState("stopped", "no service runs on this warehouse")

    def funnels(self) -> Sequence[FunnelDefinition]:
        return ()

    def ask_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        return run_funnel(con, definition)

    def watch_funnel(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        return run_funnel(con, definition)

    def experiments(self) -> Sequence[Experiment]:
        return load_experiments(self.settings.experiments)

    def reconcile(self, since: datetime | None, *, mend: bool) -> Reconciliation:
        return reconcile(self.warehouse, self.settings.flow_rules(), since=since, mend=mend)

    def rules(self) -> FlowRules:
        return self.settings.flow_rules()

    def change_persons(self, change: PersonChange) -> dict[str, Any]:
        return people.change(self.warehouse, definitions(self.settings.funnels), change)

    def rebuild(self) -> Judged:
        return people.rebuild(self.warehouse, self.rules())

    def forget(self, person: PersonToForget) -> dict[str, Any]:
        from service.runtime import dependencies

        rules, funnels = self.rules(), definitions(self.settings.funnels)
        if person.dry_run:
            return forgetting.foresee(self.warehouse, rules, funnels, person)
        with dependencies(self.settings, kafka=False) as addresses:
            graph = Graph(
                addresses.redis_url, self.warehouse.warehouse_id, self.warehouse.generation, threading.Event()
            )
            try:
                return forgetting.forget(self.warehouse, rules, funnels, person, graph, self._kept_for)
            finally:
                graph.close()

    def load_spend(self, files: SpendFiles) -> list[dict[str, Any]]:
        return spend.load(self.warehouse, self.settings.spend, files)

    def load_rates(self, file: UploadedFile) -> dict[str, Any]:
        return spend.load_rates(self.warehouse, file)

    def _kept_for(self) -> str:
        kafka = self.settings.kafka
        return kept_for(kafka.client_config(kafka.bootstrap) if kafka.bootstrap is not None else {}, kafka.topic)

    def marts(self) -> Marts:
        return Marts(self.warehouse, self.settings, threading.Event(), lambda: self.anomalies().check_days())

    def anomalies(self) -> Anomalies:
        return Anomalies(self.warehouse, self.settings, self.settings.web.public_url or "", is_alone=True)

    def back_up(self, folder: Path) -> Manifest:
        return back_up(self.warehouse, folder)

    async def answer(self, method: str, path: str, body: Any, params: dict[str, Any] | None) -> httpx.Response:
        """What the API says, without a server."""
        transport = httpx.ASGITransport(app=create_app(self))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as client:
            return await client.request(method, path, json=body, params=params)
