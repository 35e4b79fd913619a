"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(met: Callable[[], bool], seconds: float) -> None:
    """Returns once `met` is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
