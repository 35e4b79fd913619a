"""The results of experiments: a row for each experiment, metric and variation, out of the moments of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Final

import numpy as np
import pyarrow as pa

from batch_marts.experiments import formulas, statistics
from batch_marts.experiments.definition import Experiment
from batch_marts.experiments.formulas import Array, Moments
from batch_marts.experiments.verdicts import Finding, judge

_TIME: Final = pa.timestamp("us", tz="UTC")

RESULTS_SCHEMA: Final = pa.schema(
    [
        ("experiment_id", pa.string()),
        ("metric_name", pa.string()),
        ("metric_role", pa.string()),
        ("metric_kind", pa.string()),
        ("variation_id", pa.string()),
        ("is_control", pa.bool_()),
        ("persons", pa.int64()),
        ("mean", pa.float64()),
        ("adjusted_mean", pa.float64()),
        ("variance_kept", pa.float64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("lift", pa.float64()),
        ("lift_low", pa.float64()),
        ("lift_high", pa.float64()),
        ("sequential_low", pa.float64()),
        ("sequential_high", pa.float64()),
        ("p_value", pa.float64()),
        ("holm_p_value", pa.float64()),
        ("sequential_p_value", pa.float64()),
        ("sequential_holm_p_value", pa.float64()),
        ("persons_needed", pa.int64()),
        ("persons_in_several", pa.int64()),
        ("persons_elsewhere", pa.int64()),
        ("mismatch_p_value", pa.float64()),
        ("first_exposed_at", _TIME),
        ("last_exposed_at", _TIME),
        ("as_of", _TIME),
        ("verdict", pa.string()),
        ("verdict_sentence", pa.string()),
    ]
)
"""Differences, lifts and their intervals are of adjusted means and against the control; a lift is relative to its mean.
`sequential_low` and `sequential_high` bound the lift, too. Null is what cannot be told."""

Row = dict[str, Any]
_MOMENTS: Final = ("mean", "variance", "earlier_mean", "earlier_variance", "covariance")


def analyse(experiments: Sequence[Experiment], moments: pa.Table, as_of: datetime) -> pa.Table:
    """The results of `experiments` (RESULTS_SCHEMA) out of the rows of moments.sql, up to when the events are known."""
    told: dict[str, dict[tuple[str | None, str], Row]] = {}
    for row in moments.to_pylist():
        told.setdefault(row["experiment_id"], {})[row["variation_id"], row["metric_name"]] = row
    rows = [row for each in experiments for row in _results(each, told.get(each.id, {}), as_of)]
    return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)


def _results(experiment: Experiment, told: Mapping[tuple[str | None, str], Row], as_of: datetime) -> list[Row]:
    measured = experiment.measured
    moments = [_moments(experiment, told, metric.name) for metric in measured]
    parts = [_figures(each) for each in moments]
    decisive = len(experiment.metrics)
    for name in ("p_value", "sequential_p_value"):
        every = np.concatenate([part[name][1:] for part in parts[:decisive]])
        corrected = statistics.holm(every).reshape(decisive, -1)
        for part, values in zip(parts, corrected, strict=False):
            part[name.replace("p_value", "holm_p_value")] = np.concatenate([[np.nan], values])

    first = measured[0].name
    counts = {variation: int(row["persons"]) for (variation, name), row in told.items() if name == first}
    persons = {arm: counts.get(arm, 0) for arm in experiment.arms}
    seen = [told[arm, first] for arm in experiment.arms if (arm, first) in told]
    mismatch = statistics.mismatch_p_value(list(persons.values()), experiment.shares)
    whole = {
        "experiment_id": experiment.id,
        "persons_in_several": counts.get(None, 0),
        "persons_elsewhere": sum(n for arm, n in counts.items() if arm is not None and arm not in persons),
        "mismatch_p_value": mismatch,
        "first_exposed_at": min((row["first_exposed_at"] for row in seen), default=None),
        "last_exposed_at": max((row["last_exposed_at"] for row in seen), default=None),
        "as_of": as_of,
    }
    rows = []
    for at, arm in enumerate(experiment.arms):
        needed = _needed(experiment, parts[0], at) if at else None
        figures = [{name: _number(values[at]) for name, values in part.items()} for part in parts]
        verdict = None
        if at:
            findings = [
                Finding(
                    metric,
                    control=_number(part["adjusted_mean"][0]),
                    mean=each["adjusted_mean"],
                    lift=each["lift"],
                    low=each["sequential_low"],
                    high=each["sequential_high"],
                    p_value=each["sequential_holm_p_value" if role < decisive else "sequential_p_value"],
                )
                for role, (metric, part, each) in enumerate(zip(measured, parts, figures, strict=True))
            ]
            verdict = judge(experiment, arm, persons, mismatch, findings[:decisive], findings[decisive:], needed, as_of)
        for role, (metric, each) in enumerate(zip(measured, figures, strict=True)):
            rows.append(
                whole
                | {name: each[name] for name in RESULTS_SCHEMA.names if name in each}
                | {
                    "metric_name": metric.name,
                    "metric_role": "metric" if role < decisive else "guardrail",
                    "metric_kind": metric.kind,
                    "variation_id": arm,
                    "is_control": at == 0,
                    "persons": persons[arm],
                    "persons_needed": needed if role == 0 else None,
                    "verdict": verdict and verdict.word,
                    "verdict_sentence": verdict and verdict.sentence,
                }
            )
    return rows


def _moments(experiment: Experiment, told: Mapping[tuple[str | None, str], Row], metric: str) -> Moments:
    rows = [told.get((arm, metric), {}) for arm in experiment.arms]
    columns = [[row.get(name) for row in rows] for name in _MOMENTS]
    return Moments(
        np.asarray([row.get("persons", 0) for row in rows], dtype=np.float64),
        *(np.asarray(column, dtype=np.float64) for column in columns),
    )


def _figures(moments: Moments) -> dict[str, Array]:
    """By column, a value for each variation; the control is not compared."""
    means = formulas.adjusted(moments)
    compared = formulas.compare(means)
    once = statistics.fixed_multiplier(compared)
    always = statistics.sequential_multiplier(compared)
    low, high = formulas.lift_bounds(means, once)
    always_low, always_high = formulas.lift_bounds(means, always)
    against = {
        "difference": compared.difference,
        "difference_low": compared.difference - once * compared.error,
        "difference_high": compared.difference + once * compared.error,
        "lift": formulas.lift(means),
        "lift_low": low,
        "lift_high": high,
        "sequential_low": always_low,
        "sequential_high": always_high,
        "p_value": statistics.fixed_p_value(compared),
        "sequential_p_value": statistics.sequential_p_value(compared),
    }
    for values in against.values():
        values[..., 0] = np.nan
    kept = np.broadcast_to(formulas.variance_kept(moments, means)[..., None], means.mean.shape)
    of_one = {"mean": moments.mean, "adjusted_mean": means.mean, "variance_kept": kept, "_variance": means.variance}
    return of_one | against


def _needed(experiment: Experiment, figures: Mapping[str, Array], at: int) -> int | None:
    """How many persons the experiment needs for its minimum effect to show in the variation at this place."""
    effect = experiment.minimum_effect * abs(float(figures["adjusted_mean"][0]))
    variance = float(np.mean(figures["_variance"][[0, at]]))
    shares = experiment.shares
    return statistics.persons_needed(effect, variance, (shares[0], shares[at]))


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
