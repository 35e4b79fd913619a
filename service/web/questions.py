"""Questions to the warehouse that the web asks: some at a time, and for so long at most."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import duckdb
from fastapi import HTTPException

from service.web.statement import deadline
from service.web.view import ServiceView

_AT_ONCE = 4
"""Questions that may run at the same time; the others wait, so that the flow keeps its share of the cores."""

_PATIENCE = timedelta(seconds=10)


class Questions:
    """Of the API and of the pages together; one may take `timeout`."""

    def __init__(self, view: ServiceView, timeout: timedelta) -> None:
        self.timeout = timeout
        self._view = view
        self._seats = threading.BoundedSemaphore(_AT_ONCE)

    @contextmanager
    def seat(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection, once it is this question's turn."""
        if not self._seats.acquire(timeout=_PATIENCE.total_seconds()):
            raise HTTPException(503, "too many questions at once: ask again in some seconds", {"Retry-After": "10"})
        try:
            with self._view.reader() as con:
                yield con
        finally:
            self._seats.release()

    @contextmanager
    def reading(self, what: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose statements are ended when `what` takes too long."""
        with self.seat() as con, deadline(con, self.timeout, what):
            yield con
