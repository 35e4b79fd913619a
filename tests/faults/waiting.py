"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from tests.whole.runs import Serving


def until(met: Callable[[], bool], seconds: float) -> None:
    """Returns once `met` is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def waits_for(service: Serving) -> str:
    """What the flow waits for, as the API tells it; empty while it waits for nothing."""
    flow = httpx.get(f"{service.url}/api/state", timeout=30).json()
    return flow["detail"] if flow["status"] == "waiting" else ""
