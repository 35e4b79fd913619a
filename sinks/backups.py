"""Backups of a warehouse: a folder with a copy of the file and a manifest, made while it is written, and put back.

The copy is one read transaction: DuckDB's `copy from database`, which reads every block and so finds damaged ones. The
manifest is written last; a folder without one is no backup.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from sinks.copies import copy_database
from sinks.warehouse import SCHEMA_VERSION, Warehouse, sync, wal_of
from stitchline.errors import BackupError, WarehouseHeld

FORMAT: Final = 1
"""Of the folder: what its files are called and hold."""

FILE: Final = "warehouse.duckdb"
MANIFEST: Final = "manifest.json"


class Offset(BaseModel):
    """Where the flow goes on in a partition."""

    model_config = ConfigDict(frozen=True)

    topic: str
    partition: int
    next_offset: int


class Manifest(BaseModel):
    """What a backup holds, and what its file is known by."""

    model_config = ConfigDict(frozen=True)

    format: int = Field(description="Version of the backup's own form.")
    made_at: AwareDatetime
    warehouse_id: str
    generation: str = Field(description="Of the warehouse it was made from; a restored one gets another.")
    schema_version: int
    offsets: tuple[Offset, ...] = Field(description="Where the flow goes on, by partition.")
    rows: dict[str, int] = Field(description="By table.")
    bytes: int = Field(description="Size of the file.")
    sha256: str = Field(description="Of the file.")


@dataclass(frozen=True, slots=True)
class Restored:
    """A warehouse that was restored."""

    path: Path
    manifest: Manifest
    generation: str
    """The new one."""
    kept: Path | None
    """What was there before, if anything was."""


def back_up(warehouse: Warehouse, folder: Path, stopping: threading.Event | None = None) -> Manifest:
    """Makes a backup of `warehouse` as it is committed now, while others go on writing; `stopping`, once set, ends it.

    Raises BackupError if `folder` is there and not empty, or it cannot be done: then nothing of it is left.
    """
    folder_is_new = not folder.exists()
    try:
        if not folder_is_new and any(folder.iterdir()):
            made = "a backup" if (folder / MANIFEST).exists() else "something, perhaps a backup that was not finished"
            raise BackupError(f"{folder} holds {made} already. Name a new or an empty folder.", folder=folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(
            f"{folder} cannot be made a backup: {error}. Name a folder to write to.", folder=folder
        ) from None
    file = folder / FILE
    try:
        manifest = _copied(warehouse, file, stopping or threading.Event())
        _write(folder / MANIFEST, manifest.model_dump_json(indent=2))
    except BaseException as error:
        for begun in (file, wal_of(file), folder / MANIFEST):
            with suppress(OSError):
                begun.unlink(missing_ok=True)
        if folder_is_new:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, duckdb.Error | OSError):
            why = str(error).splitlines()[0].rstrip(".")
            raise BackupError(
                f"The backup {folder} could not be made: {why}. What was begun is removed, the warehouse is as it was. "
                "See that there is room, and try again.",
                folder=folder,
            ) from error
        raise
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the backup in `folder`, whose file is checked against it.

    Raises BackupError if it is not whole, or made by a later version.
    """
    if not folder.is_dir():
        raise BackupError(f"There is no backup at {folder}: it is no folder. Check the path.", folder=folder)
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BackupError(
            f"{folder} holds no whole backup: {MANIFEST} is missing. It was not finished; take another one.",
            folder=folder,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError(f"The backup {folder} cannot be read: {error}. Take another one.", folder=folder) from None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BackupError(
            f"The backup {folder} is damaged: {MANIFEST} is not what was written ({error.error_count()} problems). "
            "Take another one.",
            folder=folder,
        ) from None
    if manifest.format > FORMAT or manifest.schema_version > SCHEMA_VERSION:
        raise BackupError(
            f"The backup {folder} was made by a later version of Stitchline (form {manifest.format}, schema "
            f"{manifest.schema_version}; this one knows up to {FORMAT} and {SCHEMA_VERSION}). Install that version.",
            folder=folder,
        )
    file = folder / FILE
    try:
        size = file.stat().st_size
        found = f"{size:,} bytes instead of {manifest.bytes:,}" if size != manifest.bytes else _checksum(file)
    except OSError as error:
        raise BackupError(f"The backup {folder} cannot be read: {error}. Take another one.", folder=folder) from None
    if found != manifest.sha256:
        raise BackupError(
            f"The backup {folder} is damaged: {FILE} is not what was written ({found}). Take another one.",
            folder=folder,
        )
    return manifest


def restore(
    folder: Path, path: Path, *, replace: bool = False, prepare: Callable[[Warehouse], object] = lambda _: None
) -> Restored:
    """Makes the backup in `folder` the warehouse at `path`, under a new generation. A warehouse that is there is moved
    beside it if it is to be replaced. Whatever ends this in between, the old one or the new one is there. `prepare` is
    given what is restored before it takes its place.

    Raises BackupError if the backup is not whole, or a warehouse is there and not to be replaced, WarehouseHeld if a
    process has that one; nothing is changed then.
    """
    manifest = read_manifest(folder)
    there = [file for file in (path, wal_of(path)) if file.exists()]
    if path.is_dir():
        raise BackupError(f"{path} is a directory. Name a file, in it or elsewhere.", folder=folder)
    if there and not replace:
        raise BackupError(
            f"There is a warehouse at {path} already. --replace puts the backup in its place and keeps the old one "
            "beside it; --warehouse names another place.",
            folder=folder,
        )
    new = path.with_name(f"{path.name}.restoring")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(path):
            for left in (new, wal_of(new)):
                left.unlink(missing_ok=True)
            try:
                shutil.copyfile(folder / FILE, new)
                with Warehouse.open(new) as warehouse:
                    generation = warehouse.begin_generation()
                    prepare(warehouse)
                sync(new)
                kept = _keep(path) if there else None
                new.replace(path)
            finally:
                for left in (new, wal_of(new)):
                    left.unlink(missing_ok=True)
            sync(path.parent)
    except OSError as error:
        raise BackupError(
            f"The backup {folder} could not be restored to {path}: {error}. See that there is room and the right to "
            "write; what was there is there still.",
            folder=folder,
        ) from error
    return Restored(path, manifest, generation, kept)


def _copied(warehouse: Warehouse, file: Path, stopping: threading.Event) -> Manifest:
    made_at = datetime.now(UTC)
    with warehouse.reader() as con, _interrupted_by(stopping, con):
        rows, progress = copy_database(con, file)
    return Manifest(
        format=FORMAT,
        made_at=made_at,
        warehouse_id=warehouse.warehouse_id,
        generation=warehouse.generation,
        schema_version=SCHEMA_VERSION,
        offsets=tuple(
            Offset(topic=topic, partition=partition, next_offset=p.next_offset)
            for (topic, partition), p in sorted(progress.items())
        ),
        rows=rows,
        bytes=file.stat().st_size,
        sha256=_checksum(file),
    )


@contextmanager
def _interrupted_by(stopping: threading.Event, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if stopping.is_set():
                con.interrupt()

    watcher = threading.Thread(target=watch, name="backup", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """The file at `path`, if there is one, as if a process had it open: with its log written into it if that can be
    done, so that the file is all there is."""
    if not path.exists():
        yield
        return
    held = WarehouseHeld(
        f"The warehouse {path} is held by another process, perhaps a service that runs. Stop it, and restore again.",
        path=path,
    )
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise held from None
    with suppress(duckdb.Error):  # a damaged one is moved away as it is
        duckdb.connect(str(path)).close()
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise held from None
        yield


def _keep(path: Path) -> Path:
    """Gives the warehouse at `path` a second name, which it keeps when another one takes the first."""
    kept = path.with_name(f"{path.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    if path.exists():
        try:
            os.link(path, kept)
        except OSError:  # a file system without links
            path.rename(kept)
    if wal_of(path).exists():  # of a file that could not be opened, or is not there: another one must not find it
        wal_of(path).rename(wal_of(kept))
    return kept


def _checksum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write(file: Path, text: str) -> None:
    """All of it or nothing."""
    begun = file.with_name(f"{file.name}.begun")
    try:
        begun.write_text(text + "\n", encoding="utf-8")
        sync(begun)
        begun.replace(file)
    finally:
        begun.unlink(missing_ok=True)
    sync(file.parent)
