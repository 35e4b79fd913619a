"""Facts about who is behind a device that come late or again, through the checkpoint on a real warehouse and Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests.identity.reference import Said
from tests.identity.worlds import World, alias, anon, check, email, login, logout

RESTART: list[Said] = []
"""In a case: the flow is stopped and started again."""

CASES = {
    "login, logout, login by the same user": [
        [anon("a", 0)],
        [login("b", 1, "u")],
        [logout("c", 2)],
        [anon("d", 3)],
        [login("e", 4, "u")],
    ],
    "login before a stored anonymous event": [[anon("a", 0)], [anon("c", 2)], [login("b", 1, "u")]],
    "logout before a stored event": [[login("a", 0, "u")], [anon("c", 2)], [logout("b", 1)]],
    "switch before a stored event": [[login("a", 0, "u")], [anon("c", 2)], [login("b", 1, "v")]],
    "late switch before a claim that had changed nothing": [
        [login("a", 0, "u")],
        [anon("c", 2)],
        [login("d", 3, "u")],
        [login("b", 1, "v")],
    ],
    "an alias that changes nothing, then a late logout": [
        [login("a", 0, "u")],
        [alias("c", 2, "u")],
        [anon("d", 3)],
        [logout("b", 1)],
    ],
    "an alias of what turns out to be a user": [
        [anon("a", 0, "v")],
        [alias("b", 1, "u", "v")],
        [anon("c", 2, "v")],
        [login("d", 3, "v", "e")],
        [anon("e", 4, "v")],
    ],
    "an alias of what was a user's before, and a late claim": [
        [alias("b", 1, "u", "v"), anon("a", 0, "v")],
        RESTART,
        [login("c", 2, "u", "v")],
        [login("d", -300, "v", "e"), login("f", 3, "w", "v")],
        RESTART,
        [logout("g", 1.5, "v")],
        [alias("h", 5, "w", "v"), anon("i", 6, "v")],
    ],
    "an alias of what turns out to be a user, who signs in on the device of that name": [
        [alias("b", 1, "u", "v")],
        [login("d", -45, "v", "e")],
        RESTART,
        [login("c", 5000, "v", "v"), anon("a", 3000, "v")],
    ],
    "a device known by an e-mail alone, and a restart": [[email("a", 0)], RESTART, [login("b", 1, "u")]],
    "a fourth user, and then a fifth, on a browser that many share": [
        [anon("a", 0)],
        [login("b", 1, "u")],
        [anon("c", 2), login("d", 3, "v")],
        [login("e", 4, "w"), logout("f", 5), anon("g", 6)],
        [login("h", 7, "x")],
        RESTART,
        [logout("i", 8), anon("j", 9)],
        [login("k", 10, "y")],
    ],
    "the second of four users is late": [
        [anon("a", 0), login("b", 1, "u")],
        [login("d", 3, "w"), login("e", 4, "x")],
        [anon("f", 5)],
        [login("c", 2, "v")],
    ],
    "twenty-five devices of one user, and one of them earlier than was known": [
        [anon(f"a{i:02}", i, f"d{i:02}") for i in range(25)],
        [login(f"b{i:02}", 100 + i, "u", f"d{i:02}") for i in range(18)],
        [login(f"b{i:02}", 100 + i, "u", f"d{i:02}") for i in range(18, 22)],
        RESTART,
        [login(f"b{i:02}", 100 + i, "u", f"d{i:02}") for i in range(22, 25)],
        [login("c24", 99, "u", "d24")],
        [anon("d24", 200, "d24"), anon("d19", 200, "d19"), login("e19", 201, "w", "d19")],
        [login("e", 60 * 24 * 10, "u", "d30")],
    ],
    "a logout that carries the first user": [[anon("a", 0)], [logout("b", 1, user="u")], [anon("c", 2)]],
}


@pytest.mark.parametrize("redis_is", ["kept", "lost"])
@pytest.mark.parametrize("case", CASES)
def test_facts_that_come_late_or_again(case: str, redis_is: str, tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened(), redis.Redis.from_url(redis_url) as client:
        for commit in CASES[case]:
            if commit is RESTART:
                world.restart(forget=redis_is == "lost")
            else:
                world.commit(commit)
        world.checkpointer.finish(close_sessions=True)
        check(world, [said for commit in CASES[case] for said in commit])
        held = states(world, client)
        world.restart(forget=True)
        assert states(world, client) == held, "what the ledger makes of it is what the commits made"


def states(world: World, client: redis.Redis) -> dict[bytes, object]:
    """What Redis holds of each device."""
    world.graph.flush()
    keys = client.scan_iter(f"stitchline:{{{world.warehouse.warehouse_id}}}:device:*")
    return {key: client.get(key) for key in keys}


def test_a_logout_that_carries_a_user_leaves_the_device_to_itself(tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        world.commit([logout(f"b{i}", 1 + i, f"d{i}", "u") for i in range(5)])
        assert world.rows("select id, person_id from stream.identities where kind = 'anonymous' order by id") == [
            (f"d{i}", f"anon:d{i}") for i in range(5)
        ]


def test_a_device_that_redis_dropped_comes_back_from_the_ledger(tmp_path: Path, redis_url: str) -> None:
    """After a long time without news, or because Redis had no room for it."""
    events = [anon("a", 0), login("b", 1, "u"), login("c", 1, "v", "e")]
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened(), redis.Redis.from_url(redis_url) as client:
        world.commit(events)
        world.restart()
        key = f"stitchline:{{{world.warehouse.warehouse_id}}}:device:d"
        kept = client.get(key)
        assert 399 * 24 * 3600 < client.ttl(key) <= 400 * 24 * 3600
        client.delete(key)
        later = [anon("f", 20), login("g", 30, "w", "e")]
        world.commit(later)
        world.checkpointer.finish(close_sessions=True)
        assert client.get(key) == kept
        assert world.rows("select person_id from stream.events where message_id = 'f'") == [("u",)]
        check(world, [*events, *later])
