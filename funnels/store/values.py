"""What a field says of events, by row: asked of SQL once for all questions that break down by it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from funnels.condition_sql import Binder, text_sql
from funnels.fields import parse_field
from funnels.rows import time_of
from funnels.store import reading
from funnels.store.codes import Codes

_FOREVER: Final = np.iinfo(np.int64)

_LOOK_UP: Final = """
select e.rowid as "row", {value} as value
from stream.events as e
where e.rowid >= $first and e.rowid < $end and e.name in (select unnest($names)) and not e.is_bot {times}
  and {value} is not null
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Times from `since` up to `until`, both in it, in microseconds since 1970."""

    since: int = _FOREVER.min
    until: int = _FOREVER.max

    def and_to(self, other: Span) -> Span:
        """The shortest one in which both are."""
        return Span(min(self.since, other.since), max(self.until, other.until))


@dataclass(frozen=True, slots=True)
class _Known:
    """What of the events of one name is known: those of `span` that stand below `end`."""

    span: Span
    end: int


class FieldValues:
    """The values of `field`, of the events that were asked for so far. Threads may share it: they ask at the same time,
    and what two of them ask for they both write down, the same."""

    def __init__(self, field: str) -> None:
        self.shown: list[str] = []
        """The text of each code."""
        self.codes: Codes = np.zeros(0, np.int32)
        """By row; −1 for null, and where it was not asked for."""
        self._code_of: dict[str, int] = {}
        self._known: dict[str, _Known] = {}
        self._writing = threading.Lock()
        self._first_time = threading.Lock()
        bind = Binder()
        self._value = text_sql(parse_field(field), bind)
        self._bound = bind.values

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return self.codes.nbytes

    def look_up(self, con: duckdb.DuckDBPyConnection, names: Iterable[str], span: Span, end: int) -> None:
        """Like `follow`, which takes seconds where `names` or times are new: of two threads that ask for these the
        second waits for the first."""
        if all(
            (known := self._known.get(name)) is not None and known.span.and_to(span) == known.span for name in names
        ):
            self.follow(con, names, span, end)
            return
        with self._first_time:
            self.follow(con, names, span, end)

    def follow(self, con: duckdb.DuckDBPyConnection, names: Iterable[str], span: Span, end: int) -> None:
        """Knows the values of the events of `names` in `span` that stand below row `end`."""
        behind: dict[_Known | None, list[str]] = {}
        for name in names:
            behind.setdefault(self._known.get(name), []).append(name)
        for known, some in behind.items():
            whole = span if known is None else known.span.and_to(span)
            for first, last, part in _missing(known, whole, end):
                self._ask(con, some, part, first, last)
            for name in some:
                self._known[name] = _Known(whole, end if known is None else max(known.end, end))

    def _ask(self, con: duckdb.DuckDBPyConnection, names: list[str], span: Span, first: int, end: int) -> None:
        bounds: dict[str, object] = {"first": first, "end": end, "names": names}
        times = ""
        if span.since > _FOREVER.min:
            times, bounds["since"] = "and e.event_at >= $since", time_of(span.since)
        if span.until < _FOREVER.max:
            times, bounds["until"] = f"{times} and e.event_at <= $until", time_of(span.until)
        self._make_room(end)
        sql = _LOOK_UP.format(value=self._value, times=times)
        for batch in con.execute(sql, {**self._bound, **bounds}).to_arrow_reader(reading.AT_ONCE):
            self._write(batch["row"].to_numpy(), batch["value"])

    def _make_room(self, size: int) -> None:
        with self._writing:
            if len(self.codes) < size:
                larger: Codes = np.full(max(size, len(self.codes) * 9 // 8), -1, np.int32)
                larger[: len(self.codes)] = self.codes
                self.codes = larger

    def _write(self, rows: npt.NDArray[np.int64], texts: pa.Array) -> None:
        encoded = texts.dictionary_encode()
        with self._writing:
            codes = []
            for text in encoded.dictionary.to_pylist():
                codes.append(self._code_of.setdefault(text, len(self._code_of)))
                if codes[-1] == len(self.shown):
                    self.shown.append(text)
            if codes:
                self.codes[rows] = np.array(codes, np.int32)[encoded.indices.to_numpy()]


def _missing(known: _Known | None, whole: Span, end: int) -> Iterator[tuple[int, int, Span]]:
    """What is not known of `whole` below row `end`: rows from … to before …, and times."""
    if known is None:
        yield 0, end, whole
        return
    if known.end < end:
        yield known.end, end, whole
    if whole.since < known.span.since:
        yield 0, known.end, Span(whole.since, known.span.since - 1)
    if whole.until > known.span.until:
        yield 0, known.end, Span(known.span.until + 1, whole.until)
