"""Backups on the command line: made by whoever holds the warehouse, restored by the command itself, with progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from service.ask import ask
from service.forgetting import forget_again, forgotten_in
from service.settings import Settings
from sinks.backups import FILE, restore
from sinks.warehouse import Warehouse

_LOOK_EVERY: Final = timedelta(milliseconds=200)


def make_backup(settings: Settings, folder: Path, console: Console) -> dict[str, Any]:
    """The manifest of the backup that was made, its folder and how many seconds it took."""
    began = time.monotonic()
    folder = folder.absolute()
    # The copy has no holes and may be smaller; what it will be is not known before.
    size = settings.warehouse.path.stat().st_size if settings.warehouse.path.exists() else None
    with _growing("backing up", folder / FILE, size, console):
        manifest = ask(settings, "POST", "/api/backup", {"directory": str(folder)}, patience=None)
    return {"folder": str(folder), "seconds": round(time.monotonic() - began, 3)} | manifest


def restore_backup(settings: Settings, folder: Path, console: Console, *, replace: bool) -> dict[str, Any]:
    """What is the warehouse now, where the flow goes on, and where what was there before is kept."""
    path = settings.warehouse.path
    backup = folder / FILE
    size = backup.stat().st_size if backup.is_file() else None
    with _growing("restoring", path.with_name(f"{path.name}.restoring"), size, console):
        forgotten = forgotten_in(path) if replace else None
        again = 0

        def prepare(warehouse: Warehouse) -> None:
            nonlocal again
            again = forget_again(warehouse, settings.flow_rules(), forgotten)

        restored = restore(folder, path, replace=replace, prepare=prepare)
    manifest = restored.manifest.model_dump(mode="json")
    return {
        "warehouse": str(restored.path),
        "warehouse_id": restored.manifest.warehouse_id,
        "generation": restored.generation,
        "made_at": manifest["made_at"],
        "offsets": manifest["offsets"],
        "rows": manifest["rows"],
        "forgotten_again": again,
        "kept": str(restored.kept) if restored.kept is not None else None,
    }


@contextmanager
def _growing(what: str, file: Path, size: int | None, console: Console) -> Iterator[None]:
    """A bar of how much of `size` bytes `file` has."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar, ThreadPoolExecutor(1) as beside:
        task = bar.add_task(what, total=size)
        done = False

        def watch() -> None:
            while not done:
                with suppress(OSError):
                    bar.update(task, completed=file.stat().st_size)
                time.sleep(_LOOK_EVERY.total_seconds())

        watching = beside.submit(watch)
        try:
            yield
        finally:
            done = True
            watching.result()
