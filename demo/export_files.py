"""How a CSV export is written: its marks, its encoding, what stands above and below its lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Final

PLACES: Final = {"JPY": 0}
"""Decimals of a currency, where they are not two."""
_SYMBOLS: Final = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CAD": "CA$", "BRL": "R$", "INR": "₹"}
_MONTHS: Final = {
    "de": "Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember",
    "fr": "janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre",
    "es": "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre",
}


@dataclass(frozen=True, slots=True)
class AdDay:
    """What an ad cost and brought on a day; amounts in the account's currency."""

    day: date
    campaign_id: str
    campaign: str
    group: str
    ad: str
    spend: Decimal
    impressions: int
    clicks: int
    conversions: Decimal
    conversion_value: Decimal

    def plus(self, other: AdDay) -> AdDay:
        """Both together, under the first one's names."""
        return replace(
            self,
            spend=self.spend + other.spend,
            impressions=self.impressions + other.impressions,
            clicks=self.clicks + other.clicks,
            conversions=self.conversions + other.conversions,
            conversion_value=self.conversion_value + other.conversion_value,
        )


@dataclass(frozen=True, slots=True)
class Style:
    """How a file is written, where its platform leaves a choice."""

    language: str = "en"
    encoding: str = "utf-8"
    byte_order_mark: bool = False
    delimiter: str = ","
    line_end: str = "\r\n"
    quote_all: bool = False
    decimal: str = "."
    grouping: str = ","
    currency: str = "USD"
    account: str | None = None
    day_form: str = ""
    with_ids: bool = True
    by_ad: bool = False
    totals: bool = True
    total_first: bool = False
    preamble: bool = True
    micros: bool = False
    symbols: bool = True
    extra_columns: bool = False
    names_currency: bool = True
    nothing: str = "--"
    generated_at: datetime | None = None

    def day(self, day: date, form: str = "") -> str:
        return day.strftime(self.day_form or form or "%Y-%m-%d")

    def number(self, value: Decimal | int, places: int) -> str:
        """With the style's marks, and `places` decimals."""
        whole, _, part = f"{abs(value):.{places}f}".partition(".")
        groups = []
        while whole:
            whole, group = whole[:-3], whole[-3:]
            groups.append(group)
        text = (self.grouping if self.grouping else "").join(reversed(groups)) + (self.decimal + part if part else "")
        return f"-{text}" if value < 0 else text

    def count(self, value: int) -> str:
        return self.number(value, 0)

    def money(self, value: Decimal) -> str:
        return self.number(value, PLACES.get(self.currency, 2))

    def or_nothing(self, value: Decimal, text: str) -> str:
        return text if value else self.nothing

    def with_symbol(self, text: str) -> str:
        if not self.symbols or self.currency not in _SYMBOLS:
            return text
        return _SYMBOLS[self.currency] + text

    @property
    def symbol_is_certain(self) -> bool:
        """Whether amounts carry a sign that is one currency's."""
        return self.symbols and self.currency in _SYMBOLS

    def long_day(self, day: date) -> str:
        """As the style's language writes a day in words."""
        if self.language == "en":
            return day.strftime("%B %-d, %Y")
        month = _MONTHS[self.language].split("|")[day.month - 1]
        return {"de": f"{day.day}. {month} {day.year}", "fr": f"{day.day} {month} {day.year}"}.get(
            self.language, f"{day.day} de {month} de {day.year}"
        )


Value = Callable[[AdDay], str]


@dataclass(slots=True)
class Form:
    """A layout: what stands above and below, and the columns; those in `totalled` have a total."""

    columns: Mapping[str, Value]
    totalled: frozenset[str] = frozenset()
    total_labels: Sequence[tuple[str, ...]] = ()
    """One for each line of totals: its first cells."""
    above: Callable[[Sequence[AdDay]], list[list[str]]] = field(default=lambda lines: [])
    below: list[list[str]] = field(default_factory=list)
    count_in_label: bool = False
    has_account: bool = False
    says_currency: bool = True
    has_ids: bool = False
    has_groups: bool = True
    has_clicks: bool = True
    has_conversions: bool = True
    has_value: bool = True

    @property
    def has_total(self) -> bool:
        return bool(self.total_labels)


def file_of(form: Form, lines: Sequence[AdDay], style: Style) -> bytes:
    """The file."""
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter=style.delimiter,
        lineterminator=style.line_end,
        quoting=csv.QUOTE_ALL if style.quote_all else csv.QUOTE_MINIMAL,
    )
    for row in form.above(lines):
        writer.writerow(row) if row else out.write(style.line_end)
    writer.writerow(form.columns)
    table = [[value(line) for value in form.columns.values()] for line in lines]
    totals = [_total(form, lines, label) for label in form.total_labels]
    writer.writerows([*totals, *table] if style.total_first else [*table, *totals])
    for row in form.below:
        writer.writerow(row) if row else out.write(style.line_end)
    mark = "\ufeff" if style.byte_order_mark else ""
    return (mark + out.getvalue()).encode(style.encoding)


def _total(form: Form, lines: Sequence[AdDay], label: tuple[str, ...]) -> list[str]:
    everything = lines[0]
    for line in lines[1:]:
        everything = everything.plus(line)
    cells = [value(everything) if name in form.totalled else "" for name, value in form.columns.items()]
    cells[: len(label)] = [text.format(count=len(lines)) for text in label]
    return cells
