"""What the service does by itself: refresh the marts, hold sessions to the batch definition, load exports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import duckdb
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

_ONCE: Final = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
"""Runs that were missed are made up for by one, and never two of one thing at a time."""


class Schedule:
    """Does each thing at its time of the day, in one zone; a run that was missed is made up for once, and two runs of
    one thing never overlap. What cannot be done is logged, and tried the next day."""

    def __init__(self, zone: str, soon: timedelta = timedelta(seconds=5)) -> None:
        """`zone` is a name of the IANA's, like Europe/Berlin. What was missed is made up for so `soon`; before that a
        service catches up with the topic's end."""
        self._zone = ZoneInfo(zone)
        self._soon = soon
        self._scheduler = BackgroundScheduler(timezone=self._zone)

    def daily(
        self, failure: str, at: time, do: Callable[[], object], missed: Callable[[datetime], bool] = lambda since: False
    ) -> None:
        """Adds a thing to do at `at`; `failure` is what the log says if it cannot be done. `missed` is asked at once
        whether nothing was done since the last time it was due."""
        now = datetime.now(self._zone)
        trigger = CronTrigger(hour=at.hour, minute=at.minute, second=at.second, timezone=self._zone)
        first = {"next_run_time": now + self._soon} if missed(last_time(at, now)) else {}
        self._scheduler.add_job(_logged(failure, do), trigger, **_ONCE, **first)

    def every(self, interval: timedelta, do: Callable[[], object]) -> None:
        """Adds a thing to do at once and then each time `interval` is over."""
        seconds = interval.total_seconds()
        self._scheduler.add_job(do, "interval", seconds=seconds, next_run_time=datetime.now(self._zone), **_ONCE)

    def start(self) -> None:
        self._scheduler.start()

    def end(self) -> None:
        """Begins nothing any more, and returns when what was begun has ended."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


def last_time(at: time, now: datetime) -> datetime:
    """The last moment, `now` included, at which it was `at` o'clock in the zone of `now`.

    >>> last_time(time(2), datetime(2026, 1, 31, 1, tzinfo=ZoneInfo("Europe/Berlin"))).isoformat()
    '2026-01-30T02:00:00+01:00'
    """
    today = datetime.combine(now.date(), at, now.tzinfo)
    return today if today <= now else datetime.combine(now.date() - timedelta(days=1), at, now.tzinfo)


def _logged(failure: str, do: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            do()
        except (duckdb.Error, OSError, StitchlineError) as error:
            log.error("%s: %s", failure, error)

    return run
