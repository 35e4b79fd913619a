"""What the shop's advertising cost, as the eight platforms export it, with the truth beside each file.

`shop_exports` writes the files of the demo; `any_export` writes one in any of the ways that a platform does: languages,
encodings, delimiters, decimal marks, totals, currencies.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from demo import catalog
from demo.export_files import PLACES, AdDay, Style, file_of
from demo.export_forms import FORMS

ACCOUNT: Final = catalog.SHOP_NAME
PLATFORMS: Final = tuple(FORMS)

_PLATFORM_OF: Final = {
    "google": "google",
    "facebook": "meta",
    "bing": "microsoft",
    "linkedin": "linkedin",
    "tiktok": "tiktok",
    "x": "x",
    "reddit": "reddit",
    "pinterest": "pinterest",
}
_CURRENCY: Final = {"meta": "EUR", "microsoft": "GBP", "pinterest": "CAD"}  # of the others it is catalog.CURRENCY
_PRICE_OF_CLICK: Final = {
    "google": 0.85, "meta": 0.62, "microsoft": 0.71, "linkedin": 3.90, "tiktok": 0.38, "x": 0.55, "reddit": 0.47,
    "pinterest": 0.52,
}  # fmt: skip
_CLICKS_A_POINT: Final = 8.4  # each day, for each point of a campaign's weight: a few more than come to the shop
_WEEKDAYS: Final = (1.0, 0.98, 0.97, 1.0, 0.96, 1.09, 1.14)  # Monday first, as the shop's visits
_VALUE_OF_ORDER: Final = 96.0

_NAMES: Final = (
    "brand-search", "Autumn, layers & more", 'The "big" sale', "Größe für Große", "Été 2026; soldes", "hut-tour",
    "Total comfort", "=SUM(A1:A9)", "+1 free pair", "-20 % off", "@home", "1,234", "2026-01-31", "Crème | brûlée",
    "a\ttab", "two\nlines", "O'Neill’s", "Campaign", "Añejo №5", "Łódź", "冬の靴", "сноуборд", "boots 🥾", "x" * 180,
)  # fmt: skip
_WESTERN: Final = 16
"""So many of them, from the first, can be written in Windows's western code page."""
_GROUPS: Final = ("broad", "exact", "Retargeting, 30 d", "lookalike 1 %")
_ADS: Final = ("ad 1", 'ad "2"', "video; 15 s")
_CURRENCIES: Final = ("USD", "EUR", "GBP", "CHF", "JPY", "CAD", "SEK", "PLN", "BRL", "INR")


@dataclass(frozen=True, slots=True)
class Truth:
    """What a campaign cost and brought on a day; None where the export has no column for it."""

    day: date
    campaign_id: str | None
    campaign: str
    spend: Decimal
    impressions: int
    clicks: int | None
    conversions: Decimal | None
    conversion_value: Decimal | None


@dataclass(frozen=True, slots=True)
class MadeExport:
    """A file, and what is true of it."""

    platform: str
    file_name: str
    data: bytes
    account: str | None
    """None where the file names none."""
    currency: str
    says_currency: bool
    has_total: bool
    """Whether the file has totals of all that it counts."""
    lines: int
    rows: tuple[Truth, ...]
    """By day and campaign."""
    style: Style


def shop_exports(first_day: date, days: int, seed: int = 7) -> list[MadeExport]:
    """One export of each platform with the demo's campaigns, from `first_day` on, `days` days of them.

    The same arguments give the same bytes.
    """
    made = []
    for platform in PLATFORMS:
        rng = random.Random(f"{seed} exports {platform}")
        rows = [
            _shop_day(rng, platform, number, campaign, first_day + timedelta(days=day))
            for day in range(days)
            for number, campaign in enumerate(catalog.CAMPAIGNS)
            if campaign.source is not None and _PLATFORM_OF.get(campaign.source) == platform
        ]
        style = Style(
            currency=_CURRENCY.get(platform, catalog.CURRENCY),
            account=ACCOUNT,
            generated_at=datetime.combine(first_day + timedelta(days=days), time(6, 30), UTC),
        )
        if platform == "meta":
            style = replace(style, language="de", delimiter=";", decimal=",", grouping="", byte_order_mark=True)
        if platform == "linkedin":
            style = replace(style, encoding="utf-16-le", delimiter="\t", byte_order_mark=True)
        made.append(_made(platform, f"{platform}.csv", rows, style))
    return made


def any_export(platform: str, seed: int) -> MadeExport:
    """An export of `platform` in one of its many ways, of up to six campaigns and twelve days; by `seed` alone."""
    rng = random.Random(f"{seed} any {platform}")
    style = _any_style(rng, platform)
    names = rng.sample(_NAMES[:_WESTERN] if style.encoding == "cp1252" else _NAMES, rng.randint(1, 6))
    first = date(2025, 1, 1) + timedelta(days=rng.randrange(700))
    days = [first + timedelta(days=day) for day in range(rng.choice((1, 1, 2, 3, 7, 12)))]
    if style.day_form == "%d/%m/%Y" and all(day.day <= 12 for day in days):
        style = replace(style, day_form="%Y-%m-%d")  # nobody could tell
    places = PLACES.get(style.currency, 2)
    rows = [
        row
        for day in days
        for number, name in enumerate(names)
        if number == 0 or rng.random() < 0.8
        for row in _any_lines(rng, day, number, name, places)
    ]
    rng.shuffle(rows)
    return _made(platform, f"{platform} {seed}.csv", rows, style)


def _shop_day(rng: random.Random, platform: str, number: int, campaign: catalog.Campaign, day: date) -> AdDay:
    clicks = int(campaign.weight * _CLICKS_A_POINT * _WEEKDAYS[day.weekday()] * rng.uniform(0.9, 1.1))
    orders = sum(rng.random() < 0.02 * campaign.intent for _ in range(clicks))
    return AdDay(
        day=day,
        campaign_id=str(1_700_000_000 + number),
        campaign=campaign.name or "",
        group=f"{campaign.name} core",
        ad="ad 1",
        spend=_money(clicks * _PRICE_OF_CLICK[platform] * rng.uniform(0.93, 1.07), 2),
        impressions=int(clicks * rng.uniform(24, 60)) + 1,
        clicks=clicks,
        conversions=Decimal(orders),
        conversion_value=_money(orders * _VALUE_OF_ORDER * rng.uniform(0.8, 1.2), 2),
    )


def _any_lines(rng: random.Random, day: date, number: int, name: str, places: int) -> list[AdDay]:
    pairs = [(group, ad) for group in _GROUPS for ad in _ADS]
    lines = []
    for group, ad in rng.sample(pairs, rng.choice((1, 1, 2, 4))):
        impressions = rng.choice((0, rng.randrange(1000), rng.randrange(2_000_000)))
        clicks = rng.randint(0, min(impressions, 40_000))
        conversions = Decimal(rng.randint(0, 400)) / (1 if rng.random() < 0.5 else 4)
        lines.append(
            AdDay(
                day=day,
                campaign_id=str(90_071_992_547_409_930 + number),  # beyond what a float can hold
                campaign=name,
                group=group,
                ad=ad,
                spend=_money(rng.choice((0.0, rng.uniform(0, 9), rng.uniform(0, 90_000))), places),
                impressions=impressions,
                clicks=clicks,
                conversions=conversions,
                conversion_value=_money(float(conversions) * rng.uniform(1, 300), places),
            )
        )
    return lines


def _any_style(rng: random.Random, platform: str) -> Style:
    language = rng.choice(("en", "en", "de", "fr", "es")) if platform in ("google", "meta") else "en"
    encoding = rng.choice(("utf-8", "utf-8", "utf-16-le", "utf-16-be", "cp1252"))
    decimal, grouping = rng.choice(
        {
            "en": ((".", ","), (".", "")),
            "de": ((",", "."), (",", ""), (".", "’")),
            "fr": ((",", "\u00a0"), (",", "\u202f"), (",", "")),
            "es": ((",", "."), (",", "")),
        }[language]
    )
    if encoding == "cp1252" and grouping == "\u202f":
        grouping = "\u00a0"
    day_forms = {
        "microsoft": ("%-m/%-d/%Y",),
        "linkedin": ("%-m/%-d/%Y",),
        "x": ("%Y-%m-%d", "%Y-%m-%d 00:00:00", "%Y-%m-%d - %Y-%m-%d", "%b %-d, %Y"),
        "meta": ("%Y-%m-%d",),
    }.get(platform, ("%Y-%m-%d", "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y"))
    return Style(
        language=language,
        encoding=encoding,
        byte_order_mark=encoding != "cp1252" and rng.random() < 0.6,
        delimiter=rng.choice((",", ";", "\t")) if platform != "microsoft" else rng.choice((",", "\t")),
        line_end=rng.choice(("\n", "\r\n")),
        quote_all=rng.random() < 0.3,
        decimal=decimal,
        grouping=grouping,
        currency=rng.choice(_CURRENCIES),
        account=rng.choice((None, "Larkhill", "Fjäll & Co, Ltd.")),
        day_form=rng.choice(day_forms),
        with_ids=rng.random() < 0.5,
        by_ad=rng.random() < 0.5,
        totals=rng.random() < 0.5,
        total_first=rng.random() < 0.5,
        preamble=rng.random() < 0.7,
        micros=rng.random() < 0.2,
        symbols=encoding != "cp1252" and rng.random() < 0.5,  # which has no sign of the rupee
        extra_columns=rng.random() < 0.5,
        names_currency=rng.random() < 0.7,
        nothing=rng.choice(("--", "0", "-", "")),
        generated_at=datetime(2027, 1, 1, rng.randrange(24), rng.randrange(60), tzinfo=UTC),
    )


def _made(platform: str, file_name: str, lines: Sequence[AdDay], style: Style) -> MadeExport:
    form = FORMS[platform](style)
    if not style.by_ad or not form.has_groups:
        lines = _by_campaign(lines)
    return MadeExport(
        platform=platform,
        file_name=file_name,
        data=file_of(form, lines, style),
        account=style.account if form.has_account else None,
        currency=style.currency,
        says_currency=form.says_currency,
        has_total=form.has_total,
        lines=len(lines),
        rows=tuple(
            Truth(
                day=line.day,
                campaign_id=line.campaign_id if form.has_ids else None,
                campaign=line.campaign,
                spend=line.spend,
                impressions=line.impressions,
                clicks=line.clicks if form.has_clicks else None,
                conversions=line.conversions if form.has_conversions else None,
                conversion_value=line.conversion_value if form.has_value else None,
            )
            for line in sorted(_by_campaign(lines), key=lambda line: (line.day, line.campaign))
        ),
        style=style,
    )


def _by_campaign(lines: Sequence[AdDay]) -> list[AdDay]:
    """The lines of a campaign and day as one."""
    found: dict[tuple[date, str], AdDay] = {}
    for line in lines:
        known = found.get((line.day, line.campaign))
        found[line.day, line.campaign] = line if known is None else known.plus(line)
    return list(found.values())


def _money(value: float, places: int) -> Decimal:
    return Decimal(round(value * 10**places)).scaleb(-places)
