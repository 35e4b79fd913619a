"""What two revisions differ in, whom that concerns, and which rules it breaks: every kind of change."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from batch_marts.anomalies.owners import load_owners
from batch_marts.consumers import downstream
from batch_marts.impact.differences import Change, differences
from batch_marts.impact.facts import Revision
from batch_marts.impact.report import Impact, as_markdown
from batch_marts.impact.rules import (
    Breach,
    breaches,
    owning,
    same_meanings,
    status_of,
    with_corrections,
)
from tests.batch_marts.impact.revisions import (
    BASKET,
    COLUMNS,
    FCT_ORDERS,
    INT_ORDERS,
    ORDERS,
    REPORT,
    REVENUE,
    SLIDES,
    columns,
    generic,
    model,
    revision,
)

TODAY = date(2026, 12, 1)
OWNED = {"fct_orders": ["finance", "product"], "revenue": ["finance"], "orders": ["product"], "basket": ["finance"]}
ALL = ("finance", "product", "platform", "marketing")


def told(base: Revision, head: Revision) -> list[tuple[str, str]]:
    return [(one.what, one.about) for one in differences(base, head)]


def broken(base: Revision, head: Revision, *said: str, approved_by: tuple[str, ...] = ALL) -> list[Breach]:
    changes = with_corrections(differences(base, head), same_meanings(said))
    return breaches(base, head, changes, OWNED, load_owners(), approved_by, TODAY)


def test_nothing_changes() -> None:
    assert told(revision(), revision()) == []
    assert broken(revision(), revision()) == []


@pytest.mark.parametrize(
    ("change", "expected", "status"),
    [
        ({"types": COLUMNS | {"note": "varchar"}}, [("column_added", "fct_orders.note")], 0),
        (
            {"types": {name: COLUMNS[name] for name in ("order_id", "day", "amount")}},
            [("column_removed", "fct_orders.is_large")],
            4,
        ),
        ({"types": COLUMNS | {"amount": "bigint"}}, [("column_retyped", "fct_orders.amount")], 4),
        ({"config": {"contract": {"enforced": False}}}, [("contract_loosened", "fct_orders")], 4),
        ({"description": "Orders."}, [("description_changed", "fct_orders")], 0),
        ({"described": {"day": "The local day."}}, [("description_changed", "fct_orders.day")], 0),
        (
            {"tests": ()},
            [("grain_changed", "fct_orders"), ("test_removed", "fct_orders")],
            4,
        ),
        (
            {"tests": (generic("unique", "fct_orders", "order_id"), generic("not_null", "fct_orders", "day"))},
            [("test_added", "fct_orders")],
            0,
        ),
        (
            {"tests": (generic("unique", "fct_orders", "order_id") | {"config": {"severity": "WARN"}},)},
            [("test_changed", "fct_orders")],
            0,
        ),
        ({"deprecation_date": "2027-03-31T00:00:00"}, [("deprecated", "fct_orders")], 0),
        (
            {"fct": FCT_ORDERS.replace("amount > 100", "amount > 50")},
            [("meaning_changed", "fct_orders.is_large")],
            3,
        ),
        (
            {"fct": f"{FCT_ORDERS} where amount > 0"},
            [
                ("meaning_changed", "fct_orders"),
                ("meaning_changed", "basket"),
                ("meaning_changed", "orders"),
                ("meaning_changed", "revenue"),
            ],
            3,
        ),
        (
            {"between": INT_ORDERS.replace("amount from", "amount - refunded as amount from")},
            [
                ("meaning_changed", "fct_orders.amount"),
                ("meaning_changed", "fct_orders.is_large"),
                ("meaning_changed", "basket"),
                ("meaning_changed", "revenue"),
            ],
            3,
        ),
        ({"metrics": (REVENUE, ORDERS)}, [("metric_removed", "basket")], 4),
        ({"metrics": (REVENUE | {"definition": "x" * 50}, ORDERS, BASKET)}, [("description_changed", "revenue")], 0),
        ({"metrics": (REVENUE | {"retired": "2027-01-31"}, ORDERS, BASKET)}, [("deprecated", "revenue")], 0),
        ({"frame": "select 2"}, [("meaning_changed", name) for name in ("basket", "orders", "revenue")], 3),
        ({"models": (model("fct_more", "select 1 as one"),)}, [("mart_added", "fct_more")], 0),
    ],
)
def test_each_change(change: dict[str, Any], expected: list[tuple[str, str]], status: int) -> None:
    found = told(revision(), revision(**change))
    assert sorted(found) == sorted(expected)
    assert status_of(broken(revision(), revision(**change))) == status


def test_a_renamed_column_is_known_by_what_it_means() -> None:
    types = {("large" if name == "is_large" else name): data_type for name, data_type in COLUMNS.items()}
    renamed = revision(fct=FCT_ORDERS.replace("as is_large", "as large"), types=types)
    (change,) = differences(revision(), renamed)
    assert (change.what, change.before, change.after) == ("column_renamed", "is_large", "large")
    other = revision(fct=FCT_ORDERS.replace("amount > 100 as is_large", "amount > 1 as large"), types=types)
    assert sorted(told(revision(), other)) == [
        ("column_added", "fct_orders.large"),
        ("column_removed", "fct_orders.is_large"),
    ]


def test_the_way_leads_from_where_the_sql_differs() -> None:
    head = revision(between=INT_ORDERS.replace("amount from", "amount - refunded as amount from"))
    ways = {one.about: one.way for one in differences(revision(), head)}
    assert ways["fct_orders.is_large"] == ("int_orders.amount", "fct_orders.is_large")
    assert ways["basket"] == ("int_orders.amount", "fct_orders.amount", "revenue", "basket")
    assert "refunded" in next(one.sql for one in differences(revision(), head))


def test_only_those_who_read_it_are_concerned() -> None:
    alerts = replace(SLIDES, name="alerts", metrics=frozenset({"orders"}))
    part = replace(REPORT, name="part", columns=frozenset({("fct_orders", "day")}))
    everybody = [SLIDES, REPORT, alerts, part]

    def names(mart: str, column: str | None = None, metric: str | None = None) -> list[str]:
        return [one.name for one in downstream(everybody, mart, column, metric)]

    assert names("mart_daily_metrics", metric="revenue") == ["slides"]
    assert names("mart_daily_metrics", metric="orders") == ["slides", "alerts"]
    assert names("fct_orders", "amount") == ["report"]
    assert names("fct_orders", "day") == ["report", "part"]
    assert names("fct_orders") == ["report", "part"], "all of it"


def test_a_metric_that_cannot_be_followed_is_compared_with_all_that_it_reads() -> None:
    odd = ORDERS | {"value": "with recursive r as (select 1 as n union all select n + 1 from r) select * from r"}
    base, head = (
        revision(metrics=(REVENUE, odd, BASKET), between=INT_ORDERS.replace("amount from", f"{amount} as amount from"))
        for amount in ("amount", "amount + 1")
    )
    assert list(base.not_understood) == ["mart_daily_metrics", "metric orders"]
    assert ("meaning_changed", "orders") in told(base, head)
    assert told(base, base) == []


def test_a_correction_is_said_in_a_commit() -> None:
    head = revision(between=INT_ORDERS.replace("amount from", "amount - refunded as amount from"))
    for said in ("int_orders.amount because refunds were forgotten", "int_orders because refunds were forgotten"):
        assert broken(revision(), head, said) == []
    of_one = broken(revision(), head, "fct_orders.amount because refunds were forgotten", "fct_orders.is_large")
    assert [(one.rule, one.about) for one in of_one] == [("meaning", "int_orders.amount")]
    assert "fct_orders.is_large, basket, revenue" in of_one[0].says
    changes = with_corrections(differences(revision(), head), same_meanings(["int_orders because x was y"]))
    assert {one.what for one in changes} == {"meaning_corrected"}


def test_approval_is_by_one_of_the_owners() -> None:
    head = revision(fct=FCT_ORDERS.replace("amount > 100", "amount > 50"))

    def missing(*approved_by: str) -> list[str]:
        return [one.rule for one in broken(revision(), head, "fct_orders because x was y", approved_by=approved_by)]

    assert missing() == ["approval"]
    assert missing("marketing") == ["approval"]
    assert missing("product") == []
    assert missing("@stitchline/finance") == []
    assert status_of(broken(revision(), head, "fct_orders because x was y", approved_by=())) == 5


def test_a_new_version_needs_a_date_for_the_old_one() -> None:
    again = REVENUE | {"version": 2, "value": REVENUE["value"].replace("sum(amount)", "sum(amount - 1)")}
    without = revision(metrics=(REVENUE, again, ORDERS, BASKET))
    assert [(one.rule, one.about) for one in broken(revision(), without)] == [("breaking", "revenue")]
    dated = revision(metrics=(REVENUE | {"retired": "2027-01-31"}, again, ORDERS, BASKET))
    assert broken(revision(), dated) == []
    assert sorted(told(revision(), dated)) == [("deprecated", "revenue"), ("metric_added", "revenue_v2")]

    second = model("fct_orders_v2", FCT_ORDERS, ["int_orders"], columns=columns(COLUMNS), version=2)
    without = revision(models=(second,), version=1)
    assert [(one.rule, one.about) for one in broken(revision(), without)] == [("breaking", "fct_orders")]
    assert broken(revision(), revision(models=(second,), version=1, deprecation_date="2027-01-31")) == []


def test_what_is_deprecated_goes_on_its_day_and_not_before() -> None:
    def base(day: str) -> Revision:
        return revision(models=(model("fct_old", "select 1 as one", deprecation_date=day),))

    assert [one.rule for one in broken(base("2027-01-31"), revision())] == ["breaking"]
    assert broken(base("2026-11-30"), revision()) == []


def test_the_same_change_of_two_branches_is_one() -> None:
    def change(**more: Any) -> Change:
        head = revision(fct=FCT_ORDERS.replace("amount > 100", "amount > 50"), **more)
        return next(one for one in differences(revision(), head) if one.what == "meaning_changed")

    assert change().change_id == change(description="Otherwise.").change_id
    other = revision(fct=FCT_ORDERS.replace("amount > 100", "amount > 70"))
    assert change().change_id != differences(revision(), other)[0].change_id


def test_who_owns_what() -> None:
    head = revision()
    metrics = [one.metric for one in head.metrics.values()]
    reads = {"revenue": {"fct_orders"}, "orders": {"fct_orders"}}
    marts = dict.fromkeys(["fct_orders", "fct_orders_v2", "fct_other", "mart_daily_metrics"]) | {"fct_named": "growth"}
    owned = owning(metrics, [REPORT], reads, marts)
    assert owned["fct_orders"] == ["finance", "marketing", "product"]
    assert owned["fct_orders_v2"] == owned["fct_orders"]
    assert owned["fct_other"] == ["platform"]
    assert owned["fct_named"] == ["growth"]
    assert owned["mart_daily_metrics"] == ["finance", "product"]
    assert owned["orders"] == ["product"]


def test_long_texts_are_shown_where_they_part() -> None:
    long = "One row per order of the shop. " * 9
    was, now = revision(description=f"{long}In euros."), revision(description=f"{long}In US dollars.")
    report = as_markdown(Impact("a", "b", differences(was, now), [], [], OWNED, load_owners()))
    (row,) = [line for line in report.splitlines() if "description changed" in line]
    assert "of the shop. In euros. |" in row
    assert "of the shop. In US dollars. |" in row
