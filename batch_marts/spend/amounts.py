"""Numbers and money as exports write them. 1.234 is two numbers until something in the file says which.

A file has one decimal mark. It is told by the cells that can be read in one way only: counts are whole, thousands come
in threes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Final, Literal

from babel.numbers import get_currency_precision, get_currency_symbol, list_currencies

Mark = Literal[".", ","]
MARKS: Final[tuple[Mark, Mark]] = (".", ",")

NONE: Final = frozenset({"", "-", "--", "–", "—"})
"""Cells that say that there is nothing; as an amount, 0."""

MICROS: Final = Decimal("0.000001")
LARGEST: Final = Decimal(10) ** 11
"""Amounts are below it, and have at most six decimals: what decimal(18,6) holds the sums of."""
LARGEST_COUNT: Final = Decimal(10) ** 17
"""Counts, and amounts in millionths, are below it."""

_SPACES: Final = " \u00a0\u2009\u202f"
_LONGEST: Final = 40
"""Characters of a number with its currency."""
_AMOUNT: Final = re.compile(
    r"(?P<sign>[-−]?)(?P<before>[^0-9]*?)\s*(?P<sign2>[-−]?)(?P<number>[0-9][0-9.,'’\s]*?)\s*(?P<after>[^0-9]*)"
)
_GROUPED: Final = {
    ".": re.compile(
        rf"[1-9]\d{{0,2}}(?:([,'’{_SPACES}])\d{{3}}(?:\1\d{{3}})*)(?:\.\d+)?"
        r"|[1-9]\d?(?:,\d\d)+,\d{3}(?:\.\d+)?"  # as in India
    ),
    ",": re.compile(rf"[1-9]\d{{0,2}}(?:([.'’{_SPACES}])\d{{3}}(?:\1\d{{3}})*)(?:,\d+)?"),
}
_UNGROUPED: Final = {".": re.compile(r"[0-9]+(?:\.[0-9]+)?"), ",": re.compile(r"[0-9]+(?:,[0-9]+)?")}
_MORE_SYMBOLS: Final = {"US$": "USD", "C$": "CAD", "AU$": "AUD", "CHF": "CHF", "zł": "PLN", "Kč": "CZK"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number somewhere in the file; `whole` if it is a count, `money` if it is in the currency."""

    line: int
    text: str
    whole: bool = False
    money: bool = False


def amount(text: str, mark: Mark, *, whole: bool = False) -> Decimal | None:
    """The number that `text` is, if `mark` is the decimal mark; None if it is none then, or is not whole.

    >>> amount("$1,234.50", "."), amount("1.234,50 €", ","), amount("1.234,50", "."), amount("--", ".")
    (Decimal('1234.50'), Decimal('1234.50'), None, Decimal('0'))
    >>> amount("1.234", ".", whole=True), amount("1.234", ",", whole=True), amount("1,23,456", ".")
    (None, Decimal('1234'), Decimal('123456'))
    """
    if text in NONE:
        return Decimal(0)
    return _amount(text, mark, whole) if len(text) <= _LONGEST else None


def currencies_of(text: str) -> frozenset[str]:
    """The currencies that an amount's symbol may stand for; empty if it has none. `$` alone is the US dollar where
    nothing else says otherwise, as in CLDR's English, by which exports are written.

    >>> currencies_of("12.00"), currencies_of("CA$12.00"), sorted(currencies_of("$12.00") & {"USD", "CAD", "EUR"})
    (frozenset(), frozenset({'CAD'}), ['CAD', 'USD'])
    """
    found = _parts(text)
    symbol = (found["before"].strip() or found["after"].strip()) if found is not None else ""
    code = _code(symbol) if symbol else None
    if code is None:
        return frozenset()
    if symbol in ("$", "¥", "£"):
        return frozenset(of for sign, of in _symbols().items() if sign.endswith(symbol)) | {code}
    return frozenset({code})


def likeliest_currency(text: str) -> str | None:
    """The currency that an amount's symbol stands for by itself."""
    found = _parts(text)
    return _code(found["before"].strip() or found["after"].strip()) if found is not None else None


def is_currency(code: str) -> bool:
    """Whether it is a code of ISO 4217, in capitals."""
    return code in _codes()


def mark_of(cells: Iterable[Cell], currency: str | None) -> Mark | Cell | None:
    """The decimal mark of a file whose numbers are `cells`; the first cell that may be two numbers, if it may be
    either; None if it is neither.

    A currency without decimals (the yen) settles what nothing else does.

    >>> mark_of([Cell(1, "1,234"), Cell(2, "0.5")], "USD")
    '.'
    >>> mark_of([Cell(1, "1,234")], "USD")
    Cell(line=1, text='1,234', whole=False, money=False)
    >>> mark_of([Cell(1, "1,234", money=True)], "JPY"), mark_of([Cell(1, "0.5"), Cell(2, "0,5")], "USD")
    ('.', None)
    """
    cells = list(cells)
    read = {mark: [amount(cell.text, mark, whole=cell.whole) for cell in cells] for mark in MARKS}
    possible = [mark for mark in MARKS if None not in read[mark]]
    if len(possible) < 2:
        return possible[0] if possible else None
    differing = next((cell for cell, a, b in zip(cells, read["."], read[","], strict=True) if a != b), None)
    if differing is None:
        return "."
    if currency is not None and get_currency_precision(currency) == 0:
        integral = [mark for mark in MARKS if _integral(cells, read[mark])]
        if len(integral) == 1:
            return integral[0]
    return differing


def neither(cells: Iterable[Cell]) -> tuple[Cell, Cell | None]:
    """Where `mark_of` gave None: a cell that is no number at all, or two that have different marks, of the
    rarer one first."""
    cells = list(cells)
    for cell in cells:
        if all(amount(cell.text, mark, whole=cell.whole) is None for mark in MARKS):
            return cell, None
    apart = [[c for c in cells if amount(c.text, mark, whole=c.whole) is None] for mark in MARKS]
    few, many = sorted(apart, key=len)
    return few[0], many[0]


def _integral(cells: Sequence[Cell], values: Sequence[Decimal | None]) -> bool:
    return all(v is not None and v == v.to_integral_value() for c, v in zip(cells, values, strict=True) if c.money)


@lru_cache(maxsize=2**17)  # a file has the same numbers again and again, and each is read by both marks
def _amount(text: str, mark: Mark, whole: bool) -> Decimal | None:
    if _UNGROUPED[mark].fullmatch(text):
        number, negative = text, False
    else:
        found = _parts(text)
        if found is None or (found["sign"] and found["sign2"]):
            return None
        named = [part.strip() for part in (found["before"], found["after"]) if part.strip()]
        if len(named) > 1 or (whole and named) or any(_code(part) is None for part in named):
            return None
        number, negative = found["number"].strip(), bool(found["sign"] or found["sign2"])
        if not _UNGROUPED[mark].fullmatch(number) and not _GROUPED[mark].fullmatch(number):
            return None
    if whole and mark in number:
        return None
    value = Decimal("".join(c for c in number if c.isdigit() or c == mark).replace(mark, "."))
    if value >= (LARGEST_COUNT if whole else LARGEST) or value != value.quantize(MICROS):
        return None
    return -value if negative else value


def _parts(text: str) -> re.Match[str] | None:
    return _AMOUNT.fullmatch(text) if len(text) <= _LONGEST else None


def _code(symbol: str) -> str | None:
    if symbol in _codes():
        return symbol
    return _symbols().get(symbol)


@cache
def _codes() -> frozenset[str]:
    return frozenset(list_currencies())


@cache
def _symbols() -> dict[str, str]:
    """Currencies by their symbol in English."""
    known = {get_currency_symbol(code, "en_US"): code for code in sorted(_codes())}
    return {symbol: code for symbol, code in known.items() if symbol != code} | _MORE_SYMBOLS
