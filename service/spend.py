"""Exports of advertising platforms and rates of currencies, loaded into the warehouse; what became of each is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import available_timezones

from batch_marts.spend.amounts import is_currency
from batch_marts.spend.export import Account, Given
from batch_marts.spend.load import Loaded, file_id_of, load_export, loaded_before
from batch_marts.spend.rates import load_rates as write_rates
from batch_marts.spend.rates import read_rates
from batch_marts.spend.reader import read_export
from service.settings import SpendSettings
from service.web.models import SpendFiles, UploadedFile
from service.web.rows import iso_utc
from sinks.warehouse import Warehouse
from stitchline.errors import FileRefused, UsageError

Outcome = dict[str, Any]
"""file, outcome (loaded, already loaded, refused), and of what was read, else null: platform, account, currency,
time_zone, lines, from_date, to_date, days, spend, added, replaced, kept, loaded_at, file_id; of what was refused, else
null: line, reason, error."""


def load(warehouse: Warehouse, settings: SpendSettings, asked: SpendFiles) -> list[Outcome]:
    """Loads one file after the other, each whole or not at all.

    Raises UsageError for a time zone or a currency that is none, and WarehouseError if it cannot be written.
    """
    if asked.time_zone is not None and asked.time_zone not in available_timezones():
        raise UsageError(f"{asked.time_zone!r} is no time zone: give a name of the tz database, like Europe/Berlin.")
    if asked.currency is not None and not is_currency(asked.currency):
        raise UsageError(f"{asked.currency!r} is no currency: give a code of ISO 4217, like EUR.")
    return [_load(warehouse, settings, asked, file) for file in asked.files]


def load_rates(warehouse: Warehouse, file: UploadedFile) -> Outcome:
    """Loads a file of rates: file, outcome, added, replaced, currencies, from_date, to_date, or line, reason, error."""
    try:
        rates = read_rates(file.content, file.name)
    except FileRefused as refused:
        return refusal(refused)
    with warehouse.transaction() as con:
        told = write_rates(con, rates, file.name)
    return {
        "file": file.name,
        "outcome": "loaded",
        "added": told.added,
        "replaced": told.replaced,
        "currencies": list(told.currencies),
        "from_date": told.from_date.isoformat(),
        "to_date": told.to_date.isoformat(),
        **_NOT_REFUSED,
    }


def refusal(refused: FileRefused) -> Outcome:
    """The outcome of a file that was refused."""
    told = {"line": refused.line, "reason": refused.reason, "error": str(refused)}
    return {"file": refused.file, "outcome": "refused", **_NOT_LOADED, **told}


_NOT_REFUSED: Outcome = {"line": None, "reason": None, "error": None}
_NOT_LOADED: Outcome = dict.fromkeys(
    (
        *("platform", "account", "currency", "time_zone", "lines", "from_date", "to_date", "days", "spend"),
        *("added", "replaced", "kept", "loaded_at", "file_id"),
    )
)


def _load(warehouse: Warehouse, settings: SpendSettings, asked: SpendFiles, file: UploadedFile) -> Outcome:
    file_id = file_id_of(file.content)
    given = Given(
        account=asked.account,
        time_zone=asked.time_zone,
        currency=asked.currency,
        usual={name: Account(**dict(account)) for name, account in settings.accounts.items()},
        rounding=asked.rounding or settings.rounding,
        without_total=asked.without_total or settings.without_total,
    )
    try:
        with warehouse.reader() as con:
            before = loaded_before(con, file_id)
        if before is not None:
            return _outcome(file.name, before)
        export = read_export(file.content, file.name, given)
        with warehouse.transaction() as con:
            now, sure = datetime.now(UTC), asked.account is not None
            return _outcome(file.name, load_export(con, export, file_id, file.name, now, account_is_sure=sure))
    except FileRefused as refused:
        return refusal(refused)


def _outcome(name: str, told: Loaded) -> Outcome:
    return {
        "file": name,
        "outcome": told.outcome,
        "platform": told.platform,
        "account": told.account,
        "currency": told.currency,
        "time_zone": told.time_zone,
        "lines": told.lines,
        "from_date": told.from_date.isoformat(),
        "to_date": told.to_date.isoformat(),
        "days": (told.to_date - told.from_date).days + 1,
        "spend": float(told.spend),
        "added": told.added,
        "replaced": told.replaced,
        "kept": told.kept,
        "loaded_at": iso_utc(told.loaded_at),
        "file_id": told.file_id,
        **_NOT_REFUSED,
    }
