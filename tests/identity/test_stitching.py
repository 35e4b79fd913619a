"""The checkpoint on a real warehouse and a real Redis: whatever the order of arrival, the commits, the restarts and the
copies, sessions are those of the session rules and persons those of the identity rules."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.reconcile import compare
from flows.rules import FlowRules
from tests.identity.reference import Said
from tests.identity.worlds import START, World, alias, anon, check, email, login, logout

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
    "a device known by an e-mail alone, and a restart": [[email("a", 0)], RESTART, [login("b", 1, "u")]],
    "a logout that carries the first user": [[anon("a", 0)], [logout("b", 1, user="u")], [anon("c", 2)]],
}


@pytest.mark.parametrize("case", CASES)
def test_facts_that_come_late_or_again(case: str, tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        for commit in CASES[case]:
            if commit is RESTART:
                world.restart()
            else:
                world.commit(commit)
        world.checkpointer.finish(close_sessions=True)
        check(world, [said for commit in CASES[case] for said in commit])


def test_a_logout_that_carries_a_user_leaves_the_device_to_itself(tmp_path: Path, redis_url: str) -> None:
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        world.commit([logout(f"b{i}", 1 + i, f"d{i}", "u") for i in range(5)])
        assert world.rows("select id, person_id from stream.identities where kind = 'anonymous' order by id") == [
            (f"d{i}", f"anon:d{i}") for i in range(5)
        ]


# Times where the rules change their mind: the session's gap and cap, the reorder window, the look-back of 30 days.
moments = st.builds(
    lambda days, minutes, micros: START + timedelta(days=days, minutes=minutes, microseconds=micros),
    st.sampled_from([1, 1, 1, 1, 1, 2, 30, 31, 61]),
    st.sampled_from([0, 1, 2, 20, 30, 40, 60]),
    st.sampled_from([0, 0, 0, 1, -1]),
)
devices = st.sampled_from(["d1", "d1", "d1", "d2", "undefined"])
users = st.sampled_from([None, None, "u1", "u1", "u2", "u3", "guest"])
kinds = st.sampled_from(["Click"] * 5 + ["Signed Out", "Email Opened"])


@st.composite
def said_events(draw: st.DrawFn, message_id: str) -> Said:
    at, user = draw(moments), draw(users)
    if draw(st.sampled_from([False] * 7 + [True])):
        return Said(message_id, at, draw(st.sampled_from([None, "d1", "d2"])), user or "u1", "alias", draw(devices))
    device = draw(devices) if user is None or user == "guest" else draw(st.sampled_from(["d1", "d1", "d2", None]))
    return Said(message_id, at, device, user, draw(kinds))


@st.composite
def histories(draw: st.DrawFn) -> list[Said]:
    count = draw(st.integers(1, 14))
    return [draw(said_events(f"m{i:02d}")) for i in draw(st.permutations(range(count)))]


@dataclass(frozen=True)
class Commit:
    """One transaction: (event, partition, whether its key is a foreign one), as they arrive; then what else happens."""

    events: tuple[tuple[Said, int, bool], ...]
    then: str = ""


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Said], list[Commit]]:
    events = draw(histories())
    stream = list(events)
    for _ in range(draw(st.integers(0, 3))):
        stream.insert(draw(st.integers(0, len(stream))), draw(st.sampled_from(events)))
    commits: list[Commit] = []
    current: list[tuple[Said, int, bool]] = []
    for said in stream:
        at_home = draw(st.sampled_from([True, True, True, False]))
        home = 0 if said.anonymous_id in ("d1", None) else 1
        current.append((said, home if at_home else 1 - home, not at_home))
        if draw(st.booleans()):
            commits.append(Commit(tuple(current), draw(st.sampled_from(["", "", "", "restart", "forget"]))))
            current = []
    return events, [*commits, Commit(tuple(current))]


@given(arrivals())
@settings(max_examples=35, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_arrival_gives_the_same_sessions_and_persons(
    tmp_path: Path, redis_url: str, arrived: tuple[list[Said], list[Commit]]
) -> None:
    events, commits = arrived
    world = World(tmp_path / f"{uuid.uuid4().hex}.duckdb", redis_url)
    with world.opened():
        for commit in commits:
            for said, partition, foreign in commit.events:
                world.gather([said], partition, foreign=foreign)
            world.checkpointer.finish(close_sessions=False)
            if commit.then:
                world.restart(forget=commit.then == "forget")
        world.checkpointer.finish(close_sessions=True)
        check(world, events)
        with world.warehouse.transaction() as con:
            assert compare(con, FlowRules())[1] == []
    world.path.unlink()
