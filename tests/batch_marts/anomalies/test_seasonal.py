"""The seasonal rule against plain Python, and against simulated metrics of which is known what happened to them."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_marts.anomalies import Anomaly, Quiet
from bench.anomalies import World, made, measured
from tests.batch_marts.anomalies.worlds import MONDAY, Row, Values, day, judged, one, weekly

SEASONAL = Anomaly(rule="seasonal")


def reference(values: Values, kept: Values) -> list[tuple[float, float] | None]:
    """What is expected of each day, and the deviation; None with too little before it."""
    usual: list[float | None] = []
    for i in range(len(values)):
        same = [v for week in range(1, 7) if i >= 7 * week and (v := kept[i - 7 * week]) is not None]
        usual.append(statistics.median(same) if len(same) >= 3 else None)
    sizes: list[float | None] = []
    for i, middle in enumerate(usual):
        week = [abs(u) for u in usual[max(i - 6, 0) : i + 1] if u is not None]
        sizes.append(None if middle is None else max(abs(middle), 0.1 * statistics.fmean(week)))
    changes: list[float | None] = []
    for value, middle, size in zip(kept, usual, sizes, strict=True):
        if value is None or middle is None or size is None:
            changes.append(None)
        elif size > 0:
            changes.append((value - middle) / size)
        else:
            changes.append(0.0 if value == middle else None)
    levels: list[float | None] = []
    surprises: list[float | None] = []
    for i, change in enumerate(changes):
        before = known(changes[max(i - 21, 0) : i])
        level = statistics.median(before) if len(before) >= 7 else levels[-1] if levels else None
        levels.append(level)
        surprises.append(None if change is None or level is None else abs(change - level))
    found: list[tuple[float, float] | None] = []
    for i, (middle, size, level) in enumerate(zip(usual, sizes, levels, strict=True)):
        before = known(surprises[max(i - 42, 0) : i])
        if middle is None or size is None or level is None or len(before) < 14:
            found.append(None)
        else:
            found.append((middle + level * size, max(1.4826 * statistics.median(before), 0.02) * size))
    return found


def known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def compare(values: Values, kept: Values, rows: Sequence[Row | None]) -> int:
    """Asserts that both say the same; how many days were judged."""
    count = 0
    for value, row, told in zip(values, rows, reference(values, kept), strict=True):
        if value is None:
            assert row is None
            continue
        assert row is not None
        if told is None:
            assert row["expected"] is None
            assert row["said"] in ("too_few", "quiet")
            continue
        count += 1
        assert row["expected"] == pytest.approx(told[0], rel=1e-9, abs=1e-9)
        assert row["deviation"] == pytest.approx(told[1], rel=1e-9, abs=1e-9)
        if row["said"] == "quiet":
            continue
        change = abs(value - told[0])
        margins = [change / told[1] - 3.0 if told[1] > 1e-9 else change, change - 0.1 * abs(told[0])]
        if min(map(abs, margins)) > 1e-6:
            assert row["said"] == ("anomaly" if min(margins) > 0 else "normal")
    return count


values_of = st.one_of(
    st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), st.none(), st.just(0.0), st.sampled_from([0.1, 100.0])
)
a_week = st.lists(st.sampled_from([0.0, 0.1, 3.0, 80.0, 100.0, 130.0, -20.0]), min_size=7, max_size=7)


@st.composite
def histories(draw: st.DrawFn) -> list[float | None]:
    """A week that repeats, with noise, strange days, gaps and days without a value."""
    week, days = draw(a_week), draw(st.integers(30, 75))
    noise = random.Random(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.05, 0.5]))
    values: list[float | None] = [week[i % 7] * (1 + share * noise.uniform(-1, 1)) for i in range(days)]
    for place, value in draw(st.dictionaries(st.integers(0, days - 1), values_of, max_size=12)).items():
        values[place] = value
    return values


@settings(max_examples=settings().max_examples // 5)  # of up to ten series each
@given(st.lists(histories(), min_size=1, max_size=10), st.lists(st.integers(0, 74), max_size=6))
def test_it_is_that_of_plain_python(lists: list[list[float | None]], out: list[int]) -> None:
    """With some days left out of the first series, and others quiet for all."""
    quiet = Quiet(start="2026-02-10", end="2026-02-12", reason="a campaign")
    silent = range((quiet.start - day(0)).days, (quiet.end - day(0)).days) if quiet.start and quiet.end else ()
    found = judged(
        {f"m{i}": values for i, values in enumerate(lists)},
        SEASONAL.model_copy(update={"quiet": (quiet,)}),
        left_out=[("m0", number) for number in out],
    )
    for i, values in enumerate(lists):
        kept = [None if n in silent or (i == 0 and n in out) else value for n, value in enumerate(values)]
        rows = found[f"m{i}"]
        compare(values, kept, rows)
        assert {n for n, row in enumerate(rows) if row and row["said"] == "quiet"} == {
            n for n in silent if n < len(values) and values[n] is not None
        }


def test_days_that_are_not_there_are_gaps_and_not_rows() -> None:
    values = weekly(100)
    values_with_gaps: list[float | None] = [None if i in (50, 51, 80) else value for i, value in enumerate(values)]
    assert compare(values_with_gaps, values_with_gaps, one(values_with_gaps, SEASONAL)) == 100 - 42 - 3


def test_it_needs_six_weeks() -> None:
    rows = one(weekly(60), SEASONAL)
    assert [row["said"] == "too_few" for row in rows if row] == [True] * 42 + [False] * 18


def flagged(values: Sequence[float], anomaly: Anomaly = SEASONAL, **more: object) -> list[int]:
    return [i for i, row in enumerate(one(values, anomaly, **more)) if row and row["said"] == "anomaly"]


def test_the_week_is_no_anomaly_and_a_fall_is() -> None:
    """A Sunday like a Thursday: within the range of the week, and far from a Sunday."""
    values = [100 + (i * 37 % 5) - 2.0 if i % 7 < 5 else 30.0 + i % 3 for i in range(100)]
    values[97] = 62.0
    assert flagged(values) == [97]


def test_growth_is_followed() -> None:
    values = [value * 1.004**i for i, value in enumerate(weekly(200, noise=0.02))]
    rows = [row for row in one(values, SEASONAL) if row and row["expected"] is not None]
    off = [row["value"] / row["expected"] - 1 for row in rows]
    assert abs(statistics.median(off)) < 0.02, "six weeks ago it was 15 % less"


def test_an_outage_leaves_no_mark_on_the_weeks_after_it() -> None:
    values = weekly(140, noise=0.02)
    values[70:73] = [0.0] * 3
    assert flagged(values) == [70, 71, 72]
    before = one(weekly(140, noise=0.02), SEASONAL)
    for i, row in enumerate(one(values, SEASONAL)):
        if i > 73 and row:
            assert row["expected"] == pytest.approx((before[i] or {})["expected"], rel=0.03)


def test_directions() -> None:
    values = weekly(120, noise=0.02)
    values[80] *= 0.6
    values[100] *= 1.4
    assert flagged(values) == [80, 100]
    assert flagged(values, Anomaly(direction="drops")) == [80]
    assert flagged(values, Anomaly(direction="rises")) == [100]


def test_a_change_has_to_exceed_what_is_set() -> None:
    values = weekly(100, noise=0.0, season=0.0)  # always 1,000: the deviation is the least, 2 %
    values[80] = 900.0
    for anomaly, found in (
        (Anomaly(least_relative_change=0.0), [80]),
        (Anomaly(), []),  # not more than 10 %
        (Anomaly(least_relative_change=0.09), [80]),
        (Anomaly(least_relative_change=0.0, least_change=100), []),
        (Anomaly(least_relative_change=0.0, least_change=99), [80]),
        (Anomaly(least_relative_change=0.0, threshold=5.0), []),
        (Anomaly(least_relative_change=0.0, threshold=4.9), [80]),
    ):
        assert flagged(values, anomaly) == found, anomaly


def test_nothing_but_zeros_has_no_deviation_and_the_least_change_decides() -> None:
    values = [0.0] * 60 + [2.0] + [0.0] * 10
    row = one(values, SEASONAL)[60]
    assert row is not None
    assert (row["said"], row["z"], row["deviation"], row["expected"]) == ("anomaly", None, 0.0, 0.0)
    assert flagged(values, Anomaly(least_change=2)) == []


def test_zero_on_most_sundays_is_measured_by_the_week() -> None:
    values = [100.0 + i % 5 if i % 7 < 6 else 0.0 for i in range(90)]
    values[83] = 1.0  # the twelfth Sunday
    row = one(values, SEASONAL)[83]
    assert row is not None
    assert (row["expected"], row["said"]) == (pytest.approx(0, abs=0.5), "normal" if row["z"] <= 3 else "anomaly")
    assert row["deviation"] > 0.15, "a fiftieth of a tenth of a usual day"


def test_counts_vary_at_least_as_counts_do() -> None:
    values = [9.0] * 80
    values[70] = 2.0
    for counts, deviation in ((False, 0.18), (True, 3.0)):
        row = one(values, Anomaly(counts=counts))[70]
        assert row is not None
        assert row["deviation"] == pytest.approx(deviation)
        assert (row["said"] == "anomaly") is (not counts)


def test_quiet_times_are_neither_judged_nor_learned_from() -> None:
    values = weekly(120, noise=0.02)
    for sale in (range(45, 59), range(59, 66)):
        for i in sale:
            values[i] *= 3
    quiet = Quiet(start=day(45).date(), end=day(65).date(), reason="Sale")
    rows = one(values, SEASONAL.model_copy(update={"quiet": (quiet,)}))
    assert {row["reason"] for row in rows[45:66] if row} == {"Sale"}
    assert {row["said"] for row in rows[45:66] if row} == {"quiet"}
    assert {row["said"] for row in rows[66:] if row} == {"normal"}
    assert len(flagged(values)) > 20, "without it the sale fires, and so does what is learned from it"


def test_past_anomalies_are_left_out_and_what_was_none_stays_in() -> None:
    """A slump of two weeks: once it is confirmed, nothing of it is learned."""
    values = weekly(110, noise=0.02)
    for i in range(63, 80):
        values[i] *= 0.5
    unconfirmed = one(values, SEASONAL)
    confirmed = one(values, SEASONAL, left_out=[("orders", i) for i in range(63, 80)])
    assert [row["said"] for row in confirmed[63:] if row] == ["anomaly"] * 17 + ["normal"] * 30
    learned = [row["expected"] for row in unconfirmed[63:80] if row]
    assert learned[-1] < 0.8 * learned[0], "the level followed the slump"
    kept = [None if 63 <= i < 80 else value for i, value in enumerate(values)]
    for row, told in zip(confirmed, reference(values, kept), strict=True):
        assert row is not None
        if told is not None:
            assert row["expected"] == pytest.approx(told[0])


def test_the_same_values_say_the_same_again() -> None:
    values = weekly(90)
    assert one(values, SEASONAL) == one(values, SEASONAL)


def test_simulated_metrics() -> None:
    """Weeks of ± 30 %, growth or decline, noise of 5 %, outages, and holidays that are known beforehand."""
    found = {
        rule: measured(made(World(metrics=60, days=400, seed=7)), Anomaly(rule=rule)) for rule in ("base", "seasonal")
    }
    seasonal, base = found["seasonal"], found["base"]
    assert seasonal.falls > 200
    assert seasonal.recall >= 0.95
    assert seasonal.false_alarms_per_90_days <= 1
    assert seasonal.outages_found >= 0.99
    assert base.recall < 0.2, "a week's swing is all the deviation that seven days have"
    assert seasonal.precision > base.precision
    assert not math.isnan(base.precision)


def test_mondays_are_mondays() -> None:
    assert MONDAY.weekday() == 0
