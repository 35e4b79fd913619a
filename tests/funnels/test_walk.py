"""Subjects with so many events that whatever is not in proportion to them would never end."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import pytest

from funnels.compile import compile_all
from funnels.walk import IN_SEQUENCE, NEVER, Entries, Rows, Rules, walk

MANY = 200_000

Order = Literal["ordered", "strict", "any"]


def rows(micros: Any, fills: Any, voids: Any = 0, holds: Any = 0) -> Rows:
    """Rows of one subject."""
    count = len(micros)
    return Rows(
        np.ones(count, np.uint64),
        np.asarray(micros, np.int64),
        np.broadcast_to(np.asarray(fills, np.int64) | IN_SEQUENCE, count).copy(),
        np.broadcast_to(np.asarray(voids, np.int64), count).copy(),
        np.broadcast_to(np.asarray(holds, np.uint64), count).copy(),
        np.full(count, -1, np.int32),
    )


def walked(asked: Rows, **rules: Any) -> Entries:
    """What became of it, within some seconds; compiled before."""
    compile_all()
    began = time.process_time()
    entries = walk(asked, Rules(**rules))
    assert time.process_time() - began < 5
    return entries


@pytest.mark.parametrize("order", ["ordered", "strict", "any"])
@pytest.mark.parametrize("totals", [False, True])
def test_an_endless_beginning(order: Order, totals: bool) -> None:
    """The first step over and over, and the second never within the window."""
    never = np.arange(MANY)
    entries = walked(rows(never, 1), steps=3, window=MANY, order=order, totals=totals)
    assert entries.reached.tolist() == [1]


@pytest.mark.parametrize("order", ["ordered", "strict", "any"])
@pytest.mark.parametrize("totals", [False, True])
def test_steps_that_every_event_fills(order: Order, totals: bool) -> None:
    entries = walked(rows(np.arange(MANY), 0b111), steps=3, window=10, order=order, totals=totals)
    assert len(entries) == (MANY // 3 + 1 if totals else 1)
    assert entries.at[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", ["ordered", "any"])
def test_one_instant(order: Order) -> None:
    entries = walked(rows(np.zeros(MANY), 0b1111), steps=4, window=0, order=order)
    assert entries.at.tolist() == [[0, 0, 0, 0]]
    apart = np.where(np.arange(MANY) % 2 == 0, 0b1011, 0b0101)
    assert walked(rows(np.zeros(MANY), apart), steps=4, window=0, order=order).reached.tolist() == [4]


@pytest.mark.parametrize("order", ["ordered", "strict", "any"])
def test_entries_of_which_all_but_the_last_are_void(order: Order) -> None:
    """Each first step is followed by what voids it, but for the last one, which the second step follows."""
    fills = np.where(np.arange(MANY) % 2 == 0, 1, 0)
    fills[-1] = 2
    voids = np.where(np.arange(MANY) % 2 == 1, 1, 0)
    asked = rows(np.arange(MANY), fills, voids)
    assert walked(asked, steps=2, window=MANY, order=order, exclusions=((0, 1),)).began.tolist() == [MANY - 2]


@pytest.mark.parametrize("order", ["ordered", "strict", "any"])
def test_as_many_held_values_as_events(order: Order) -> None:
    asked = rows(np.arange(MANY), 0b11, holds=np.arange(MANY) // 2)
    entries = walked(asked, steps=2, window=MANY, order=order, holding=True)
    assert entries.at.tolist() == [[0, 1]]
    assert len(walked(asked, steps=2, window=MANY, order=order, holding=True, totals=True)) == MANY // 2


def test_optional_steps_that_never_come() -> None:
    fills = np.ones(MANY, np.int64)
    fills[-1] = 8
    entries = walked(rows(np.arange(MANY), fills), steps=4, window=MANY, optional=0b0110)
    assert entries.at.tolist() == [[0, NEVER, NEVER, MANY - 1]]


def test_nothing() -> None:
    for order in ("ordered", "strict", "any"):
        assert len(walk(rows([], 1), Rules(steps=2, window=1, order=order))) == 0
