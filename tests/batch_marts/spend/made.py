"""Exports out of the demo's generator, what is true of them, and ways to spoil them."""

from __future__ import annotations

import codecs
import csv
import io
import random
from collections.abc import Callable, Sequence
from typing import Any

from batch_marts.spend.export import Given
from batch_marts.spend.reader import read_export
from demo.export_forms import FORMS
from demo.exports import MadeExport

TOTALLED = ("google", "meta", "linkedin", "tiktok", "reddit")
"""Platforms whose exports may have totals of all that is read."""
MAY_BE_WITHOUT = ("tiktok", "x", "pinterest")
"""Platforms whose exports are taken without totals."""
ENCODINGS = (
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"),
    *("cp1252", "latin-1", "mac_roman", "cp850", "cp437", "cp037", "utf-8 twice", "utf-16 with the other's mark"),
)

Row = tuple[Any, ...]


def given_for(made: MadeExport) -> Given:
    """What has to be said of a file that does not say it itself."""
    return Given(
        currency=None if made.says_currency else made.currency,
        without_total=not made.has_total and made.platform != "microsoft",
    )


def true_rows(made: MadeExport) -> list[Row]:
    return [
        (r.day, r.campaign_id, r.campaign, r.spend, r.impressions, r.clicks, r.conversions, r.conversion_value)
        for r in made.rows
    ]


def read_rows(data: bytes, made: MadeExport) -> list[Row]:
    """As `true_rows`. Raises FileRefused."""
    return [
        (r.day, r.campaign_id, r.campaign, r.spend, r.impressions, r.clicks, r.conversions, r.conversion_value)
        for r in read_export(data, made.file_name, given_for(made)).rows
    ]


def that_count(rows: Sequence[Row]) -> list[Row]:
    """Without days on which nothing was spent and nothing came of it, which no total misses."""
    return [row for row in rows if any(row[3:])]


def cut(made: MadeExport, rng: random.Random) -> bytes:
    """Cut off somewhere; not after a whole line, if what is left is then a file as the platform writes it, too."""
    end = rng.randrange(1, len(made.data))
    may_end = made.platform in MAY_BE_WITHOUT or not (made.has_total or made.platform == "microsoft")
    while may_end and _text(made, made.data[:end]).endswith(("\n", "\r")):
        end -= 1
    return made.data[:end]


def change_a_digit(made: MadeExport, rng: random.Random) -> bytes:
    """Of an amount or a count, in a line of data or of totals."""
    table = _Cells(made)
    places = [
        (row, column, position)
        for row in range(table.first, len(table.rows))
        for column in table.amounts
        for position, character in enumerate(table.rows[row][column])
        if character in "0123456789"
    ]
    row, column, position = rng.choice(places)
    text = table.rows[row][column]
    other = rng.choice([digit for digit in "0123456789" if digit != text[position]])
    table.rows[row][column] = text[:position] + other + text[position + 1 :]
    return table.data()


def drop_a_line(made: MadeExport, rng: random.Random) -> bytes:
    table = _Cells(made)
    del table.rows[rng.randrange(table.first, table.first + table.lines)]
    return table.data()


def repeat_a_line(made: MadeExport, rng: random.Random) -> bytes:
    table = _Cells(made)
    row = rng.randrange(table.first, table.first + table.lines)
    table.rows.insert(row, table.rows[row])
    return table.data()


def swap_columns(made: MadeExport, rng: random.Random) -> bytes:
    """The values of two columns, one of them of amounts, in all lines of data: under the header and the totals that
    were theirs."""
    table = _Cells(made)
    one = rng.choice(table.amounts)
    other = rng.choice([column for column in range(len(table.rows[table.first])) if column != one])
    for row in range(table.first, table.first + table.lines):
        cells = table.rows[row]
        if row not in table.totals:
            cells[one], cells[other] = cells[other], cells[one]
    return table.data()


def encode_otherwise(made: MadeExport, rng: random.Random) -> bytes:
    """In any of ENCODINGS that has all of its characters."""
    text = _text(made, made.data)
    while True:
        encoding = rng.choice(ENCODINGS)
        try:
            if encoding == "utf-8 twice":
                return text.encode().decode("cp1252").encode()
            if encoding == "utf-16 with the other's mark":
                return codecs.BOM_UTF16_BE + text.encode("utf-16-le")
            return text.encode(encoding)
        except UnicodeError:
            continue


Spoil = Callable[[MadeExport, random.Random], bytes]
SPOILS: dict[str, Spoil] = {
    spoil.__name__: spoil for spoil in (cut, change_a_digit, drop_a_line, repeat_a_line, swap_columns, encode_otherwise)
}


class _Cells:
    """The file's cells, to change some."""

    def __init__(self, made: MadeExport) -> None:
        self._made = made
        style = made.style
        form = FORMS[made.platform](style)
        self.rows = list(csv.reader(io.StringIO(_text(made, made.data), newline=""), delimiter=style.delimiter))
        header = self.rows.index(list(form.columns))
        totals = len(form.total_labels)
        self.first = header + 1
        self.lines = made.lines
        self.amounts = [column for column, name in enumerate(form.columns) if name in form.totalled]
        if style.total_first:
            self.first += totals
            self.totals = set(range(header + 1, self.first))
        else:
            self.totals = set(range(self.first + self.lines, self.first + self.lines + totals))

    def data(self) -> bytes:
        style = self._made.style
        out = io.StringIO()
        csv.writer(out, delimiter=style.delimiter, lineterminator=style.line_end).writerows(self.rows)
        return out.getvalue().encode(style.encoding)


def _text(made: MadeExport, data: bytes) -> str:
    return data.decode(made.style.encoding, errors="ignore").removeprefix("\ufeff")
