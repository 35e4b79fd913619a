"""Backups of a warehouse, and what is no backup to restore."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sinks.backups import FILE, MANIFEST, back_up, read_manifest, restore
from sinks.warehouse import SCHEMA_VERSION, Progress, Warehouse, save_progress, wal_of
from stitchline.errors import BackupError, WarehouseHeld
from tests.room import Room

LETTERS = "select * from stream.dead_letters order by all"


def put(warehouse: Warehouse, letters: int, next_offset: int) -> None:
    """One commit: so many dead letters, and the offset of events partition 3."""
    with warehouse.transaction() as con:
        con.execute(
            "insert into stream.dead_letters "
            "select 'events', 3, range, 'r', md5(range::varchar), null, null, null, now() from range(?)",
            [letters],
        )
        save_progress(con, [Progress("events", 3, next_offset, committed_at=read_at(con))])


def read_at(con: duckdb.DuckDBPyConnection) -> Any:
    row = con.execute("select now()").fetchone()
    assert row is not None
    return row[0]


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute(sql).fetchall()


def told(path: Path) -> tuple[Any, ...]:
    return rows(path, "select warehouse_id, generation from stream.warehouse")[0]


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    with Warehouse.open(tmp_path / "it's a warehouse.duckdb") as made:
        put(made, 20_000, 41)
    return made.path


@pytest.fixture
def backup(tmp_path: Path, warehouse: Path) -> Path:
    with Warehouse.open(warehouse) as opened:
        back_up(opened, tmp_path / "backup")
    return tmp_path / "backup"


def test_it_is_restored_under_another_generation(tmp_path: Path, warehouse: Path, backup: Path) -> None:
    manifest = read_manifest(backup)
    assert manifest.rows["stream.dead_letters"] == 20_000
    assert [(o.topic, o.partition, o.next_offset) for o in manifest.offsets] == [("events", 3, 41)]
    assert sorted(file.name for file in backup.iterdir()) == [MANIFEST, FILE]
    restored = restore(backup, tmp_path / "elsewhere" / "w.duckdb")
    assert rows(restored.path, LETTERS) == rows(warehouse, LETTERS)
    before, after = told(warehouse), told(restored.path)
    assert (manifest.warehouse_id, manifest.generation) == before
    assert (after[0], after[1]) == (before[0], restored.generation)
    assert after[1] != before[1]
    assert [file.name for file in restored.path.parent.iterdir()] == ["w.duckdb"]
    with Warehouse.open(restored.path) as again:
        assert again.progress()["events", 3].next_offset == 41


def test_a_commit_during_it_is_in_it_whole_or_not_at_all(tmp_path: Path) -> None:
    """One that is not committed yet is not in it, and is committed afterwards."""
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        put(warehouse, 10, 1)
        with warehouse.transaction() as con:
            con.execute("delete from stream.dead_letters")
            manifest = back_up(warehouse, tmp_path / "backup")
            save_progress(con, [Progress("events", 3, 2, committed_at=read_at(con))])
        assert (manifest.rows["stream.dead_letters"], manifest.offsets[0].next_offset) == (10, 1)
        with warehouse.reader() as reader:
            assert reader.execute(LETTERS).fetchall() == []
    assert len(rows(tmp_path / "backup" / FILE, LETTERS)) == 10


def changed(**values: Any) -> Callable[[Path], None]:
    """Damage: other values in the manifest."""

    def change(backup: Path) -> None:
        manifest = json.loads((backup / MANIFEST).read_text())
        (backup / MANIFEST).write_text(json.dumps(manifest | values))

    return change


def flip(backup: Path) -> None:
    content = bytearray((backup / FILE).read_bytes())
    content[random.Random(len(content)).randrange(len(content))] ^= 1
    (backup / FILE).write_bytes(content)


def cut(name: str) -> Callable[[Path], object]:
    return lambda backup: (backup / name).write_bytes((backup / name).read_bytes()[:-1000])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "the file cut": (cut(FILE), r"is damaged: .* bytes instead of .* Take another one"),
    "a byte flipped": (flip, r"is damaged: .*not what was written"),
    "no file": (lambda backup: (backup / FILE).unlink(), r"cannot be read: .*No such file"),
    "no manifest": (lambda backup: (backup / MANIFEST).unlink(), r"no whole backup: manifest.json is missing"),
    "the manifest cut": (cut(MANIFEST), r"is damaged: manifest.json"),
    "the manifest empty": (lambda backup: (backup / MANIFEST).write_bytes(b""), r"is damaged: manifest.json"),
    "the manifest no text": (lambda backup: (backup / MANIFEST).write_bytes(b"\xff"), r"cannot be read"),
    "a later schema": (changed(schema_version=SCHEMA_VERSION + 1), r"later version .* Install that version"),
    "a later form": (changed(format=2), r"later version .* Install that version"),
    "no folder": (shutil.rmtree, r"There is no backup at"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_whole_backup_is_refused(
    damage: str, replace: bool, tmp_path: Path, warehouse: Path, backup: Path
) -> None:
    hurt, says = DAMAGES[damage]
    hurt(backup)
    target = warehouse if replace else tmp_path / "w.duckdb"
    before = told(warehouse)
    with pytest.raises(BackupError, match=says):
        restore(backup, target, replace=replace)
    assert told(warehouse) == before
    assert not (tmp_path / "w.duckdb").exists()


def test_a_folder_that_holds_something_is_not_backed_up_to(tmp_path: Path, warehouse: Path, backup: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_text("of a backup that was killed")
    with Warehouse.open(warehouse) as opened:
        with pytest.raises(BackupError, match="holds a backup already"):
            back_up(opened, backup)
        with pytest.raises(BackupError, match="perhaps a backup that was not finished"):
            back_up(opened, tmp_path / "other")
        (tmp_path / "other" / FILE).unlink()
        back_up(opened, tmp_path / "other")
    assert read_manifest(backup).sha256


def test_a_warehouse_that_is_there_is_replaced_only_if_asked_to(tmp_path: Path, warehouse: Path, backup: Path) -> None:
    with Warehouse.open(warehouse) as opened:
        put(opened, 5, 99)
    before = told(warehouse)
    with pytest.raises(BackupError, match=r"already\. --replace puts the backup in its place"):
        restore(backup, warehouse)
    assert told(warehouse) == before
    restored = restore(backup, warehouse, replace=True)
    assert told(warehouse) == (before[0], restored.generation)
    assert len(rows(warehouse, LETTERS)) == 20_000
    assert restored.kept is not None
    assert told(restored.kept) == before
    assert len(rows(restored.kept, LETTERS)) == 20_005


def test_a_damaged_warehouse_is_replaced_with_its_log(tmp_path: Path, warehouse: Path, backup: Path) -> None:
    warehouse.write_bytes(b"garbage")
    wal_of(warehouse).write_bytes(b"a log of another file")
    restored = restore(backup, warehouse, replace=True)
    assert len(rows(warehouse, LETTERS)) == 20_000
    assert restored.kept is not None
    assert restored.kept.read_bytes() == b"garbage"
    assert wal_of(restored.kept).read_bytes() == b"a log of another file"


_HOLD = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_warehouse_that_a_process_holds_is_not_replaced(warehouse: Path, backup: Path) -> None:
    before = told(warehouse)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(WarehouseHeld, match="Stop it, and restore again"):
            restore(backup, warehouse, replace=True)
    finally:
        holder.communicate(b"")
    assert told(warehouse) == before


@pytest.mark.parametrize("size", [0, 12_288, 300_000, 500_000])
def test_without_room_there_is_no_half_of_it(size: int, tmp_path: Path, warehouse: Path, backup: Path) -> None:
    room = Room()
    with Warehouse.open(warehouse) as opened:
        room.take(size)
        try:
            with pytest.raises(BackupError, match=r"could not be made: .* What was begun is removed"):
                back_up(opened, tmp_path / "another")
        finally:
            room.give()
        assert not (tmp_path / "another").exists()
        put(opened, 1, 42)  # the warehouse is as it was
        back_up(opened, tmp_path / "another")
    before = told(warehouse)
    room.take(size)
    try:
        with pytest.raises(BackupError, match="what was there is there still"):
            restore(backup, warehouse, replace=True)
    finally:
        room.give()
    assert told(warehouse) == before
    assert not list(tmp_path.glob("*restoring*"))


_RESTORE = """
import sys
from pathlib import Path
from sinks.backups import restore
print("begins", flush=True)
while True:
    restore(Path(sys.argv[1]), Path(sys.argv[2]), replace=True)
    print("restored", flush=True)
"""


def test_killed_in_the_middle_either_the_old_or_the_new_one_is_there(warehouse: Path, backup: Path) -> None:
    rng = random.Random(1)
    seen = set()
    took = None  # by the first restore of all; a busy machine takes longer
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _RESTORE, str(backup), str(warehouse)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        began = time.monotonic()
        if took is None:
            assert process.stdout.readline() == b"restored\n"
            took = time.monotonic() - began
        with suppress(subprocess.TimeoutExpired):  # it restores again and again
            process.wait(rng.uniform(0, 2 * took))
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
        with Warehouse.open(warehouse) as opened:
            assert opened.progress()["events", 3].next_offset == 41
            seen.add(opened.generation)
        assert len(rows(warehouse, LETTERS)) == 20_000
    assert len(seen) > 1
