"""Series of values to judge, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_marts.anomalies import Anomaly
from batch_marts.anomalies.judging import DAYS, NOTHING_LEFT_OUT, judged_sql, rows, settings_of

Row = dict[str, Any]
Values = Sequence[float | None]

MONDAY = date(2026, 1, 5)
_SLOT = (MONDAY - date(1970, 1, 5)).days
MART = pa.schema(
    [
        ("metric_date", pa.date32()),
        ("metric_name", pa.string()),
        ("dimension", pa.string()),
        ("metric_value", pa.float64()),
        ("is_complete", pa.bool_()),
    ]
)
_VALUES = pa.schema(
    [("metric_name", pa.string()), ("segment", pa.string()), ("slot", pa.int64()), ("value", pa.float64())]
)
QUERY = f"""
    select metric_name, segment, slot, value,
        cast(date '{MONDAY}' + cast(slot - {_SLOT} as integer) as timestamp) at time zone 'UTC' as began_at
    from given
"""


def day(number: int) -> datetime:
    """Midnight UTC of the day with this number; 0 is a Monday."""
    return datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=number)


def judged(
    series: Mapping[str, Values], anomaly: Anomaly, *, left_out: Sequence[tuple[str, int]] = ()
) -> dict[str, list[Row | None]]:
    """What is said of each day of each series, which all begin on a Monday; None where there is no value."""
    con = database()
    names = [name for name, values in series.items() for _ in values]
    slots = [_SLOT + number for values in series.values() for number in range(len(values))]
    values = [value for values in series.values() for value in values]
    columns = [names, ["all"] * len(names), slots, values]
    con.register(
        "given",
        pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, _VALUES, strict=True)], schema=_VALUES),
    )
    outs = [f"('{name}', 'all', timestamptz '{day(number)}')" for name, number in left_out]
    told = f"select * from (values {', '.join(outs)}) as outs (metric_name, segment, began_at)"
    query = judged_sql(QUERY, DAYS, left_out=told if outs else NOTHING_LEFT_OUT)
    found: dict[str, list[Row | None]] = {name: [None] * len(values) for name, values in series.items()}
    with settings_of(con, dict.fromkeys(series, anomaly)):
        for row in rows(con, query):
            found[row["metric_name"]][row["slot"] - _SLOT] = row
    return found


def one(values: Values, anomaly: Anomaly, **more: Any) -> list[Row | None]:
    return judged({"orders": values}, anomaly, **more)["orders"]


def mart_of(con: duckdb.DuckDBPyConnection, series: Mapping[tuple[str, str], Values], open_days: int = 0) -> None:
    """Makes the table `mart` as mart_daily_metrics is, by metric and dimension; its last `open_days` are incomplete."""
    made = [
        {
            "metric_date": day(number).date(),
            "metric_name": name,
            "dimension": dimension,
            "metric_value": value,
            "is_complete": number < len(values) - open_days,
        }
        for (name, dimension), values in series.items()
        for number, value in enumerate(values)
    ]
    con.register("made", pa.Table.from_pylist(made, schema=MART))
    con.execute("create or replace table mart as from made")
    con.unregister("made")


def weekly(days: int, level: float = 1000.0, *, seed: int = 1, noise: float = 0.05, season: float = 0.3) -> list[float]:
    """A metric with a week of ± `season` and noise of that coefficient of variation."""
    random = np.random.default_rng(seed)
    numbers: npt.NDArray[np.int64] = np.arange(days)
    week = 1 + season * np.cos(2 * np.pi * numbers / 7)
    return [float(value) for value in level * week * (1 + noise * random.standard_normal(days))]


@cache
def database() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("set TimeZone = 'America/New_York'; set threads = 1")  # what it is set to must not matter
    return con
