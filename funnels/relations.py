"""Events with what is known of their persons and sessions: the relations that questions about subjects read.

Aliases: `e` an event, `o` and `m` what became known of its person since, `s` its session, `p` facts of its person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, Literal

from funnels.fields import TRAITS, EventField

By = Literal["person", "session", "device"]

PEOPLE: Final = """
stream.events as e
left join stream.person_overrides as o
  -- One plain key: an `or` in the condition would make this a nested loop.
  on o.anonymous_id = case when e.user_id is null or e.person_id is distinct from e.user_id then e.anonymous_id end
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
left join stream.person_merges as m on m.person_id = coalesce(o.person_id, e.person_id)
"""
"""Events `e`, with what became known of their persons since."""

PERSON: Final = "coalesce(m.merged_into, o.person_id, e.person_id)"
"""Whose an event of PEOPLE is; null if nobody's."""

_SESSIONS: Final = """
join {sessions} as s
  on s.anonymous_id = e.anonymous_id
 -- What the tuples say already, but times are compared in a fraction of the time.
 and e.event_at >= s.started_at and e.event_at <= s.ended_at
 and (e.event_at, e.message_id) >= (s.started_at, s.first_message_id)
 and (e.event_at, e.message_id) <= (s.ended_at, s.last_message_id)
"""

SUBJECTS: Final[dict[By, str]] = {"person": PERSON, "session": "s.session_id", "device": "e.anonymous_id"}
"""The id of each event's subject, in `relation`."""


def relation(
    by: By,
    fields: Iterable[EventField],
    bind: Callable[[object], str],
    since: datetime | None = None,
    last: datetime | None = None,
) -> str:
    """Events as `e`, with all that it takes to tell their subjects and to read `fields` of them. If only events from
    `since` on, or up to `last`, are asked for, sessions are those that can have them."""
    fields = set(fields)
    of_people = by == "person" or any(field.source == "person" for field in fields)
    parts = [PEOPLE if of_people else "stream.events as e\n"]
    if by == "session" or any(field.source == "session" for field in fields):
        bounds = ["true"]
        bounds += [] if since is None else [f"ended_at >= {bind(since)}"]
        bounds += [] if last is None else [f"started_at <= {bind(last)}"]
        sessions = _SESSIONS.format(sessions=f"(from stream.sessions where {' and '.join(bounds)})")
        parts.append(sessions if by == "session" else f"left {sessions.strip()}\n")
    facts = sorted(
        (field for field in fields if field.source == "person" and field.column in ("first_seen", TRAITS)),
        key=lambda field: (field.column, field.keys),
    )
    if facts:
        columns = ", ".join(_fact(field, bind) for field in facts)
        known = f"select {PERSON} as person, {columns} from {PEOPLE} group by all"
        parts.append(f"left join ({known}) as p on p.person = {PERSON}\n")
    return "".join(parts)


def trait_column(field: EventField) -> str:
    """A name for the column of a trait, which nothing that a person wrote gets into."""
    return f"trait_{hashlib.sha256(field.pointer.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _fact(field: EventField, bind: Callable[[object], str]) -> str:
    if field.column == "first_seen":
        return "min(e.event_at) as first_seen"
    pointer = bind(field.pointer)
    return (
        f"arg_max(json_extract(e.properties, {pointer}), (e.event_at, e.message_id)) "
        f"filter (e.type = 'identify' and json_type(e.properties, {pointer}) is not null) as {trait_column(field)}"
    )
