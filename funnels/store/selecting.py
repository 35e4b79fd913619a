"""What a funnel asks of the store: by the names of events alone, or, where more is asked, by what SQL says of rows."""

from __future__ import annotations

import threading

import duckdb
import numpy as np
import numpy.typing as npt

from funnels.condition_sql import Binder
from funnels.definition import FunnelDefinition, Match
from funnels.fields import parse_field
from funnels.rows import columns_sql, latest_of, micros_of, tells_apart
from funnels.store import reading
from funnels.store.codes import Codes
from funnels.store.collecting import Selection
from funnels.store.contents import Contents
from funnels.store.reading import Said, Span
from funnels.store.room import grown
from funnels.store.values import FieldValues

Ints = npt.NDArray[np.int64]


class LookedUp:
    """What SQL says of each row, as far as it was asked: arrays by row. It grows with the warehouse."""

    def __init__(self, definition: FunnelDefinition, values: FieldValues | None) -> None:
        """`values` are those of the field that it is broken down by."""
        self.names = _looked_up(definition)
        self.asked = sorted({match.event for match in _matches(definition)})
        """All names that the definition asks for."""
        self._hashes: reading.Hashes = np.empty(0, np.uint64)
        self.values = values
        self.span = _span(definition)
        """The times of events that matter."""
        self._valued = _valued(definition)
        self.next_row = 0
        self.fills = np.zeros(0, np.int32)
        self.voids = np.zeros(0, np.int32)
        self.holds = np.zeros(0, np.uint64)
        bind = Binder()
        # Whether an event may lie between two steps is told by its kind, which the store knows.
        order = "ordered" if definition.order == "strict" else definition.order
        columns = columns_sql(definition.model_copy(update={"order": order, "breakdown": None}), "", bind)
        asked = " or ".join(f"{name} <> 0" for name in columns if name in ("fills", "voids"))
        self._said = Said(columns, asked, bind.values)
        self.lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes in use."""
        return self.fills.nbytes + self.voids.nbytes + self.holds.nbytes

    def follow(self, con: duckdb.DuckDBPyConnection, end: int) -> None:
        """Asks of the rows below `end` that were not asked of yet."""
        if self.values is not None:
            self.values.follow(con, self._valued, self.span, end)
        if not self.names or end <= self.next_row:
            return
        for name in self._said.columns:
            setattr(self, name, grown(getattr(self, name), end, 0))
        for batch in self._said.of(con, self.names, self.span, self.next_row, end):
            rows = batch["row"].to_numpy()
            for name in self._said.columns:
                getattr(self, name)[rows] = batch[name].to_numpy(zero_copy_only=False)
        self.next_row = end

    def hashes(self, con: duckdb.DuckDBPyConnection) -> reading.Hashes:
        """`asked` as the store has them."""
        if not len(self._hashes):
            self._hashes = reading.hashes(con, self.asked)
        return self._hashes


def answers(definition: FunnelDefinition) -> bool:
    """Whether the store can answer `definition`: it knows events, and neither sessions nor what
    persons are; nor, of events that no step names, what is held."""
    named = [field for match in _matches(definition) for field in match.where]
    named += [*definition.hold, *([definition.breakdown] if definition.breakdown else [])]
    if definition.by == "session" or (definition.order == "strict" and definition.hold):
        return False
    return all(parse_field(name).source == "event" for name in named)


def select(
    con: duckdb.DuckDBPyConnection, contents: Contents, definition: FunnelDefinition, looked_up: LookedUp
) -> Selection:
    """What of `contents` belongs to `definition`. `looked_up` follows as far."""
    codes = dict(zip(looked_up.asked, contents.names.find(looked_up.hashes(con)).tolist(), strict=True))
    fills, voids = np.zeros(len(contents.names), np.int64), np.zeros(len(contents.names), np.int64)
    is_looked_up = np.zeros(len(contents.names), np.bool_)
    for name, code in codes.items():
        if code >= 0:
            is_looked_up[code] = name in looked_up.names
            for place, step in enumerate(definition.steps):
                fills[code] |= any(match.event == name for match in step.matches) << place
            for place, exclusion in enumerate(definition.exclude):
                voids[code] |= (exclusion.event == name) << place
    looked_up.follow(con, contents.next_row)
    values: Codes = np.zeros(0, np.int32) if looked_up.values is None else looked_up.values.codes
    return Selection(
        fills=fills,
        voids=voids,
        looked_up=is_looked_up,
        row_fills=looked_up.fills,
        row_voids=looked_up.voids,
        holds=looked_up.holds,
        values=values,
        since=looked_up.span.since,
        until=looked_up.span.until,
        in_sequence=definition.order == "strict",
        in_order=tells_apart(definition),
    )


def _matches(definition: FunnelDefinition) -> list[Match]:
    return [*(match for step in definition.steps for match in step.matches), *definition.exclude]


def _looked_up(definition: FunnelDefinition) -> frozenset[str]:
    """The names of events of which the name alone does not say what is asked."""
    every = _matches(definition)
    if definition.hold:
        return frozenset(match.event for match in every)
    return frozenset(match.event for match in every if match.where)


def _valued(definition: FunnelDefinition) -> frozenset[str]:
    """The names of events of which the values matter to a breakdown."""
    begins_only = definition.attribution == "first_touch" and definition.order != "any"
    steps = definition.steps[:1] if begins_only else definition.steps
    return frozenset(match.event for step in steps for match in step.matches)


def _span(definition: FunnelDefinition) -> Span:
    since, until = definition.since, definition.until
    return Span(
        **({} if since is None else {"since": micros_of(since)}),
        **({} if until is None else {"until": micros_of(latest_of(until, definition.window))}),
    )
