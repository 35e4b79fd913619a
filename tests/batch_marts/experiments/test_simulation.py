"""2,000 experiments, looked at 100 times each: how often they are wrong, and how often they find what is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from batch_marts.experiments.formulas import Array, Means, Moments, adjusted, as_measured, compare, lift_bounds
from batch_marts.experiments.statistics import (
    ALPHA,
    MISMATCH,
    POWER,
    fixed_multiplier,
    fixed_p_value,
    mismatch_p_value,
    persons_needed,
    sequential_multiplier,
    sequential_p_value,
)

TESTS = 2000
PEEKS = 100
EACH = 100
"""Persons who come into each variation between two looks."""
RATE = 0.12


def conversions(lift: float) -> Moments:
    """Who ordered, RATE of the control's; and who had before, which says something of who will. Axes: peek, test,
    variation."""
    rng = np.random.default_rng(20260301)
    counts = np.empty((PEEKS, TESTS, 2, 4))
    for variation, rate in enumerate((RATE, RATE * (1 + lift))):
        both = 0.6 * 0.15
        shares = [both * rate / RATE, 0.15 - both * rate / RATE, rate * (1 - both / RATE)]
        counts[:, :, variation] = rng.multinomial(EACH, [*shares, 1 - sum(shares)], (PEEKS, TESTS))
    both_of, before, after, _ = np.moveaxis(counts, -1, 0)
    return _moments(both_of + after, both_of + after, both_of + before, both_of + before, both_of)


def amounts(lift: float) -> Moments:
    """What they spent: nothing most of them, and much a few; the more, the more they had before."""
    rng = np.random.default_rng(20260302)
    sums = np.empty((5, PEEKS, TESTS, 2))
    for peek in range(PEEKS):
        size = (TESTS, 2, EACH)
        before = rng.standard_exponential(size, dtype=np.float32)
        before *= rng.random(size, dtype=np.float32) < 0.3
        after = rng.standard_exponential(size, dtype=np.float32)
        after *= rng.random(size, dtype=np.float32) < 0.25
        after += 0.8 * before
        after[:, 1] *= 1 + lift
        for number, values in enumerate((after, after * after, before, before * before, after * before)):
            sums[number, peek] = values.sum(axis=-1)
    return _moments(*sums)


def _moments(y: Array, yy: Array, x: Array, xx: Array, xy: Array) -> Moments:
    """Out of what each look adds to the sums."""
    persons = np.broadcast_to(EACH * np.arange(1.0, PEEKS + 1)[:, None, None], y.shape)
    y, yy, x, xx, xy = (np.cumsum(part, axis=0) / persons for part in (y, yy, x, xx, xy))
    of_sample = persons / (persons - 1)
    return Moments(persons, y, (yy - y * y) * of_sample, x, (xx - x * x) * of_sample, (xy - x * y) * of_sample)


KINDS: dict[str, Callable[[float], Moments]] = {"conversion": conversions, "mean": amounts}
TRUE_LIFT = 0.2
each_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def simulated(kind: str, lift: float) -> Moments:
    return KINDS[kind](lift)


def last(moments: Moments) -> Moments:
    return Moments(*(getattr(moments, name)[-1] for name in Moments.__slots__))


@each_kind
@pytest.mark.parametrize("adjust", [as_measured, adjusted])
def test_one_look_at_what_makes_no_difference_finds_one_in_20_times(
    kind: str, adjust: Callable[[Moments], Means]
) -> None:
    p_values = fixed_p_value(compare(adjust(last(simulated(kind, 0.0)))))[:, 1]
    assert abs((p_values <= ALPHA).mean() - 0.05) <= 0.01


@each_kind
@pytest.mark.parametrize("adjust", [as_measured, adjusted])
def test_100_looks_at_what_makes_no_difference_find_one_in_20_times_at_most(
    kind: str, adjust: Callable[[Moments], Means]
) -> None:
    compared = compare(adjust(simulated(kind, 0.0)))
    ever = (sequential_p_value(compared)[..., 1] <= ALPHA).any(axis=0)
    assert ever.mean() <= 0.06
    often = (fixed_p_value(compared)[..., 1] <= ALPHA).any(axis=0)
    assert often.mean() > 0.25, "what looking 100 times at a p-value for one look comes to"


@each_kind
def test_intervals_of_the_lift_cover_it(kind: str) -> None:
    means = adjusted(last(simulated(kind, TRUE_LIFT)))
    low, high = lift_bounds(means, fixed_multiplier(compare(means)))
    covered = (low[:, 1] <= TRUE_LIFT) & (high[:, 1] >= TRUE_LIFT)
    assert abs(covered.mean() - 0.95) <= 0.01


@each_kind
def test_sequential_intervals_of_the_lift_cover_it_at_every_look(kind: str) -> None:
    means = adjusted(simulated(kind, TRUE_LIFT))
    low, high = lift_bounds(means, sequential_multiplier(compare(means)))
    missed = ((low[..., 1] > TRUE_LIFT) | (high[..., 1] < TRUE_LIFT)).any(axis=0)
    assert missed.mean() <= 0.06


@each_kind
def test_a_difference_is_found_as_often_as_is_promised(kind: str) -> None:
    """At the number of persons that is said to be needed; earlier values that say something make that fewer."""
    moments = simulated(kind, TRUE_LIFT)
    numbers = []
    for adjust in (as_measured, adjusted):
        means = adjust(moments)
        control, variance = means.mean[-1, :, 0].mean(), means.variance[-1].mean()
        needed = persons_needed(TRUE_LIFT * control, variance, (0.5, 0.5))
        assert needed is not None
        peek = round(needed / 2 / EACH) - 1
        found = sequential_p_value(compare(means))[:, :, 1] <= ALPHA
        assert peek < PEEKS, needed
        assert abs(found[peek].mean() - POWER) <= 0.03
        assert found[: peek + 1].any(axis=0).mean() >= found[peek].mean()
        numbers.append(needed)
    assert numbers[1] < 0.8 * numbers[0]


def test_an_even_split_is_seldom_called_uneven_and_a_loss_often() -> None:
    rng = np.random.default_rng(20260303)
    even, lossy = rng.binomial(20_000, 0.5, TESTS), rng.binomial(20_000, 0.485, TESTS)
    alarms = [
        np.mean([(mismatch_p_value([int(n), 20_000 - int(n)], (0.5, 0.5)) or 0) < MISMATCH for n in seen])
        for seen in (even, lossy)
    ]
    assert alarms[0] <= 0.004
    assert alarms[1] >= 0.8
