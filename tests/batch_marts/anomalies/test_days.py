"""The nightly check: which days are judged, which wait, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import duckdb
import pytest

from batch_marts.anomalies import Anomaly, Quiet, Verdict
from batch_marts.anomalies.days import check_days
from batch_marts.metrics import Metric
from tests.batch_marts.anomalies.worlds import day, mart_of, weekly

LAST = 99  # a Tuesday


def metric(name: str, **anomaly: Any) -> Metric:
    return Metric(
        name=name,
        label=name,
        definition="What the tests of anomalies judge, day by day.",
        owner="product",
        unit="things",
        good="up",
        value="select 1",
        anomaly=Anomaly(**anomaly),
    )


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("set TimeZone = 'America/Los_Angeles'")
        yield con


def by_metric(found: list[Verdict]) -> dict[str, Verdict]:
    assert len({one.metric for one in found}) == len(found)
    return {one.metric: one for one in found}


def test_the_newest_complete_day_is_judged_and_later_ones_wait(con: duckdb.DuckDBPyConnection) -> None:
    values = [1000.0 + number % 7 for number in range(LAST + 2)]
    values[LAST] = 600.0
    mart_of(con, {("orders", "all"): values, ("orders", "channel=x"): values}, open_days=1)
    judged, waits = check_days(con, [metric("orders")], mart="mart")
    assert (judged.metric, judged.segment, judged.grain, judged.at) == ("orders", "all", "day", day(LAST))
    assert (judged.said, judged.rule, judged.actual, judged.expected) == ("anomaly", "seasonal", 600.0, 1001.0)
    assert judged.baseline == 6
    assert judged.low == pytest.approx(1001 - 100.1)
    assert judged.high == pytest.approx(1001 + 100.1)
    assert judged.z == pytest.approx(401 / 20.02)
    assert judged.because == (
        "600 is 20.0 deviations below 1,001 ± 20, by 6 Tuesdays before and the level of the last weeks; more than 3 is "
        "an anomaly."
    )
    assert judged.unusual == "lowest Tuesday of all 15"
    assert [(part.segment, part.share) for part in judged.parts] == [("channel=x", 1.0)]
    assert (waits.at, waits.said, waits.actual, waits.expected) == (day(LAST + 1), "waiting", 1000.0 + 100 % 7, None)
    assert "not complete" in waits.because


def test_several_days_and_an_earlier_end(con: duckdb.DuckDBPyConnection) -> None:
    mart_of(con, {("orders", "all"): weekly(LAST + 1)}, open_days=0)
    found = check_days(con, [metric("orders")], mart="mart", days=3)
    assert [one.at for one in found] == [day(LAST - 2), day(LAST - 1), day(LAST)]
    earlier = check_days(con, [metric("orders")], mart="mart", until=day(LAST - 1).date())
    assert earlier == [found[1]], "what came later does not matter"
    assert check_days(con, [metric("orders")], mart="mart", until=date(2020, 1, 1)) == []


def test_a_day_that_still_grows_waits(con: duckdb.DuckDBPyConnection) -> None:
    values = weekly(LAST + 1, noise=0.02)
    for number in range(LAST - 6, LAST + 1):
        values[number] *= (LAST - number) / 10
    mart_of(con, {("orders", "all"): values})
    judged, *waiting = check_days(con, [metric("orders", settled_after=7)], mart="mart")
    assert (judged.at, judged.said) == (day(LAST - 7), "normal")
    assert [(one.at, one.said) for one in waiting] == [(day(LAST - n), "waiting") for n in range(6, -1, -1)]
    assert "when 2026-04-21 is complete" in waiting[-1].because


def test_each_metric_by_its_own_rule(con: duckdb.DuckDBPyConnection) -> None:
    names = ("by_base", "by_season", "by_none", "by_default")
    mart_of(con, {(name, "all"): weekly(LAST + 1) for name in names} | {("unknown", "all"): weekly(LAST + 1)})
    metrics = [
        metric("by_base", rule="base"),
        metric("by_season", rule="seasonal"),
        metric("by_none", rule="none"),
        metric("by_default"),
    ]
    found = by_metric(check_days(con, metrics, mart="mart"))
    assert {name: one.rule for name, one in found.items()} == {
        "by_base": "base",
        "by_season": "seasonal",
        "by_default": "seasonal",
    }
    assert (found["by_base"].baseline, found["by_season"].baseline) == (7, 6)


def test_what_is_said_of_little_history_and_of_none(con: duckdb.DuckDBPyConnection) -> None:
    mart_of(con, {("a", "all"): [5.0] * 5, ("b", "all"): [5.0] * 5})
    found = by_metric(check_days(con, [metric("a", rule="base"), metric("b")], mart="mart"))
    assert {one.said for one in found.values()} == {"too_few"}
    assert found["a"].because == "Too few: 4 of the 7 days before have a value, and all of them are needed."
    assert found["b"].because.startswith("Too few: 0 Fridays before of 6 are known.")
    con.execute("delete from mart")
    assert check_days(con, [metric("a")], mart="mart") == []


def test_words_without_a_deviation(con: duckdb.DuckDBPyConnection) -> None:
    mart_of(con, {("a", "all"): [*[5.0] * 90, 9.0], ("b", "all"): [*[0.0] * 90, 9.0]})
    found = by_metric(check_days(con, [metric("a", rule="base", least_change=2), metric("b")], mart="mart"))
    assert found["a"].because == (
        "9, and it was 5 on each of the 7 days before: there was no deviation to measure a change by. Any of more than "
        "2 is an anomaly."
    )
    assert found["b"].because.startswith("9, and 0 is usual: there was no deviation")
    assert found["a"].z is None
    assert found["a"].unusual == "highest Sunday of all 13"


def test_a_quiet_day_says_why(con: duckdb.DuckDBPyConnection) -> None:
    mart_of(con, {("a", "all"): [*[5.0] * 90, 900.0]})
    quiet = Quiet(start=day(90).date(), end=day(90).date(), reason="Easter")
    (found,) = check_days(con, [metric("a", quiet=(quiet,))], mart="mart")
    assert (found.said, found.because, found.unusual) == ("quiet", "Not judged: Easter.", "")


def test_how_unusual(con: duckdb.DuckDBPyConnection) -> None:
    """Ten Tuesdays ago it was lower still; nothing is said of what was as low two weeks ago."""
    values = [100.0] * (LAST + 1)
    values[LAST] = 60.0
    for weeks, said in ((9, "lowest Tuesday in 9 weeks"), (3, "lowest Tuesday in 3 weeks"), (2, "")):
        values[LAST - 7 * weeks] = 60.0
        mart_of(con, {("a", "all"): values})
        (found,) = check_days(con, [metric("a")], mart="mart")
        assert (found.said, found.unusual) == ("anomaly", said)


def test_confirmed_anomalies_are_left_out(con: duckdb.DuckDBPyConnection) -> None:
    values = weekly(LAST + 1, noise=0.02)
    for number in range(LAST - 16, LAST + 1):
        values[number] *= 0.7
    mart_of(con, {("a", "all"): values})
    told = ", ".join(f"('a', 'all', timestamptz '{day(number)}')" for number in range(LAST - 16, LAST))
    left_out = f"select * from (values {told}) as told (metric_name, segment, began_at)"
    (without,) = check_days(con, [metric("a")], mart="mart")
    (with_them,) = check_days(con, [metric("a")], mart="mart", left_out=left_out)
    assert (without.said, with_them.said) == ("normal", "anomaly")


def test_nothing_is_left_behind(con: duckdb.DuckDBPyConnection) -> None:
    mart_of(con, {("a", "all"): [*[5.0] * 90, 900.0]})
    check_days(con, [metric("a")], mart="mart")
    assert con.execute("select view_name from duckdb_views() where not internal").fetchall() == []
