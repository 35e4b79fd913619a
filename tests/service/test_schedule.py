"""The schedule: at its time of the day, made up for once, never two of one thing at once."""

from __future__ import annotations

import logging
import threading
import time as clock
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import schedule as schedules
from service.schedule import Schedule, last_time
from stitchline.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")


def soon(seconds: float) -> time:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).time()


def test_at_its_time_and_not_before() -> None:
    ran: list[datetime] = []
    schedule = Schedule("UTC")
    schedule.daily("no", soon(2), lambda: ran.append(datetime.now(UTC)))
    schedule.daily("no", soon(3600), lambda: pytest.fail("an hour too early"))
    due = datetime.now(UTC) + timedelta(seconds=1)
    schedule.start()
    clock.sleep(3)
    schedule.end()
    (at,) = ran
    assert due <= at + timedelta(seconds=1), "the trigger knows whole seconds"
    clock.sleep(0.5)
    assert len(ran) == 1


@pytest.mark.parametrize("missed", [True, False])
def test_what_was_missed_is_made_up_for_once(missed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "_SOON", timedelta(seconds=0.2))
    asked: list[datetime] = []
    ran: list[int] = []

    def is_due(since: datetime) -> bool:
        asked.append(since)
        return missed

    schedule = Schedule("Europe/Berlin")
    at = (datetime.now(BERLIN) - timedelta(hours=3)).time().replace(microsecond=0)
    schedule.daily("no", at, lambda: ran.append(1), is_due)
    schedule.start()
    clock.sleep(1)
    schedule.end()
    assert len(ran) == missed
    assert asked == [last_time(at, datetime.now(BERLIN))]


def test_two_of_one_thing_never_overlap_and_its_end_is_waited_for() -> None:
    now, most, runs = 0, 0, 0
    lock = threading.Lock()

    def slow() -> None:
        nonlocal now, most, runs
        with lock:
            now, most, runs = now + 1, max(most, now + 1), runs + 1
        clock.sleep(0.5)
        with lock:
            now -= 1

    schedule = Schedule("UTC")
    schedule.every(timedelta(seconds=0.1), slow)
    schedule.start()
    clock.sleep(1.3)
    schedule.end()
    assert (now, most) == (0, 1)
    assert 2 <= runs <= 4


def test_what_cannot_be_done_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise UsageError("There is no room.")

    schedule = Schedule("UTC")
    schedule.daily("the marts could not be refreshed", soon(2), fail)
    schedule.start()
    with caplog.at_level(logging.ERROR, "service.schedule"):
        clock.sleep(2.5)
        (job,) = schedule._scheduler.get_jobs()
        tomorrow = job.next_run_time - datetime.now(UTC)
        schedule.end()
    assert [record.getMessage() for record in caplog.records] == ["the marts could not be refreshed: There is no room."]
    assert timedelta(hours=23, minutes=59) < tomorrow <= timedelta(days=1)


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
