"""The open warehouse: what it is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.warehouse import Warehouse


@pytest.mark.parametrize(("usual", "threads"), [("300MB", 1), (None, None)])
def test_it_is_allowed_more_for_a_while(usual: str | None, threads: int | None, tmp_path: Path) -> None:
    def limits() -> tuple[str, int]:
        with warehouse.reader() as con:
            row = con.execute("select current_setting('memory_limit'), current_setting('threads')").fetchone()
        assert row is not None
        return str(row[0]), row[1]

    with Warehouse.open(tmp_path / "w.duckdb", memory_limit=usual, threads=threads) as warehouse:
        before = limits()
        for _ in range(3):
            with warehouse.allowed("500MB", threads=3):
                assert limits() == ("476.8 MiB", 3)
            assert limits() == before, "to the byte, each time"
