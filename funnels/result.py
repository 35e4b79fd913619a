"""What a funnel's query answers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepResult(_Answer):
    """How many subjects (entries, where totals are counted) reached a step, and what became of them.

    Count = count of the next required step + dropped + still_open. At the last required step there is no next one, and
    an optional one is left without being lost, so both are 0 there.
    """

    step: str = Field(description="Name of the step, or its events; the steps stand in order.")
    count: int = Field(description="Subjects that reached the step.")
    conversion: float | None = Field(description="Part of the previous required step's count; null if that is 0.")
    conversion_low: float | None = Field(description="Lower end of its 95 % interval (Wilson); null at the first.")
    conversion_high: float | None = Field(description="Upper end of its 95 % interval (Wilson); null at the first.")
    conversion_from_start: float | None = Field(description="Part of the first step's count; null if that is 0.")
    dropped: int = Field(description="Reached this step, not the next, and their window is over.")
    still_open: int = Field(description="Reached this step, not the next, and their window is not over.")
    median_seconds: float | None = Field(description="From the previous required step, interpolated; null at first.")
    p90_seconds: float | None = Field(description="From the previous required step, interpolated; null at the first.")


class BreakdownResult(_Answer):
    """The funnel of the subjects that have this value."""

    value: str = Field(description="(none) where there is none; (other) for all values beyond the top ones.")
    steps: tuple[StepResult, ...]


class Bin(_Answer):
    """So many took so long: at least from_seconds, less than to_seconds."""

    from_seconds: float
    to_seconds: float
    count: int


class ConversionTimes(_Answer):
    """How long it took from the first step to the last required one, of those who got there."""

    median: float | None = Field(description="Seconds, interpolated; null where nobody got there.")
    p90: float | None = Field(description="Seconds, interpolated; null where nobody got there.")
    histogram: tuple[Bin, ...] = Field(description="Bars of one width from 0 on.")


class PreviousPeriod(_Answer):
    """The same funnel over the period before, as long as the one that was asked for."""

    since: datetime
    until: datetime
    steps: tuple[StepResult, ...]


class FunnelResult(_Answer):
    """The whole funnel and, if asked for, its parts, the largest first."""

    steps: tuple[StepResult, ...]
    as_of: datetime | None = Field(description="Up to when the events are known; null before the first event.")
    breakdown: tuple[BreakdownResult, ...]
    conversion_seconds: ConversionTimes | None = Field(description="Null for a funnel of one step.")
    previous: PreviousPeriod | None = Field(default=None, description="What compare asks for.")
