"""Trying other settings on days of which is known what they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from batch_marts.anomalies import Anomaly, Quiet
from batch_marts.anomalies.backtest import backtest, propose, trial_rows
from batch_marts.metrics import Metric
from tests.batch_marts.anomalies.worlds import MONDAY, day, mart_of, weekly

DAYS = 300
LAST = MONDAY + timedelta(days=DAYS - 1)
OUTAGES = (150, 151, 220)


def metric(**anomaly: Any) -> Metric:
    return Metric(
        name="orders",
        label="Orders",
        definition="Orders completed on the UTC day, each once however often it was told.",
        owner="finance",
        unit="orders",
        good="up",
        value="select 1",
        anomaly=Anomaly(**anomaly),
    )


def confirmed(numbers: Sequence[int]) -> str:
    values = ", ".join(f"('orders', 'all', timestamptz '{day(number)}')" for number in numbers)
    return f"select * from (values {values}) as told (metric_name, segment, began_at)"


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("set TimeZone = 'Asia/Tokyo'; set threads = 1")
        values = weekly(DAYS, seed=5)
        for number in OUTAGES:
            values[number] *= 0.5
        mart_of(con, {("orders", "all"): values, ("orders", "channel=google"): values, ("other", "all"): values})
        yield con


def test_what_would_have_fired(con: duckdb.DuckDBPyConnection) -> None:
    since, until = MONDAY + timedelta(days=100), MONDAY + timedelta(days=250)
    found = backtest(con, metric(rule="base"), since, until, mart="mart", confirmed=confirmed(OUTAGES))
    by_name = {one.name: one for one in found}
    assert list(by_name)[:2] == ["as set", "base"]
    assert {len(one.days) for one in found} == {151}
    assert by_name["as set"].days == by_name["base"].days
    seasonal = by_name["seasonal"]
    assert {MONDAY + timedelta(days=number) for number in OUTAGES} <= {one.at.date() for one in seasonal.fired}
    assert (seasonal.found, seasonal.missed, seasonal.judged) == (3, 0, 151)
    fired = {name: {one.at for one in tried.fired} for name, tried in by_name.items()}
    assert fired["seasonal, z > 4"] <= fired["seasonal"] <= fired["seasonal, z > 2.5"]
    assert by_name["base"].missed >= 1, "half of a good day is an ordinary bad one"
    assert seasonal.per_90_days == pytest.approx(90 * (len(seasonal.fired) - 3) / 151)


def test_the_rows_of_the_table(con: duckdb.DuckDBPyConnection) -> None:
    found = backtest(
        con,
        metric(),
        MONDAY + timedelta(days=140),
        MONDAY + timedelta(days=160),
        mart="mart",
        trials={"one": Anomaly(direction="rises")},
    )
    rows = trial_rows(found)
    assert [row["settings"] for row in rows] == ["as set", "one"]
    assert rows[0]["fired_on"] == [MONDAY + timedelta(days=150), MONDAY + timedelta(days=151)]
    assert rows[1]["fired_on"] == []
    assert (rows[0]["days"], rows[0]["found"], rows[0]["missed"]) == (21, 0, 0)


def test_quiet_times_stay(con: duckdb.DuckDBPyConnection) -> None:
    quiet = Quiet(start=day(150).date(), end=day(151).date(), reason="a move")
    found = backtest(
        con, metric(quiet=(quiet,)), MONDAY + timedelta(days=145), MONDAY + timedelta(days=155), mart="mart"
    )
    for tried in found:
        assert [one.said for one in tried.days[5:7]] == ["quiet", "quiet"], tried.name
        assert tried.judged == 9


def test_proposed_settings_fire_once_in_90_days_at_most(con: duckdb.DuckDBPyConnection) -> None:
    proposal = propose(con, metric(direction="both"), MONDAY, LAST, mart="mart", confirmed=confirmed(OUTAGES))
    assert proposal is not None
    assert proposal.anomaly.rule == "seasonal"
    assert proposal.tried.missed == 0
    assert proposal.tried.per_90_days is not None
    assert proposal.tried.per_90_days <= 1
    assert 0.1 < proposal.least_found < 0.3
    assert "3 of 3" in proposal.because
    assert (
        proposal.tried.days
        == backtest(
            con, metric(), MONDAY, LAST, mart="mart", trials={"it": proposal.anomaly}, confirmed=confirmed(OUTAGES)
        )[1].days
    )


def test_what_swings_by_the_week_alone_gets_the_rule_that_knows_weeks() -> None:
    with duckdb.connect() as con:
        mart_of(con, {("orders", "all"): weekly(DAYS, noise=0.01)})
        proposal = propose(con, metric(), MONDAY, LAST, mart="mart")
        assert proposal is not None
        assert proposal.anomaly.rule == "seasonal"
        assert proposal.least_found < 0.12


def test_a_few_weeks_are_no_history() -> None:
    with duckdb.connect() as con:
        mart_of(con, {("orders", "all"): weekly(30)})
        assert propose(con, metric(), MONDAY, LAST, mart="mart") is None
        found = backtest(con, metric(), MONDAY, date(2026, 12, 31), mart="mart")
        assert found[0].judged == 0
        assert found[0].per_90_days is None
