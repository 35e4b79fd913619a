"""What a funnel's query answers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepResult(_Answer):
    """How many subjects reached a step, and what became of them: count = next count + dropped + still_open.

    At the last step there is no next one, so both are 0 there.
    """

    step: str = Field(description="Name of the step's event; the steps stand in order.")
    count: int = Field(description="Subjects that reached the step.")
    conversion: float | None = Field(description="Part of the previous step's count; null if that is 0.")
    conversion_from_start: float | None = Field(description="Part of the first step's count; null if that is 0.")
    dropped: int = Field(description="Reached this step, not the next, and their window is over.")
    still_open: int = Field(description="Reached this step, not the next, and their window is not over.")
    median_seconds: float | None = Field(description="From the previous step, interpolated; null at the first.")
    p90_seconds: float | None = Field(description="From the previous step, interpolated; null at the first.")


class BreakdownResult(_Answer):
    """The funnel of the subjects whose entry began with this value."""

    value: str = Field(description="The value on the entry's first step, (none) where there is none.")
    steps: tuple[StepResult, ...]


class FunnelResult(_Answer):
    """The whole funnel and, if asked for, its parts, the largest first."""

    steps: tuple[StepResult, ...]
    as_of: datetime | None = Field(description="Up to when the events are known; null before the first event.")
    breakdown: tuple[BreakdownResult, ...]
