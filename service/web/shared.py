"""Answers that take a while: worked out once for all who ask for the same at the same time, and waited for or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

_AT_ONCE = 4
"""As many as there are seats for questions: others wait anyway."""


class Shared(Generic[Answer]):
    """What `work` answers to a question, a text. Threads may share it."""

    def __init__(self, work: Callable[[str], Answer]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._running: dict[str, Future[Answer]] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="page-shared")

    def ask(self, question: str, patience: timedelta | None = None) -> Answer | None:
        """The answer, begun after this was called or still running then; None if it is not there within `patience`: it
        goes on, for whoever asks next. Raises what `work` raises."""
        with self._lock:
            running = self._running.get(question)
            if running is None:
                running = self._running[question] = self._pool.submit(self._answer, question)
        try:
            return running.result(None if patience is None else patience.total_seconds())
        except TimeoutError:
            if running.done():  # it is the work itself that says so
                raise
            return None

    def _answer(self, question: str) -> Answer:
        try:
            return self._work(question)
        finally:
            with self._lock:
                self._running.pop(question, None)
