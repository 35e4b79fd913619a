"""A person is forgotten, whatever came before: the others keep what they had, and nothing brings the person back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.reconcile import compare, make_anew
from flows.rules import FlowRules
from identity import forget as forgetting
from identity import operators
from identity.claims import LinkRules
from identity.tombstones import HINT_BITS
from stitchline.errors import UsageError
from stitchline.hashing import hash_texts
from tests.crowds import crowds, of_crowds
from tests.flows.reference import is_legal, sessions_of
from tests.identity.arrivals import histories, told_apart
from tests.identity.reference import Said, persons_without_holding
from tests.identity.worlds import (
    IN_MEMORY,
    PERSONS_NOW,
    RULES,
    START,
    World,
    alias,
    anon,
    as_event,
    clear,
    limits_of,
    login,
    logout,
)

LINKS = [LinkRules(), LinkRules(users_of_device=1), LinkRules(devices_of_user=1, within=timedelta(hours=1))]
PERSONS = ["u1", "u1", "u2", "u3", "anon:d1", "anon:d2"]


def forget(world: World, person: str) -> forgetting.Forgotten:
    """As the service does it, but for the file."""
    rules = world.rules
    with world.warehouse.transaction() as con:
        done = forgetting.forget(con, rules.legal, rules.sessions.logout_events, rules.links, person, "asked", "Sue")
        make_anew(con, rules, done.cut_again)
        forgetting.note(con, done)
        world.graph.drop([*done.devices, *done.cut_again])
    world.restart()
    return done


def left_of(events: list[Said], forgotten: set[str], rules: FlowRules) -> dict[Said, str | None]:
    """What stays stored, and whose it is: nothing that one of the `forgotten` signed or had by its device, and nothing
    of a device that nobody else signed in on."""
    persons = persons_without_holding(events, limits_of(rules), forgotten)
    users = {e.user_id for e in events if is_legal(e.user_id)}
    signed: dict[str | None, set[str | None]] = {}
    for e in events:
        if is_legal(e.user_id):
            for device in (e.anonymous_id, e.previous_id if e.previous_id not in users else None):
                if is_legal(device):
                    signed.setdefault(device, set()).add(e.user_id)
    whole = {device for device, names in signed.items() if names <= forgotten}
    whole |= {device for device in {e.anonymous_id for e in events}.difference(signed) if f"anon:{device}" in forgotten}
    left = [e for e in events if e.anonymous_id not in whole or (is_legal(e.user_id) and e.user_id not in forgotten)]
    whose = {e: persons[e.anonymous_id, e.message_id] for e in left}
    return {e: person for e, person in whose.items() if person not in forgotten}


MANY, FEW = 250, 50
"""Histories of a crowd, in the long form and in the short one: one is forgotten as fast as so many."""


@of_crowds(MANY, FEW)
@given(crowds(st.tuples(histories(), st.sampled_from(PERSONS)), MANY, FEW), st.sampled_from(LINKS))
def test_the_others_keep_what_they_had(redis_url: str, crowd: list[tuple[list[Said], str]], links: LinkRules) -> None:
    """And nothing brings the forgotten back. One of each history is: they are merged, and forgotten together."""
    rules = FlowRules(links=links)
    events = [e for number, (history, _) in enumerate(crowd) for e in told_apart(history, number)]
    world = World(IN_MEMORY, redis_url, rules)
    with world.opened():
        for some in (events[::2], events[1::2]):
            world.commit(some)
        forgotten = merge_known(world, [f"{person}.{number}" for number, (_, person) in enumerate(crowd)])
        if not forgotten:
            return
        left = left_of(events, set(forgotten), rules)
        assert forget(world, forgotten[0]).events == len(events) - len(left)
        check(world, left, forgotten)
        world.commit(events, partition=1)
        world.commit(reversed(events), partition=2)
        check(world, left, forgotten)
    clear(redis_url, world.warehouse.warehouse_id)


def merge_known(world: World, persons: list[str]) -> list[str]:
    """Those of `persons` that there are, merged."""
    with world.warehouse.transaction() as con:
        known = [person for person in persons if operators.is_known(con, person)]
        for other in known[1:]:
            operators.record(con, "merge", known[0], other, "to be forgotten together", "Sue")
    return known


def check(world: World, left: dict[Said, str | None], forgotten: list[str]) -> None:
    stored = world.rows("select anonymous_id, message_id from stream.events")
    assert sorted(stored, key=str) == sorted(((e.anonymous_id, e.message_id) for e in left), key=str)
    now = {(device, message): person for device, message, person in world.rows(PERSONS_NOW)}
    assert now == {(e.anonymous_id, e.message_id): person for e, person in left.items()}
    names = ["session_id", "anonymous_id", "user_id", "started_at", "ended_at", "event_count"]
    expected = sessions_of([as_event(said) for said in left], RULES.sessions)
    found = world.rows(f"select {', '.join(names)} from stream.sessions order by 2, 4, first_message_id")
    assert found == [tuple(session[name] for name in names) for session in expected]
    with world.warehouse.transaction() as con:
        assert compare(con, world.rules)[1] == []
    users = [person for person in forgotten if not person.startswith("anon:")]
    for table in TABLES:
        for (row,) in world.rows(f"select {table}::varchar from stream.{table}"):
            assert not [user for user in users if f": {user}," in row], f"{table}: {row}"


TABLES = [
    *("events", "closed_sessions", "open_sessions", "identity_facts", "identity_verdicts", "person_overrides"),
    *("person_merges", "identities", "tombstones", "forgotten", "dead_letters"),
]


def told_of(world: World) -> dict[str, str | None]:
    """Whose each message is, as known now."""
    return {message: person for _, message, person in world.rows(PERSONS_NOW)}


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    world = World(IN_MEMORY, redis_url)
    with world.opened():
        yield world
    clear(redis_url, world.warehouse.warehouse_id)


def test_who_goes_on_with_a_shared_browser(world: World) -> None:
    """Nobody gets what the forgotten did, and what happens there later is nobody's until somebody signs in."""
    world.commit(
        [anon("a", 0), login("b", 1, "u"), logout("c", 2), anon("e", 3), login("f", 4, "v"), login("g", 5, "u")]
    )
    world.commit([anon("h", 6)])
    assert told_of(world) == dict(zip("abcefgh", "uuuvvuu", strict=True))
    done = forget(world, "u")
    assert (done.devices, done.shared_devices, done.events) == ([], ["d"], 5)
    assert told_of(world) == {"e": "v", "f": "v"}
    later = minutes_from_now(1)
    world.commit([anon("late", 0.5), anon("later", 5.5), anon("i", 3.5), anon("new", later)], partition=1)
    assert told_of(world) == {"e": "v", "f": "v", "i": "v", "new": "anon:d"}
    world.commit([login("w", later + 1, "w")], partition=1)
    assert told_of(world) == {"e": "v", "f": "v", "i": "v", "new": "w", "w": "w"}
    assert world.rows("select reason, key, raw, count(*) from stream.dead_letters group by all") == [
        ("forgotten", None, None, 2)
    ]


def test_an_id_that_is_used_again(world: World) -> None:
    """What is older than the forgetting is refused, also when it is told of by an alias; what comes after it is
    somebody new, who can be forgotten as well."""
    world.commit([anon("a", 0, "d1"), login("b", 1, "u", "d1")])
    forget(world, "u")
    later = minutes_from_now(1)
    old = [login("c", 2, "u", "d2"), login("e", 1, "v", "d1"), alias("f", 3, "v", "u"), anon("g", 0.5, "d1")]
    old.append(alias("k", 3, "v", "d1"))
    world.commit([*old, login("h", later, "u", "d1"), anon("i", later + 1, "d1")], partition=1)
    assert told_of(world) == {"e": "v", "k": "v", "h": "u", "i": "u"}
    assert forget(world, "u").events == 2
    assert told_of(world) == {"e": "v", "k": "v"}
    with pytest.raises(UsageError, match="was forgotten already"):
        forget(world, "u")


def test_a_device_that_others_have_is_nobodys_id(world: World) -> None:
    """What it did by itself goes, and no dead letter, as none names anybody by it."""
    world.read(0, [None], [b"broken"])
    world.commit([login("a", 0, "u"), logout("b", 1), anon("c", 2)])
    done = forget(world, "anon:d")
    assert (done.events, done.dead_letters, done.mentions, done.shared_devices) == (1, 0, 0, ["d"])
    assert told_of(world) == {"a": "u", "b": "u"}
    assert world.rows("select reason from stream.dead_letters") == [("not_json",)]


def test_what_is_said_of_why(world: World) -> None:
    world.commit([login("a", 0, "ann")])
    with world.warehouse.transaction() as con, pytest.raises(UsageError, match="without the id"):
        forgetting.forget(con, RULES.legal, (), RULES.links, "ann", "because Ann wrote: i am ann", "Sue")
    for person, words in (("nobody", "no person 'nobody'"), ("guest", "means nobody"), ("anon:null", "means nobody")):
        with world.warehouse.transaction() as con, pytest.raises(UsageError, match=words):
            forgetting.forget(con, RULES.legal, (), RULES.links, person, "asked", "Sue")


def test_hints_stay_what_they_are() -> None:
    """They are stored."""
    texts = pa.array(["u1", "", "ann@example.com", "\u00e9", "0123456789abcdef"])
    assert (hash_texts(texts) & np.uint64(2**HINT_BITS - 1)).tolist() == [1025308, 958114, 611976, 1021560, 80588]


def minutes_from_now(minutes: float) -> float:
    """In minutes from the start of these worlds."""
    return (datetime.now(UTC) - START) / timedelta(minutes=1) + minutes
