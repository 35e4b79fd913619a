"""A warehouse with the events of some weeks, around one time of day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from sinks.warehouse import Progress, Warehouse, save_progress

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
"""A Tuesday."""
SHARES = {"/": 0.6, "/pricing": 0.25, "/about": 0.15}

Kept = Callable[[pa.Table], "np.ndarray"]


class Stream:
    """Page views of a site, day by day the same but for chance, the week and what a test does to it."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self._random = np.random.default_rng(11)
        self._sent = 0

    def views(
        self,
        since: datetime,
        until: datetime,
        an_hour: float,
        *,
        lost: dict[str, float] | None = None,
        partition: int = 0,
    ) -> None:
        """Views at `an_hour` of all paths together, of which the share `lost` of a path, on mobiles, does not come."""
        lost = lost or {}
        week = {5: 0.7, 6: 0.7}.get(since.weekday(), 1.0)
        number = int(self._random.poisson(an_hour * week * (until - since) / timedelta(hours=1)))
        seconds = np.sort(self._random.uniform(0, (until - since).total_seconds(), number))
        path = self._random.choice(list(SHARES), number, p=list(SHARES.values()))
        device = np.where(self._random.random(number) < 0.6, "mobile", "desktop")
        mobile_share = np.array([lost.get(one, 0.0) / 0.6 for one in path])
        kept = ~((device == "mobile") & (self._random.random(number) < mobile_share))
        at = [since + timedelta(seconds=float(one)) for one in seconds[kept]]
        self._store(at, path[kept].tolist(), device[kept].tolist(), partition)

    def _store(self, at: list[datetime], path: list[str], device: list[str], partition: int) -> None:
        numbers = range(self._sent, self._sent + len(at))
        self._sent += len(at)
        table = pa.table(
            {
                "message_id": [f"m{number}" for number in numbers],
                "anonymous_id": [f"a{7919 * number % 5000}" for number in numbers],
                "event_at": pa.array(at, pa.timestamp("us", tz="UTC")),
                "path": path,
                "device_type": device,
            }
        )
        with self.warehouse.transaction() as con:
            con.register("sent", table)
            con.execute(_INSERT, [partition])
            con.unregister("sent")

    def known_until(self, *watermarks: datetime) -> None:
        """The watermark of each partition; its greatest event is what is stored of it."""
        with self.warehouse.transaction() as con:
            rows = []
            for partition, watermark in enumerate(watermarks):
                row = con.execute(
                    'select max(event_at) from stream.events where "partition" = $1', [partition]
                ).fetchone()
                assert row is not None
                greatest = row[0].astimezone(UTC)
                rows.append(
                    Progress("events", partition, watermark=watermark, greatest_event_at=greatest, committed_at=NOON)
                )
            save_progress(con, rows)


@contextmanager
def stream_of(
    folder: Path, *, weeks: int = 9, an_hour: float = 2400, today: Callable[[Stream], None] | None = None
) -> Iterator[tuple[Stream, duckdb.DuckDBPyConnection]]:
    """Views from two and a half hours before noon to an hour and a half after it, of the days before NOON's."""
    with Warehouse.open(folder / "w.duckdb", threads=1) as warehouse:
        stream = Stream(warehouse)
        for days in range(weeks * 7, 0, -1):
            noon = NOON - timedelta(days=days)
            stream.views(noon - timedelta(hours=2.5), noon + timedelta(hours=1.5), an_hour)
        if today is not None:
            today(stream)
        with warehouse.reader() as con:
            yield stream, con


_INSERT = """
insert into stream.events (
    message_id, type, name, anonymous_id, event_at, received_at, path, device_type, properties, context, clock_skewed,
    is_bot, is_background, "partition", "offset"
)
select message_id, 'page', 'Page Viewed', anonymous_id, event_at, event_at, path, device_type, '{}', '{}', false, false,
    false, $1, 0
from sent
"""
