"""Told again, in another order, or merged and taken apart again: the same graph, verdicts and persons."""

from __future__ import annotations

from random import Random
from typing import Any

import redis
from hypothesis import given
from hypothesis import strategies as st

from flows.rules import FlowRules
from funnels import FunnelDefinition, run_funnel
from identity import operators
from identity.claims import LinkRules
from service.web import readings
from stitchline.errors import UsageError
from tests.crowds import crowds, of_crowds
from tests.identity.arrivals import histories, told_apart
from tests.identity.reference import Said
from tests.identity.worlds import IN_MEMORY, PERSONS_NOW, World, clear

MANY, FEW = 250, 50
"""Histories of a crowd, in the long form and in the short one."""
LINKS = [LinkRules(), LinkRules(users_of_device=1), LinkRules(devices_of_user=1)]
VERDICTS = "select verdict, anonymous_id, user_id, event_at, message_id, reason from stream.identity_verdicts"
FUNNEL = FunnelDefinition.model_validate(
    {"name": "f", "steps": [{"event": "Click"}, {"event": "Signed Out"}], "window": "40 days", "by": "person"}
)
SESSIONS = f"""
select s.session_id, {readings.PERSON_NOW} from stream.sessions s
{readings.AS_KNOWN_NOW}"""


def graph_of(world: World) -> dict[bytes, Any]:
    world.graph.flush()
    with redis.Redis.from_url(world.redis_url) as client:
        keys = list(client.scan_iter(f"stitchline:{{{world.warehouse.warehouse_id}}}:device:*", count=1000))
        return {key.partition(b"device:")[2]: client.get(key) for key in keys}


def known_of(world: World) -> list[Any]:
    rows = [world.rows(sql) for sql in (VERDICTS, PERSONS_NOW, "from stream.identities", SESSIONS)]
    return [graph_of(world), *(sorted(some, key=str) for some in rows)]


@of_crowds(MANY, FEW)
@given(crowds(histories(), MANY, FEW), st.sampled_from(LINKS), st.floats(0, 1), st.integers(0, 999))
def test_told_twice_or_in_another_order(
    redis_url: str, crowd: list[list[Said]], links: LinkRules, share: float, seed: int
) -> None:
    rules = FlowRules(links=links)
    events = [e for number, history in enumerate(crowd) for e in told_apart(history, number)]
    world = World(IN_MEMORY, redis_url, rules)
    with world.opened():
        world.commit(events)
        known = known_of(world)
        for partition in (1, 2):
            world.commit(events[: round(share * len(events))], partition)
            assert known_of(world) == known
            world.restart(forget=partition == 1)
        assert known_of(world) == known
    clear(redis_url, world.warehouse.warehouse_id)
    other = World(IN_MEMORY, redis_url, rules)
    Random(seed).shuffle(events)
    with other.opened():
        for some in (events[::3], events[1::3], events[2::3]):
            other.commit(some)
        assert known_of(other) == known
    clear(redis_url, other.warehouse.warehouse_id)


acts = st.lists(
    st.tuples(st.sampled_from(["merge", "merge", "unmerge"]), st.integers(0, 999), st.integers(0, 999)), max_size=3
)


@of_crowds(MANY, FEW)
@given(crowds(st.tuples(histories(), acts), MANY, FEW))
def test_merged_and_taken_apart_again(
    redis_url: str, crowd: list[tuple[list[Said], list[tuple[operators.Kind, int, int]]]]
) -> None:
    """Whatever was merged in between, and whatever arrived meanwhile: persons, sessions and funnels are those of a
    world where nobody merged anything."""
    events = [e for number, (history, _) in enumerate(crowd) for e in told_apart(history, number)]
    plain, world = World(IN_MEMORY, redis_url), World(IN_MEMORY, redis_url)
    with plain.opened(), world.opened():
        for one in (plain, world):
            one.commit(events[::2])
        told = do(world, [act for _, some in crowd for act in some])
        for one in (plain, world):
            one.commit(events[1::2])
        with world.warehouse.transaction() as con:
            for person, other in told:
                operators.record(con, "unmerge", person, other, "a mistake", "Sue")
        assert known_of(world) == known_of(plain)
        assert funnel_of(world) == funnel_of(plain)
        assert world.rows("from stream.person_merges") == []
    for one in (plain, world):
        clear(redis_url, one.warehouse.warehouse_id)


def do(world: World, acts: list[tuple[operators.Kind, int, int]]) -> set[tuple[str, str]]:
    """Does those of `acts` that can be done, and returns the merges that stand then."""
    persons = [row[0] for row in world.rows("select distinct person_id from stream.identities order by 1")]
    standing: dict[frozenset[str], tuple[str, str]] = {}
    with world.warehouse.transaction() as con:
        for kind, one, another in acts:
            person, other = persons[one % len(persons)], persons[another % len(persons)]
            try:
                operators.record(con, kind, person, other, "because", "Sue")
            except UsageError:
                continue
            if kind == "merge":
                standing[frozenset((person, other))] = (person, other)
            else:
                del standing[frozenset((person, other))]
        shown = {row[0] for row in con.execute("select person_id from stream.person_merges").fetchall()}
        assert bool(shown) == bool(standing)
    return set(standing.values())


def funnel_of(world: World) -> list[int]:
    with world.warehouse.reader() as con:
        return [step.count for step in run_funnel(con, FUNNEL).steps]
