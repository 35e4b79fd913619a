"""A warehouse that cannot be used: what is wrong and the way out are said, and nothing is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sinks.warehouse import Warehouse, wal_of
from stitchline.errors import WarehouseError, WarehouseUnwritable
from tests.room import Room

AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Before a command: root, too, has no other rights then than the files give."""

_OPEN = """
import sys
from pathlib import Path
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError
try:
    with Warehouse.open(Path(sys.argv[1])):
        print("opened")
except StitchlineError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    path = tmp_path / "w" / "w.duckdb"
    with Warehouse.open(path) as made, made.transaction() as con:
        con.execute("insert into stream.bot_devices select 'd' || range, 'r', now() from range(200_000)")
    return path


def opened(path: Path) -> str:
    return subprocess.run(
        [*AS_ANYBODY, sys.executable, "-c", _OPEN, str(path)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("mode", [0o400, 0o000])
def test_without_the_right_to_write_to_the_file(mode: int, warehouse: Path) -> None:
    warehouse.chmod(mode)
    told = opened(warehouse)
    assert told.startswith(f"WarehouseUnwritable The warehouse {warehouse} cannot be written: ")
    assert "Permission denied" in told
    assert "give the right to write to the file and its folder" in told
    warehouse.chmod(0o600)
    assert opened(warehouse) == "opened\n"


def test_without_the_right_to_write_to_the_folder(warehouse: Path) -> None:
    warehouse.parent.chmod(0o500)
    try:
        told = opened(warehouse.parent / "another.duckdb")
        below = opened(warehouse.parent / "folder" / "another.duckdb")
    finally:
        warehouse.parent.chmod(0o700)
    for said in (told, below):
        assert said.startswith("WarehouseUnwritable")
        assert "Permission denied" in said
    assert [file.name for file in warehouse.parent.iterdir()] == ["w.duckdb"]


@pytest.mark.parametrize("kept", [0, 1, 5_000, 12_288, 300_000, -300_000])
def test_cut(kept: int, warehouse: Path) -> None:
    """To that many bytes, or by so many."""
    warehouse.write_bytes(warehouse.read_bytes()[:kept])
    damaged = warehouse.read_bytes()
    with pytest.raises(WarehouseError, match=r"restore DIR --replace`, or move it away and let the flow read"):
        Warehouse.open(warehouse).close()
    assert warehouse.read_bytes() == damaged


def test_garbage(warehouse: Path) -> None:
    warehouse.write_bytes(b"no database" * 100_000)
    with pytest.raises(WarehouseError, match=r"cannot be opened: .*not a valid DuckDB database file.*restore DIR"):
        Warehouse.open(warehouse)
    assert warehouse.read_bytes() == b"no database" * 100_000


def test_a_directory(warehouse: Path) -> None:
    with pytest.raises(WarehouseError, match=r"is a directory\. Name a file"):
        Warehouse.open(warehouse.parent)


def test_held_by_another_process(warehouse: Path) -> None:
    with Warehouse.open(warehouse):
        assert opened(warehouse).startswith(f"WarehouseHeld The warehouse {warehouse} is held by another process")


@pytest.mark.parametrize("size", [0, 5_000, 12_287])
def test_no_room_for_a_new_one(size: int, tmp_path: Path) -> None:
    room = Room()
    room.take(size)
    try:
        with pytest.raises(WarehouseUnwritable, match="Make room on its disk"):
            Warehouse.open(tmp_path / "new.duckdb")
    finally:
        room.give()
    assert list(tmp_path.iterdir()) == [], "what was begun would be taken for a damaged one"
    Warehouse.open(tmp_path / "new.duckdb").close()


def test_no_room_while_the_log_of_a_crash_is_read(warehouse: Path) -> None:
    crash = "insert into stream.bot_devices values ('x', 'r', now())"
    script = f"import duckdb, os, sys; con = duckdb.connect(sys.argv[1]); con.execute({crash!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(warehouse)], check=True)
    assert wal_of(warehouse).stat().st_size > 0
    room = Room()
    room.take(0)
    try:
        with Warehouse.open(warehouse) as full, full.reader() as con:
            assert con.execute("select count(*) from stream.bot_devices").fetchone() == (200_001,)
    finally:
        room.give()
    with Warehouse.open(warehouse) as again, again.reader() as con:
        assert con.execute("select count(*) from stream.bot_devices").fetchone() == (200_001,)
