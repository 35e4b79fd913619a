"""What goes on by itself about anomalies while the service runs: checks, and what Slack is told and says."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import duckdb

from batch_marts import builds
from batch_marts.anomalies.arrival import late_day
from batch_marts.anomalies.days import MART
from batch_marts.anomalies.health import Observed
from service.anomalies import Anomalies
from service.settings import Settings
from service.web.view import FlowState
from sinks.slack_actions import Press, SocketListener
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK: Final = timedelta(minutes=1)
"""How often it is looked at what is new in the stream, and whether anything is wrong with Stitchline itself."""
_MOST_IDLE: Final = timedelta(seconds=60)
_BREATHER: Final = timedelta(seconds=1)


class Watch:
    """Checks and sends, each in a thread of its own, until it is told to stop. Nothing that fails ends it."""

    def __init__(
        self, anomalies: Anomalies, settings: Settings, observe: Callable[[], Observed], stopping: threading.Event
    ) -> None:
        self._anomalies = anomalies
        self._observe = observe
        self._stopping = stopping
        self._woken = threading.Event()
        self._told: set[str] = set()
        self._threads = [threading.Thread(target=self._check, name="checks", daemon=True)]
        slack = settings.slack
        self._listener: SocketListener | None = None
        if slack.token is not None:
            self._threads.append(threading.Thread(target=self._send, name="slack", daemon=True))
            if slack.app_token is not None:
                self._listener = SocketListener(
                    slack.app_token.get_secret_value(),
                    slack.token.get_secret_value(),
                    self._pressed,
                    base_url=slack.base_url,
                )
                self._threads.append(threading.Thread(target=self._listen, name="buttons", daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something to say."""
        self._woken.set()

    def end(self) -> None:
        """Returns when what was begun has ended; `stopping` is set by then."""
        self._woken.set()
        if self._listener is not None:
            with suppress(Exception):  # the library's own threads
                self._listener.close()
        for thread in self._threads:
            thread.join(timeout=30)

    def _pressed(self, press: Press) -> None:
        self._anomalies.pressed(press)
        self.wake()

    def _check(self) -> None:
        while not self._stopping.wait(LOOK.total_seconds()):
            self._try("values of the stream could not be judged", self._anomalies.check_rolling)
            self._try("Stitchline's own state could not be judged", self._check_health)
            self.wake()

    def _check_health(self) -> None:
        self._anomalies.check_health(self._observe())

    def _send(self) -> None:
        while not self._stopping.is_set():
            due = self._try("incidents could not be told in Slack", self._anomalies.send)
            pause = _MOST_IDLE if due is None else due - datetime.now(UTC)
            self._woken.wait(max(_BREATHER, min(pause, _MOST_IDLE)).total_seconds())
            self._woken.clear()

    def _listen(self) -> None:
        """Connects, and again if that could not be done; once connected, the library does."""
        assert self._listener is not None
        while not self._stopping.is_set():
            if self._try("Slack's socket for buttons cannot be opened", self._connect):
                return
            self._stopping.wait(_MOST_IDLE.total_seconds())

    def _connect(self) -> bool:
        assert self._listener is not None
        self._listener.start()
        return True

    def _try(self, failure: str, do: Callable[[], T]) -> T | None:
        """Does it; what cannot be done is logged, once until it can."""
        try:
            done = do()
        except Exception as error:  # the thread's edge: it has to go on
            if self._stopping.is_set():
                return None
            if failure not in self._told:
                self._told.add(failure)
                known = isinstance(error, (StitchlineError, duckdb.Error, OSError))
                log.error("%s: %s; it is tried again", failure, error, exc_info=None if known else error)
            return None
        self._told.discard(failure)
        return done


_DEAD_LETTERS: Final = """
select (epoch($now) - epoch(dead_at)) // 3600 as hours_ago, count(*)
from stream.dead_letters
where dead_at > $now - interval 25 hour and dead_at <= $now
group by all
"""


class Observer:
    """Looks at what the service is doing, for the platform team."""

    def __init__(self, warehouse: Warehouse, flow_state: Callable[[], FlowState], *, refreshes: bool) -> None:
        """`refreshes`: whether the marts are refreshed each night, and so a day may be late in them."""
        self._warehouse = warehouse
        self._refreshes = refreshes
        self._flow_state = flow_state
        self._silent_since: dict[str, datetime] = {}

    def __call__(self) -> Observed:
        now = datetime.now(UTC)
        flow = self._flow_state()
        with self._warehouse.reader() as con:
            dead = dict(con.execute(_DEAD_LETTERS, {"now": now}).fetchall())
            drift = con.execute(
                "select case when repaired then 0 else differing end from stream.reconciliations "
                "order by compared_at desc limit 1"
            ).fetchone()
            refresh_error = self._refresh_error(con, now)
        away = {name: self._away(name, flow, now) for name in ("kafka", "redis")}
        disk = shutil.disk_usage(self._warehouse.path.parent)
        return Observed(
            at=now,
            flow="down" if flow.status == "stopped" else "waiting" if flow.status == "waiting" else "running",
            flow_detail=flow.detail,
            lag=flow.lag,
            dead_letters=dead.get(0, 0),
            dead_letters_usual=tuple(dead.get(hour, 0) for hour in range(1, 25)),
            drifted=None if drift is None else drift[0],
            refresh_error=refresh_error,
            kafka_away=away["kafka"],
            redis_away=away["redis"],
            disk_free=disk.free,
            disk_size=disk.total,
            warehouse_size=self._warehouse.path.stat().st_size,
        )

    def _refresh_error(self, con: duckdb.DuckDBPyConnection, now: datetime) -> str | None:
        """Why the marts are not those of last night; empty if they are, None if there are none."""
        last = next(iter(builds.builds(con)), None)
        if last is not None and last.status == "failed":
            return last.message or "it failed"
        if builds.published(con) is None:
            return None
        return (late_day(con, now, MART) if self._refreshes else None) or ""

    def _away(self, name: str, flow: FlowState, now: datetime) -> timedelta:
        if name not in flow.silent and name not in flow.waits_for:
            self._silent_since.pop(name, None)
            return timedelta()
        return now - self._silent_since.setdefault(name, now)
