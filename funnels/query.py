"""Answers a funnel from the warehouse: SQL picks the events (funnels/rows.py), a compiled pass follows the subjects
through them (funnels/walk.py), and what became of them is counted (funnels/answer.py)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import duckdb

from funnels.answer import conversion_times, parts_of, steps_of
from funnels.definition import FunnelDefinition
from funnels.result import FunnelResult, PreviousPeriod
from funnels.rows import Asked, read_rows, rules_of, time_of
from funnels.walk import walk

_AS_OF: Final = "select epoch_us(min(watermark)) from stream.progress"

Reads = Callable[[duckdb.DuckDBPyConnection, FunnelDefinition], Asked]
"""Brings the rows of a funnel."""


def run_funnel(
    con: duckdb.DuckDBPyConnection,
    definition: FunnelDefinition,
    as_of: datetime | None = None,
    reads: Reads = read_rows,
) -> FunnelResult:
    """How many subjects got how far through `definition`, from what the warehouse holds now.

    `as_of` (aware) says up to when the events are known, and so which windows are over; by default it is the lowest
    watermark of the partitions that have one. It hides no event.
    """
    as_of = as_of or known_until(con)
    asked = reads(con, definition)
    entries = walk(asked.rows, rules_of(definition))
    return FunnelResult(
        steps=steps_of(entries, definition, as_of),
        as_of=as_of,
        breakdown=parts_of(entries, asked.shown, definition, as_of) if definition.breakdown else (),
        conversion_seconds=conversion_times(entries, definition),
        previous=_previous(con, definition, as_of, reads),
    )


def known_until(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """Up to when the events are known: the lowest watermark. Ask before the events: a window that is over by it is one
    of which they tell all."""
    (watermark,) = con.execute(_AS_OF).fetchone() or (None,)
    return None if watermark is None else time_of(watermark)


def _previous(
    con: duckdb.DuckDBPyConnection, definition: FunnelDefinition, as_of: datetime | None, reads: Reads
) -> PreviousPeriod | None:
    if definition.compare is None or definition.since is None or definition.until is None:
        return None
    since, until = _period_before(definition.since, definition.until, ZoneInfo(definition.time_zone)), definition.since
    before = definition.model_copy(update={"since": since, "until": until, "breakdown": None})
    entries = walk(reads(con, before).rows, rules_of(before))
    return PreviousPeriod(since=since, until=until, steps=steps_of(entries, before, as_of))


def _period_before(since: datetime, until: datetime, zone: ZoneInfo) -> datetime:
    """When the period before begins: as many days earlier if it is one of whole days, else as long before."""
    first, end = since.astimezone(zone), until.astimezone(zone)
    if first.time() == end.time() == datetime.min.time():
        return datetime.combine(first.date() - (end.date() - first.date()), first.time(), zone).astimezone(UTC)
    return since - (until - since)
