"""How right the two rules are on metrics of which is known what happened to them, and how long 2,000 of them take.

What is simulated is what a shop's metrics have: a week, growth or decline, noise, outages, holidays that the calendar
of quiet times knows, and falls of 30 % that last a day and are to be found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, partial
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_marts.anomalies import Anomaly, Quiet
from batch_marts.anomalies.days import check_days, daily_values
from batch_marts.anomalies.judging import DAYS, judged_sql, settings_of
from batch_marts.metrics import Metric

FIRST: Final = date(2023, 1, 2)
WARM_UP: Final = 84
"""Days at the beginning to which nothing is planted and that do not count."""
FALL: Final = 0.3
QUALITY: Final = 400, 2 * 365
"""Metrics and days of which rules are measured."""
SPEED: Final = 2_000, 3 * 365 + 1
"""Metrics and days by which seconds are taken."""
RUNS: Final = 3
_ORDINARY, _FALL, _OUTAGE, _HOLIDAY, _UNKNOWN = range(5)


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated."""

    metrics: int
    days: int
    seed: int
    noise: float = 0.05
    """Coefficient of variation."""
    season: float = 0.3


@dataclass(frozen=True)
class Made:
    """Values and what happened, a row for each metric and a column for each day."""

    world: World
    values: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int8]

    @cached_property
    def quiet(self) -> tuple[Quiet, ...]:
        """The holidays, which are those of all metrics."""
        days = [FIRST + timedelta(days=int(i)) for i in np.flatnonzero((self.kinds == _HOLIDAY).all(axis=0))]
        return tuple(Quiet(start=day, end=day, reason="a holiday") for day in days)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rule said of simulated metrics."""

    falls: int
    recall: float
    """Of the falls of 30 % for a day."""
    precision: float
    """Of the alarms, those at a fall or an outage."""
    false_alarms_per_90_days: float
    """For each metric; a holiday is one, where the rule does not know of it."""
    outages_found: float


def made(world: World) -> Made:
    """Metrics of the same length: each with a week of its own, up to 0.4 of growth or decline in 90 days, a fall every
    60 days, an outage of one to three days every 90, and four holidays a year."""
    random = np.random.default_rng(world.seed)
    shape = (world.metrics, world.days)
    numbers = np.arange(world.days)
    level = np.exp(random.normal(7, 1.5, (world.metrics, 1)))
    week = 1 + world.season * np.cos(2 * np.pi * (random.integers(0, 7, (world.metrics, 1)) + numbers) / 7)
    trend = np.exp(random.uniform(-0.4, 0.4, (world.metrics, 1)) * numbers / 90)
    values = level * week * trend * (1 + world.noise * random.standard_normal(shape))
    kinds = np.full(shape, _ORDINARY, np.int8)
    later = np.arange(WARM_UP, world.days)
    holidays = random.choice(later, len(later) // 90, replace=False)
    values[:, holidays] *= random.uniform(0.5, 1.6, (world.metrics, len(holidays)))
    kinds[:, holidays] = _HOLIDAY
    for row, kind in zip(values, kinds, strict=True):
        for first in random.choice(later, len(later) // 90, replace=False):
            days = [day for day in range(first, min(first + random.integers(1, 4), world.days)) if not kind[day]]
            row[days] *= random.uniform(0, 0.4)
            kind[days] = _OUTAGE
        falls = [day for day in random.choice(later, len(later) // 60, replace=False) if not kind[day]]
        row[falls] *= 1 - FALL
        kind[falls] = _FALL
    return Made(world, values, kinds)


def measured(simulated: Made, anomaly: Anomaly) -> Measured:
    """How right `anomaly` is; the seasonal rule is told the holidays, which the base rule has no use for."""
    if anomaly.rule == "seasonal":
        anomaly = anomaly.model_copy(update={"quiet": simulated.quiet})
    with duckdb.connect() as con:
        store(con, simulated.values)
        with settings_of(con, dict.fromkeys(names(simulated.values), anomaly)):
            told = con.execute(
                f"select said = 'anomaly' as fired from ({judged_sql(daily_values('mart'), DAYS)}) "
                "order by metric_name, began_at"
            ).fetchnumpy()["fired"]
    fired = np.asarray(told).reshape(simulated.values.shape)[:, WARM_UP:]
    kinds = simulated.kinds[:, WARM_UP:]
    right = np.isin(kinds, (_FALL, _OUTAGE))
    return Measured(
        falls=int((kinds == _FALL).sum()),
        recall=float(fired[kinds == _FALL].mean()),
        precision=float((fired & right).sum() / max(fired.sum(), 1)),
        false_alarms_per_90_days=float((fired & ~right).mean() * 90),
        outages_found=float(fired[kinds == _OUTAGE].mean()),
    )


def names(values: npt.NDArray[np.float64]) -> list[str]:
    """Of the metrics, in order of their rows."""
    return [f"metric_{number:05}" for number in range(len(values))]


def store(con: duckdb.DuckDBPyConnection, values: npt.NDArray[np.float64]) -> None:
    """Makes the table `mart` as mart_daily_metrics is."""
    metrics, days = values.shape
    calendar = [FIRST + timedelta(days=number) for number in range(days)]
    con.register(
        "made",
        pa.table(
            {
                "metric_date": pa.array(calendar * metrics, pa.date32()),
                "metric_name": pa.array(names(values)).take(np.repeat(np.arange(metrics), days)),
                "metric_value": values.ravel(),
            }
        ),
    )
    con.execute("create or replace table mart as select *, 'all' as dimension, true as is_complete from made")
    con.unregister("made")


@dataclass(frozen=True)
class Anomalies:
    """How right and how fast the rules are."""

    right: dict[str, Measured]
    seconds: dict[str, Took]


def measure() -> Anomalies:
    """All of it; the best of RUNS counts."""
    metrics, days = QUALITY
    simulated = made(World(metrics, days, seed=20261127))
    unaware = Made(simulated.world, simulated.values, np.where(simulated.kinds == _HOLIDAY, _UNKNOWN, simulated.kinds))
    right = {
        "base": measured(simulated, Anomaly(rule="base")),
        "seasonal": measured(simulated, Anomaly(rule="seasonal")),
        "seasonal, only drops": measured(simulated, Anomaly(rule="seasonal", direction="drops")),
        "seasonal, no holiday known": measured(unaware, Anomaly(rule="seasonal")),
    }
    return Anomalies(right, _seconds())


def _seconds() -> dict[str, Took]:
    metrics, days = SPEED
    values = made(World(metrics, days, seed=2)).values
    found: dict[str, Took] = {}
    with duckdb.connect() as con:
        store(con, values)
        for rule in (Anomaly(rule="base"), Anomaly(rule="seasonal")):
            with settings_of(con, dict.fromkeys(names(values), rule)):
                query = judged_sql(daily_values("mart"), DAYS)
                fired = f"create or replace table fired as from ({query}) where said = 'anomaly'"
                found[f"{rule.rule}, every day"] = _best(partial(con.execute, fired))
                told = con.execute(f"select expected from ({query}) order by metric_name, slot").fetchnumpy()
            asked = [_metric(name, rule) for name in names(values)]
            found[f"{rule.rule}, the newest day"] = _best(partial(check_days, con, asked, mart="mart"))
        found["base, plain window SQL"] = _best(partial(con.execute, _PLAIN))
    plain: list[npt.NDArray[np.float64]] = []
    found["seasonal, NumPy, a metric at a time"] = _best(lambda: plain.extend(map(_seasonal_of, values)), runs=1)
    if not np.allclose(np.ma.filled(told["expected"], np.nan), np.concatenate(plain), rtol=1e-9, equal_nan=True):
        raise RuntimeError("the seasonal rule in SQL is not the one in NumPy")
    return found


@dataclass(frozen=True, order=True, slots=True)
class Took:
    """Seconds, and those of both cores that were spent on it: surer on a machine that others share."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} ({self.cpu:.1f})"


def _best(run: Callable[[], object], runs: int = RUNS) -> Took:
    taken = []
    for _ in range(runs):
        began, cpu = time.perf_counter(), time.process_time()
        run()
        taken.append(Took(time.perf_counter() - began, time.process_time() - cpu))
    return min(taken)


def _metric(name: str, anomaly: Anomaly) -> Metric:
    return Metric(
        name=name,
        label=name,
        definition="A simulated metric, as bench/anomalies.py makes it.",
        owner="bench",
        unit="things",
        good="up",
        value="select 1",
        anomaly=anomaly,
    )


_PLAIN: Final = """
create or replace table fired as
select metric_name, metric_date, metric_value, avg(metric_value) over w as expected,
    stddev_samp(metric_value) over w as deviation
from mart
window w as (partition by metric_name, dimension order by metric_date rows between 7 preceding and 1 preceding)
qualify abs(metric_value - expected) / nullif(deviation, 0) > 2.5
"""


def _seasonal_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the seasonal rule expects of each day of one metric without gaps, NaN for the first six weeks."""
    same = np.full((6, len(values)), np.nan)
    for week in range(6):
        same[week, 7 * (week + 1) :] = values[: -7 * (week + 1)]
    usual = np.full(len(values), np.nan)
    usual[21:] = np.nanmedian(same[:, 21:], axis=0)
    typical = _before(np.abs(usual), 7, 1, np.nanmean, own=True)
    size = np.fmax(np.abs(usual), 0.1 * typical)
    change = (values - usual) / size
    level = _before(change, 21, 7, np.nanmedian)
    middle = _before(np.abs(change - level), 42, 14, np.nanmedian)
    return np.where(np.isnan(middle), np.nan, usual + level * size)


def _before(
    values: npt.NDArray[np.float64],
    rows: int,
    least: int,
    of: Callable[..., npt.NDArray[np.float64]],
    own: bool = False,
) -> npt.NDArray[np.float64]:
    """`of` the `rows` values before each one, or up to its own; NaN where fewer than `least` are there."""
    padded = np.concatenate([np.full(rows, np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, rows)
    windows = windows[1:] if own else windows[:-1]
    found = np.full(len(values), np.nan)
    enough = np.count_nonzero(~np.isnan(windows), axis=1) >= least
    found[enough] = of(windows[enough], axis=1)
    return found


def report(description: str, measured: Anomalies) -> str:
    metrics, days = QUALITY
    many, long = SPEED
    table = "\n".join(
        f"| {name} | {one.false_alarms_per_90_days:.2f} | {one.recall:.1%} | {one.outages_found:.1%} "
        f"| {one.precision:.1%} |"
        for name, one in measured.right.items()
    )
    every, newest, yardsticks = (
        [str(measured.seconds[name]) for name in row]
        for row in (
            ("base, every day", "seasonal, every day"),
            ("base, the newest day", "seasonal, the newest day"),
            ("base, plain window SQL", "seasonal, NumPy, a metric at a time"),
        )
    )
    return f"""## Anomalies

{description}

{metrics} simulated metrics of {days} days: a week of ± 30 %, growth or decline of up to 0.4 in 90 days, noise with a
coefficient of variation of 5 %, {measured.right["base"].falls:,} falls of 30 % for a day, an outage of one to three
days every 90, and four holidays a year, which the seasonal rule knows as quiet times. False alarms are for each metric
in 90 days; an alarm on a fall or an outage is right. The first {WARM_UP} days do not count.

| rule | false alarms | falls found | days of outages found | alarms that are right |
|---|---:|---:|---:|---:|
{table}

{many:,} metrics × 3 years, {many * long:,} values, in seconds, the best of {RUNS} runs, and in brackets
in seconds of CPU, both cores together:

| | base | seasonal |
|---|---:|---:|
| **every day judged** | **{every[0]}** | **{every[1]}** |
| the nightly check: the newest day of each | {newest[0]} | {newest[1]} |
| yardstick | {yardsticks[0]} | {yardsticks[1]} |

The yardsticks: plain `avg` and `stddev_samp` over a window in DuckDB, and NumPy, one metric at a time, which comes to
the same expected values.
"""
