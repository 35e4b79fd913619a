"""Whether a number can be used today: each thing that speaks against one, and what it is a matter of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from batch_marts.builds import Build
from batch_marts.catalogue import Catalogue, load_catalogue
from batch_marts.changes import AnnouncedChange
from batch_marts.dbt import PROJECT, Finding
from batch_marts.metrics import METRICS
from batch_marts.trust import Drift, Known, Standing, Trouble, standing_of_mart, standing_of_metric

NOW = datetime(2026, 2, 1, 8, tzinfo=UTC)
NIGHT = NOW.replace(hour=2)
YESTERDAY = date(2026, 1, 31)
PUBLISHED = Build(7, "build_0007", "full", "published", NIGHT, NIGHT, NIGHT)
FAILED = Build(8, "build_0008", "full", "failed", NIGHT, NIGHT)
FINE = Known(NOW, PUBLISHED, PUBLISHED, (), YESTERDAY, {"google": YESTERDAY}, (), Drift(1000, 0, NIGHT), ())


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(PROJECT, METRICS)


def mart(catalogue: Catalogue, known: Known, name: str = "fct_sessions") -> Standing:
    return standing_of_mart(known, catalogue, name)


def metric(catalogue: Catalogue, known: Known, name: str) -> Standing:
    return standing_of_metric(known, catalogue, catalogue.metrics[name])


def said(standing: Standing) -> str:
    return " ".join(reason.says for reason in standing.reasons)


def test_nothing_speaks_against_what_was_made_tonight(catalogue: Catalogue) -> None:
    for name in catalogue.marts:
        assert mart(catalogue, FINE, name) == Standing("usable", (), (), (), ())
    for name in catalogue.metrics:
        assert metric(catalogue, FINE, name).verdict == "usable"


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(timedelta(hours=30), "usable"), (timedelta(hours=31), "care"), (timedelta(days=3), "care"),
     (timedelta(days=3, hours=1), "not")],
)  # fmt: skip
def test_a_build_ages(catalogue: Catalogue, age: timedelta, verdict: str) -> None:
    old = replace(PUBLISHED, published_at=NOW - age)
    assert mart(catalogue, replace(FINE, published=old, last=old)).verdict == verdict


@pytest.mark.parametrize(
    ("day", "verdict"),
    [(YESTERDAY, "usable"), (date(2026, 1, 30), "care"), (date(2026, 1, 25), "care"), (date(2026, 1, 24), "not"),
     (None, "not")],
)  # fmt: skip
def test_days_that_are_not_complete(catalogue: Catalogue, day: date | None, verdict: str) -> None:
    known = replace(FINE, complete_until=day, spent_until={})
    assert mart(catalogue, known).verdict == verdict
    assert mart(catalogue, known, "dim_channel").verdict == "usable", "it is a list"


def test_a_test_that_failed_concerns_what_is_made_of_it(catalogue: Catalogue) -> None:
    finding = Finding("one_row", "int_orders", "an order is there twice", 3, "t")
    known = replace(FINE, last=FAILED, findings=[finding])
    told = mart(catalogue, known, "fct_conversions")
    assert (told.verdict, told.failed) == ("care", (finding,))
    assert "int_orders: an order is there twice" in said(told)
    other = mart(catalogue, known, "dim_channel")
    assert (other.verdict, other.failed) == ("care", ())
    assert "failed, for another reason" in said(other)
    rolled_back = replace(known, last=replace(FAILED, build_id=6))
    assert mart(catalogue, rolled_back, "fct_conversions").verdict == "usable", "it was before what is published"


def test_spend_that_nobody_loaded_concerns_what_is_divided_by_it(catalogue: Catalogue) -> None:
    known = replace(FINE, spent_until={"google": date(2026, 1, 28), "meta": YESTERDAY})
    for name in ("cac", "roas", "ad_spend"):
        told = metric(catalogue, known, name)
        assert told.verdict == "care"
        assert said(told) == "Ad spend is loaded for google up to 2026-01-28: later days lack its cost."
    assert metric(catalogue, known, "orders").verdict == "usable"
    assert mart(catalogue, known, "mart_acquisition").verdict == "care"
    assert mart(catalogue, known, "fct_sessions").verdict == "usable"


def test_what_is_out_of_range_concerns_its_metric_and_what_it_is_of(catalogue: Catalogue) -> None:
    trouble = Trouble("i1", "Orders: 3, expected 90 to 110", "anomaly", "major", ("orders",))
    known = replace(FINE, troubles=[trouble])
    assert metric(catalogue, known, "orders").troubles == (trouble,)
    assert metric(catalogue, known, "orders").verdict == "care"
    assert metric(catalogue, known, "revenue").verdict == "usable"
    assert mart(catalogue, known, "mart_daily_metrics").verdict == "care"
    assert mart(catalogue, known, "fct_sessions").verdict == "usable"
    critical = replace(FINE, troubles=[replace(trouble, severity="critical", metrics=("sessions",))])
    assert mart(catalogue, critical, "fct_sessions").verdict == "not"
    assert metric(catalogue, critical, "conversion").verdict == "not", "its parts are sessions"


def test_late_data_and_troubles_of_its_own_are_a_matter_of_care(catalogue: Catalogue) -> None:
    for kind, metrics in (("late", ("sessions",)), ("health", ("stitchline_lag",))):
        known = replace(FINE, troubles=[Trouble("i", "It is late", kind, "critical", metrics)])
        assert mart(catalogue, known, "fct_sessions").verdict == "care"


@pytest.mark.parametrize(
    ("differing", "verdict"), [(0, "usable"), (1, "care"), (9, "care"), (10, "not"), (5000, "not")]
)
def test_sessions_that_differ(catalogue: Catalogue, differing: int, verdict: str) -> None:
    known = replace(FINE, drift=Drift(1000, differing, NIGHT))
    assert mart(catalogue, known, "fct_sessions").verdict == verdict
    assert mart(catalogue, known, "fct_ad_spend_daily").verdict == "usable", "no session is in it"
    assert mart(catalogue, replace(FINE, drift=None), "fct_sessions").verdict == "usable"


def test_changes_to_come_are_shown_and_change_nothing_today(catalogue: Catalogue) -> None:
    soon = NOW + timedelta(days=14)
    of_mart = AnnouncedChange("c1", "fct_conversions", None, "share", "column_renamed", True, "share is renamed",
                              "share", "weight", None, NOW, "ada", soon, None)  # fmt: skip
    of_metric = replace(of_mart, change_id="c2", mart="mart_daily_metrics", metric="cac", what="meaning_changed")
    known = replace(FINE, pending=[of_mart, of_metric])
    assert mart(catalogue, known, "fct_conversions").pending == (of_mart,)
    assert mart(catalogue, known, "mart_daily_metrics").pending == (of_metric,)
    assert metric(catalogue, known, "cac").pending == (of_mart, of_metric)
    assert metric(catalogue, known, "new_customers").pending == (of_mart,)
    assert metric(catalogue, known, "orders").pending == ()
    assert mart(catalogue, known, "fct_conversions").verdict == "usable"


def test_the_worst_comes_first(catalogue: Catalogue) -> None:
    old = replace(PUBLISHED, published_at=NOW - timedelta(hours=40))
    known = replace(FINE, published=old, last=old, drift=Drift(100, 50, NIGHT), complete_until=date(2026, 1, 30))
    told = mart(catalogue, known)
    assert [reason.verdict for reason in told.reasons] == ["not", "care", "care"]
    assert told.reasons[0].says == "50 of 100 sessions differ from their definition and are not repaired."
