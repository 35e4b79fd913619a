"""Copies of a message, against the checkpoint's memory of what it has seen: bounded, and made anew after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from flows.rules import CheckpointLimits
from tests.identity.worlds import NEVER, World, anon, email, logout

FORGETFUL = replace(NEVER, forget_every=1)


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> World:
    return World(tmp_path / "w.duckdb", redis_url)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("partition", [0, 1])
def test_a_copy_with_another_time(world: World, restart: bool, partition: int) -> None:
    with world.opened():
        world.commit([anon("a", 0), anon("b", 10), anon("c", 20)])
        if restart:
            world.restart()
        world.commit([anon("b", 25), anon("a", -300), anon("c", 21), anon("c", 19)], partition)
        assert world.rows("select count(*) from stream.events") == [(3,)]
        assert world.twice() == []


def test_a_copy_with_a_time_that_the_watermark_passed_since_the_restart(world: World) -> None:
    with world.opened():
        world.commit([anon("a", 0), anon("b", 2000)])
        world.restart()
        world.commit([anon("c", 4000)])
        world.commit([anon("a", 3000)])
        assert world.twice() == []


def test_a_copy_by_a_partition_that_is_new_after_a_restart(world: World) -> None:
    with world.opened():
        world.commit([anon("a", 0), anon("e", 100, "e")], 0)
        world.commit([anon("f", -200, "f")], 1)
        world.restart()
        world.commit([anon("a", 0)], 1)
        assert world.twice() == []


def test_what_a_slow_partition_brought_is_not_forgotten_for_a_fast_one(world: World) -> None:
    with world.opened():
        world.commit([anon("x", 1000, "e")], 0)  # partition 0 is far ahead
        world.commit([logout("a", 0), anon("b", 0.5)], 1)
        world.restart(limits=FORGETFUL)
        world.commit([anon("y", 1001, "e")], 0)
        world.commit([logout("c", 0.6)], 1)
        world.commit([anon("z", 1002, "e")], 0)
        world.commit([logout("a", 0), anon("b", 0.5), logout("c", 0.6)], 1)
        assert world.twice() == []


def test_events_without_a_session_are_remembered_too(world: World) -> None:
    with world.opened():
        world.commit([anon("x", 1000, "e")], 0)
        world.commit([email("a", 0), email("b", 0.5)], 1)
        world.restart(limits=FORGETFUL)
        world.commit([anon("y", 1001, "e")], 0)
        world.commit([email("a", 0), email("b", 0.5)], 1)
        assert world.twice() == []


def test_what_a_commit_raises_reaches_whoever_adds(world: World) -> None:
    """The commit runs in a thread of its own; the flow has to end nevertheless, and nothing is committed."""
    with world.opened():
        world.commit([anon("a", 0)])
        world.restart(limits=CheckpointLimits(events=1))
        with world.warehouse.transaction() as con:
            con.execute("drop table stream.progress")

        def go_on() -> None:
            for i in range(100):
                world.gather([anon(f"b{i}", 1)])

        with pytest.raises(duckdb.CatalogException, match="progress"):
            go_on()
        assert world.rows("select message_id from stream.events") == [("a",)]
