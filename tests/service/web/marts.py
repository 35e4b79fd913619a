"""Published marts of literal rows: the tables by their contracts, and a build that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from batch_marts import builds
from batch_marts.builds import Build
from batch_marts.pins import Pin
from tests.service.web.shop import Shop, at

LAST_DAY = date(2026, 1, 30)
"""The last complete one; the 31st is there, and still grows."""


def publish(shop: Shop, build_id: int = 1, orders: Sequence[float] = ()) -> None:
    """Eight weeks of orders and sessions, two months of spend, and an experiment; as if a refresh had made them.

    `orders` are the days' up to LAST_DAY, else 100 and one more each day.
    """
    catalogue, schema = shop.marts().catalogue(), f"build_{build_id:04d}"
    orders = orders or [100.0 + day for day in range(56)]
    rows: dict[tuple[str, ...], list[list[object]]] = {}

    def row(mart: str, **values: object) -> None:
        rows.setdefault((mart, *values), []).append(list(values.values()))

    def day(name: str, at: date, value: float, dimension: str = "all") -> None:
        row("mart_daily_metrics", metric_date=at, metric_name=name, dimension=dimension, metric_value=value,
            is_complete=at <= LAST_DAY)  # fmt: skip

    for back, value in enumerate(reversed([*orders, 7.0])):
        day("orders", LAST_DAY + timedelta(days=1 - back), value)
    for back in range(40):
        for channel, part in (("google", 30.0), ("direct", 12.0)):
            day("sessions", LAST_DAY - timedelta(days=back), part, f"channel={channel}")
        day("sessions", LAST_DAY - timedelta(days=back), 42.0)
        day("conversion", LAST_DAY - timedelta(days=back), 0.25)
        day("cac", LAST_DAY - timedelta(days=back - 1), 30.0)
    for month, channel, spent, customers, revenue in (
        (date(2026, 1, 1), "google", 1200.0, 40.0, 4800.0),
        (date(2026, 1, 1), "direct", 0.0, 60.0, 900.0),
        (date(2025, 12, 1), "google", 900.0, 20.0, 1800.0),
    ):
        row("mart_acquisition", month_start=month, channel=channel, campaign_key="k", spend_usd=spent,
            new_customers=customers, orders=customers * 2, revenue_usd=revenue)  # fmt: skip
    row("fct_ad_spend_daily", spend_date=date(2026, 1, 28), channel="google", currency="EUR", is_without_rate=False)
    row("dim_person", person_id="u1", last_seen_at=at(5))
    for back in range(2):
        row("dim_date", date_day=LAST_DAY + timedelta(days=back), is_complete=not back)
    _experiment(row, 0.1 + 0.05 * build_id)
    counts = dict.fromkeys(catalogue.marts, 0)
    for (mart, *_), values in rows.items():
        counts[mart] += len(values)
    pin = Pin(at(60 * build_id), 0, 0, 0, "g")
    build = Build(
        build_id, schema, "full", "published", at(70), at(72), at(72 + 60 * build_id), pin, "", row_counts=counts
    )
    with shop.warehouse.transaction() as con:
        con.execute(f"create schema {schema}")
        for each in catalogue.marts.values():
            columns = ", ".join(f'"{column.name}" {column.data_type}' for column in each.columns)
            con.execute(f'create table {schema}."{each.name}" ({columns})')
        for (mart, *names), values in rows.items():
            marks = ", ".join("(" + ", ".join("?" * len(names)) + ")" for _ in values)
            told = ", ".join(f'"{name}"' for name in names)
            sent = [value for each_row in values for value in each_row]
            con.execute(f'insert into {schema}."{mart}" ({told}) values {marks}', sent)
        builds.publish(con, build)


def _experiment(row: Any, lift: float) -> None:
    common = {"metric_role": "metric", "metric_kind": "conversion", "persons_in_several": 3, "persons_elsewhere": 0,
              "first_exposed_at": at(0), "last_exposed_at": at(50), "as_of": at(60 * lift)}  # fmt: skip
    for name, mismatch, word in (("one-page", 0.4, "better"), ("lost-half", 0.00001, "sample_ratio_mismatch")):
        each = common | {"experiment_id": name, "metric_name": "orders", "mismatch_p_value": mismatch}
        row("mart_experiment_results", **each, variation_id="control", is_control=True, persons=1000, mean=0.2)
        row("mart_experiment_results", **each, variation_id="variant", is_control=False, persons=1010, mean=0.23,
            lift=lift, sequential_low=lift - 0.1, sequential_high=lift + 0.1, sequential_holm_p_value=0.01,
            persons_needed=3000, verdict=word, verdict_sentence="Because of the figures.")  # fmt: skip
