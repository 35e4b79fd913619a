"""What the store reads of the warehouse: small statements, and their answers as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from funnels.rows import time_of
from sinks.tables import registered

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

AT_ONCE: Final = 1_000_000
"""Rows that are taken from DuckDB together."""

_MOMENT: Final = """
select
    (select generation from stream.warehouse) as generation,
    (select count(*) from stream.forgotten) as forgotten,
    (select coalesce(bool_and(is_erased), true) from stream.forgotten) as is_erased,
    (select epoch_us(min(watermark)) from stream.progress) as as_of
"""

# As in the funnels' own SQL; a merge changes whom persons count to, which is looked up when it is asked.
_EVENTS: Final = """
select e.rowid as "row", hash(e.anonymous_id) as device, e.anonymous_id is null as no_device,
    hash(coalesce(o.person_id, e.person_id)) as person, coalesce(o.person_id, e.person_id) is null as no_person,
    hash(e.person_id) as committed, e.person_id is null as no_committed,
    e.anonymous_id is not null and (e.user_id is null or e.person_id is distinct from e.user_id) as is_free,
    e.type in ('track', 'page', 'screen') and not e.is_background as counts, e.is_bot,
    hash(e.name) as name, epoch_us(e.event_at) as micros, (hash(e.message_id) >> 32)::uinteger as message
from stream.events as e
left join stream.person_overrides as o
  on o.anonymous_id = case when e.user_id is null or e.person_id is distinct from e.user_id then e.anonymous_id end
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
where e.rowid >= $first
"""

_OVERRIDES: Final = """
select hash(anonymous_id) as device, epoch_us(from_at) as from_micros, epoch_us(to_at) as to_micros,
    hash(person_id) as person, from_message_id, to_message_id
from stream.person_overrides
where anonymous_id in (select unnest($devices))
order by device, from_micros
"""

_MESSAGES: Final = """
select rowid as "row", message_id, anonymous_id, event_at, "partition", "offset"
from stream.events
where rowid between $low and $high and rowid in (select "row" from asked_rows)
"""


_SAID: Final = """
select e.rowid as "row", {columns}
from stream.events as e
where e.rowid >= $first and e.rowid < $end and e.name in (select unnest($names)) and not e.is_bot and ({asked})
  and ($since::timestamptz is null or e.event_at >= $since) and ($until::timestamptz is null or e.event_at <= $until)
"""

_FOREVER: Final = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True)
class Span:
    """Times from `since` up to `until`, both in it, in microseconds since 1970."""

    since: int = _FOREVER.min
    until: int = _FOREVER.max

    def holds(self, other: Span) -> bool:
        """Whether all of `other` is in it."""
        return self.since <= other.since and other.until <= self.until

    def and_to(self, other: Span) -> Span:
        """The shortest one in which both are."""
        return Span(min(self.since, other.since), max(self.until, other.until))


@dataclass(frozen=True, slots=True)
class Moment:
    """What a connection sees: whether rows are still what they were, and up to when events are known."""

    generation: str
    forgotten: int
    is_erased: bool
    """Whether the file was written anew since somebody was forgotten; until then DuckDB may number rows anew."""
    as_of: int | None
    """Microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Columns of events as they are read; ids and names as hashes."""

    rows: Ints
    devices: Hashes
    no_device: Flags
    persons: Hashes
    no_person: Flags
    committed: Hashes
    no_committed: Flags
    is_free: Flags
    counts: Flags
    is_bot: Flags
    names: Hashes
    micros: Ints
    messages: npt.NDArray[np.uint32]


def moment(con: duckdb.DuckDBPyConnection) -> Moment:
    row = con.execute(_MOMENT).fetchone()
    assert row is not None
    return Moment(*row)


def events(con: duckdb.DuckDBPyConnection) -> int:
    """How many there are."""
    (count,) = con.execute("select count(*) from stream.events").fetchone() or (0,)
    return int(count)


def arrivals(con: duckdb.DuckDBPyConnection, first: int) -> Iterator[Arrival]:
    """The events from row `first` on, in any order."""
    for batch in con.execute(_EVENTS, {"first": first}).to_arrow_reader(AT_ONCE):
        if batch.num_rows:
            yield Arrival(*(_array(column) for column in batch.columns))


def overrides(con: duckdb.DuckDBPyConnection, devices: list[str]) -> pl.DataFrame:
    """What is laid over the events of `devices`: device and person as hashes, times in microseconds, by device."""
    return con.execute(_OVERRIDES, {"devices": devices}).pl()


def hashes(con: duckdb.DuckDBPyConnection, texts: list[str]) -> Hashes:
    """As the ids and names of `arrivals` are hashed."""
    found = con.execute("select hash(text) as h from (select unnest($texts::varchar[]) as text)", {"texts": texts})
    return np.asarray(found.fetchnumpy()["h"], np.uint64)


def bots(con: duckdb.DuckDBPyConnection) -> Hashes:
    """The devices that behave like bots, ascending."""
    found = con.execute("select distinct hash(anonymous_id) as h from stream.bot_devices").fetchnumpy()["h"]
    return np.sort(np.asarray(found, np.uint64))


def merges(con: duckdb.DuckDBPyConnection) -> tuple[Hashes, Hashes]:
    """Persons who count to others, ascending, and to whom."""
    found = con.execute(
        "select hash(person_id) as merged, hash(merged_into) as into from stream.person_merges order by merged"
    ).fetchnumpy()
    return np.asarray(found["merged"], np.uint64), np.asarray(found["into"], np.uint64)


def messages(con: duckdb.DuckDBPyConnection, rows: npt.NDArray[Any]) -> pl.DataFrame:
    """row, message_id, anonymous_id, event_at, partition and offset of `rows`."""
    with registered(con, "asked_rows", pa.table({"row": rows.astype(np.int64)})):
        return con.execute(_MESSAGES, {"low": int(rows.min()), "high": int(rows.max())}).pl()


@dataclass(frozen=True, slots=True)
class Said:
    """What SQL says of events: `columns` by name, of those of which `asked` is true; `bound` are the values in them."""

    columns: Mapping[str, str]
    asked: str
    bound: Mapping[str, object]

    def of(
        self, con: duckdb.DuckDBPyConnection, names: Iterable[str], span: Span, first: int, end: int
    ) -> Iterator[pa.RecordBatch]:
        """row and these columns of the events of `names` in `span` from row `first` to before `end`, in any order."""
        columns = ", ".join(f"{sql} as {name}" for name, sql in self.columns.items())
        times = {
            "since": None if span.since == _FOREVER.min else time_of(span.since),
            "until": None if span.until == _FOREVER.max else time_of(span.until),
        }
        asked = {**self.bound, **times, "names": sorted(names), "first": first, "end": end}
        yield from con.execute(_SAID.format(columns=columns, asked=self.asked), asked).to_arrow_reader(AT_ONCE)


def _array(column: pa.Array) -> npt.NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)
