"""What the SQL of a funnel answers, held against what the engine does."""

from __future__ import annotations

from typing import Any

import duckdb

from funnels import FunnelDefinition, run_funnel
from funnels.as_sql import funnel_sql
from funnels.result import FunnelResult


def can_be_said(definition: FunnelDefinition) -> bool:
    """Whether SQL says it, by the words of the page."""
    in_order = definition.order != "any" or len(definition.steps) == 1
    return in_order and not definition.optional and definition.count == "uniques"


def told(result: FunnelResult) -> list[tuple[Any, ...]]:
    """What the statement is to answer."""
    every = [(("(all)",), result.steps), *(((part.value,), part.steps) for part in result.breakdown)]
    value = 1 if result.breakdown else 0
    return [
        (*name[:value], place, step.step, step.count, step.dropped, step.still_open)
        for name, steps in every
        for place, step in enumerate(steps, 1)
    ]


def compare(con: duckdb.DuckDBPyConnection, definition: FunnelDefinition) -> None:
    """Fails if the statement counts anything otherwise than the engine."""
    answer = con.execute(funnel_sql(definition)).fetchall()
    expected = told(run_funnel(con, definition))
    assert [row[-5:] for row in answer] == [row[-5:] for row in expected]
    if definition.breakdown and len(expected) > len(definition.steps):
        assert answer == expected
