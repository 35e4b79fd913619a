"""How the values of a metric are judged, as people write it in metrics.yml. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from stitchline.definitions import Part, Since, Until

Rule = Literal["base", "seasonal"]
Direction = Literal["drops", "rises", "both"]

THRESHOLDS: Final[dict[Rule, float]] = {"base": 2.5, "seasonal": 3.0}
"""Deviations from the expected value that are an anomaly, unless set; docs/decisions/0019-seasonal-rule.md says why."""
LEAST_RELATIVE_CHANGES: Final[dict[Rule, float]] = {"base": 0.0, "seasonal": 0.1}
"""Changes relative to the expected value that have to be exceeded, unless set."""

_Change = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Quiet(Part):
    """A time whose values say nothing: a holiday, a planned campaign. They are neither judged nor learned from."""

    start: Since
    end: Until
    """A plain date is the last day."""
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Quiet:
        if self.start is None or self.end is None:
            raise ValueError("a quiet time has a `start` and an `end`")
        if self.start >= self.end:
            raise ValueError("it ends before it starts: move `start` or `end`")
        return self


class Rolling(Part):
    """How the counts of the stream are judged while the day runs. They are many, so only what is plain is told."""

    threshold: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Deviations; counting noise is part of them."""
    least_change: _Change = 20.0
    """Events."""
    least_relative_change: _Change = 0.2


class Anomaly(Part):
    """How a metric's values are judged. A change has to exceed threshold, least change and least relative change."""

    rule: Rule | Literal["none"] = "seasonal"
    """`none`: never."""
    threshold: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Deviations from the expected value; without it, THRESHOLDS."""
    least_change: _Change = 0.0
    """In the metric's unit."""
    least_relative_change: _Change | None = None
    """Relative to the expected value: 0.1 is 10 %; without it, LEAST_RELATIVE_CHANGES."""
    direction: Direction = "both"
    counts: bool = False
    """Whether its values count what comes by chance: by the seasonal rule they then vary by the square root of what is
    expected, at least."""
    segments: int = Field(default=0, ge=0, le=100)
    """So many of its segments, the greatest ones, are judged as well, each by itself."""
    settled_after: int = Field(default=0, ge=0, le=90)
    """Days for which a day's value still grows; it is judged after them."""
    quiet: tuple[Quiet, ...] = ()
    rolling: Rolling | None = Rolling()

    @property
    def deviations(self) -> float:
        """Its threshold, set or not."""
        return self.threshold if self.threshold is not None else THRESHOLDS[self._rule]

    @property
    def relative(self) -> float:
        """Its least relative change, set or not."""
        return LEAST_RELATIVE_CHANGES[self._rule] if self.least_relative_change is None else self.least_relative_change

    @property
    def _rule(self) -> Rule:
        return "seasonal" if self.rule == "none" else self.rule
