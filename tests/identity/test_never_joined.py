"""Two known users are never joined except by an operator: whatever is identified and aliased, in whatever order."""

from __future__ import annotations

import os
import random
from pathlib import Path

from identity import operators
from tests.crowds import PROVE
from tests.identity.reference import Said
from tests.identity.worlds import START, World, at

EVENTS = 1_000_000 if PROVE else 20_000
AT_ONCE = EVENTS // 20
SEED = int(os.environ.get("STITCHLINE_PROVE_SEED") or 1)

PERSONS = """
select e.user_id, coalesce(m.merged_into, o.person_id, e.person_id) as person_id, count(*) as events
from stream.events e left join stream.person_overrides o
  on o.anonymous_id = case when e.user_id is null or e.person_id is distinct from e.user_id then e.anonymous_id end
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
left join stream.person_merges m on m.person_id = coalesce(o.person_id, e.person_id)
group by all
"""


def fuzz(random: random.Random, number: int) -> Said:
    """Ids of users and of devices are mixed up on purpose, and times are out of order."""
    pool = EVENTS // 20
    user = random.choice([None, f"u{random.randrange(pool)}", f"u{random.randrange(pool)}", "guest", "null"])
    device = random.choice([f"d{random.randrange(pool)}"] * 8 + [f"u{random.randrange(pool)}", "undefined"])
    when = START.replace(microsecond=number % 1_000_000) + (at(random.randrange(60 * 24 * 90)) - START)
    kind = random.randrange(10)
    if kind < 3:
        previous = random.choice([f"d{random.randrange(pool)}", f"u{random.randrange(pool)}", user or "x", "guest"])
        return Said(f"m{number}", when, random.choice([None, device]), user or "u1", "alias", previous)
    return Said(f"m{number}", when, device, user, "Signed Out" if kind == 9 else "Click")


def test_no_person_has_the_events_of_two_users(tmp_path: Path, redis_url: str) -> None:
    print(f"seed {SEED}, {EVENTS:,} events")
    source = random.Random(SEED)
    world = World(tmp_path / "w.duckdb", redis_url)
    with world.opened():
        for start in range(0, EVENTS, AT_ONCE):
            world.commit([fuzz(source, number) for number in range(start, start + AT_ONCE)])
            if start % (5 * AT_ONCE) == 0:
                world.restart(forget=bool(start))
        assert world.rows("select count(*) from stream.events") == [(EVENTS,)]
        found = world.rows(PERSONS)
        joined = [row for row in found if row[0] is not None and row[0].startswith("u") and row[0] != row[1]]
        assert joined == [], "a user's event is another's"
        assert world.rows("from stream.identities where kind = 'user' and id <> person_id") == []
        assert sum(events for user, person, events in found if user is None and person.startswith("u")) > EVENTS // 100
        assert world.rows("select count(*) > 0 from stream.identity_verdicts where reason like 'two users%'") == [
            (True,)
        ]

        with world.warehouse.transaction() as con:
            operators.record(con, "merge", "u1", "u2", "to see that the test can tell", "test")
        merged = {(user, person) for user, person, _ in world.rows(PERSONS) if user in ("u1", "u2")}
        assert merged == {("u1", "u1"), ("u2", "u1")}
