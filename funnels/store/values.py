"""What a field says of events, by row: asked of SQL once for all questions that break down by it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from funnels.condition_sql import Binder, text_sql
from funnels.fields import parse_field
from funnels.store.codes import Codes
from funnels.store.reading import Said, Span
from funnels.store.room import grown


@dataclass(frozen=True, slots=True)
class _Known:
    """What of the events of one name is known: those of `span` that stand below row `end`."""

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
        self._widening = threading.Lock()
        bind = Binder()
        value = text_sql(parse_field(field), bind)
        self._said = Said({"value": value}, f"{value} is not null", bind.values)

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return self.codes.nbytes

    def follow(self, con: duckdb.DuckDBPyConnection, names: Iterable[str], span: Span, end: int) -> None:
        """Knows the values of the events of `names` in `span` that stand below row `end`. Where names or times are new
        that takes seconds: of two threads that ask for these, the second waits for the first."""
        if all(known is not None and known.span.holds(span) for known in map(self._known.get, names)):
            self._follow(con, names, span, end)
        else:
            with self._widening:
                self._follow(con, names, span, end)

    def _follow(self, con: duckdb.DuckDBPyConnection, names: Iterable[str], span: Span, end: int) -> None:
        behind: dict[_Known | None, list[str]] = {}
        for name in names:
            behind.setdefault(self._known.get(name), []).append(name)
        for known, some in behind.items():
            now = _Known(span, end) if known is None else _Known(known.span.and_to(span), max(known.end, end))
            for first, last, part in _missing(known, now):
                self._make_room(last)
                for batch in self._said.of(con, some, part, first, last):
                    self._write(batch["row"].to_numpy(), batch["value"])
            self._note(some, now)

    def _note(self, names: list[str], now: _Known) -> None:
        """Puts `now` on record, unless another thread has come to know of other times meanwhile."""
        with self._writing:
            for name in names:
                known = self._known.get(name)
                if known is None or now.span.holds(known.span):
                    self._known[name] = now

    def _make_room(self, size: int) -> None:
        with self._writing:
            self.codes = grown(self.codes, size, -1)

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


def _missing(known: _Known | None, now: _Known) -> Iterator[tuple[int, int, Span]]:
    """What has to be asked for, so that `now` is known where `known` was: rows from … to before …, and times."""
    if known is None:
        yield 0, now.end, now.span
        return
    if known.end < now.end:
        yield known.end, now.end, now.span
    if now.span.since < known.span.since:
        yield 0, known.end, Span(now.span.since, known.span.since - 1)
    if now.span.until > known.span.until:
        yield 0, known.end, Span(known.span.until + 1, now.span.until)
