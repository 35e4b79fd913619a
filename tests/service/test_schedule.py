"""The schedule: at its time of the day, made up for once, never two of one thing at once."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.schedule import Schedule, last_time
from stitchline.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
PATIENCE = 10
"""Seconds for what has to happen."""


def soon(seconds: float) -> time:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).time()


def test_at_its_time_and_not_before() -> None:
    ran, too_early = threading.Event(), threading.Event()
    at = soon(3).replace(microsecond=0)
    schedule = Schedule("UTC")
    schedule.daily("no", at, ran.set)
    schedule.daily("no", soon(3600), too_early.set)
    schedule.start()
    assert ran.wait(PATIENCE)
    assert last_time(at, datetime.now(UTC)) > datetime.now(UTC) - timedelta(seconds=PATIENCE), "it is past that time"
    schedule.end()
    assert not too_early.is_set()


@pytest.mark.parametrize("missed", [True, False])
def test_what_was_missed_is_made_up_for_once(missed: bool) -> None:
    asked: list[datetime] = []
    runs = threading.Semaphore(0)

    def is_due(since: datetime) -> bool:
        asked.append(since)
        return missed

    schedule = Schedule("Europe/Berlin", soon=timedelta(seconds=0.2))
    at = (datetime.now(BERLIN) - timedelta(hours=3)).time().replace(microsecond=0)
    schedule.daily("no", at, runs.release, is_due)
    schedule.start()
    assert runs.acquire(timeout=PATIENCE if missed else 1) == missed
    assert not runs.acquire(timeout=0.5), "once"
    schedule.end()
    assert asked == [last_time(at, datetime.now(BERLIN))]


def test_two_of_one_thing_never_overlap_and_its_end_is_waited_for() -> None:
    now, most = 0, 0
    lock, begun, go_on = threading.Lock(), threading.Semaphore(0), threading.Semaphore(0)

    def slow() -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        begun.release()
        go_on.acquire(timeout=PATIENCE)
        with lock:
            now -= 1

    schedule = Schedule("UTC")
    schedule.every(timedelta(seconds=0.1), slow)
    schedule.start()
    for _ in range(3):
        assert begun.acquire(timeout=PATIENCE)
        assert not begun.acquire(timeout=0.4), "four times its interval, and the first one has not ended"
        go_on.release()
    assert begun.acquire(timeout=PATIENCE)
    ending = threading.Thread(target=schedule.end)
    ending.start()
    ending.join(0.3)
    assert ending.is_alive(), "what was begun is waited for"
    go_on.release()
    ending.join(PATIENCE)
    assert (ending.is_alive(), now, most) == (False, 0, 1)


def test_what_cannot_be_done_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Semaphore(0)

    def fail() -> None:
        tried.release()
        raise UsageError("There is no room.")

    schedule = Schedule("UTC")
    with caplog.at_level(logging.ERROR, "service.schedule"):
        schedule.daily("the marts could not be refreshed", soon(2), fail)
        schedule.daily("the marts could not be refreshed", soon(4), fail)
        schedule.start()
        assert tried.acquire(timeout=PATIENCE)
        assert tried.acquire(timeout=PATIENCE), "the schedule goes on"
        schedule.end()
    assert {record.getMessage() for record in caplog.records} == {"the marts could not be refreshed: There is no room."}
    assert len(caplog.records) == 2


@given(
    st.times(),
    st.datetimes(),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]),
)
def test_the_last_time(at: time, local: datetime, zone: str) -> None:
    now = local.replace(tzinfo=ZoneInfo(zone))
    last = last_time(at, now)
    assert last <= now
    assert last.time() == at
    assert (now.date() - last.date()) in (timedelta(), timedelta(days=1))
    assert (last.date() == now.date()) == (now.time() >= at)
