"""The picture of an incident: the series, the range it was expected in, the values out of it. The same each time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from batch_marts.anomalies.numbers import amount, moment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, DPI = 8.0, 4.5, 120
"""Inches, and dots in one: as wide as a telephone shows a picture, with letters large enough to be read there."""
_LINE, _BAND, _OUT, _TEXT = "#1f4e79", "#9dc3e6", "#c00000", "#404040"
_LETTERS: Final = 15


@dataclass(frozen=True, slots=True)
class Series:
    """Values in order, each with the range it was expected in; None where there is none."""

    at: Sequence[datetime]
    actual: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]
    out: Sequence[bool]
    """Which of them the incident is about."""
    unit: str


def chart(series: Series, title: str) -> bytes:
    """A PNG of 960 × 540 pixels. Raises ValueError if there is no value, or the sequences are not of one length."""
    # Half a second, which every command would pay for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    lengths = {len(part) for part in (series.at, series.actual, series.low, series.high, series.out)}
    if lengths == {0} or len(lengths) != 1:
        raise ValueError("a chart needs values, and as many of each kind")
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    nan = float("nan")
    actual = [nan if value is None else value for value in series.actual]
    days = date2num(list(series.at))
    low, high = ([nan if value is None else value for value in part] for part in (series.low, series.high))
    axes.fill_between(days, low, high, color=_BAND, alpha=0.6, linewidth=0, label="expected")
    axes.plot(days, actual, color=_LINE, linewidth=2.5, label="actual")
    if len(actual) < 3:
        axes.plot(days, actual, "o", color=_LINE)
    out = [(at, value) for at, value, is_out in zip(days, actual, series.out, strict=True) if is_out]
    if out:
        axes.plot(*zip(*out, strict=True), "o", color=_OUT, markersize=11, label="out of range")
        at, value = out[-1]
        right = at > (days[0] + days[-1]) / 2
        axes.annotate(
            amount(value, series.unit),
            (at, value),
            xytext=(-14 if right else 14, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            color=_OUT,
            fontsize=_LETTERS + 2,
            fontweight="bold",
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5},
        )
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value, series.unit)))
    _leave_room(axes, series)
    axes.tick_params(labelsize=_LETTERS - 2, colors=_TEXT)
    axes.xaxis.get_offset_text().set(size=_LETTERS - 2, color=_TEXT)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(_cut(title), loc="left", fontsize=_LETTERS + 3, color=_TEXT, parse_math=False)
    axes.legend(loc="best", fontsize=_LETTERS - 3, frameon=False)
    told = io.BytesIO()
    canvas.print_png(told, metadata={"Software": None, "Description": f"{title}, until {moment(series.at[-1])}"})
    return told.getvalue()


def _leave_room(axes: Axes, series: Series) -> None:
    """Counts are shown from zero on, so that a fall looks as large as it is; shares and the like as they come."""
    values = [value for part in (series.actual, series.low, series.high) for value in part if value is not None]
    if values and min(values) >= 0 and min(values) < 0.6 * max(values):
        axes.set_ylim(bottom=0)
    if len(series.at) == 1:
        middle = sum(axes.get_xlim()) / 2
        axes.set_xlim(middle - 1, middle + 1)


def _short(value: float, unit: str) -> str:
    """A figure beside the axis: 12k, $1.5M, 4 %."""
    if unit == "share":
        return f"{value * 100:g} %"
    sign = "$" if unit == "USD" or (unit.startswith("USD per ") and unit != "USD per USD") else ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{sign}{value / size:g}{letter}"
    return f"{sign}{value:g}"


def _cut(title: str) -> str:
    return title if len(title) <= 52 else f"{title[:51]}…"
