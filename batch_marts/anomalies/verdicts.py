"""What a rule says of one value of one metric: the common word between detection and incidents. Pure.

A value is a day of mart_daily_metrics, or an hour or five minutes of the stream; its `segment` is 'all' for the whole,
else 'dimension=value'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Said = Literal["normal", "anomaly", "too_few", "quiet", "waiting"]
"""`too_few`: less history than the rule asks for. `quiet`: a planned window. `waiting`: the data is not all there."""
Grain = Literal["day", "hour", "five_minutes"]


@dataclass(frozen=True, slots=True)
class Part:
    """How much of a change one segment explains."""

    segment: str
    actual: float
    expected: float
    share: float
    """Of the whole change; of several segments of one dimension they add up to about 1."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One value, judged. Times are aware UTC."""

    metric: str
    segment: str
    grain: Grain
    at: datetime
    """When the day, the hour or the five minutes began."""
    said: Said
    rule: str
    """base or seasonal."""
    actual: float | None
    expected: float | None
    """The baseline's middle: mean or median."""
    low: float | None
    high: float | None
    """The expected range."""
    z: float | None
    """|actual - expected| in the rule's own deviations; null where the deviation is 0."""
    baseline: int
    """Values in the baseline."""
    because: str
    """In words, with the rule's numbers."""
    unusual: str = ""
    """How unusual, in words: 'lowest Tuesday in 9 weeks'."""
    parts: tuple[Part, ...] = field(default=())
    """The segments that explain most of the change, the greatest first."""
