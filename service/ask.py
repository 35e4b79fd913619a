"""Questions to a warehouse: put to the service that holds it, or to the same API over the file opened here."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.settings import Settings
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError, UsageError, WarehouseError, WarehouseHeld

if TYPE_CHECKING:  # what takes long to import is imported where it is used: a question that is wrong is told at once
    import httpx


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
    from service.unserved import Unserved

    with warehouse:
        return _answer(asyncio.run(Unserved(warehouse, settings).answer(method, path, body, params)))


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
    import httpx

    from service.web.models import KEY_HEADER

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
