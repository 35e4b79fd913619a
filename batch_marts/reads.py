"""Who reads published marts by the API: counts by day, reader and program, kept for KEPT and in at most MOST rows.

No address, no question and no answer is kept. A read is counted in memory and put down from time to time, so the last
ones of a process that was killed are not there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import duckdb

KEPT: Final = timedelta(days=90)
MOST: Final = 10_000
_MOST_AT_ONCE: Final = 1000
"""Different readers between two times of putting down; more are counted as nobody's."""
_LETTERS: Final = 60

Key = tuple[date, str, str, str, str | None]


@dataclass(frozen=True, slots=True)
class Read:
    """How often somebody's program read a mart, or a metric."""

    reader: str
    client: str
    mart: str
    metric: str | None
    reads: int
    last_at: datetime


class ReadLog:
    """Counts reads until they are put down. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Key] = Counter()
        self._last: dict[Key, datetime] = {}

    def saw(self, reader: str, agent: str, mart: str, metric: str | None, now: datetime) -> None:
        """Somebody read that. `agent` is what their program calls itself."""
        with self._lock:
            key = (now.astimezone(UTC).date(), reader[:_LETTERS] or "somebody", client_of(agent), mart, metric)
            if key not in self._counts and len(self._counts) >= _MOST_AT_ONCE:
                key = (key[0], "others", "others", mart, None)
            self._counts[key] += 1
            self._last[key] = now

    def taken(self) -> Mapping[Key, tuple[int, datetime]]:
        """What was counted since the last time."""
        with self._lock:
            counted = {key: (count, self._last[key]) for key, count in self._counts.items()}
            self._counts.clear()
            self._last.clear()
            return counted


def client_of(agent: str) -> str:
    """The program, by the beginning of its User-Agent; `browser` for one of those that all begin alike.

    >>> client_of("python-requests/2.32.3"), client_of("Mozilla/5.0 (X11; Linux)"), client_of("")
    ('python-requests', 'browser', 'unknown')
    """
    name = agent.split("/", 1)[0].split(" ", 1)[0].strip()
    told = "".join(sign for sign in name if sign.isprintable())[:_LETTERS]
    return "browser" if told == "Mozilla" else told or "unknown"


def put_down(con: duckdb.DuckDBPyConnection, counted: Mapping[Key, tuple[int, datetime]], now: datetime) -> None:
    """Adds what was counted, in a transaction of `con`, and forgets what is too old or too much."""
    for (day, reader, client, mart, metric), (count, last_at) in counted.items():
        values = {"day": day, "reader": reader, "client": client, "mart": mart, "metric": metric}
        same = " and ".join(f"{name} is not distinct from ${name}" for name in values)
        updated = con.execute(
            f"update governance.reads set reads = reads + $count, last_at = $last_at where {same} returning true",
            values | {"count": count, "last_at": last_at},
        ).fetchall()
        if not updated:
            con.execute(
                "insert into governance.reads values ($day, $reader, $client, $mart, $metric, $count, $last_at)",
                values | {"count": count, "last_at": last_at},
            )
    con.execute("delete from governance.reads where day < ?", [(now - KEPT).astimezone(UTC).date()])
    con.execute(
        "delete from governance.reads where rowid in "
        "(select rowid from governance.reads order by last_at desc, rowid offset $most)",
        {"most": MOST},
    )


def reads(con: duckdb.DuckDBPyConnection) -> list[Read]:
    """Who read what, over all days that are kept, the most eager first."""
    rows = con.execute(
        "select reader, client, mart, metric, sum(reads)::bigint, max(last_at) from governance.reads "
        "group by all order by sum(reads) desc, reader, client, mart, metric"
    ).fetchall()
    return [Read(*row) for row in rows]
