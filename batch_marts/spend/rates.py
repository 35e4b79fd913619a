"""Rates of currencies: a CSV file with the columns rate_date, currency and usd, into the warehouse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

import duckdb
import pyarrow as pa

from batch_marts.spend.amounts import is_currency
from batch_marts.spend.days import day_of
from batch_marts.spend.forms import plain
from batch_marts.spend.sheet import DELIMITERS, Record, decoded, first_records, records
from sinks.tables import registered
from stitchline.errors import FileRefused

COLUMNS: Final = ("rate_date", "currency", "usd")
RATES: Final = pa.schema([("rate_date", pa.date32()), ("currency", pa.string()), ("usd", pa.decimal128(18, 9))])
"""Of marketing.currency_rates: `usd` is what one unit is worth in US dollars."""

_FINEST: Final = Decimal("0.000000001")
_LARGEST: Final = Decimal(10) ** 9
_AGAIN: Final = "Nothing of the file was taken; mend the line."
_THERE: Final = (
    "marketing.currency_rates s using new_rates n where s.rate_date = n.rate_date and s.currency = n.currency"
)


@dataclass(frozen=True, slots=True)
class LoadedRates:
    """What became of a file of rates: `added` are new, `replaced` were there."""

    file_name: str
    added: int
    replaced: int
    currencies: tuple[str, ...]
    from_date: date
    to_date: date


def read_rates(data: bytes, file: str) -> pa.Table:
    """The rates in `data` (RATES), by day and currency. A rate holds until the next one of its currency.

    Raises FileRefused, with the line and the reason, if it is no such file, or has two rates of a day and currency.
    """
    text = decoded(file, data)
    heads = {delimiter: first_records(text, delimiter, 1)[0].cells for delimiter in DELIMITERS}
    delimiter = next((d for d, cells in heads.items() if set(COLUMNS) <= {plain(cell) for cell in cells}), None)
    if delimiter is None:
        advice = f"Begin it with the line {','.join(COLUMNS)}; usd is what one unit is worth in US dollars."
        raise FileRefused(file, 1, "it is no table of rates", advice)
    names = [plain(cell) for cell in heads[delimiter]]
    found: dict[tuple[date, str], tuple[Decimal, int]] = {}
    for record in records(file, text, delimiter)[1:]:
        if record.is_blank:
            continue
        if len(record.cells) != len(names):
            reason = f"it has {len(record.cells)} cells where the header has {len(names)}"
            raise FileRefused(file, record.line, reason, _AGAIN)
        key, usd = _rate(file, record, dict(zip(names, record.cells, strict=True)))
        known = found.setdefault(key, (usd, record.line))
        if known[0] != usd:
            reason = f"{key[1]} on {key[0]} is {usd:f} here, and {known[0]:f} in line {known[1]}"
            raise FileRefused(file, record.line, reason, _AGAIN)
    if not found:
        raise FileRefused(file, None, "it has no rates", "Add a line for each day and currency.")
    rows = [{"rate_date": day, "currency": code, "usd": usd} for (day, code), (usd, _) in sorted(found.items())]
    return pa.Table.from_pylist(rows, schema=RATES)


def load_rates(con: duckdb.DuckDBPyConnection, rates: pa.Table, file_name: str) -> LoadedRates:
    """Writes `rates` (RATES) inside the caller's transaction; those of the same day and currency are replaced."""
    with registered(con, "new_rates", rates):
        row = con.execute(f"delete from {_THERE}").fetchone()
        replaced = int(row[0]) if row is not None else 0
        con.execute("insert into marketing.currency_rates (rate_date, currency, usd) select * from new_rates")
    days = rates["rate_date"].to_pylist()
    return LoadedRates(
        file_name=file_name,
        added=rates.num_rows - replaced,
        replaced=replaced,
        currencies=tuple(sorted(set(rates["currency"].to_pylist()))),
        from_date=min(days),
        to_date=max(days),
    )


def _rate(file: str, record: Record, cells: dict[str, str]) -> tuple[tuple[date, str], Decimal]:
    day = day_of(cells["rate_date"])
    if day is None or day.month_first is None or day.month_first != day.day_first:
        raise FileRefused(file, record.line, f"{cells['rate_date'][:80]!r} is no day like 2026-01-31", _AGAIN)
    code = cells["currency"]
    if not is_currency(code):
        raise FileRefused(file, record.line, f"{code[:20]!r} is no currency of ISO 4217", _AGAIN)
    usd = _decimal(cells["usd"])
    if usd is None or not 0 < usd < _LARGEST or usd != usd.quantize(_FINEST):
        reason = f"{cells['usd'][:40]!r} is no rate: a number above 0 like 1.0825, with nine decimals at most"
        raise FileRefused(file, record.line, reason, _AGAIN)
    if code == "USD" and usd != 1:
        raise FileRefused(file, record.line, "a US dollar is one US dollar", _AGAIN)
    return (day.month_first, code), usd


def _decimal(text: str) -> Decimal | None:
    whole, _, part = text.partition(".")
    digits = (whole + part).isascii() and (whole + part).isdigit() and whole != "" and len(text) <= 40
    return Decimal(text) if digits else None
