"""What a file writes in a way that may mean two things, settled by all of its lines together: days, currency, decimals.

Each raises FileRefused, with the line, where the file leaves it open or contradicts itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, NoReturn

from batch_marts.spend.amounts import Cell, Mark, currencies_of, is_currency, likeliest_currency, mark_of, neither
from batch_marts.spend.days import Day, Order, day_of, order_of, possible_orders, span_of
from batch_marts.spend.forms import Role
from batch_marts.spend.sheet import Record
from batch_marts.spend.table import BY_DAY, Table
from batch_marts.spend.totals import SUMMED

COUNTS: Final[frozenset[Role]] = frozenset({"impressions", "clicks", "micros"})
"""Columns of whole numbers."""

_LONGEST: Final = 100
"""Characters of a day, or of a range of them."""
_MONEY: Final[tuple[Role, ...]] = ("spend", "conversion_value")
_RANGE: Final[tuple[Role, ...]] = ("from", "to")


def days_of(table: Table) -> list[date]:
    """The day of each line of data."""
    if not table.has("day") and not table.has("from"):
        return [_only_day(table)] * len(table.data)
    role: Role = "day" if table.has("day") else "from"
    spans = [table.preamble.span] if table.preamble.span is not None else []
    days = [_day(table, record, role) for record in table.data]
    bounds = [tuple(_day(table, record, end) for end in _RANGE if table.has(end)) for record in table.data]
    order = order_of(days, spans, month_first=table.header.form.month_first)
    if order is None:
        _refuse_days(table, role, days, spans)
    read = [_certain(day, order) for day in days]
    for record, day, pair in zip(table.data, read, bounds, strict=True):
        covers = [bound.by(order) for bound in pair]
        if not covers:
            continue
        first, last = covers[0], covers[-1]
        if first is None or last is None or not first <= day <= last:
            table.refuse(record.line, f"its day {day} is not within the range that the line covers")
        if role == "from" and last != day:
            table.refuse(record.line, f"it covers the days from {day} to {last}, and not one day", BY_DAY)
    return read


def currency_of(table: Table) -> str:
    """The one currency of the file, a code of ISO 4217."""
    said: list[tuple[str, str]] = []
    column = table.only("currency")
    if column is not None:
        said.append((column, f"its column {table.header.name('currency')!r}"))
    if table.header.currency is not None:
        said.append((table.header.currency, f"its header {table.header.name('spend')!r}"))
    for told, where in said:
        if not is_currency(told):
            table.refuse(table.header.line, f"{where} has {told[:20]!r}, which is no currency of ISO 4217")
        if told != said[0][0]:
            table.refuse(table.header.line, f"{said[0][1]} has {said[0][0]}, and {where} has {told}")
    code: str | None = said[0][0] if said else None
    given = table.given.currency or table.usual.currency
    cells = {
        table.cell(record, role): record.line
        for role in _MONEY
        if table.has(role)
        for record in (*table.data, *table.totals)
    }
    shown = {text: line for text, line in cells.items() if currencies_of(text)}
    if code is None and shown:
        candidates = frozenset.intersection(*(currencies_of(text) for text in shown))
        code = given if given in candidates else likeliest_currency(next(iter(shown)))
    for text, line in shown.items():
        if code not in currencies_of(text):
            table.refuse(line, f"{text!r} is not in {code}, as the file is elsewhere")
    code = code or given
    if code is None:
        platform = table.header.form.platform
        advice = f"Say it with --currency, or in the setting spend.accounts.{platform}.currency."
        table.refuse(table.header.line, "it does not say its currency", advice)
    return code


def decimal_mark(table: Table, currency: str) -> Mark:
    """The one decimal mark of the file."""
    cells = [
        Cell(record.line, table.cell(record, role), whole=role in COUNTS, money=role == "spend")
        for record in (*table.data, *table.totals)
        for role in SUMMED
        if table.has(role)
    ]
    mark = mark_of(cells, currency)
    if isinstance(mark, Cell):
        reason = f"{mark.text!r} may be two numbers, and nothing says whether its mark is of thousands or of decimals"
        table.refuse(mark.line, reason, "Export it with two decimals, or with another number format.")
    if mark is None:
        one, other = neither(cells)
        if other is None:
            table.refuse(one.line, f"{one.text[:80]!r} is no {'count' if one.whole else 'amount'}")
        table.refuse(one.line, f"{one.text!r} has another decimal mark than {other.text!r} in line {other.line}")
    return mark


def _only_day(table: Table) -> date:
    """The day of an export without a column of days: that of its preamble, if it is one."""
    span = table.preamble.span
    orders = possible_orders((), [span]) if span is not None else []
    found = {(span[0].by(order), span[1].by(order)) for order in orders} if span is not None else set()
    first, last = next(iter(found)) if len(found) == 1 else (None, None)
    if first is None or first != last:
        table.refuse(table.header.line, "it has no column of days, and its range is not one day", BY_DAY)
    return first


def _day(table: Table, record: Record, role: Role) -> Day:
    text = table.cell(record, role)
    found = day_of(text) if len(text) < _LONGEST else None
    if found is None and role == "day" and len(text) < _LONGEST:
        span = span_of(text)  # X's period
        found = span[0] if span is not None and span[0] == span[1] else None
    if found is None:
        table.refuse(record.line, f"{table.header.name(role)!r} is {text[:80]!r}, which is no day", BY_DAY)
    return found


def _refuse_days(table: Table, role: Role, days: Sequence[Day], spans: Sequence[tuple[Day, Day]]) -> NoReturn:
    name = table.header.name(role)
    if possible_orders(days, spans):
        at = next(record for record, day in zip(table.data, days, strict=True) if day.month_first != day.day_first)
        reason = f"{name!r} is {table.cell(at, role)!r}, and nothing says whether the day or the month comes first"
        table.refuse(at.line, reason, "Export it with days as 2026-01-31, or with a day after the 12th.")
    if spans and possible_orders(days, ()):
        table.refuse(None, f"some days in {name!r} are outside of the range that the file says it covers")
    table.refuse(None, f"in {name!r} the day comes first in some lines, and the month in others")


def _certain(day: Day, order: Order) -> date:
    read = day.by(order)
    assert read is not None, "the order was chosen so that all are days"
    return read
