"""Adjusted means, differences, lifts and corrections, against statsmodels and against what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportions_chisquare

from batch_marts.experiments.formulas import (
    Array,
    Means,
    Moments,
    adjusted,
    as_measured,
    compare,
    lift,
    lift_bounds,
    variance_kept,
)
from batch_marts.experiments.statistics import (
    ALPHA,
    POWER,
    fixed_multiplier,
    fixed_p_value,
    holm,
    mismatch_p_value,
    persons_needed,
    sequential_multiplier,
    sequential_p_value,
)
from tests.batch_marts.experiments import reference


def moments_of(groups: Sequence[Array]) -> Moments:
    """Of groups of persons, a row each: value, earlier value."""
    covariances = [np.cov(group.T) for group in groups]
    return Moments(
        persons=np.array([float(len(group)) for group in groups]),
        mean=np.array([group[:, 0].mean() for group in groups]),
        variance=np.array([each[0, 0] for each in covariances]),
        earlier_mean=np.array([group[:, 1].mean() for group in groups]),
        earlier_variance=np.array([each[1, 1] for each in covariances]),
        covariance=np.array([each[0, 1] for each in covariances]),
    )


def groups_of(seed: int, sizes: Sequence[int], earlier: bool = True) -> list[Array]:
    rng = np.random.default_rng(seed)
    groups = []
    for number, size in enumerate(sizes):
        before = rng.exponential(10, size) * (rng.random(size) < 0.4) * earlier
        groups.append(np.stack([0.7 * before + rng.exponential(5 + number, size), before], axis=1))
    return groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("earlier", [True, False])
def test_differences_are_those_of_a_regression_and_of_welchs_test(seed: int, earlier: bool) -> None:
    groups = groups_of(seed, [300, 420], earlier)
    means = adjusted(moments_of(groups))
    compared = compare(means)
    away = fixed_multiplier(compared) * compared.error
    expected = reference.figures(*([tuple(row) for row in group] for group in groups))
    assert means.mean == pytest.approx(expected.adjusted)
    found = (compared.difference[1], compared.difference[1] - away[1], compared.difference[1] + away[1])
    assert found == pytest.approx(expected.difference)
    assert fixed_p_value(compared)[1] == pytest.approx(expected.p_value)


def test_the_adjustment_leaves_what_the_earlier_values_do_not_explain() -> None:
    (group,) = groups_of(1, [100_000])
    moments = moments_of([group[:50_000], group[50_000:]])
    kept = variance_kept(moments, adjusted(moments))
    assert kept == pytest.approx(1 - np.asarray(np.corrcoef(group.T))[0, 1] ** 2, abs=1e-4)
    assert variance_kept(moments, as_measured(moments)) == 1


def test_the_adjustment_takes_away_a_head_start() -> None:
    """The variation's persons had more before; that alone is no difference."""
    rng = np.random.default_rng(3)
    before = rng.normal(10, 2, 4000)
    before[2000:] += 0.5
    values = np.stack([before + rng.normal(0, 0.5, 4000), before], axis=1)
    moments = moments_of([values[:2000], values[2000:]])
    assert compare(as_measured(moments)).difference[1] == pytest.approx(0.5, abs=0.15)
    assert compare(adjusted(moments)).difference[1] == pytest.approx(0, abs=0.05)


def some_means(control: float = 10.0, mean: float = 11.0, variance: float = 50.0, persons: float = 400) -> Means:
    return Means(np.full(2, persons), np.array([control, mean]), np.full(2, variance))


def test_a_lift_that_may_be_zero_is_a_difference_that_may_be_zero() -> None:
    rng = np.random.default_rng(7)
    seen = set()
    for _ in range(2000):
        means = Means(rng.integers(20, 900, 2).astype(np.float64), rng.normal(3, 2, 2), rng.uniform(1, 40, 2))
        compared = compare(means)
        away = fixed_multiplier(compared)
        low, high = lift_bounds(means, away)
        is_zero = abs(compared.difference[1]) <= away[1] * compared.error[1]
        if not np.isnan(low[1]):
            assert (low[1] <= 0 <= high[1]) == is_zero
            assert low[1] <= lift(means)[1] <= high[1]
            seen.add(bool(is_zero))
    assert seen == {True, False}


def test_the_lift_of_many_persons_is_that_of_the_delta_method() -> None:
    means = some_means(persons=400_000)
    low, high = lift_bounds(means, np.full(2, 1.96))
    ratio, noise = 11 / 10, 50 / 400_000
    error = np.sqrt(noise / 10**2 + ratio**2 * noise / 10**2)
    assert (low[1], high[1]) == pytest.approx((0.1 - 1.96 * error, 0.1 + 1.96 * error), rel=1e-4)


def test_less_of_what_is_negative_is_a_lift_below_zero() -> None:
    means = some_means(-10, -11)
    low, high = lift_bounds(means, np.full(2, 1.96))
    assert lift(means)[1] == pytest.approx(-0.1)
    mirrored = lift_bounds(some_means(10, 11), np.full(2, 1.96))
    assert (low[1], high[1]) == pytest.approx((-mirrored[1][1], -mirrored[0][1]))


def test_where_the_control_may_have_nothing_no_lift_can_be_told() -> None:
    low, high = lift_bounds(some_means(control=0.1), np.full(2, 1.96))
    assert np.isnan([low[1], high[1]]).all()
    assert np.isnan(lift(some_means(control=0))[1])


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_values_that_are_all_the_same_tell_nothing(value: float) -> None:
    compared = compare(some_means(value, value, variance=value * 1e-34))
    for told in (fixed_p_value(compared), sequential_p_value(compared), sequential_multiplier(compared)):
        assert np.isnan(told).all()


def test_the_sequential_interval_and_its_p_value_agree() -> None:
    for persons in (50.0, 500.0, 50_000.0):
        compared = compare(some_means(persons=persons))
        edge = compared.error * sequential_multiplier(compared)
        compared.difference[:] = edge
        assert sequential_p_value(compared) == pytest.approx(np.full(2, ALPHA))


@pytest.mark.parametrize("seed", range(4))
def test_holm_is_that_of_statsmodels(seed: int) -> None:
    p_values = np.random.default_rng(seed).random(6) ** 4
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    without = np.insert(p_values, 2, np.nan)
    assert np.delete(holm(without), 2) == pytest.approx(holm(p_values))
    assert np.isnan(holm(without)[2])


def test_the_split_is_judged_as_by_statsmodels_and_from_100_persons_on() -> None:
    assert mismatch_p_value([540, 460], (0.5, 0.5)) == pytest.approx(0.0114120363)
    expected = proportions_chisquare([1810], [2000], value=0.9)[1]
    assert mismatch_p_value([1810, 190], (0.9, 0.1)) == pytest.approx(expected)
    assert mismatch_p_value([99, 0], (0.5, 0.5)) is None
    assert mismatch_p_value([100, 0], (0.5, 0.5)) == pytest.approx(1.5239706e-23)


def test_persons_needed_are_those_of_the_power_formula_with_a_wider_interval() -> None:
    needed = persons_needed(0.5, 25.0, (0.5, 0.5))
    assert needed is not None
    compared = compare(Means(np.full(2, needed / 2), np.zeros(2), np.full(2, 25.0)))
    power = NormalIndPower().power(0.1, needed / 2, alpha=2 * norm.sf(sequential_multiplier(compared)[1]))
    assert power == pytest.approx(POWER, abs=1e-3)
    assert persons_needed(0.0, 25.0, (0.5, 0.5)) is None
    assert persons_needed(0.5, 0.0, (0.5, 0.5)) is None
    uneven = persons_needed(0.5, 25.0, (0.9, 0.1))
    assert uneven == pytest.approx(needed * 0.25 / 0.09, rel=1e-3)
