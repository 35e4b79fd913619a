"""Commits that cannot be written: they leave nothing behind, in the file or in memory, and are tried again."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.compile import compile_all
from sinks.warehouse import Warehouse
from stitchline.errors import WarehouseUnwritable
from tests.identity.arrivals import Commit, arrivals
from tests.identity.reference import Said
from tests.identity.worlds import World, anon, check, login, logout
from tests.room import Room

# Where a commit fails: as its log is written, which DuckDB survives; or right after it, as the log is written into the
# file: then DuckDB gives its database up, and the commit is there nevertheless.
_FIRST_BLOCK = 12_288 + 2**18
"""Bytes of a DuckDB file up to the end of its first block: more than the log of a small commit."""
WRITES = ["the log", "the file"]


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """As an installation does: what is compiled is kept on the disk, which is full later."""
    compile_all()


class Full:
    """No room for the next commit of `world`, until it failed twice."""

    def __init__(self, world: World, write: str) -> None:
        self.failures: list[BaseException | None] = []
        self._world = world
        self._write = write
        self._room = Room()
        world.unwritable = self._failed

    @contextmanager
    def during_commits(self) -> Iterator[None]:
        """No room in the block, until two tries have failed."""
        before = len(self.failures)
        to_file = self._write == "the file"
        with self._world.warehouse.reader() as con:
            con.execute(f"set global checkpoint_threshold = '{'1KB' if to_file else '1TB'}'")
            con.execute("checkpoint")
        self._room.take(_FIRST_BLOCK - 1 if to_file else 0)
        try:
            yield
        finally:
            self._room.give()
            self.fatal = any(isinstance(why, duckdb.FatalException) for why in self.failures[before:])

    def _failed(self, error: WarehouseUnwritable) -> None:
        self.failures.append(error.__cause__)
        if len(self.failures) % 2 == 0:
            self._room.give()


@pytest.mark.parametrize("write", WRITES)
def test_it_is_as_if_it_had_never_been_tried(write: str, tmp_path: Path, redis_url: str) -> None:
    """Devices new in the commit whose sessions end in it, late events, copies, logins and logouts."""
    said = [
        [anon("a", 0), logout("b", 1, user="u"), anon("c", 200), anon("d", 0, "d2")],
        [anon("e", 400), login("f", 2, "v", "d2"), anon("a", 3), anon("g", 0, "d3"), anon("h", 300, "d3")],
        [anon("i", 100), login("j", 401, "u"), anon("k", 0.5), anon("l", 301, "d3"), anon("h", 300, "d3")],
    ]
    world = World(tmp_path / "w.duckdb", redis_url)
    full = Full(world, write)
    with world.opened():
        for events in said:
            before = world.rows("select count(*) from stream.events")
            world.gather(events)
            with full.during_commits():
                failures = len(full.failures)
                world.checkpointer.finish(close_sessions=False)
                assert len(full.failures) >= failures + (1 if write == "the file" else 2)
            assert full.fatal == (write == "the file")
            assert world.rows("select count(*) from stream.events") > before
        world.checkpointer.finish(close_sessions=True)
        check(world, list({one.message_id: one for events in reversed(said) for one in events}.values()))
        assert world.twice() == []


@given(arrivals(), st.sampled_from(WRITES))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_arrival_gives_the_same_sessions_and_persons(
    tmp_path: Path, redis_url: str, arrived: tuple[list[Said], list[Commit]], write: str
) -> None:
    """Whatever comes, and though each commit fails twice before it is written."""
    events, commits = arrived
    world = World(tmp_path / f"{uuid.uuid4().hex}.duckdb", redis_url)
    full = Full(world, write)
    with world.opened():
        for commit in commits:
            for said, partition, foreign in commit.events:
                world.gather([said], partition, foreign=foreign)
            with full.during_commits():
                world.checkpointer.finish(close_sessions=False)
            if commit.then:
                world.restart(forget=commit.then == "forget")
        world.checkpointer.finish(close_sessions=True)
        check(world, events)
        assert world.twice() == []
    world.path.unlink()


_OPEN = "import duckdb, sys; duckdb.connect(sys.argv[1])"


class FailsInName(Warehouse):
    """Reports a commit as failed that is there: as when the system loses its word that all is on the disk."""

    @contextmanager
    def transaction(self, *, bulk: bool = False, keep: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        with super().transaction(bulk=bulk, keep=keep) as con:
            before = con.execute("select count(*) from stream.events").fetchone()
            yield con
            after = con.execute("select count(*) from stream.events").fetchone()
        if before != after:
            raise WarehouseUnwritable("no word came back", path=self.path)


def test_a_commit_that_failed_in_name_only_is_not_written_twice(tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path / "w.duckdb", redis_url, unwritable=lambda _: None)
    said = [[anon("a", 0), login("b", 1, "u")], [anon("c", 2), logout("d", 100), anon("a", 5)]]
    with FailsInName.open(world.path, threads=1) as world.warehouse:
        world.start()
        for events in said:
            world.commit(events)
        world.checkpointer.finish(close_sessions=True)
        assert world.rows("select sum(consumed), sum(stored), sum(duplicates) from stream.progress") == [(5, 4, 1)]
        check(world, [one for events in said for one in events][:4])
        world.graph.close()


def test_without_anybody_to_wait_it_ends_the_flow_and_the_state_before_stands(tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        world.commit([anon("a", 0)])
        world.gather([anon("b", 1)])
        room = Room()
        room.take()
        try:
            with pytest.raises(WarehouseUnwritable, match=r"cannot be written: .*w\.duckdb.*Make room on its disk"):
                world.checkpointer.finish(close_sessions=False)
        finally:
            room.give()
        assert world.rows("select message_id from stream.events") == [("a",)]


def test_readers_of_what_duckdb_gave_up_are_let_go_and_the_file_stays_held(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        reader = warehouse.reader()
        reader.execute("set global checkpoint_threshold = '1KB'; checkpoint")
        room = Room()
        room.take(_FIRST_BLOCK - 1)
        try:
            with pytest.raises(WarehouseUnwritable), warehouse.transaction() as con:
                con.execute("create table stream.t as select range from range(5_000)")
        finally:
            room.give()
        with warehouse.transaction() as con:
            con.execute("insert into stream.t values (1)")
        with pytest.raises(duckdb.ConnectionException):
            reader.execute("select 1")
        with warehouse.reader() as again:
            assert again.execute("select count(*) from stream.t").fetchone() == (5_001,)
        other = subprocess.run([sys.executable, "-c", _OPEN, str(warehouse.path)], stderr=subprocess.PIPE, check=False)
        assert b"Could not set lock" in other.stderr, "it is held as before"
