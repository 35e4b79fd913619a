"""A funnel that is watched: of each subject what became of it is kept, and only those whose events changed are followed
again. What adds up is kept too; quantiles, and whose window is over, a pass over the subjects tells each time, in some
milliseconds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt

from funnels.answer import nothing_counted
from funnels.definition import FunnelDefinition
from funnels.query import answer, run_funnel
from funnels.result import FunnelResult
from funnels.rows import rules_of, time_of
from funnels.store.codes import Codes
from funnels.store.contents import Contents
from funnels.store.room import grown
from funnels.store.store import Looking, Store
from funnels.store.values import FieldValues
from funnels.walk import NEVER, Entries

Ints = npt.NDArray[np.int64]

_KEPT: Final = 16
"""Funnels that are kept: what became of a million people in one of three steps takes 45 MB."""

_REMEMBERED: Final = 64
"""Questions that are known when they are asked again."""


class Watched:
    """`definition`, as the warehouse of `store` has it at each moment. Threads may share it."""

    def __init__(self, store: Store, definition: FunnelDefinition) -> None:
        self.definition = definition
        self._store = store
        self._rules = rules_of(definition)
        self._lock = threading.Lock()
        self._told: tuple[tuple[int, int], FunnelResult] | None = None
        """What was said last, and the store's state before."""
        self._of: Contents | None = None
        self._valued_by: FieldValues | None = None
        """Whose codes the values are."""
        self._version = 0
        self.followed = 0
        """How many subjects were followed again, of which the events were others than before."""
        self._began: Ints = np.empty(0, np.int64)
        self._reached: Ints = np.empty(0, np.int64)
        self._at: Ints = np.empty((0, self._rules.steps), np.int64)
        self._values: Codes = np.empty(0, np.int32)
        self._counted = nothing_counted(definition)

    @classmethod
    def keeps(cls, definition: FunnelDefinition) -> bool:
        """Whether it is kept: that of which each subject has one result, and nothing of another period is asked."""
        return definition.count == "uniques" and definition.compare is None

    def refresh(self, con: duckdb.DuckDBPyConnection) -> FunnelResult | None:
        """The funnel as `con` sees it now; None if the store cannot tell."""
        with self._lock:
            state = self._store.state
            if self._told is None or self._told[0] != state:
                result = self._looked(con)
                self._told = None if result is None else (state, result)
            return None if self._told is None else self._told[1]

    def _looked(self, con: duckdb.DuckDBPyConnection) -> FunnelResult | None:
        with self._store.looking(con, self.definition) as looking:
            if looking is None:
                self._of = None
                return None
            self._take_in(looking)
            as_of, shown = looking.as_of, looking.shown
        known = None if as_of is None else time_of(as_of)
        return answer(self._entries(), shown, self.definition, known, counted=self._counted)

    def _entries(self) -> Entries:
        """What is kept; without a breakdown together with those who never began, as leaving them out takes longer."""
        if not self.definition.breakdown:
            nowhere = np.empty(0, np.int64)
            subjects = np.empty(0, np.uint64)
            return Entries(subjects, self._began, self._reached, self._at, self._values, nowhere, nowhere)
        return self._of_subjects(np.flatnonzero(self._reached))

    def _of_subjects(self, some: Ints) -> Entries:
        kept = (self._began[some], self._reached[some], self._at[some], self._values[some])
        return Entries(some.astype(np.uint64), *kept, some, some)

    def _take_in(self, looking: Looking) -> None:
        is_known = self._of is looking.contents and self._valued_by is looking.looked_up.values
        changed = looking.changed_since(self._version) if is_known else None
        self._of = None  # until it is all there: a question that took too long is ended in the middle
        self._make_room(looking.subject_count)
        if changed is None:
            self._reached[:] = 0
            self._at[:] = NEVER
            self._counted = nothing_counted(self.definition)
            entries = looking.all(self._rules)
        else:
            self._counted.add(self._of_subjects(changed.astype(np.int64)), sign=-1)
            self._reached[changed] = 0
            self._at[changed] = NEVER
            entries = looking.some(changed, self._rules)
            self.followed += len(changed)
        places = entries.subjects.astype(np.int64)
        self._began[places] = entries.began
        self._reached[places] = entries.reached
        self._at[places] = entries.at
        self._values[places] = entries.values
        self._counted.add(entries)
        self._of, self._version = looking.contents, looking.contents.version
        self._valued_by = looking.looked_up.values

    def _make_room(self, subjects: int) -> None:
        self._began, self._reached = grown(self._began, subjects, 0), grown(self._reached, subjects, 0)
        self._at, self._values = grown(self._at, subjects, NEVER), grown(self._values, subjects, -1)


class WatchedFunnels:
    """Those that were asked for last, each kept as long as it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, Watched] = OrderedDict()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def result(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        """The funnel as `con`, which is in no transaction, has it now."""
        if Watched.keeps(definition):
            told = self._watched(definition).refresh(con)
            if told is not None:
                return told
        return run_funnel(con, definition, follows=self._store.follow)

    def once(self, con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> FunnelResult:
        """The same; it is kept if it was asked for before: who asks again will do so again."""
        if self._was_asked(definition):
            return self.result(con, definition)
        return run_funnel(con, definition, follows=self._store.follow)

    def _was_asked(self, definition: FunnelDefinition) -> bool:
        key = definition.model_dump_json()
        with self._lock:
            known = key in self._asked
            self._asked[key] = None
            self._asked.move_to_end(key)
            if len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
            return known

    def _watched(self, definition: FunnelDefinition) -> Watched:
        key = definition.model_dump_json()
        with self._lock:
            watched = self._kept.setdefault(key, Watched(self._store, definition))
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return watched
