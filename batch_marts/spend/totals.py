"""An export is held to what it says of itself: its totals, its number of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from batch_marts.spend.amounts import NONE
from batch_marts.spend.forms import Role, plain
from stitchline.errors import FileRefused, TotalDiffers

SUMMED: Final[tuple[Role, ...]] = ("spend", "micros", "impressions", "clicks", "conversions", "conversion_value")

_TOTAL: Final = re.compile(
    r"(?:sub)?(?:grand )?(?:totals?|gesamt|gesamtsumme|summe|insgesamt|totaux|totales)"
    r"(?: ?:(?P<of>.*)| .*)?"
)
_RESULTS: Final = re.compile(r"total of ([0-9][0-9,.]*) results?")
_ACCOUNT: Final = frozenset({"account", "konto", "compte", "cuenta"})
_PARTS: Final = frozenset(
    {
        *("app", "apps", "demand gen", "discovery", "display", "display network", "hotel", "hotels", "local"),
        *("performance max", "search", "search network", "shopping", "smart", "video", "videos"),
        *("suche", "suchnetzwerk", "displaynetzwerk", "réseau de recherche", "réseau display"),
        *("red de búsqueda", "red de display"),
    }
)


@dataclass(frozen=True, slots=True)
class TotalRow:
    """A line of totals; `values` has the columns that it has an amount for."""

    line: int
    label: str
    values: Mapping[Role, Decimal]


def is_total_word(text: str) -> bool:
    """Whether a cell says that its line is a total.

    >>> [is_total_word(text) for text in ("Total: Account", "Total of 12 results", "Gesamt", "Totally wool", "Jackets")]
    [True, True, True, False, False]
    """
    return 0 < len(text) <= 200 and not text[0].isdigit() and _TOTAL.fullmatch(plain(text)) is not None


def is_nothing(text: str) -> bool:
    """Whether a cell holds no value."""
    return text in NONE


def reconcile(
    file: str,
    totals: Sequence[TotalRow],
    sums: Mapping[Role, Decimal],
    lines: int,
    names: Mapping[Role, str],
    slack: Mapping[Role, Decimal],
) -> Decimal | None:
    """The total of spend, which `sums` over the file's `lines` of data are held to; None if there is none to hold
    them to. A total of spend may differ by `slack`, and so may the others.

    Google has totals of the campaigns shown, of the account, and of its networks: networks are not told apart in the
    rows and are passed over; the account's may be greater where another total says that some campaigns are left out.

    Raises TotalDiffers, which names the total, or FileRefused.
    """
    checked: Decimal | None = None
    whole = [row for row in totals if _scope(row.label) not in _PARTS]
    exact = [row for row in whole if _scope(row.label) not in _ACCOUNT]
    for row in whole:
        may_be_greater = row not in exact and bool(exact)
        for role, told in row.values.items():
            found = sums[role]
            if abs(told - found) <= slack.get(role, Decimal(0)) or (may_be_greater and told > found):
                continue
            raise _differs(file, row, role, told, found, lines, names[role], len(totals))
        spend = role_of_spend(row)
        if spend is not None and not may_be_greater:
            checked = row.values[spend]
        counted = _RESULTS.fullmatch(plain(row.label))
        if counted is not None and int(re.sub(r"[,.]", "", counted[1])) != lines:
            reason = f"it says {row.label!r}, but has {lines:,} lines of data"
            raise FileRefused(file, row.line, reason, "Is it whole? Export it again.")
    return checked


def role_of_spend(row: TotalRow) -> Role | None:
    """Which of a total's values is spend."""
    return "spend" if "spend" in row.values else "micros" if "micros" in row.values else None


def _scope(label: str) -> str:
    found = _TOTAL.fullmatch(plain(label))
    return (found["of"] or "").strip() if found is not None else ""


def _differs(
    file: str, row: TotalRow, role: Role, told: Decimal, found: Decimal, lines: int, name: str, totals: int
) -> TotalDiffers:
    adds_up = "one line of data has" if lines == 1 else f"{lines:,} lines of data add up to"
    called = f"the total of {name!r}" + (f" ({row.label})" if totals > 1 and row.label else "")
    reason = f"{called} is {told:,f}, but the {adds_up} {found:,f}"
    half = _half_of_last(told, found) * (lines + 1)
    rounded = role not in ("impressions", "clicks") and abs(told - found) <= half
    advice = "The file is cut, changed, or filtered: nothing of it was taken; export it again."
    if rounded:
        advice += " If the platform rounds each line, --rounding (setting spend.rounding) takes it."
    return TotalDiffers(file, row.line, reason, advice, column=name, told=told, found=found)


def _half_of_last(*values: Decimal) -> Decimal:
    """Half of the last decimal that any of `values` has."""
    places = max(max(-int(value.as_tuple().exponent), 0) for value in values)
    return Decimal(5).scaleb(-places - 1)


def slack_of(values: Sequence[Decimal]) -> Decimal:
    """By how much the sum of rounded `values` may differ from the rounded sum.

    >>> slack_of([Decimal("1.25"), Decimal("3")])
    Decimal('0.015')
    """
    return _half_of_last(*values, Decimal(0)) * (len(values) + 1)
