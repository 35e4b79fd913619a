"""Means, differences and lifts out of moments. Every array's last axis is the variations, the control first.

- CUPED: A. Deng, Y. Xu, R. Kohavi, T. Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing
  Pre-Experiment Data", WSDM 2013.
- The interval of a lift: E. C. Fieller, "Some Problems in Interval Estimation", 1954. It leaves out zero exactly where
  the interval of the difference does; for a control's mean that is well known it is that of the delta method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one metric's values of the persons of each variation, and of their earlier values; NaN where there are none.
    Variances and the covariance are those of a sample (n - 1)."""

    persons: Array
    mean: Array
    variance: Array
    earlier_mean: Array
    earlier_variance: Array
    covariance: Array


@dataclass(frozen=True, slots=True)
class Means:
    """The mean of each variation, and the variance of one person's value."""

    persons: Array
    mean: Array
    variance: Array

    @property
    def uncertainty(self) -> Array:
        """The variance of each mean."""
        return np.asarray(self.variance / self.persons)


def as_measured(moments: Moments) -> Means:
    """The means without any adjustment."""
    return Means(moments.persons, moments.mean, moments.variance)


def adjusted(moments: Moments) -> Means:
    """The means that there would be, had the variations begun with the same earlier values: CUPED.

    One coefficient for all variations, from within them, so that it does not see what they do. Where nobody has an
    earlier value, the means are as measured.
    """
    weight = np.nan_to_num(moments.persons - 1).clip(0)
    shared = _sum(weight * moments.covariance)
    spread = _sum(weight * moments.earlier_variance)
    theta = np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0)
    whole = _sum(moments.persons * moments.earlier_mean) / np.maximum(_sum(moments.persons), 1)
    freedom = _sum(weight)
    spent = np.where(theta == 0, 1.0, freedom / np.maximum(freedom - 1, 1))
    variance = moments.variance - 2 * theta * moments.covariance + theta**2 * moments.earlier_variance
    mean = moments.mean - theta * (moments.earlier_mean - whole)
    return Means(moments.persons, np.asarray(mean), np.asarray(np.maximum(variance, 0) * spent))


def variance_kept(moments: Moments, means: Means) -> Array:
    """The share of the variance within all variations that is left after an adjustment; NaN if there was none."""
    weight = np.nan_to_num(moments.persons - 1).clip(0)
    before = _sum(weight * moments.variance)
    return np.divide(_sum(weight * means.variance), before, out=np.full_like(before, np.nan), where=before > 0)[..., 0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Each variation against the control; where there is nothing to tell them by, NaN."""

    difference: Array
    error: Array
    """The standard error of the difference."""
    freedom: Array
    """Welch's degrees of freedom."""
    information: Array
    """How many persons the comparison is worth: n m / (n + m), for groups of n and m."""


def compare(means: Means) -> Comparison:
    """Every variation, the control included, against the control."""
    with np.errstate(divide="ignore", invalid="ignore"):
        both = means.uncertainty + means.uncertainty[..., :1]
        # Of values that are all the same, rounding alone makes a variance.
        known = both > 1e-18 * (means.mean**2 + means.mean[..., :1] ** 2)
        spread = means.uncertainty**2 / (means.persons - 1)
        freedom = both**2 / (spread + spread[..., :1])
        return Comparison(
            difference=means.mean - means.mean[..., :1],
            error=np.where(known, np.sqrt(both), np.nan),
            freedom=np.asarray(freedom),
            information=np.asarray(1 / (1 / means.persons + 1 / means.persons[..., :1])),
        )


def lift(means: Means) -> Array:
    """How much more each variation has than the control, relative to the control; NaN where that has nothing."""
    control = means.mean[..., :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(control == 0, np.nan, (means.mean - control) / np.abs(control))


def lift_bounds(means: Means, multiplier: Array) -> tuple[Array, Array]:
    """The lowest and the highest lift that are compatible with the means, `multiplier` standard errors away.

    NaN where the control's mean may as well be zero: any lift is compatible then.
    """
    control, mean = means.mean[..., :1], means.mean
    of_control, of_mean = means.uncertainty[..., :1], means.uncertainty
    with np.errstate(divide="ignore", invalid="ignore"):
        below = control**2 - multiplier**2 * of_control
        within = control**2 * of_mean + mean**2 * of_control - multiplier**2 * of_control * of_mean
        away = multiplier * np.sqrt(within)
        one, other = ((control * mean + side * away) / below - 1 for side in (-1, 1))
        known = below > 0
        low, high = np.where(control > 0, one, -other), np.where(control > 0, other, -one)
        return np.where(known, low, np.nan), np.where(known, high, np.nan)


def _sum(values: Array) -> Array:
    """Over the variations, of which some may have nobody."""
    return np.asarray(np.nansum(values, axis=-1, keepdims=True))
