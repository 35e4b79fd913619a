"""A funnel's answer as the page shows it: steps with their bars, parts, the period before, times, and as a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

from funnels import FunnelDefinition, FunnelResult
from funnels.people import Behind, Page, State
from funnels.result import StepResult
from service.web import readings, wording

FEW: Final = 200
"""Subjects at the step before: with fewer, the interval of a conversion is wide enough to be shown."""

PARTS_SHOWN: Final = 200
"""Rows of a breakdown on the page; the downloads have all of them."""

CSV_COLUMNS: Final = (
    *("value", "step_number", "step", "count", "conversion", "conversion_low", "conversion_high"),
    *("conversion_from_start", "dropped", "still_open", "median_seconds", "p90_seconds"),
)


def shown(definition: FunnelDefinition, result: FunnelResult) -> dict[str, Any]:
    """What the template draws."""
    first = result.steps[0].count
    before = result.previous.steps if result.previous else (None,) * len(result.steps)
    names = readings.step_names(definition)
    steps = [
        _step(at, name, step, earlier, first, definition)
        for at, (name, step, earlier) in enumerate(zip(names, result.steps, before, strict=True))
    ]
    required = [at for at, step in enumerate(definition.steps) if not step.optional]
    overall = result.steps[required[-1]].conversion_from_start
    return {
        "rules": readings.describe(definition),
        "subjects": _subjects(definition),
        "steps": steps,
        "first": first,
        "last": required[-1],
        "overall": wording.share(overall),
        "as_of": None if result.as_of is None else readings.iso_utc(result.as_of),
        "breakdown": definition.breakdown,
        "parts": [_part(part.value, part.steps, required[-1]) for part in result.breakdown[:PARTS_SHOWN]],
        "more_parts": max(0, len(result.breakdown) - PARTS_SHOWN),
        "times": _times(result),
        "previous": None
        if result.previous is None
        else {
            "since": readings.iso_utc(result.previous.since),
            "until": readings.iso_utc(result.previous.until),
            "overall": wording.share(result.previous.steps[required[-1]].conversion_from_start),
        },
    }


def csv_rows(result: FunnelResult) -> list[dict[str, Any]]:
    """The whole funnel, then each part of the breakdown, a row a step, in CSV_COLUMNS."""
    every = [("(all)", result.steps), *((part.value, part.steps) for part in result.breakdown)]
    return [
        {"value": value, "step_number": at + 1, **step.model_dump(include=set(CSV_COLUMNS))}
        for value, steps in every
        for at, step in enumerate(steps)
    ]


def people_table(page: Page) -> pa.Table:
    """Those on `page`, a row each; times are aware UTC, in microseconds."""
    return pa.table(
        {name: [getattr(one, name) for one in page.people] for name in ("subject", "entered_at", "reached_at")}
    )


def who(definition: FunnelDefinition, step: int, state: State) -> str:
    """Who is behind a number, in words."""
    became = {
        "reached": "reached",
        "converted": "went on after",
        "dropped": "dropped out after",
        "still_open": "are still open after",
    }
    name = readings.step_names(definition)[step]
    return f"{_subjects(definition).capitalize()} who {became[state]} step {step + 1}, {name}"


def behind(definition: FunnelDefinition, one: Behind) -> dict[str, str]:
    """One of them, and where there is more of them."""
    session = definition.by == "session"
    return {
        "subject": wording.clipped(one.subject, 200),
        "href": f"/sessions/{quote(one.subject, safe='')}" if session else readings.person_href(one.subject),
        "entered_at": readings.iso_utc(one.entered_at),
        "reached_at": readings.iso_utc(one.reached_at),
        "took": wording.span(one.reached_at - one.entered_at),
    }


def picture(definition: FunnelDefinition, result: FunnelResult) -> bytes:
    """The funnel as a PNG of 1,200 by 630 pixels, to paste where pages cannot be."""
    # Half a second, which every command would pay for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.25), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [wording.clipped(name, 40).replace("$", "\\$") for name in readings.step_names(definition)]
    first = result.steps[0].count or 1
    places = range(len(names))
    counts = [step.count for step in result.steps]
    open_ones = [step.still_open for step in result.steps]
    dropped = [step.dropped for step in result.steps]
    went_on = [count - waiting - lost for count, waiting, lost in zip(counts, open_ones, dropped, strict=True)]
    floor = [0] * len(names)
    for values, color, label in (
        (went_on, "#2f5095", "went on"),
        (open_ones, "#e8ac74", "still open"),
        (dropped, "#ccd4e6", "dropped"),
    ):
        axes.bar(places, values, bottom=floor, color=color, label=label, width=0.8)
        floor = [below + value for below, value in zip(floor, values, strict=True)]
    for at, step in enumerate(result.steps):
        told = f"{step.count:,}" if at == 0 else f"{step.count:,}\n{wording.share(step.conversion_from_start)}"
        axes.annotate(
            told, (at, step.count), ha="center", va="bottom", fontsize=12, xytext=(0, 4), textcoords="offset points"
        )
    axes.set_xticks(list(places), names, fontsize=11)
    axes.set_ylim(0, first * 1.18)
    axes.set_ylabel(_subjects(definition))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    axes.set_title(
        f"{wording.clipped(definition.name, 60)}: {readings.describe(definition)}".replace("$", "\\$"), loc="left"
    )
    sink = io.BytesIO()
    canvas.print_png(sink)
    return sink.getvalue()


def _step(
    at: int, name: str, step: StepResult, before: StepResult | None, first: int, definition: FunnelDefinition
) -> dict[str, Any]:
    went_on = step.count - step.dropped - step.still_open
    parts = (("went_on", went_on), ("open", step.still_open), ("dropped", step.dropped))
    reached = round(step.count / step.conversion) if step.conversion else 0
    few = at > 0 and 0 < reached < FEW and step.conversion_low is not None
    return {
        "number": at,
        "name": name,
        "optional": definition.steps[at].optional,
        "count": wording.number(step.count),
        "conversion": wording.share(step.conversion),
        "bounds": f"{wording.share(step.conversion_low)} to {wording.share(step.conversion_high)}" if few else "",
        "from_start": wording.share(step.conversion_from_start),
        "median": wording.seconds(step.median_seconds),
        "p90": wording.seconds(step.p90_seconds),
        "went_on": wording.number(went_on),
        "open": wording.number(step.still_open),
        "dropped": wording.number(step.dropped),
        "bar": {part: round(100 * count / first, 2) if first else 0.0 for part, count in parts},
        "before": None if before is None else _against(step, before),
    }


def _against(step: StepResult, before: StepResult) -> dict[str, str]:
    change = (step.count - before.count) / before.count if before.count else None
    return {
        "count": wording.number(before.count),
        "change": wording.signed(change),
        "from_start": wording.share(before.conversion_from_start),
    }


def _part(value: str, steps: Sequence[StepResult], last: int) -> dict[str, Any]:
    return {
        "value": wording.clipped(value, 200),
        "counts": [wording.number(step.count) for step in steps],
        "share": wording.share(steps[last].conversion_from_start),
        "width": round(100 * (steps[last].conversion_from_start or 0), 1),
    }


def _times(result: FunnelResult) -> dict[str, Any] | None:
    times = result.conversion_seconds
    if times is None or times.median is None:
        return None
    most = max((each.count for each in times.histogram), default=1) or 1
    bars = [
        {
            "height": round(100 * each.count / most, 1),
            "says": f"{wording.seconds(each.from_seconds)} to {wording.seconds(each.to_seconds)}: "
            f"{wording.number(each.count)}",
        }
        for each in times.histogram
    ]
    end = times.histogram[-1].to_seconds if times.histogram else None
    return {
        "median": wording.seconds(times.median),
        "p90": wording.seconds(times.p90),
        "bars": bars,
        "end": wording.seconds(end),
    }


def _subjects(definition: FunnelDefinition) -> str:
    return {"person": "people", "device": "devices", "session": "sessions"}[definition.by]
