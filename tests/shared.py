"""What is dear to make and only looked at: made by the first of a run's processes that needs it, for all of them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """The folder `name`, which `make` fills, and what it returned, as JSON tells it."""
    folder = _of_all(factory) / name
    told = folder.with_suffix(".json")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            told.write_text(json.dumps(make(folder)), encoding="utf-8")
    return folder, json.loads(told.read_text(encoding="utf-8"))


@contextmanager
def served_once(
    factory: pytest.TempPathFactory, name: str, serve: Callable[[Path], AbstractContextManager[str]]
) -> Iterator[str]:
    """The address of a server that the first of a run's processes that needs it starts in a folder, for all of them.
    Who started it waits at the end for those who use it."""
    base = _of_all(factory)
    address = base / f"{name}.address"
    with (base / f"{name}.lock").open("w") as lock, (base / f"{name}.users").open("w") as users:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # it is about to end
            fcntl.flock(lock, fcntl.LOCK_UN)
            with serve(factory.mktemp(name)) as told:
                yield told
            return
        if address.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield address.read_text(encoding="utf-8")
            return
        with serve(base / name) as told:
            address.write_text(told, encoding="utf-8")
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield told
            fcntl.flock(users, fcntl.LOCK_EX)
            address.unlink()


def _of_all(factory: pytest.TempPathFactory) -> Path:
    """The folder that the processes of a run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
