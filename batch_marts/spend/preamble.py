"""What an export says above its table: the range of days, the account, the time zone, how many rows there are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from batch_marts.spend.days import Day, day_of, span_of
from batch_marts.spend.forms import plain
from batch_marts.spend.sheet import Record

LONGEST: Final = 500
"""Characters of a line that says something."""

_STARTS: Final = frozenset({"report start", "start date"})
_ENDS: Final = frozenset({"report end", "end date"})
_ACCOUNTS: Final = frozenset({"account", "account name"})
_ZONES: Final = frozenset({"time zone", "timezone"})
_EXPORTED: Final = frozenset({"date generated"})
_CLOCK: Final = re.compile(r"[T ,]+\d{1,2}:\d{2}(?::\d{2})?(?: ?[AP]M)?(?: ?(?:Z|UTC|\(?GMT\)?))?$", re.IGNORECASE)
_COUNT: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Preamble:
    """None for what is not said."""

    span: tuple[Day, Day] | None = None
    account: str | None = None
    time_zone: str | None = None
    rows: int | None = None
    exported_at: datetime | None = None


def preamble_of(records: Sequence[Record]) -> Preamble:
    """What the lines above the header say. Lines that say nothing we know are passed over."""
    lines = [", ".join(cell for cell in record.cells if cell) for record in records if not record.is_blank]
    lines = [line for line in lines if len(line) <= LONGEST]
    said: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            said.setdefault(plain(name), value.strip(" ,"))
    span = next((span for line in lines if (span := span_of(line)) is not None), None)
    start, end = _first(said, _STARTS), _first(said, _ENDS)
    if span is None and start is not None and end is not None:
        first, last = day_of(_CLOCK.sub("", start)), day_of(_CLOCK.sub("", end))
        span = (first, last) if first is not None and last is not None else None
    rows = said.get("rows")
    exported = _first(said, _EXPORTED)
    return Preamble(
        span=span,
        account=_first(said, _ACCOUNTS) or None,
        time_zone=_first(said, _ZONES) or None,
        rows=int(rows) if rows is not None and _COUNT.fullmatch(rows) else None,
        exported_at=_time(exported) if exported is not None else None,
    )


def _first(said: dict[str, str], names: frozenset[str]) -> str | None:
    return next((value for name, value in said.items() if name in names), None)


def _time(text: str) -> datetime | None:
    """A time of day in UTC, as `January 31, 2026, 10:15 AM` or ISO 8601 writes it; None if it is neither."""
    bare = re.sub(r" ?\(?(?:UTC|GMT)\)?$", "", text)
    for form in ("%B %d, %Y, %I:%M %p", "%B %d, %Y %I:%M %p", "%m/%d/%Y, %I:%M %p"):
        try:
            return datetime.strptime(bare, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        read = datetime.fromisoformat(bare)
    except ValueError:
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
