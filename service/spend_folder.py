"""The folder that a service loads exports of advertising platforms from: looked at once a minute."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from batch_marts.spend.sheet import LARGEST, too_large
from service.spend import Outcome, refusal
from service.web.models import SpendFiles
from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

ENDINGS: Final = frozenset({".csv", ".tsv", ".txt"})
"""Of the files in a folder that are taken for exports."""

LOOK: Final = timedelta(minutes=1)
SETTLED: Final = timedelta(seconds=5)
"""A file that was written to since may not be whole yet."""


def exports_in(folder: Path) -> list[Path]:
    """The files in `folder` and in the folders inside that may be exports, the one that was written to last at the end.

    Hidden ones are left out, as tools give such names to what they have not finished. Raises OSError.
    """
    if not any(folder.iterdir()):  # which raises where the folder is not there, as looking for files does not
        return []
    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in ENDINGS and path.is_file():
            found.append(path)
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


class SpendFolder:
    """Loads what is new in `folder`, each time it is told to look. What is refused is told in the log, once, and again
    when the file has changed."""

    def __init__(
        self, folder: Path, load: Callable[[SpendFiles], list[dict[str, Any]]], stopping: threading.Event
    ) -> None:
        self._folder = folder
        self._load = load
        self._stopping = stopping
        self._done: dict[Path, tuple[int, int]] = {}
        self._complaint: str | None = None

    def look(self) -> list[Outcome]:
        """Loads the files that are new or have changed since the last look, until the service stops."""
        told = []
        try:
            for path in exports_in(self._folder):
                if self._stopping.is_set():
                    break
                outcome = self._take(path)
                if outcome is not None:
                    told.append(outcome)
            self._complaint = None
        except (duckdb.Error, OSError, StitchlineError) as error:
            self._complain(error)
        return told

    def _take(self, path: Path) -> Outcome | None:
        state = path.stat()
        mark = (state.st_mtime_ns, state.st_size)
        if self._done.get(path) == mark or time.time() - state.st_mtime < SETTLED.total_seconds():
            return None
        name = str(path.relative_to(self._folder))
        outcome = self._loaded(path, name, state.st_size)
        self._done[path] = mark
        if outcome["outcome"] == "refused":
            log.error("spend: %s", outcome["error"], extra={"file": name, "line": outcome["line"]})
        elif outcome["outcome"] == "loaded":
            log.info(
                "spend: %s: %s of %s, %s to %s, %s %s",
                *(name, outcome["platform"], outcome["account"], outcome["from_date"], outcome["to_date"]),
                *(outcome["spend"], outcome["currency"]),
                extra={"file": name},
            )
        return outcome

    def _loaded(self, path: Path, name: str, size: int) -> Outcome:
        if size > LARGEST:
            return refusal(too_large(name, size))
        content = base64.b64encode(path.read_bytes())
        (outcome,) = self._load(SpendFiles.model_validate({"files": [{"name": name, "content": content}]}))
        return outcome

    def _complain(self, error: Exception) -> None:
        """Once for the same reason: it is tried again each minute."""
        if str(error) != self._complaint and not self._stopping.is_set():
            self._complaint = str(error)
            log.error("spend cannot be loaded from %s, and is tried again each minute: %s", self._folder, error)
