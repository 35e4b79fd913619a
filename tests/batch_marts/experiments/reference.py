"""Who is in an experiment and with what, person by person, and the figures of it by statsmodels and by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Any

import numpy as np
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from batch_marts.experiments import Experiment, Metric

BEFORE = timedelta(days=14)


@dataclass(frozen=True)
class Told:
    """An event."""

    person: str | None
    name: str
    at: datetime
    properties: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A person in an experiment: the variation is None for several, the values are by metric, then before exposure."""

    variation: str | None
    exposed_at: datetime
    values: dict[str, tuple[float, float]]


def subjects(experiment: Experiment, events: Sequence[Told]) -> dict[str, Subject]:
    """By person."""
    mine = defaultdict(list)
    for event in events:
        if event.person is not None:
            mine[event.person].append(event)
    found = {}
    for person, every in mine.items():
        exposures = [
            event
            for event in every
            if event.name == "Experiment Viewed"
            and event.properties.get("experiment_id") == experiment.id
            and (experiment.start is None or event.at >= experiment.start)
            and (experiment.end is None or event.at < experiment.end)
        ]
        if exposures:
            at = min(event.at for event in exposures)
            seen = {event.properties.get("variation_id") or "" for event in exposures}
            values = {metric.name: _values(metric, experiment, every, at) for metric in experiment.measured}
            found[person] = Subject(seen.pop() if len(seen) == 1 else None, at, values)
    return found


def _values(metric: Metric, experiment: Experiment, events: Sequence[Told], at: datetime) -> tuple[float, float]:
    after, before = 0.0, 0.0
    once = set()
    for event in sorted(events, key=lambda event: (event.at, -_amount(metric, event, none=-inf))):
        if event.name != metric.event or event.at < at - BEFORE:
            continue
        if experiment.end is not None and event.at >= experiment.end:
            continue
        key = None if metric.once_per is None else event.properties.get(metric.once_per)
        if key is not None:
            if key in once:
                continue
            once.add(key)
        amount = 1.0 if metric.sum is None else _amount(metric, event)
        after, before = (after + amount, before) if event.at >= at else (after, before + amount)
    return (float(after > 0), float(before > 0)) if metric.sum is None else (after, before)


def _amount(metric: Metric, event: Told, none: float = 0.0) -> float:
    try:
        amount = float(event.properties[metric.sum or ""])
    except (KeyError, TypeError, ValueError):
        return none
    return amount if isfinite(amount) else none


@dataclass(frozen=True)
class Figures:
    """Of one variation against the control."""

    means: tuple[float, float]
    adjusted: tuple[float, float]
    difference: tuple[float, float, float]
    """With the bounds of 95 %."""
    p_value: float


def figures(control: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> Figures:
    """Of persons' (value, value before), CUPED by a regression within the groups, then Welch's test of statsmodels."""
    both = [np.array(control), np.array(other)]
    centred = np.concatenate([group - group.mean(axis=0) for group in both])
    slope = float(centred[:, 0] @ centred[:, 1] / (centred[:, 1] @ centred[:, 1])) if centred[:, 1].any() else 0.0
    middle = np.concatenate(both)[:, 1].mean()
    values = [group[:, 0] - slope * (group[:, 1] - middle) for group in both]
    if slope:  # it costs a degree of freedom
        freedom = len(centred) - 2
        values = [each.mean() + (each - each.mean()) * (freedom / (freedom - 1)) ** 0.5 for each in values]
    welch = CompareMeans(DescrStatsW(values[1]), DescrStatsW(values[0]))
    low, high = welch.tconfint_diff(usevar="unequal")
    return Figures(
        means=(both[0][:, 0].mean(), both[1][:, 0].mean()),
        adjusted=(values[0].mean(), values[1].mean()),
        difference=(values[1].mean() - values[0].mean(), low, high),
        p_value=welch.ttest_ind(usevar="unequal")[1],
    )
