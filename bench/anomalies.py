"""How right the two rules are on metrics of which is known what happened to them, and how long 2,000 of them take.

What is simulated is what a shop's metrics have: a week, growth or decline, noise, outages, holidays that the calendar
of quiet times knows, and falls of 30 % that last a day and are to be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_marts.anomalies import Anomaly, Quiet
from batch_marts.anomalies.days import daily_values
from batch_marts.anomalies.judging import DAYS, judged_sql, settings_of

FIRST: Final = date(2023, 1, 2)
WARM_UP: Final = 84
"""Days at the beginning to which nothing is planted and that do not count."""
FALL: Final = 0.3
_ORDINARY, _FALL, _OUTAGE, _HOLIDAY = range(4)


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
