"""The base rule against NumPy, written from the rule's words alone, and against exact fractions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_marts.anomalies import Anomaly
from tests.batch_marts.anomalies.worlds import Row, judged, one

BASE = Anomaly(rule="base")
SERIES = 10_000
Floats = npt.NDArray[np.float64]
Random = np.random.Generator


def noisy(random: Random, n: int) -> Floats:
    return random.normal(100, 10, n)


def spiky(random: Random, n: int) -> Floats:
    return np.asarray(random.normal(100, 2, n) * np.where(random.random(n) < 0.1, random.uniform(0, 4, n), 1))


def constant(random: Random, n: int) -> Floats:
    """Tenths and thirds, of which sums are not exact; then, perhaps, another value."""
    values = np.full(n, random.choice([0.1, 1 / 3, 0.0, -2.7, 1e15 + 0.125, 1e-300, 7.0]))
    if random.random() < 0.5:
        values[random.integers(n) :] *= 1.7
    return values


def near_constant(random: Random, n: int) -> Floats:
    return np.asarray(1e6 + random.integers(0, 2, n) * 2.0**-20)


def huge(random: Random, n: int) -> Floats:
    return random.normal(1e15, 1e3, n)


def tiny(random: Random, n: int) -> Floats:
    return random.normal(0, 1e-200, n)


def enormous(random: Random, n: int) -> Floats:
    return random.normal(0, 1e200, n)


def counts(random: Random, n: int) -> Floats:
    return random.poisson(0.4, n).astype(float)


def mixed(random: Random, n: int) -> Floats:
    return np.asarray(random.choice([-1.0, 1.0], n) * 10 ** random.uniform(-6, 15, n))


def with_gaps(random: Random, n: int) -> Floats:
    values = random.normal(-50, 5, n)
    values[random.random(n) < 0.1] = np.nan
    return values


KINDS: list[Callable[[Random, int], Floats]] = [
    noisy,
    spiky,
    constant,
    near_constant,
    huge,
    tiny,
    enormous,
    counts,
    mixed,
    with_gaps,
]


def reference(values: Floats) -> list[tuple[str, float, float, float] | None]:
    """(said, mean, standard deviation, z) of each value; None where there is none. In 80 bits."""
    found: list[tuple[str, float, float, float] | None] = []
    for i, value in enumerate(values.astype(np.longdouble)):
        if np.isnan(value):
            found.append(None)
            continue
        before = values[max(i - 7, 0) : i].astype(np.longdouble)
        if np.count_nonzero(~np.isnan(before)) < 7:
            found.append(("too_few", math.nan, math.nan, math.nan))
            continue
        mean = before.mean()
        if np.ptp(before) == 0:  # all the same
            found.append(("anomaly" if value != before[0] else "normal", float(before[0]), 0.0, math.nan))
            continue
        deviation = before.std(ddof=1)
        z = abs(value - mean) / deviation
        found.append(("anomaly" if z > 2.5 else "normal", float(mean), float(deviation), float(z)))
    return found


def test_it_is_numpys_on_10_000_series() -> None:
    random = np.random.default_rng(20261127)
    made = {
        f"m{i}": KINDS[i % len(KINDS)](random, int(random.choice([1, 6, 7, 8, 9, 20, 40])) if i % 3 == 0 else 24)
        for i in range(SERIES)
    }
    found = judged({name: [None if np.isnan(v) else float(v) for v in values] for name, values in made.items()}, BASE)
    seen: dict[str, int] = {"normal": 0, "anomaly": 0, "too_few": 0, "steady": 0}
    for name, values in made.items():
        for i, (row, told) in enumerate(zip(found[name], reference(values), strict=True)):
            where = (name, i, values[max(i - 7, 0) : i + 1].tolist())
            if told is None or row is None:
                assert row is None, where
                assert told is None, where
                continue
            said, mean, deviation, z = told
            seen[said] += 1
            if said == "too_few":
                assert (row["said"], row["expected"], row["z"]) == ("too_few", None, None), where
                assert row["baseline"] == np.count_nonzero(~np.isnan(values[max(i - 7, 0) : i])), where
                continue
            size = np.abs(values[i - 7 : i]).max()
            assert row["baseline"] == 7, where
            assert row["expected"] == pytest.approx(mean, rel=1e-13, abs=4e-16 * size), where
            if deviation == 0:
                seen["steady"] += 1
                assert (row["deviation"], row["z"], row["said"]) == (0.0, None, said), where
                continue
            assert row["deviation"] == pytest.approx(deviation, rel=1e-12), where
            assert row["z"] == pytest.approx(z, rel=1e-9, abs=1e-9 + 4e-16 * float(size / deviation)), where
            if abs(z - 2.5) > 1e-9:
                assert row["said"] == said, where
    assert min(seen.values()) > 1000, seen


numbers = st.floats(-1e16, 1e16) | st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 1e15, 1e15 + 0.5, -1e-12, 5e-324])


several = st.lists(
    st.lists(numbers | st.none(), min_size=1, max_size=12) | st.lists(st.sampled_from([0.1, 0.3]), min_size=8),
    min_size=1,
    max_size=10,
)


@settings(max_examples=settings().max_examples // 5)  # of up to ten series each
@given(several)
def test_it_is_that_of_exact_fractions(lists: list[list[float | None]]) -> None:
    found = judged({f"m{i}": values for i, values in enumerate(lists)}, BASE)
    for i, values in enumerate(lists):
        compare_exactly(values, found[f"m{i}"])


def compare_exactly(values: list[float | None], rows: list[Row | None]) -> None:
    for i, row in enumerate(rows):
        value = values[i]
        if value is None:
            assert row is None
            continue
        assert row is not None
        before = [Fraction(v) for v in values[max(i - 7, 0) : i] if v is not None]
        if len(before) < 7:
            assert row["said"] == "too_few"
            continue
        size = float(max(map(abs, before)))
        mean, variance = statistics.mean(before), statistics.variance(before)
        assert row["expected"] == pytest.approx(float(mean), rel=1e-13, abs=1e-15 * size)
        assert row["deviation"] == pytest.approx(math.sqrt(variance), rel=1e-9, abs=1e-300)
        if variance == 0:
            assert row["said"] == ("normal" if value == before[0] else "anomaly")
            continue
        squared = (Fraction(value) - mean) ** 2 / variance
        if abs(squared / Fraction(25, 4) - 1) > Fraction(1, 10**6):
            assert row["said"] == ("anomaly" if squared > Fraction(25, 4) else "normal")


def said(rows: list[Row | None]) -> list[str]:
    return [row["said"] for row in rows if row is not None]


def test_by_hand() -> None:
    """2, 4, 4, 4, 5, 5, 4 have mean 4 and squared differences 4 + 0 + 0 + 0 + 1 + 1 + 0, over 6: deviation 1."""
    for value, says in ((6.5, "normal"), (6.500001, "anomaly"), (1.5, "normal"), (1.4, "anomaly")):
        row = one([2, 4, 4, 4, 5, 5, 4, value], BASE)[7]
        assert row is not None
        assert (row["expected"], row["deviation"], row["said"]) == (4.0, 1.0, says)
        assert (row["low"], row["high"]) == (1.5, 6.5)


def test_a_row_is_not_in_its_own_baseline() -> None:
    """Were it, |z| of one of 8 rows could not exceed 2.47."""
    row = one([10, 11, 10, 9, 10, 11, 9, 1e9], BASE)[7]
    assert row is not None
    assert row["z"] > 1e8


def test_fewer_than_seven_rows_give_no_verdict() -> None:
    assert said(one([5] * 8, BASE)) == ["too_few"] * 7 + ["normal"]
    assert said(one([5, 5, 5, None, 5, 5, 5, 9, 9, 9, 9], BASE)) == ["too_few"] * 10, "a day without a value is a row"


def test_without_any_deviation_the_least_change_decides() -> None:
    for value, says in ((5, "normal"), (7, "normal"), (3, "normal"), (7.01, "anomaly"), (2.99, "anomaly")):
        row = one([5] * 7 + [value], Anomaly(rule="base", least_change=2))[7]
        assert row is not None
        assert (row["said"], row["z"], row["deviation"]) == (says, None, 0.0)


def test_what_is_no_number_is_no_value() -> None:
    found = one([5] * 7 + [math.inf, math.nan, -1e301, 6], BASE)
    assert found[7:10] == [None] * 3
    assert found[10] is not None
    assert found[10]["said"] == "too_few"


def test_directions_and_least_changes() -> None:
    before = [2, 4, 4, 4, 5, 5, 4]
    for direction, low, high in (("both", 1, 1), ("drops", 1, 0), ("rises", 0, 1)):
        fired = [
            said(one([*before, value], Anomaly(rule="base", direction=direction)))[-1] == "anomaly" for value in (1, 7)
        ]
        assert fired == [low, high]
    for setting, says in (
        ({"least_change": 3}, "normal"),
        ({"least_change": 2.9}, "anomaly"),
        ({"least_relative_change": 0.75}, "normal"),
        ({"least_relative_change": 0.74}, "anomaly"),
        ({"threshold": 3}, "normal"),
        ({"threshold": 2.99}, "anomaly"),
    ):
        assert said(one([*before, 7], Anomaly(rule="base", **setting)))[-1] == says, setting
