"""A file's bytes as records of cells: its encoding and its delimiter are told by what it holds, or it is refused."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from stitchline.errors import FileRefused

LARGEST: Final = 32 * 2**20
"""Bytes of a file: an export of a year by ad and day has less."""

MOST_CELLS: Final = 1000
"""Of a line."""

DELIMITERS: Final = ",;\t|"

_AGAIN: Final = "Nothing of the file was taken; export it again, as CSV in UTF-8."
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_ARCHIVE: Final = (b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")  # zip and xlsx, gzip, xls
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffd]")
_NOT_WESTERN: Final = re.compile(
    "[^\x00-\x7f\xc0-\xd6\xd8-\xf6\xf8-\xff€£¥§©®°«»·¿¡–—\u2018’“”„…•™\xa0²½¼¾ºª]"  # nothing of an everyday text
    "|[\xc0-\xd6\xd8-\xf6\xf8-\xff]{3}"  # no western word has three such letters in a row, any Cyrillic one has
    "|(?<=[a-z])[\xc0-\xd6\xd8-\xde]"  # nor has one a capital inside
    "|(?<=[a-zA-Z])[^\x00-\x7f\xc0-\xd6\xd8-\xf6\xf8-\xff’·](?=[a-zA-Z])"  # an umlaut, in an older code page
)
"""What says that a text is in another code page than cp1252, by which it was read."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the table; `line` is where it begins, counted from 1."""

    line: int
    cells: tuple[str, ...]

    @property
    def is_blank(self) -> bool:
        return not any(self.cells)


def decoded(file: str, data: bytes) -> str:
    """The text of `data`: UTF-8 or UTF-16, with a byte-order mark or without, else cp1252.

    Raises FileRefused if it is empty, larger than LARGEST, or may be in some other encoding.
    """
    if not data.strip():
        raise FileRefused(file, None, "the file is empty", _AGAIN)
    if data.startswith(_ARCHIVE):
        reason = "it is an archive or an Excel workbook, and no CSV"
        raise FileRefused(file, None, reason, "Unpack it, or save the sheet as CSV in UTF-8.")
    if len(data) > LARGEST:
        raise too_large(file, len(data))
    encoding, body = _encoding(data)
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise FileRefused(file, line, f"byte {error.start + 1} is no {encoding.upper()}", _AGAIN) from None
    if (found := _CONTROLS.search(text)) is not None:
        reason = f"it holds the character U+{ord(found[0]):04X}, which no export has"
        raise FileRefused(file, line_of(text, found.start()), reason, _AGAIN)
    if encoding == "cp1252" and (found := _NOT_WESTERN.search(text)) is not None:
        reason = f"it is no UTF-8, and {found[0]!r} says that it is not in Windows's western code page either"
        raise FileRefused(file, line_of(text, found.start()), reason, _AGAIN)
    if not text.isascii():
        _refuse_encoded_twice(file, text)
    return text


def too_large(file: str, size: int) -> FileRefused:
    """The refusal of a file of so many bytes."""
    reason = f"the file has {size:,} bytes, and {LARGEST:,} are read at most"
    return FileRefused(file, None, reason, "Export fewer days at a time.")


def records(file: str, text: str, delimiter: str) -> list[Record]:
    """All records of `text`, blank ones too; their cells without the spaces around them.

    Raises FileRefused where quotes are not closed or are followed by more, as in a file that was cut off.
    """
    try:
        return list(_parsed(text, delimiter))
    except _Malformed as error:
        reason = f"the table is malformed ({error})"
        raise FileRefused(file, error.line, reason, "Is it whole? Export it again.") from None


def first_records(text: str, delimiter: str, count: int) -> list[Record]:
    """The first `count` records, or as many as can be read."""
    found: list[Record] = []
    try:
        for record in islice(_parsed(text, delimiter), count):
            found.append(record)  # noqa: PERF402 what was read before an error counts
    except _Malformed:
        pass
    return found


def line_of(text: str, position: int) -> int:
    """The line, from 1, of a position in `text`."""
    return text.count("\n", 0, position) + 1


class _Malformed(Exception):
    def __init__(self, line: int, error: str) -> None:
        super().__init__(error)
        self.line = line


def _parsed(text: str, delimiter: str) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _Malformed(line, str(error)) from None
        if len(cells) > MOST_CELLS:
            raise _Malformed(line, f"more than {MOST_CELLS:,} cells in a line")
        yield Record(line, tuple(cell.strip() for cell in cells))
        line = reader.line_num + 1


def _encoding(data: bytes) -> tuple[str, bytes]:
    """What `data` is encoded in, and `data` without its byte-order mark."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding, data[len(mark) :]
    low, high = data[::2].count(0), data[1::2].count(0)
    if low + high > len(data) // 8:  # in UTF-16 about every second byte of a table is NUL
        return ("utf-16-le" if high > low else "utf-16-be"), data
    try:
        data.decode()
    except UnicodeDecodeError:
        return "cp1252", data
    return "utf-8", data


def _refuse_encoded_twice(file: str, text: str) -> None:
    for number, line in _numbered(text.split("\n")):
        if line.isascii():
            continue
        try:
            once = line.encode("cp1252").decode()
        except UnicodeError:
            continue
        reason = f"its text was encoded twice: {_middle(line)!r} was {_middle(once)!r}"
        raise FileRefused(file, number, reason, _AGAIN)


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    return enumerate(lines, 1)


def _middle(line: str) -> str:
    """Some of `line` around the first character that is not ASCII."""
    at = next((i for i, c in enumerate(line) if not c.isascii()), 0)
    return line[max(0, at - 10) : at + 20]
