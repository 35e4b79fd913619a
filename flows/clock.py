"""Event time: how far a partition has come, and when nothing older is expected any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

DEFAULT_REORDER_WINDOW = timedelta(seconds=60)
"""Mobile SDKs flush every 20 to 30 seconds; two flushes late is still usual, more is not."""


@dataclass(frozen=True, slots=True)
class PartitionClock:
    """Where one partition stands in event time. Both are None before its first event."""

    greatest_event_at: datetime | None = None
    watermark: datetime | None = None

    def saw(self, event_at: datetime, reorder_window: timedelta) -> PartitionClock:
        """After events of which the greatest has this event_at: the watermark never moves back."""
        greatest = event_at if self.greatest_event_at is None else max(self.greatest_event_at, event_at)
        return replace(self, greatest_event_at=greatest)._at_least(_minus(greatest, reorder_window))

    def at_end(self, now: datetime, last_kafka_at: datetime | None, reorder_window: timedelta) -> PartitionClock:
        """At the end of the partition, and only there, the watermark moves with the wall clock, so that the last
        sessions of a quiet topic close; by the time since the last record, so that a paused backfill of old events
        is not made late. A partition never used holds nothing up.
        """
        if self.greatest_event_at is None:
            return self._at_least(now - reorder_window)
        if last_kafka_at is None:
            return self
        quiet = max(now - last_kafka_at, timedelta())
        return self._at_least(min(_minus(self.greatest_event_at, reorder_window - quiet), now - reorder_window))

    def _at_least(self, watermark: datetime) -> PartitionClock:
        return replace(self, watermark=watermark if self.watermark is None else max(self.watermark, watermark))


def _minus(time: datetime, span: timedelta) -> datetime:
    """`time` − `span`, held inside the years 1 to 9999."""
    try:
        return time - span
    except OverflowError:
        if span > timedelta():
            return datetime.min.replace(tzinfo=time.tzinfo)
        return datetime.max.replace(tzinfo=time.tzinfo)
