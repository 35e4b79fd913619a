"""How often events happen, or how many people do them, by hour, day or week."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from funnels.answer import OTHER, by_text
from funnels.calendar import Interval, begins, edges_of
from funnels.conditions import FieldName
from funnels.definition import MAX_PARTS, MAX_STEPS, FunnelDefinition, Step, TimeZone, check_some_time, in_time_zone
from funnels.query import known_until
from funnels.rows import MICROSECOND, read_rows
from stitchline.definitions import Name, Part, Since, Until


class TrendDefinition(Part):
    """Events to count by time. Each event is a series of its own, or several with a breakdown.

    A time from `since` to before `until` counts; without `until` it is all that is known.
    """

    name: Name = "trend"
    events: tuple[Step, ...] = Field(min_length=1, max_length=MAX_STEPS)
    measure: Literal["events", "subjects"] = "events"
    by: Literal["person", "session", "device"] = "person"
    interval: Interval = "day"
    breakdown: FieldName | None = None
    top: int = Field(default=50, ge=1, le=MAX_PARTS)
    time_zone: TimeZone = "UTC"
    since: Since
    until: Until = None

    _in_time_zone = field_validator("since", "until", mode="before")(in_time_zone)

    @model_validator(mode="after")
    def _some_time_between(self) -> TrendDefinition:
        if self.since is None:
            raise ValueError("since is missing: say from when on to count")
        check_some_time(self.since, self.until, "event")
        return self


class Series(BaseModel):
    """One line of a trend."""

    model_config = ConfigDict(frozen=True)

    event: str = Field(description="The event, or those of a step, that are counted.")
    value: str | None = Field(description="The breakdown's value; (none) where there is none; null without breakdown.")
    counts: tuple[int, ...] = Field(description="Of each period.")
    total: int = Field(description="Of the whole time: each subject once, where subjects are counted.")


class TrendResult(BaseModel):
    """Counts by period. With a breakdown the series of an event are the largest first, and (other) last."""

    model_config = ConfigDict(frozen=True)

    periods: tuple[datetime, ...] = Field(description="When each begins, UTC.")
    series: tuple[Series, ...]
    as_of: datetime | None = Field(description="Up to when the events are known.")


def run_trend(con: duckdb.DuckDBPyConnection, definition: TrendDefinition) -> TrendResult:
    """What `definition` counts, from what the warehouse holds now. Raises DefinitionError for too many periods."""
    as_of = known_until(con)
    since = definition.since
    assert since is not None
    # What happened at the last instant that is known counts.
    until = definition.until or max(as_of or since, since) + MICROSECOND
    zone = ZoneInfo(definition.time_zone)
    times = begins(since, until, definition.interval, zone)
    asked = read_rows(con, _rows_of(definition, since, until))
    rows = asked.rows
    periods = np.searchsorted(edges_of(times), rows.micros, side="right") - 1
    in_time = (rows.micros >= edges_of([since])[0]) & (rows.micros < edges_of([until])[0])
    codes, names = by_text(rows.values, asked.shown)
    series: list[Series] = []
    for place, step in enumerate(definition.events):
        chosen = in_time & (rows.fills >> place & 1 == 1)
        parts: list[tuple[str | None, npt.NDArray[np.bool_]]] = [(None, chosen)]
        if definition.breakdown:
            parts = list(_parts(codes, names, chosen, definition.top))
        for value, some in parts:
            counts, total = _counted(rows.subjects[some], periods[some], len(times) - 1, definition.measure)
            series.append(Series(event=step.label, value=value, counts=counts, total=total))
    return TrendResult(periods=tuple(times[:-1]), series=tuple(series), as_of=as_of)


def _rows_of(definition: TrendDefinition, since: datetime, until: datetime) -> FunnelDefinition:
    """A funnel whose rows are the events that are counted."""
    return FunnelDefinition(
        steps=definition.events,
        order="any",
        window=timedelta(),
        by=definition.by,
        breakdown=definition.breakdown,
        since=since,
        until=until,
    )


def _parts(
    codes: npt.NDArray[np.int64], names: list[str], chosen: npt.NDArray[np.bool_], top: int
) -> list[tuple[str | None, npt.NDArray[np.bool_]]]:
    sizes = np.bincount(codes[chosen], minlength=len(names))
    ranked = sorted(np.flatnonzero(sizes), key=lambda code: (-sizes[code], names[code].encode(errors="surrogatepass")))
    parts: list[tuple[str | None, npt.NDArray[np.bool_]]] = []
    parts += [(names[code], chosen & (codes == code)) for code in ranked[:top]]
    if ranked[top:]:
        parts.append((OTHER, chosen & np.isin(codes, ranked[top:])))
    return parts


def _counted(
    subjects: npt.NDArray[np.uint64], periods: npt.NDArray[np.int64], count: int, measure: str
) -> tuple[tuple[int, ...], int]:
    """By period and altogether. Rows are subject by subject, and each subject's by time."""
    if measure == "events":
        return tuple(np.bincount(periods, minlength=count).tolist()), len(periods)
    is_other = np.ones(len(subjects), np.bool_)
    is_other[1:] = subjects[1:] != subjects[:-1]
    is_new = is_other.copy()
    is_new[1:] |= periods[1:] != periods[:-1]
    return tuple(np.bincount(periods[is_new], minlength=count).tolist()), int(is_other.sum())
