"""A real warehouse for the funnels' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from funnels import FunnelDefinition, FunnelResult, run_funnel
from sinks.warehouse import Warehouse
from tests.funnels.worlds import World, fill

Ask = Callable[..., FunnelResult]


@pytest.fixture(scope="session")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a warehouse of its own, in memory; what `fill` puts there replaces what was there before."""
    with Warehouse.open(Path(":memory:")) as warehouse, warehouse.reader() as con:
        yield con


@pytest.fixture
def ask(con: duckdb.DuckDBPyConnection) -> Ask:
    """Fills the warehouse with a world and asks it for a funnel: steps are names of events or whole steps."""

    def answer(world: World, *steps: str | dict[str, Any], as_of: datetime | None = None, **rules: Any) -> FunnelResult:
        fill(con, world)
        whole = [{"event": step} if isinstance(step, str) else step for step in steps]
        return run_funnel(con, FunnelDefinition.model_validate({"steps": whole, **rules}), as_of)

    return answer
