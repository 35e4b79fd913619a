"""Questions to a warehouse: put to the service that holds it, or to the same API over the file opened here."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx

from batch_marts.experiments import Experiment, load_experiments
from flows.reconcile import Reconciliation, reconcile
from flows.rules import FlowRules
from funnels.definition import FunnelDefinition, definitions
from identity.graph import Graph
from identity.rebuild import Judged
from service import forgetting, people, spend
from service.anomalies import Anomalies
from service.marts import Marts
from service.settings import Settings
from service.topics import kept_for
from service.web.api import KEY_HEADER
from service.web.app import create_app
from service.web.models import PersonChange, PersonToForget, SpendFiles, UploadedFile
from service.web.view import FlowState
from sinks.backups import Manifest, back_up
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError, UsageError, WarehouseError, WarehouseHeld


@dataclass(frozen=True, slots=True)
class Unserved:
    """A warehouse that no flow writes to now, as the web sees it."""

    warehouse: Warehouse
    settings: Settings

    def reader(self) -> duckdb.DuckDBPyConnection:
        return self.warehouse.reader()

    def flow_state(self) -> FlowState:
        return FlowState("stopped", "no service runs on this warehouse")

    def funnels(self) -> Sequence[FunnelDefinition]:
        return ()

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


def ask(
    settings: Settings,
    method: str,
    path: str,
    body: Any = None,
    params: dict[str, Any] | None = None,
    patience: timedelta | None = timedelta(minutes=10),
) -> Any:
    """The answer of the API at `path`, parsed. A service may take as long as `patience`; None: as it likes.

    Raises UsageError if the question was wrong, WarehouseError if the warehouse is not there or cannot be used, and
    StitchlineError with the API's own words if it failed.
    """
    file = settings.warehouse.path
    has_to_exist(file)
    try:
        warehouse = Warehouse.open(file, memory_limit=settings.warehouse.memory_limit_alone)
    except WarehouseHeld:
        return _ask_service(file, method, path, body, params, patience)
    with warehouse:
        return asyncio.run(_ask_here(Unserved(warehouse, settings), method, path, body, params))


def ask_for_file(settings: Settings, path: str, params: dict[str, Any]) -> bytes:
    """What the API has at `path` that is no JSON, a picture. Raises what `ask` does."""
    answer: bytes = ask(settings, "GET", path, params=params)
    return answer


def has_to_exist(file: Path) -> None:
    """Raises WarehouseError if there is no warehouse."""
    if not file.exists():
        raise WarehouseError(
            f"There is no warehouse at {shown(file)}. `stitchline replay FILE` or `stitchline up` makes one; "
            "--warehouse or STITCHLINE_WAREHOUSE names another.",
            path=file,
        )


def shown(path: Path) -> Path:
    """`path` as people who are here would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def address_file(warehouse: Path) -> Path:
    """Where the service that holds `warehouse` says how to reach it."""
    return warehouse.with_name(warehouse.name + ".service.json")


def write_address(warehouse: Path, url: str, token: str | None, key: str) -> None:
    """Says where the service is; readable by its owner alone, as it holds the token, and the `key` for what only the
    owner may ask."""
    file = address_file(warehouse)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump({"url": url, "pid": os.getpid(), "token": token, "key": key}, out)


async def _ask_here(view: Unserved, method: str, path: str, body: Any, params: dict[str, Any] | None) -> Any:
    transport = httpx.ASGITransport(app=create_app(view))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as client:
        return _answer(await client.request(method, path, json=body, params=params))


def _ask_service(
    file: Path, method: str, path: str, body: Any, params: dict[str, Any] | None, patience: timedelta | None
) -> Any:
    try:
        address = json.loads(address_file(file).read_text())
    except (OSError, ValueError):
        raise WarehouseHeld(
            f"The warehouse {file} is held by another process that is no Stitchline service. Stop it and ask again.",
            path=file,
        ) from None
    headers = {KEY_HEADER: address.get("key", "")}
    if address["token"]:
        headers["Authorization"] = f"Bearer {address['token']}"
    seconds = patience.total_seconds() if patience is not None else None
    try:
        with httpx.Client(base_url=address["url"], headers=headers, timeout=seconds) as client:
            return _answer(client.request(method, path, json=body, params=params))
    except httpx.HTTPError as error:
        raise StitchlineError(
            f"The service at {address['url']} holds the warehouse {file} but does not answer ({error}). "
            "Is it starting or stopping? Try again in a few seconds.",
            url=address["url"],
        ) from error


def _answer(response: httpx.Response) -> Any:
    if response.is_success:
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.json() if is_json else response.content
    try:
        told = response.json().get("error") or response.text
    except ValueError:
        told = response.text
    if response.status_code in (404, 422):
        raise UsageError(str(told), status=response.status_code)
    raise StitchlineError(str(told), status=response.status_code)
