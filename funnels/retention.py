"""Who came back: subjects by when they first did something, and how many of them did something again, period by
period."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from funnels.calendar import begins, edges_of, next_begin
from funnels.definition import FunnelDefinition, Step, TimeZone
from funnels.query import known_until
from funnels.rows import read_rows
from stitchline.definitions import Name, Part, Since, Until, in_zone


class RetentionDefinition(Part):
    """What brings a subject into a cohort, and what counts as coming back.

    A subject is of the period of its first `start` event ever; cohorts from `since` to before `until` are shown,
    without `until` all that are known.
    """

    name: Name = "retention"
    start: Step
    back: Step
    by: Literal["person", "device"] = "person"
    interval: Literal["day", "week"] = "day"
    periods: int = Field(default=8, ge=1, le=400)
    time_zone: TimeZone = "UTC"
    since: Since
    until: Until = None

    @field_validator("since", "until", mode="before")
    @classmethod
    def _in_time_zone(cls, value: object, info: ValidationInfo) -> object:
        return in_zone(value, ZoneInfo(info.data.get("time_zone", "UTC")), is_end=info.field_name == "until")

    @model_validator(mode="after")
    def _some_time_between(self) -> RetentionDefinition:
        if self.since is None:
            raise ValueError("since is missing: say which cohort is the first")
        if self.until is not None and self.since >= self.until:
            raise ValueError("until is not after since: no cohort can lie between them; move one of them")
        return self


class Cohort(BaseModel):
    """Those who began in one period."""

    model_config = ConfigDict(frozen=True)

    begins_at: datetime = Field(description="When the period begins, UTC.")
    size: int
    back: tuple[int | None, ...] = Field(
        description="How many came back in the same period, after they began, in the next one, and so on; null of "
        "periods that are not over."
    )


class RetentionResult(BaseModel):
    """Cohorts, the earliest first."""

    model_config = ConfigDict(frozen=True)

    cohorts: tuple[Cohort, ...]
    as_of: datetime | None = Field(description="Up to when the events are known.")


def run_retention(con: duckdb.DuckDBPyConnection, definition: RetentionDefinition) -> RetentionResult:
    """How many of each cohort came back when, from what the warehouse holds now. Raises DefinitionError for too many
    periods."""
    as_of = known_until(con)
    since, zone, interval = definition.since, ZoneInfo(definition.time_zone), definition.interval
    assert since is not None
    until = definition.until or max(as_of or since, since) + timedelta(microseconds=1)
    cohorts = begins(since, until, interval, zone)
    times = list(cohorts)
    for _ in range(definition.periods):
        times.append(next_begin(times[-1], interval, zone))
    rows = read_rows(
        con,
        FunnelDefinition(steps=(definition.start, definition.back), order="any", window=timedelta(), by=definition.by),
    ).rows
    periods = np.searchsorted(edges_of(times), rows.micros, side="right") - 1
    is_start = rows.fills & 1 == 1
    starts = np.flatnonzero(is_start)
    first = starts[np.flatnonzero(np.diff(rows.subjects[starts], prepend=~rows.subjects[starts[:1]]))]
    inside = (rows.micros[first] >= edges_of([since])[0]) & (rows.micros[first] < edges_of([until])[0])
    began = np.full(len(rows.subjects), -1, np.int64)  # of each row, where its subject first began
    subject = np.cumsum(np.diff(rows.subjects, prepend=~rows.subjects[:1]) != 0) - 1
    of_subject = np.full(int(subject[-1]) + 1 if len(subject) else 0, -1, np.int64)
    of_subject[subject[first[inside]]] = first[inside]
    began = of_subject[subject]
    after = (began >= 0) & (rows.fills & 2 == 2) & (np.arange(len(began)) != began)
    after &= rows.micros >= rows.micros[np.maximum(began, 0)]
    some = np.flatnonzero(after)
    is_new = np.ones(len(some), np.bool_)  # once in each period; a subject's rows are by time
    is_new[1:] = (began[some][1:] != began[some][:-1]) | (periods[some][1:] != periods[some][:-1])
    some = some[is_new]
    cohort = periods[began[some]]
    later = periods[some] - cohort
    near = later <= definition.periods
    width = definition.periods + 1
    back = np.bincount(cohort[near] * width + later[near], minlength=(len(cohorts) - 1) * width)
    sizes = np.bincount(periods[first[inside]], minlength=len(cohorts) - 1)
    told = []
    for place, begin in enumerate(cohorts[:-1]):
        counts = back[place * width : (place + 1) * width].tolist()
        is_over = [as_of is not None and times[place + number + 1] <= as_of for number in range(width)]
        told.append(
            Cohort(
                begins_at=begin,
                size=int(sizes[place]),
                back=tuple(count if over else None for count, over in zip(counts, is_over, strict=True)),
            )
        )
    return RetentionResult(cohorts=tuple(told), as_of=as_of)
