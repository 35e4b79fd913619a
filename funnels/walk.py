"""Follows subjects through the steps of a funnel, over the events that can fill a step or void an entry.

Whoever knows the events brings them as `Rows`; `walk` says what became of the subjects, as `Entries`. What each rule
means is in docs/decisions/0022-what-a-funnel-counts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from funnels.ordered import follow_ordered
from funnels.passes import DAY, Ints
from funnels.strict import follow_strictly
from funnels.unordered import follow_unordered

Hashes = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]

NEVER: Final = np.iinfo(np.int64).min
"""The time of a step that was not reached."""

IN_SEQUENCE: Final = 1 << 62
"""A bit of `Rows.fills`, beside those of the steps: the event is one that may not lie between two steps of a strict
funnel. Other orders do not look at it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Events that can fill a step or void an entry, and for a strict funnel all that may not lie between, sorted by
    (subject, micros, bytes of message_id); equal subjects are adjacent, in whatever order. All arrays are as long."""

    subjects: Hashes
    """Any number that tells subjects apart."""
    micros: Ints
    """Microseconds since 1970."""
    fills: Ints
    """Bit k: the event can fill step k, counted from 0."""
    voids: Ints
    """Bit k: the event is that of exclusion k."""
    holds: Hashes
    """A hash of the values that an entry holds constant; 0 without any."""
    values: Codes
    """A code of the breakdown's value; -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How subjects go through the steps. Times are in microseconds since 1970."""

    steps: int
    window: int
    """Microseconds from an entry's first event, inclusive."""
    order: Literal["ordered", "strict", "any"] = "ordered"
    optional: int = 0
    """Bit k: step k may be left out. Never bit 0."""
    exclusions: tuple[tuple[int, int], ...] = ()
    """(from step, to step) of each exclusion, from 0; neither is optional."""
    since: int = np.iinfo(np.int64).min
    """The first instant at which an entry may begin."""
    until: int = np.iinfo(np.int64).max
    """The first instant at which it may not any more."""
    holding: bool = False
    """Whether later events must have the same `holds` as the first."""
    totals: bool = False
    """All entries of a subject, one after the other, instead of its best one."""
    by_day: bool = False
    """What each (UTC) day of the first event says alone, instead of all days together."""
    attributed: int | Literal["first", "last"] = "first"
    """Whose value counts: that of the event of this step, counted from 0, of the entry's first event, or of the event
    at the last step that was reached."""

    @property
    def required(self) -> list[int]:
        """Positions of the steps that may not be left out."""
        return [step for step in range(self.steps) if not self.optional >> step & 1]


@dataclass(frozen=True, slots=True)
class Entries:
    """What became of subjects: one of each, or all entries of each with `totals`, of each day `by_day`."""

    subjects: Hashes
    began: Ints
    """When its first event was, microseconds since 1970."""
    reached: Ints
    """The position of the last required step that was reached, plus 1."""
    at: Ints
    """int64[entries, steps]: when each step was reached, microseconds since 1970; NEVER if it was not."""
    values: Codes
    """The breakdown's value, by its code in Rows; -1 where there is none."""
    first: Ints
    """The row of the entry's first event."""
    last: Ints
    """The row of the event at the last step that was reached."""

    def __len__(self) -> int:
        return len(self.subjects)

    def pick(self, which: npt.NDArray[np.bool_] | Ints) -> Entries:
        """Those of them, by position or by mask."""
        return Entries(
            self.subjects[which],
            self.began[which],
            self.reached[which],
            self.at[which],
            self.values[which],
            self.first[which],
            self.last[which],
        )


def walk(rows: Rows, rules: Rules) -> Entries:
    """What became of the subjects of `rows` by `rules`. Subjects that never begin, or all of whose entries are void,
    are not there. It holds no lock of the interpreter while it follows them."""
    match rules.order:
        case "strict":
            return _entries(rows, rules, *_strictly(rows, rules))
        case "any" if rules.steps > 1:
            return _entries(rows, rules, *_unordered(rows, rules))
        case _:
            return _entries(rows, rules, *_in_order(rows, rules))


def _in_order(rows: Rows, rules: Rules) -> tuple[Ints, Ints]:
    begins, order = _groups(rows, holding=rules.holding)
    micros, fills, voids = (_in(order, column) for column in (rows.micros, rows.fills, rows.voids))
    path = follow_ordered(begins, micros, _chain(fills, rules), fills, voids, *_arguments(rules))
    return _back(order, path[:, 0]), _back(order, path)


def _strictly(rows: Rows, rules: Rules) -> tuple[Ints, Ints]:
    begins, order = _groups(rows, holding=rules.holding)
    subjects, _ = _groups(rows, holding=False)
    order = np.arange(len(rows.subjects)) if order is None else order
    of = np.searchsorted(subjects, begins[:-1], side="right")  # the rows of a subject are where they were in any order
    bounds = np.stack([subjects[of - 1], subjects[of]], axis=1)
    in_sequence = rows.fills & IN_SEQUENCE != 0
    holds = rows.holds if rules.holding else np.zeros_like(rows.holds)
    path = follow_strictly(
        begins, order, bounds, rows.micros, rows.fills, in_sequence, rows.voids, holds, *_arguments(rules)
    )
    return path[:, 0], path


def _unordered(rows: Rows, rules: Rules) -> tuple[Ints, Ints]:
    begins, order = _groups(rows, holding=rules.holding)
    micros, fills, voids = (_in(order, column) for column in (rows.micros, rows.fills, rows.voids))
    first, path = follow_unordered(begins, micros, _chain(fills, rules), voids, *_arguments(rules)[1:])
    return _back(order, first), _back(order, path)


def _in(order: Ints | None, column: Ints) -> Ints:
    return column if order is None else column[order]


def _back(order: Ints | None, places: Ints) -> Ints:
    """The rows, as they were brought, at `places` of `order`; -1 stays -1."""
    if order is None:
        return places
    rows: Ints = np.where(places >= 0, order[places], -1)
    return rows


def _arguments(rules: Rules) -> tuple[Ints, int, Ints, int, int, int, bool, bool]:
    """`rules` as those who follow take them."""
    places = {step: place for place, step in enumerate(rules.required)}
    exclusions = [(places[first], places[second]) for first, second in rules.exclusions]
    return (
        np.array(rules.required, np.int64),
        rules.steps,
        np.array(exclusions, np.int64).reshape(-1, 2),
        rules.window,
        rules.since,
        rules.until,
        rules.totals,
        rules.by_day,
    )


def _chain(fills: Ints, rules: Rules) -> Ints:
    """The bits of the required steps, one beside the other."""
    if not rules.optional:
        return fills & ((1 << rules.steps) - 1)
    chain: Ints = np.zeros_like(fills)
    for place, step in enumerate(rules.required):
        chain |= (fills >> step & 1) << place
    return chain


def _groups(rows: Rows, *, holding: bool) -> tuple[Ints, Ints | None]:
    """Where the rows of each subject begin, and of each of its held values when `holding` them, with the end; and the
    order of the rows in which that is so, if it is another one."""
    changes = rows.subjects[1:] != rows.subjects[:-1]
    order: Ints | None = None
    if holding:
        others = rows.holds[1:] != rows.holds[:-1]
        if np.any(others & ~changes):
            subjects = np.concatenate([[0], np.cumsum(changes)])
            order = np.lexsort((rows.holds, subjects))
            others = rows.holds[order][1:] != rows.holds[order][:-1]
        changes = changes | others
    inner = np.flatnonzero(changes) + 1
    return np.concatenate([np.zeros(min(len(rows.subjects), 1), np.int64), inner, [len(rows.subjects)]]), order


def _entries(rows: Rows, rules: Rules, first: Ints, path: Ints) -> Entries:
    """`first` and `path` are rows: of each entry's first event and of the event at each of its steps, -1 for none."""
    is_reached = path >= 0
    required = is_reached[:, rules.required]
    reached = np.array(rules.required, np.int64)[np.maximum(required.sum(axis=1) - 1, 0)] + 1
    last = path[np.arange(len(path)), rules.steps - 1 - np.argmax(is_reached[:, ::-1], axis=1)]
    match rules.attributed:
        case "first":
            told = first
        case "last":
            told = last
        case step:
            told = path[:, step]
    entries = Entries(
        rows.subjects[first],
        rows.micros[first],
        reached,
        np.where(is_reached, rows.micros[path], NEVER),
        np.where(told >= 0, rows.values[told], np.int32(-1)),
        first,
        last,
    )
    return _best(entries, rules) if rules.holding and not rules.totals else entries


def _best(entries: Entries, rules: Rules) -> Entries:
    """Of the entries of a subject, each the best of other held values, the one that got furthest, earliest on ties."""
    days = entries.began // DAY if rules.by_day else np.zeros_like(entries.began)
    order = np.lexsort((entries.first, entries.began, -entries.reached, days, entries.subjects))
    subjects, days = entries.subjects[order], days[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (subjects[1:] != subjects[:-1]) | (days[1:] != days[:-1])
    return entries.pick(np.sort(order[is_first]))
