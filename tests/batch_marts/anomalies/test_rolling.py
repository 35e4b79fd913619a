"""The rolling rule over a warehouse: a fall is found while it happens, and nothing is said of what is not known yet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from batch_marts.anomalies import Quiet, Verdict
from batch_marts.anomalies.rolling import FIVE_MINUTES, HOUR, Pace, check_rolling
from batch_marts.metrics import Metric, load_metrics
from tests.batch_marts.anomalies.streams import NOON, Stream, stream_of

MINUTE = timedelta(minutes=1)
METRICS = load_metrics()
World = tuple[Stream, duckdb.DuckDBPyConnection]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Nine weeks; today until noon all is as it was, and then 40 % of the views of "/" are lost, of mobiles alone."""

    def today(stream: Stream) -> None:
        stream.views(NOON - timedelta(hours=2.5), NOON, 2400)
        stream.views(NOON, NOON + timedelta(hours=1.5), 2400, lost={"/": 0.4})

    with stream_of(tmp_path_factory.mktemp("rolling"), today=today) as made:
        yield made


def ask(
    world: World, minutes: float, *, pace: Pace = FIVE_MINUTES, metrics: list[Metric] = METRICS, **more: timedelta
) -> dict[tuple[str, str], Verdict]:
    """What is said so many minutes after noon, with the flow a minute behind."""
    stream, con = world
    now = NOON + minutes * MINUTE
    stream.known_until(now - more.get("behind", MINUTE))
    since = now - more["back"] if "back" in more else None
    found = check_rolling(con, metrics, now, pace=pace, since=since)
    return {(one.metric, one.segment): one for one in found}


def test_before_noon_nothing_fires(world: World) -> None:
    found = ask(world, 0.5)
    assert {one.said for one in found.values()} == {"normal"}
    assert {segment for metric, segment in found if metric == "page_views"} == {
        "all",
        "path=/",
        "path=/pricing",
        "path=/about",
    }
    views = found["page_views", "all"]
    assert views.at == NOON - 10 * MINUTE, "the last step that the flow has passed"
    assert views.expected == pytest.approx(400, rel=0.1)
    assert views.baseline == 6


def test_a_fall_of_40_percent_is_found_within_15_minutes(world: World) -> None:
    found: dict[tuple[str, str], tuple[int, Verdict]] = {}
    for minute in range(1, 16):
        for key, verdict in ask(world, minute).items():
            if verdict.said == "anomaly":
                found.setdefault(key, (minute, verdict))
    minute, verdict = found["page_views", "path=/"]
    assert minute <= 15
    assert verdict.actual == pytest.approx(0.6 * 240, rel=0.25)
    assert verdict.expected == pytest.approx(240, rel=0.1)
    assert [part.segment for part in verdict.parts] == ["device=mobile"]
    assert verdict.parts[0].share == pytest.approx(1, abs=0.25)
    assert verdict.unusual.startswith("lowest ten minutes up to Tuesday 12:")
    assert "deviations below" in verdict.because
    assert set(found) <= {("page_views", "path=/"), ("page_views", "all"), ("events", "all")}


def test_what_the_whole_lost_was_on_the_main_page(world: World) -> None:
    found = ask(world, 61, pace=HOUR)
    whole = found["page_views", "all"]
    assert whole.said == "anomaly", "24 % of all views"
    assert whole.at == NOON
    assert {part.segment for part in whole.parts} == {"path=/", "device=mobile"}
    assert found["page_views", "path=/pricing"].said == "normal"


def test_spans_that_nobody_looked_at_are_made_up_for(world: World) -> None:
    stream, con = world
    now = NOON + 31 * MINUTE
    stream.known_until(now - MINUTE)
    found = check_rolling(con, METRICS, now, since=NOON + 10 * MINUTE)
    at = [one.at for one in found if (one.metric, one.segment) == ("page_views", "path=/")]
    assert at == [NOON + minutes * MINUTE for minutes in (10, 15, 20, 25)]
    assert check_rolling(con, METRICS, now, since=NOON + 30 * MINUTE) == []


def test_a_flow_that_is_behind_makes_it_wait(world: World) -> None:
    """Known up to noon only, twenty minutes later: the fall is there and nobody judges it."""
    found = check_rolling_at(world, 20, behind=20 * MINUTE)
    waiting = [one for one in found if one.said == "waiting"]
    assert {(one.metric, one.segment) for one in waiting} == {
        (metric, "all") for metric in ("page_views", "events", "sign_ups", "orders")
    }
    assert {one.at for one in waiting} == {NOON + 10 * MINUTE}
    assert {one.actual for one in waiting} == {None}
    assert "behind" in waiting[0].because
    judged = [one for one in found if one.said != "waiting"]
    assert {one.said for one in judged} == {"normal"}
    assert {one.at for one in judged} == {NOON - 5 * MINUTE}


def check_rolling_at(world: World, minutes: float, behind: timedelta) -> list[Verdict]:
    stream, con = world
    now = NOON + minutes * MINUTE
    stream.known_until(now - behind)
    return check_rolling(con, METRICS, now)


def test_quiet_times_and_what_is_not_judged(world: World) -> None:
    quiet = Quiet(start=NOON - timedelta(hours=1), end=NOON + timedelta(hours=1), reason="a release")
    silent = [
        metric.model_copy(update={"anomaly": metric.anomaly.model_copy(update={"quiet": (quiet,)})})
        if metric.name == "page_views"
        else metric.model_copy(update={"anomaly": metric.anomaly.model_copy(update={"rolling": None})})
        for metric in METRICS
    ]
    found = ask(world, 21, metrics=silent)
    assert {metric for metric, _ in found} == {"page_views", "events"}
    assert found["page_views", "path=/"].said == "quiet"
    assert "a release" in found["page_views", "path=/"].because


def test_bots_do_not_count(world: World) -> None:
    stream, _ = world
    before = ask(world, 0)["page_views", "all"].actual
    with stream.warehouse.transaction() as con:
        con.execute("insert into stream.bot_devices select 'a' || n, 'too many', now() from range(1000) as numbers (n)")
    try:
        without = ask(world, 0)["page_views", "all"].actual
    finally:
        with stream.warehouse.transaction() as con:
            con.execute("delete from stream.bot_devices")
    assert before is not None
    assert without == pytest.approx(0.8 * before, rel=0.15)


def test_a_small_shop_is_not_alarmed_by_chance(tmp_path: Path) -> None:
    """30 views an hour: five in ten minutes, and often two or nine."""

    def today(stream: Stream) -> None:
        stream.views(NOON - timedelta(hours=2.5), NOON + timedelta(hours=1), 30)

    with stream_of(tmp_path, an_hour=30, today=today) as (stream, con):
        stream.known_until(NOON + timedelta(hours=1))
        for pace in (FIVE_MINUTES, HOUR):
            found = check_rolling(con, METRICS, NOON + timedelta(hours=1), pace=pace, since=NOON - timedelta(hours=1))
            assert {one.said for one in found} == {"normal"}
            assert len(found) > 6


def test_five_weeks_are_too_few(tmp_path: Path) -> None:
    def today(stream: Stream) -> None:
        stream.views(NOON - timedelta(hours=1), NOON, 60)

    with stream_of(tmp_path, weeks=5, an_hour=60, today=today) as (stream, con):
        stream.known_until(NOON)
        found = check_rolling(con, METRICS, NOON + MINUTE)
        assert {one.said for one in found} == {"too_few"}
        assert "the same time of 5 weeks before" in found[0].because


def test_an_empty_warehouse_says_nothing(tmp_path: Path) -> None:
    with stream_of(tmp_path, weeks=0) as (_, con):
        assert check_rolling(con, METRICS, NOON) == []
