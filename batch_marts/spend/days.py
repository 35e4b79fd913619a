"""Days as exports write them. 1/2/2026 is two days until something in the file says which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from typing import Final, Literal

from babel.dates import get_month_names

Order = Literal["month first", "day first"]
ORDERS: Final[tuple[Order, Order]] = ("month first", "day first")

Range = tuple[date, date]
"""First and last day, both inclusive."""

_LOCALES: Final = ("en", "de", "fr", "es")

_ISO: Final = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_DOTTED: Final = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_SLASHED: Final = re.compile(r"(\d{1,2})([/-])(\d{1,2})\2(\d{4})")
_MONTH_NAMED: Final = re.compile(r"([^\W\d]+)\.? (\d{1,2}),? (\d{4})")
_DAY_NAMED: Final = re.compile(r"(\d{1,2})(?:er|\.|º)? (?:de )?([^\W\d]+)\.?,? (?:de )?(\d{4})")
_MIDNIGHT: Final = re.compile(r"[T ,]+(?:00:00(?::00(?:\.0+)?)?|12:00 AM)(?: ?(?:Z|UTC|\+00:?00))?$")
_DAY: Final = (
    r"(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|[^\W\d]+\.? \d{1,2},? \d{4}"
    r"|\d{1,2}(?:er|\.|º)? (?:de )?[^\W\d]+\.?,? (?:de )?\d{4})"
)
_SPAN: Final = re.compile(rf"({_DAY})(?: ?[-–—,] ?| to | bis | au | a | al )({_DAY})")


@dataclass(frozen=True, slots=True)
class Day:
    """What a text may mean: one day, or one for each order of day and month."""

    month_first: date | None
    day_first: date | None

    def by(self, order: Order) -> date | None:
        return self.month_first if order == "month first" else self.day_first


@lru_cache(maxsize=4096)
def day_of(text: str) -> Day | None:
    """The day, or the two days, that `text` may be; None if it is none, or names an hour of one.

    >>> day_of("2026-02-01")
    Day(month_first=datetime.date(2026, 2, 1), day_first=datetime.date(2026, 2, 1))
    >>> day_of("1/2/2026").day_first
    datetime.date(2026, 2, 1)
    >>> day_of("2026-02-01 13:00:00"), day_of("2026-02-30")
    (None, None)
    """
    text = _MIDNIGHT.sub("", text.strip())
    if (found := _ISO.fullmatch(text)) is not None:
        return _certain(found[1], found[3], found[4])
    if (found := _DOTTED.fullmatch(text)) is not None:
        return _certain(found[3], found[2], found[1])
    if (found := _SLASHED.fullmatch(text)) is not None:
        read = Day(_date(found[4], found[1], found[3]), _date(found[4], found[3], found[1]))
        return read if read.month_first or read.day_first else None
    if (found := _MONTH_NAMED.fullmatch(text)) is not None:
        return _certain(found[3], _month(found[1]), found[2])
    if (found := _DAY_NAMED.fullmatch(text)) is not None:
        return _certain(found[3], _month(found[2]), found[1])
    return None


def span_of(text: str) -> tuple[Day, Day] | None:
    """The first range of days that is written somewhere in `text`.

    >>> span_of("January 1, 2026 - January 31, 2026")[1].day_first
    datetime.date(2026, 1, 31)
    >>> span_of("1. Januar 2026 – 31. Januar 2026")[1].day_first
    datetime.date(2026, 1, 31)
    """
    found = _SPAN.search(text)
    if found is None:
        return None
    first, last = day_of(found[1]), day_of(found[2])
    return (first, last) if first is not None and last is not None else None


def possible_orders(days: Iterable[Day], spans: Sequence[tuple[Day, Day]]) -> list[Order]:
    """The orders in which all `days` are days of all `spans`."""
    days = list(days)
    return [order for order in ORDERS if _fits(days, spans, order)]


def order_of(days: Sequence[Day], spans: Sequence[tuple[Day, Day]], *, month_first: bool) -> Order | None:
    """In which order the file writes day and month; None if nothing says so.

    `month_first` is what is documented of its form. It counts where both orders are possible, unless they would be the
    same day of several months in that order and days of one month in the other: then it is more likely the other.

    >>> days = [day_of("1/2/2026"), day_of("2/2/2026"), day_of("13/2/2026")]
    >>> order_of(days, [], month_first=False)
    'day first'
    >>> order_of(days[:2], [], month_first=False), order_of(days[:2], [], month_first=True)
    (None, None)
    >>> order_of(days[:1], [], month_first=True)
    'month first'
    """
    orders = possible_orders(days, spans)
    if len(orders) != 2:
        return orders[0] if orders else None
    if all(day.month_first == day.day_first for day in days):
        return "day first"
    if not month_first:
        return None
    documented = {day.month_first for day in days if day.month_first is not None}
    other = {(day.day_first.year, day.day_first.month) for day in days if day.day_first is not None}
    strange = len({day.day for day in documented}) == 1 and len(documented) > 1 and len(other) == 1
    return None if strange else "month first"


def _fits(days: Sequence[Day], spans: Sequence[tuple[Day, Day]], order: Order) -> bool:
    read = [day.by(order) for day in days]
    for first, last in spans:
        start, end = first.by(order), last.by(order)
        if start is None or end is None or start > end:
            return False
        if any(day is None or not start <= day <= end for day in read):
            return False
    return None not in read


def _certain(year: str, month: str | int | None, day: str) -> Day | None:
    read = _date(year, month, day) if month is not None else None
    return Day(read, read) if read is not None else None


def _date(year: str, month: str | int, day: str) -> date | None:
    try:
        read = date(int(year), int(month), int(day))
    except ValueError:
        return None
    return read if 2000 <= read.year < 2100 else None


def _month(name: str) -> int | None:
    return _months().get(name.casefold().rstrip("."))


@cache
def _months() -> dict[str, int]:
    """Months by name, long and short, in the languages that exports are written in."""
    return {
        str(name).casefold().rstrip("."): month
        for locale in _LOCALES
        for width in ("wide", "abbreviated")
        for context in ("format", "stand-alone")
        for month, name in get_month_names(width, context, locale).items()  # type: ignore[arg-type]
    }
