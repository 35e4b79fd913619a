"""The open warehouse: what it is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.warehouse import Warehouse


@pytest.mark.parametrize("usual", ["300MB", None])
def test_it_is_allowed_more_memory_for_a_while(usual: str | None, tmp_path: Path) -> None:
    def limit() -> str:
        with warehouse.reader() as con:
            row = con.execute("select current_setting('memory_limit')").fetchone()
        assert row is not None
        return str(row[0])

    with Warehouse.open(tmp_path / "w.duckdb", memory_limit=usual) as warehouse:
        before = limit()
        for _ in range(3):
            with warehouse.allowed("500MB"):
                assert limit() == "476.8 MiB"
            assert limit() == before, "to the byte, each time"
