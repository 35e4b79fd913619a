"""When the nightly comparison is due, and that a night that failed does not end it."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, time, timedelta

import pytest

from service.nightly import Nightly, next_time
from stitchline.errors import WarehouseError


@pytest.mark.parametrize(
    ("at", "now", "due"),
    [
        ("03:00", "2026-01-31T02:59:59+00:00", "2026-01-31T03:00:00+00:00"),
        ("03:00", "2026-01-31T03:00:00+00:00", "2026-02-01T03:00:00+00:00"),
        ("03:00", "2026-12-31T23:00:00+00:00", "2027-01-01T03:00:00+00:00"),
        ("00:00", "2026-01-31T00:00:00.000001+00:00", "2026-02-01T00:00:00+00:00"),
        ("03:00", "2026-01-31T01:00:00+05:00", "2026-01-31T03:00:00+00:00"),  # the day before, in UTC
    ],
)
def test_the_next_time(at: str, now: str, due: str) -> None:
    assert next_time(time.fromisoformat(at), datetime.fromisoformat(now)) == datetime.fromisoformat(due)


def test_it_is_done_when_it_is_time_and_a_failure_is_told(caplog: pytest.LogCaptureFixture) -> None:
    stopping, done = threading.Event(), threading.Event()

    def fail() -> None:
        done.set()
        raise WarehouseError("the warehouse is full")

    due = datetime.now(UTC) + timedelta(milliseconds=300)
    with caplog.at_level(logging.ERROR):
        nightly = Nightly(due.time(), fail, stopping)
        nightly.start()
        assert done.wait(10)
        assert datetime.now(UTC) >= due
        nightly.join(0.2)
        assert nightly.is_alive(), "the next night it is tried again"
        stopping.set()
        nightly.join(10)
    assert not nightly.is_alive()
    assert "the warehouse is full" in caplog.text
