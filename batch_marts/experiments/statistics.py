"""How sure one can be of a difference: p-values and intervals, at one moment and at every moment, and of the traffic's
split.

The sequential ones hold however often and for whatever reason somebody looks: a normal mixture over the true effect, as
in R. Johari, P. Koomen, L. Pekelis, D. Walsh, "Always Valid Inference", 2022, whose variance is estimated, which makes
it the asymptotic confidence sequence of I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", 2024. Asymptotic: from some hundred persons on.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, log
from typing import Final

import numpy as np
from scipy import optimize, stats

from batch_marts.experiments.formulas import Array, Comparison

ALPHA: Final = 0.05
"""How often one may be wrong: intervals are 95 % ones."""
POWER: Final = 0.8
"""How often a real effect is to be found."""
MISMATCH: Final = 0.001
"""A split as uneven as this or more is no accident."""
LEAST_EXPOSED: Final = 100
"""Persons in an experiment below which its split is not judged."""

_TUNED_FOR: Final = 1000
"""Persons that a comparison is worth (`Comparison.information`) at which the sequential interval is as narrow as it can
be: 3.0 standard errors to each side there, 3.9 at a tenth of it, 3.2 at ten times as many."""
_MIXTURE: Final = (-2 * log(ALPHA) + log(1 - 2 * log(ALPHA))) / _TUNED_FOR
"""The variance of the mixture, in variances of one person's value. It must not depend on what is seen."""


def fixed_multiplier(comparison: Comparison) -> Array:
    """Standard errors on each side of a difference that is looked at once."""
    return np.asarray(stats.t.ppf(1 - ALPHA / 2, comparison.freedom))


def fixed_p_value(comparison: Comparison) -> Array:
    """Of a difference that is looked at once (Welch's t-test, two-sided)."""
    return np.asarray(2 * stats.t.sf(np.abs(comparison.difference) / comparison.error, comparison.freedom))


def sequential_multiplier(comparison: Comparison) -> Array:
    """Standard errors on each side of a difference that is looked at all the time."""
    return np.where(np.isnan(comparison.error), np.nan, _sequential_multiplier(comparison.information))


def _sequential_multiplier(information: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _MIXTURE * information
        return np.asarray(np.sqrt((1 + 1 / ratio) * (np.log1p(ratio) - 2 * log(ALPHA))))


def sequential_p_value(comparison: Comparison) -> Array:
    """Of a difference that is looked at all the time, two-sided: the chance that it ever gets so low."""
    ratio = _MIXTURE * comparison.information
    evidence = (comparison.difference / comparison.error) ** 2 * ratio / (1 + ratio) / 2 - np.log1p(ratio) / 2
    return np.asarray(np.exp(-np.maximum(evidence, 0)))


def mismatch_p_value(persons: Sequence[int], shares: Sequence[float]) -> float | None:
    """Of the split of the traffic (chi-square). None of fewer than LEAST_EXPOSED persons."""
    whole = sum(persons)
    if whole < LEAST_EXPOSED:
        return None
    return float(stats.chisquare(persons, [share * whole for share in shares]).pvalue)


def holm(p_values: Array) -> Array:
    """The p-values, corrected for how many they are: the chance that any of those at most ALPHA then is wrong is
    ALPHA at most. NaN is none of them, and stays."""
    told = np.flatnonzero(~np.isnan(p_values))
    order = told[np.argsort(p_values[told], kind="stable")]
    corrected = np.full(p_values.shape, np.nan)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected


def persons_needed(effect: float, variance: float, shares: tuple[float, float]) -> int | None:
    """How many persons the whole experiment needs for a difference of `effect`, of values of `variance`, to be found
    sequentially in 4 of 5 cases at that number. `shares` are those of the two variations. None where no number does."""
    if not (effect > 0 and variance > 0):
        return None
    worth = 1 / (1 / shares[0] + 1 / shares[1])
    sure = stats.norm.ppf(POWER)

    def missing(log_persons: float) -> float:
        information = exp(log_persons) * worth
        needed = float(_sequential_multiplier(np.asarray(information))) + sure
        return float(log(needed * (variance / information) ** 0.5) - log(effect))

    most = log(1e15)
    return None if missing(most) > 0 else ceil(exp(optimize.brentq(missing, 0, most)))
