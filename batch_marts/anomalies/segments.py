"""Where a change comes from: the fewest segments of a metric that explain most of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from batch_marts.anomalies.verdicts import Part

MOST: Final = 0.8
"""The share of a change that is enough to explain it."""
AT_MOST: Final = 5
"""Segments that are named."""
LEAST_SHARE: Final = 0.05
"""What explains less is not named."""
TELLING: Final = 0.1
"""Of the change more than of the whole, on average: what a second dimension has to have to be named as well."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment had and what it was expected to have. `weight` is 1 for what adds up, and for a ratio what it is
    divided by: the segment's part of the whole."""

    segment: str
    actual: float
    expected: float
    weight: float = 1.0

    @property
    def change(self) -> float:
        return (self.actual - self.expected) * self.weight

    @property
    def dimension(self) -> str:
        return self.segment.partition("=")[0]


def explain(segments: Iterable[Segment], is_drop: bool) -> tuple[Part, ...]:
    """The fewest of `segments` that explain most of a fall, or of a rise, the greatest share first.

    Of several dimensions, that one counts which says most, and any other that says something, too: whose named segments
    have a greater share of the change than of the whole. Shares are of the change of all segments of the dimension.
    Empty if they did not change in that direction.
    """
    by_dimension: dict[str, list[Segment]] = {}
    for one in segments:
        by_dimension.setdefault(one.dimension, []).append(one)
    named = {dimension: _named(those, is_drop) for dimension, those in sorted(by_dimension.items())}
    beyond = {dimension: _beyond(parts, by_dimension[dimension]) for dimension, parts in named.items() if parts}
    telling = sorted(beyond, key=lambda dimension: -beyond[dimension])
    told = [
        part
        for i, dimension in enumerate(telling)
        if not i or beyond[dimension] >= TELLING
        for part in named[dimension]
    ]
    return tuple(sorted(told[:AT_MOST], key=lambda part: (-part.share, part.segment)))


def _named(segments: Sequence[Segment], is_drop: bool) -> tuple[Part, ...]:
    whole = sum(one.change for one in segments)
    if whole == 0 or (whole < 0) != is_drop:
        return ()
    shares = sorted(((one.change / whole, one) for one in segments), key=lambda pair: (-pair[0], pair[1].segment))
    parts: list[Part] = []
    for share, one in shares[:AT_MOST]:
        if share < LEAST_SHARE or sum(part.share for part in parts) >= MOST:
            break
        parts.append(Part(one.segment, one.actual, one.expected, share))
    return tuple(parts)


def _beyond(parts: Sequence[Part], segments: Sequence[Segment]) -> float:
    """How much more of the change than of the whole the named segments have, for each of them."""
    sizes: Mapping[str, float] = {one.segment: abs(one.expected * one.weight) for one in segments}
    whole = sum(sizes.values()) or 1.0
    return sum(part.share - sizes[part.segment] / whole for part in parts) / len(parts)
