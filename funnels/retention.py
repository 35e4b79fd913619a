"""Who came back: subjects by when they first did something, and how many of them did something again, period by
period."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from funnels.calendar import begins, edges_of, next_begin
from funnels.definition import FunnelDefinition, Step, TimeZone, check_some_time, in_time_zone
from funnels.passes import Ints
from funnels.query import known_until
from funnels.rows import MICROSECOND, micros_of, read_rows
from funnels.walk import Rows
from stitchline.definitions import Name, Part, Since, Until


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

    _in_time_zone = field_validator("since", "until", mode="before")(in_time_zone)

    @model_validator(mode="after")
    def _some_time_between(self) -> RetentionDefinition:
        if self.since is None:
            raise ValueError("since is missing: say which cohort is the first")
        check_some_time(self.since, self.until, "cohort")
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
    since, zone = definition.since, ZoneInfo(definition.time_zone)
    assert since is not None
    until = definition.until or max(as_of or since, since) + MICROSECOND
    cohorts = begins(since, until, definition.interval, zone)
    times = list(cohorts)
    for _ in range(definition.periods):
        times.append(next_begin(times[-1], definition.interval, zone))
    both = (definition.start, definition.back)
    rows = read_rows(con, FunnelDefinition(steps=both, order="any", window=timedelta(), by=definition.by)).rows
    first, back = _first_and_back(rows, micros_of(since), micros_of(until))
    # By period, counted from the first cohort's on; what lies behind the last one that is asked for is of none.
    edges = edges_of(times)
    began = np.searchsorted(edges, rows.micros[first], side="right") - 1
    cohort = np.searchsorted(edges, rows.micros[back[:, 0]], side="right") - 1
    later = np.searchsorted(edges, rows.micros[back[:, 1]], side="right") - 1 - cohort
    returned = np.unique(np.stack([back[:, 0], cohort, later], axis=1), axis=0)  # once in each period
    told = np.zeros((len(cohorts) - 1, len(times)), np.int64)
    np.add.at(told, (returned[:, 1], returned[:, 2]), 1)
    sizes = np.bincount(began, minlength=len(cohorts) - 1)
    return RetentionResult(
        cohorts=tuple(
            Cohort(
                begins_at=begin,
                size=int(sizes[place]),
                back=tuple(
                    int(told[place, later]) if as_of is not None and times[place + later + 1] <= as_of else None
                    for later in range(definition.periods + 1)
                ),
            )
            for place, begin in enumerate(cohorts[:-1])
        ),
        as_of=as_of,
    )


def _first_and_back(rows: Rows, since: int, until: int) -> tuple[Ints, Ints]:
    """The row of each subject's first start, if it lies from `since` to before `until`; and each of those with a row
    of coming back: int64[rows, 2]. Of `rows` bit 0 says what can be a start, bit 1 what can be a coming back."""
    subjects = np.cumsum(np.diff(rows.subjects, prepend=rows.subjects[:1]) != 0)
    starts = np.flatnonzero(rows.fills & 1)
    _, places = np.unique(subjects[starts], return_index=True)
    first = starts[places]
    first = first[(rows.micros[first] >= since) & (rows.micros[first] < until)]
    began = np.full(int(subjects[-1]) + 1 if len(subjects) else 0, -1, np.int64)
    began[subjects[first]] = first
    back = np.flatnonzero((rows.fills & 2 != 0) & (began[subjects] >= 0))
    of = began[subjects[back]]
    after = (back != of) & (rows.micros[back] >= rows.micros[of])
    return first, np.stack([of[after], back[after]], axis=1)
