"""How far behind each partition of the topic is, in records and in time. Pure: what was seen, and when, comes in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from sinks.warehouse import Progress

BEHIND: Final = timedelta(seconds=10)
"""A partition further behind than this is behind."""

_AT_ITS_END: Final = BEHIND / 2
"""And one less behind than this is at its end. Between the two it stays what it was: the word does not waver."""

Standing = Literal["behind", "at its end"]


@dataclass
class Ends:
    """Where the partitions of one topic end, as they were last looked up. Times are aware UTC."""

    _end: dict[int, int] = field(default_factory=dict)
    _began_at: dict[int, datetime] = field(default_factory=dict)
    _reached_at: dict[int, datetime] = field(default_factory=dict)
    _standing: dict[int, Standing] = field(default_factory=dict)

    def of(self, p: Progress) -> int:
        """The offset that the next record of the partition will have, or had when it was last looked up."""
        return max(self._end.get(p.partition, 0), p.next_offset)

    def total(self) -> int:
        return sum(self._end.values())

    def lag(self, p: Progress, now: datetime) -> tuple[int, timedelta]:
        """So many records are not committed yet, and the oldest of them has waited for so long at most.

        It is younger than the last record that was committed, and than the last look that found everything committed.
        """
        records = self.of(p) - p.next_offset
        if not records:
            return 0, timedelta()
        known = (p.last_kafka_at, self._reached_at.get(p.partition))
        since = max((at for at in known if at is not None), default=self._began_at[p.partition])
        return records, max(now - since, timedelta())

    def look(self, p: Progress, end: int, now: datetime) -> Standing | None:
        """Learns that the partition ends at `end`. Returns how it stands now, if that is another than before."""
        self._end[p.partition] = end
        self._began_at.setdefault(p.partition, now)
        if p.next_offset >= end:
            self._reached_at[p.partition] = now
        _, lag = self.lag(p, now)
        standing: Standing | None = None
        if lag > BEHIND:
            standing = "behind"
        elif lag <= _AT_ITS_END and (p.last_kafka_at is not None or p.partition in self._reached_at):
            standing = "at its end"
        if standing is None or standing == self._standing.get(p.partition):
            return None
        self._standing[p.partition] = standing
        return standing
