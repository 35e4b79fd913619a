"""The table in an export: which form's header it has, which lines are data, totals, or the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from batch_marts.spend.export import Account, Given
from batch_marts.spend.forms import FORMS, Header, Role, header_of, named_twice
from batch_marts.spend.preamble import Preamble
from batch_marts.spend.sheet import DELIMITERS, Record, first_records
from batch_marts.spend.totals import is_nothing, is_total_word
from stitchline.errors import FileRefused, FormUnknown

HEADER_WITHIN: Final = 20
"""Records from the top, among which the header is."""

AGAIN: Final = "Nothing of the file was taken; export it again."
BY_DAY: Final = "Export it by day, as CSV."

_DAYS: Final[tuple[Role, ...]] = ("day", "from")


@dataclass(slots=True)
class Table:
    """What is under the header, line by line."""

    file: str
    header: Header
    preamble: Preamble
    given: Given
    data: Sequence[Record] = ()
    totals: Sequence[Record] = ()
    has_end: bool = False
    """Whether there is a line below the table that ends the file."""

    @property
    def usual(self) -> Account:
        """What is known of the platform's account."""
        return self.given.usual.get(self.header.form.platform, Account())

    def refuse(self, line: int | None, reason: str, advice: str = AGAIN) -> NoReturn:
        raise FileRefused(self.file, line, reason, advice)

    def cell(self, record: Record, role: Role) -> str:
        return record.cells[self.header.columns[role]]

    def has(self, role: Role) -> bool:
        return role in self.header.columns

    def sort(self, below: Sequence[Record]) -> None:
        """Tells data from totals and from the line under the table.

        Raises FileRefused for a line that has other cells than the header, a second header, or more below the end.
        """
        data: list[Record] = []
        totals: list[Record] = []
        end: Record | None = None
        width = len(self.header.cells)
        for record in below:
            if record.is_blank:
                continue
            if end is not None:
                self.refuse(record.line, f"there is more below the end of the table in line {end.line}")
            if record.cells[0].startswith(("@", "©")) and not any(record.cells[1:]):
                end = record
                continue
            if len(record.cells) > width and not any(record.cells[width:]):
                record = Record(record.line, record.cells[:width])
            if len(record.cells) != width:
                reason = f"it has {len(record.cells)} cells where the header has {width}"
                self.refuse(record.line, reason, "Is the file whole? Export it again.")
            if record.cells == self.header.cells:
                self.refuse(record.line, "the header is there twice", "Load each export as a file of its own.")
            (totals if self._is_total(record) else data).append(record)
        self.data, self.totals, self.has_end = data, totals, end is not None

    def only(self, role: Role) -> str | None:
        """What a column says that has one value for all lines; None if there is no such column or it says nothing."""
        if not self.has(role):
            return None
        values: dict[str, int] = {}
        for record in self.data:
            values.setdefault(self.cell(record, role), record.line)
        if len(values) > 1:
            found = " and ".join(repr(value) for value in list(values)[:2])
            reason = f"its column {self.header.name(role)!r} has {found}"
            self.refuse(list(values.values())[1], reason, "Export each account and currency by itself.")
        value = next(iter(values))
        return None if is_nothing(value) else value

    def label(self, record: Record) -> str:
        """What a line of totals calls itself, if it does."""
        return next((cell for cell in record.cells if is_total_word(cell)), "")

    def _is_total(self, record: Record) -> bool:
        """Whether it is a total: it has no day, and no campaign, or says so. Where lines cover a range, so may it."""
        if self.has("to") and not self.cell(record, "campaign"):
            return True
        days = [self.cell(record, role) for role in _DAYS if self.has(role)]
        if not all(is_nothing(cell) or is_total_word(cell) for cell in days):
            return False
        campaign = self.cell(record, "campaign")
        if is_nothing(campaign) or is_total_word(campaign):
            return bool(days) or bool(self.label(record))
        return any(is_total_word(cell) for cell in days)


def find_header(file: str, text: str) -> tuple[Header, str]:
    """The header, and the delimiter by which it is one.

    Raises FormUnknown if there is none, or it may be that of two platforms, or has two columns of one meaning.
    """
    found: dict[tuple[str, str], Header] = {}
    for delimiter in DELIMITERS:
        for record in first_records(text, delimiter, HEADER_WITHIN):
            headers = [header for form in FORMS if (header := header_of(form, record.line, record.cells)) is not None]
            for header in headers:
                found[delimiter, header.form.platform] = header
            if headers:
                break
    if not found:
        reason = f"none of its first {HEADER_WITHIN} lines is a header with spend by campaign and day that is known"
        known = "Google Ads, Meta, Microsoft, LinkedIn, TikTok, X, Reddit and Pinterest are known."
        raise FormUnknown(file, None, reason, f"{known} {BY_DAY}")
    if len(found) > 1:
        platforms = " or ".join(sorted({platform for _, platform in found}))
        line = next(iter(found.values())).line
        raise FormUnknown(file, line, f"its header may be that of {platforms}", "Export it with more columns.")
    (((delimiter, _), header),) = found.items()
    twice = named_twice(header)
    if twice is not None:
        raise FormUnknown(file, header.line, f"{twice!r} is one of two columns with one meaning", "Export one of them.")
    return header, delimiter
