"""What operators say about persons: facts of the ledger as any other, and whom persons count to by them. DESIGN:
identity rules 4 and 7."""

from __future__ import annotations

import uuid
from typing import Literal

import duckdb

from identity.claims import Act, merged
from identity.ids import PERSON_PREFIX
from stitchline.errors import UsageError

Kind = Literal["merge", "unmerge"]

_ACTS = """
select epoch_us(event_at), message_id, kind, person_id, other_person_id from stream.identity_facts
where kind in ('merge', 'unmerge')
"""
_IS_KNOWN = """
select exists (from stream.events where user_id = $person)
    or exists (from stream.events where $device is not null and anonymous_id = $device)
    or exists (from stream.identity_facts where user_id = $person or anonymous_id = $device)
"""


def acts(con: duckdb.DuckDBPyConnection) -> list[Act]:
    """All that operators did, in order."""
    return sorted(Act(*row) for row in con.execute(_ACTS).fetchall())


def is_known(con: duckdb.DuckDBPyConnection, person: str) -> bool:
    """Whether anything is stored of `person`: a user id, or anon: and an anonymous id."""
    device = person.removeprefix(PERSON_PREFIX) if person.startswith(PERSON_PREFIX) else None
    row = con.execute(_IS_KNOWN, {"person": person, "device": device}).fetchone()
    return row is not None and bool(row[0])


def record(con: duckdb.DuckDBPyConnection, kind: Kind, person: str, other: str, because: str, actor: str) -> str:
    """Adds a merge of `other` into `person`, or takes the merge of these two back, and returns the act's id. Part of a
    transaction of the writer; stream.person_merges says what counts then.

    Raises UsageError if it would say nothing: an unknown person, the same one twice, no merge to take back.
    """
    if person == other:
        raise UsageError(f"{person!r} is one person already. Name two.")
    pair = {person, other}
    known = acts(con)
    together = [act for act in known if {act.person, act.other} == pair]
    stands = bool(together) and together[-1].kind == "merge"
    if kind == "unmerge" and not stands:
        others = sorted({name for act in known for name in (act.person, act.other) if pair & {act.person, act.other}})
        hint = f" Merges name {', '.join(map(repr, others))}." if others else " Neither was ever merged."
        raise UsageError(f"No merge of {person!r} and {other!r} stands.{hint}")
    if kind == "merge":
        if stands:
            raise UsageError(f"{person!r} and {other!r} are merged already. `stitchline identity unmerge` undoes it.")
        for name in (person, other):
            if not is_known(con, name):
                raise UsageError(
                    f"There is no person {name!r}. Name a user id, or anon: and an anonymous id; "
                    "`stitchline identity show ID` finds them."
                )
    act_id = f"act-{uuid.uuid4()}"
    # Later than every act before it, whatever the clock says.
    at = max([act.at + 1 for act in known], default=0)
    con.execute(
        """
        insert into stream.identity_facts
            (kind, event_at, message_id, reason, recorded_at, person_id, other_person_id, actor)
        values ($kind, greatest(make_timestamptz($at), now()), $id, $because, now(), $person, $other, $actor)
        """,
        {"kind": kind, "at": at, "id": act_id, "because": because, "person": person, "other": other, "actor": actor},
    )
    count_anew(con)
    return act_id


def count_anew(con: duckdb.DuckDBPyConnection) -> None:
    """Makes stream.person_merges what all acts say."""
    con.execute("delete from stream.person_merges")
    counts_to = merged(acts(con))
    con.execute("insert into stream.person_merges select unnest(?), unnest(?)", [[*counts_to], [*counts_to.values()]])
