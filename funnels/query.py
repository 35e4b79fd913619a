"""Answers a funnel from the warehouse: SQL picks the events (funnels/rows.py), a compiled pass follows the subjects
through them (funnels/walk.py), and what became of them is counted (funnels/answer.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import duckdb

from funnels.answer import conversion_times, parts_of, steps_of, tally_of
from funnels.definition import FunnelDefinition
from funnels.result import FunnelResult, PreviousPeriod
from funnels.rows import read_rows, rules_of, time_of
from funnels.tally import Counted
from funnels.walk import Entries, walk

_AS_OF: Final = "select epoch_us(min(watermark)) from stream.progress"

Follows = Callable[[duckdb.DuckDBPyConnection, FunnelDefinition], tuple[Entries, Sequence[str]]]
"""Says what became of a funnel's subjects, and the text of each code of its breakdown's values."""


def follow(con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> tuple[Entries, Sequence[str]]:
    """What became of the subjects of `definition`, by the rows that SQL brings."""
    asked = read_rows(con, definition)
    return walk(asked.rows, rules_of(definition)), asked.shown


def run_funnel(
    con: duckdb.DuckDBPyConnection,
    definition: FunnelDefinition,
    as_of: datetime | None = None,
    follows: Follows = follow,
) -> FunnelResult:
    """How many subjects got how far through `definition`, from what the warehouse holds now.

    `as_of` (aware) says up to when the events are known, and so which windows are over; by default it is the lowest
    watermark of the partitions that have one. It hides no event.
    """
    as_of = as_of or known_until(con)
    entries, shown = follows(con, definition)
    return answer(entries, shown, definition, as_of, _previous(con, definition, as_of, follows))


def answer(
    entries: Entries,
    shown: Sequence[str],
    definition: FunnelDefinition,
    as_of: datetime | None,
    previous: PreviousPeriod | None = None,
    counted: Counted | None = None,
) -> FunnelResult:
    """What `entries` say of `definition`; `shown` are the texts of the values' codes. `counted` counts the entries, if
    it was kept."""
    told = tally_of(entries, definition, as_of, counted)
    return FunnelResult(
        steps=steps_of(told, definition),
        as_of=as_of,
        breakdown=parts_of(entries, shown, definition, as_of) if definition.breakdown else (),
        conversion_seconds=conversion_times(entries, told, definition),
        previous=previous,
    )


def known_until(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """Up to when the events are known: the lowest watermark. Ask before the events: a window that is over by it is one
    of which they tell all."""
    (watermark,) = con.execute(_AS_OF).fetchone() or (None,)
    return None if watermark is None else time_of(watermark)


def _previous(
    con: duckdb.DuckDBPyConnection, definition: FunnelDefinition, as_of: datetime | None, follows: Follows
) -> PreviousPeriod | None:
    if definition.compare is None or definition.since is None or definition.until is None:
        return None
    since, until = _period_before(definition.since, definition.until, ZoneInfo(definition.time_zone)), definition.since
    before = definition.model_copy(update={"since": since, "until": until, "breakdown": None})
    entries, _ = follows(con, before)
    return PreviousPeriod(since=since, until=until, steps=steps_of(tally_of(entries, before, as_of), before))


def _period_before(since: datetime, until: datetime, zone: ZoneInfo) -> datetime:
    """When the period before begins: as many days earlier if it is one of whole days, else as long before."""
    first, end = since.astimezone(zone), until.astimezone(zone)
    if first.time() == end.time() == datetime.min.time():
        return datetime.combine(first.date() - (end.date() - first.date()), first.time(), zone).astimezone(UTC)
    return since - (until - since)
