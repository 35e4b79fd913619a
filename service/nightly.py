"""What the service does once a day by itself, in a thread of its own: it holds the sessions to the batch definition."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Final

import duckdb

from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

_LOOK: Final = timedelta(minutes=1)
"""The clock is looked at so often: it may be set, and a machine may sleep."""


def next_time(at: time, now: datetime) -> datetime:
    """The first moment after `now` at which it is `at` o'clock, UTC.

    >>> next_time(time(3), datetime(2026, 1, 31, 3, tzinfo=UTC)).isoformat()
    '2026-02-01T03:00:00+00:00'
    """
    today = datetime.combine(now.astimezone(UTC).date(), at, UTC)
    return today if today > now else today + timedelta(days=1)


class Nightly(threading.Thread):
    """Calls `do` each day at `at` (UTC) until `stopping` is set. What it cannot do it logs, and tries the next day."""

    def __init__(self, at: time, do: Callable[[], object], stopping: threading.Event) -> None:
        super().__init__(name="nightly", daemon=True)
        self._at = at
        self._do = do
        self._stopping = stopping

    def run(self) -> None:
        due = next_time(self._at, datetime.now(UTC))
        while not self._stopping.wait(min(due - datetime.now(UTC), _LOOK).total_seconds()):
            if datetime.now(UTC) < due:
                continue
            try:
                self._do()
            except (duckdb.Error, OSError, StitchlineError) as error:
                if not self._stopping.is_set():
                    log.error("sessions could not be compared with the batch definition: %s", error)
            due = next_time(self._at, datetime.now(UTC))
