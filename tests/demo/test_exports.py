"""What the shop's advertising cost fits the shop: its campaigns, its weeks, and the same bytes from the same seed."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

from demo import catalog, shop_exports
from demo.exports import PLATFORMS, any_export

FIRST_DAY, DAYS = date(2026, 9, 1), 56
PAID = {campaign.name: campaign for campaign in catalog.CAMPAIGNS if campaign.medium in ("cpc", "paid_social")}


def test_the_same_arguments_give_the_same_bytes() -> None:
    first, again = shop_exports(FIRST_DAY, 5), shop_exports(FIRST_DAY, 5)
    assert [made.data for made in first] == [made.data for made in again]
    assert [made.data for made in first] != [made.data for made in shop_exports(FIRST_DAY, 5, seed=8)]
    assert any_export("meta", 1) == any_export("meta", 1)


def test_each_platform_has_a_file_and_each_campaign_its_days() -> None:
    made = shop_exports(FIRST_DAY, DAYS)
    assert tuple(export.platform for export in made) == PLATFORMS
    days = [FIRST_DAY + timedelta(days=day) for day in range(DAYS)]
    for export in made:
        names = {row.campaign for row in export.rows}
        assert names <= set(PAID)
        assert sorted((row.campaign, row.day) for row in export.rows) == sorted((n, day) for n in names for day in days)
    assert {row.campaign for export in made for row in export.rows} == set(PAID)


def test_spend_follows_the_weight_of_a_campaign_and_the_days_of_the_week() -> None:
    clicks: defaultdict[str, int] = defaultdict(int)
    by_weekday: defaultdict[int, Decimal] = defaultdict(Decimal)
    for export in shop_exports(FIRST_DAY, DAYS):
        for row in export.rows:
            assert row.clicks is None or row.clicks <= row.impressions
            assert Decimal(1) < row.spend < Decimal(1000)
            clicks[row.campaign] += row.clicks or 0
            by_weekday[row.day.weekday()] += row.spend
    heavy, light = "brand-search", "boots-search"
    ratio = clicks[heavy] / clicks[light]
    assert 0.9 < ratio / (PAID[heavy].weight / PAID[light].weight) < 1.1
    assert min(by_weekday[5], by_weekday[6]) > max(by_weekday[day] for day in range(5)), "weekends are busier"
