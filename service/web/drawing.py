"""Small charts as SVG, drawn by the server: they are there with the first paint, and need no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """Paths in a box of `width` by `height`: the line, and the area below it."""

    width: int
    height: int
    path: str
    area: str


def line(values: Sequence[float | None], width: int = 120, height: int = 28) -> Line | None:
    """The line through `values`, from 0 or their least to their greatest; None for fewer than two.

    >>> line([0, 2, None, 1], width=30, height=20).path
    'M0,18 10,2M30,10'
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    low, high = min(*known, 0.0), max(known)
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    runs: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            runs.append([])
        else:  # a margin keeps the stroke inside
            y = 2 + (height - 4) * (1 - (value - low) / span)
            runs[-1].append(f"{at * step:g},{y:.3g}")
    runs = [run for run in runs if run]
    path = "".join(f"M{' '.join(run)}" for run in runs)
    floor = f"{height:g}"
    area = "".join(
        f"M{run[0].split(',')[0]},{floor} {' '.join(run)} {run[-1].split(',')[0]},{floor}Z"
        for run in runs
        if len(run) > 1
    )
    return Line(width, height, path, area)


def lines(series: Sequence[Sequence[float]], width: int, height: int) -> list[str]:
    """A path for each of `series`, all on one scale from 0 to their greatest value; a point is a short stroke.

    >>> lines([[0, 4], [2, 2]], width=10, height=24)
    ['M0,22 10,2', 'M0,12 10,12']
    """
    greatest = max((value for values in series for value in values), default=0) or 1
    paths = []
    for values in series:
        step = width / max(1, len(values) - 1)
        points = [f"{at * step:g},{2 + (height - 4) * (1 - value / greatest):g}" for at, value in enumerate(values)]
        paths.append(f"M{' '.join(points)}" + ("h4" if len(points) == 1 else ""))
    return paths


@dataclass(frozen=True, slots=True)
class Interval:
    """Where an estimate and the ends of its interval lie on a scale, from 0 to 100, and where nothing changes."""

    low: float
    middle: float
    high: float
    zero: float


def interval(low: float, middle: float, high: float, reach: float) -> Interval:
    """On a scale from -reach to reach; what lies beyond is at its end.

    >>> interval(-0.05, 0.05, 0.3, reach=0.2)
    Interval(low=37.5, middle=62.5, high=100.0, zero=50.0)
    """

    def place(value: float) -> float:
        return round(50 + 50 * max(-1.0, min(1.0, value / reach)), 2)

    return Interval(place(low), place(middle), place(high), 50.0)
