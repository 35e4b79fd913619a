"""Persons for operators: who is behind an id and why, and what a merge or its undoing changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from flows.rules import FlowRules
from funnels import FunnelDefinition, run_funnel
from funnels.relations import PEOPLE
from identity import ledger, operators
from identity.claims import BEGINNING, END, compact, merged, sharing_claim, timeline
from identity.ids import PERSON_PREFIX, device_person
from identity.rebuild import Judged, judge_anew
from service.web import readings
from service.web.models import PersonChange
from service.web.rows import iso_utc, query_rows
from sinks.warehouse import Warehouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)

MOST_DEVICES = 100
"""Of a person that are shown; the others are counted."""

_TOUCHED = f"""
select
    (select count(*) from {PEOPLE} where coalesce(o.person_id, e.person_id) in (select unnest($persons))) as events,
    (select count(*) from stream.sessions s {readings.AS_KNOWN_NOW}
        where coalesce(o.person_id, s.person_id) in (select unnest($persons))) as sessions
"""
_DEVICES = """
select anonymous_id, min(event_at) as first_claimed_at from stream.identity_facts
where user_id in (select unnest($users)) and anonymous_id is not null group by anonymous_id
union
select anonymous_id, min(event_at) from stream.events where anonymous_id in (select unnest($devices))
group by anonymous_id
order by 2, 1
"""
_COUNTS = """
select anonymous_id, sum(events)::bigint as events, sum(sessions)::bigint as sessions, min(first_at) as first_seen_at,
    max(last_at) as last_seen_at
from (
    select anonymous_id, count(*) as events, 0 as sessions, min(event_at) as first_at, max(event_at) as last_at
    from stream.events where anonymous_id in (select unnest($devices)) group by anonymous_id
    union all
    select anonymous_id, 0, count(*), null, null from stream.sessions
    where anonymous_id in (select unnest($devices)) group by anonymous_id
) group by anonymous_id
"""
_VERDICTS = """
select verdict, anonymous_id, user_id, event_at, message_id, reason from stream.identity_verdicts
where anonymous_id in (select unnest($devices)) or user_id in (select unnest($users))
order by event_at, message_id limit 1000
"""
_ACTS = """
select kind, person_id, other_person_id, event_at as done_at, message_id as act_id, reason as because, actor
from stream.identity_facts
where kind in ('merge', 'unmerge')
  and (person_id in (select unnest($persons)) or other_person_id in (select unnest($persons)))
order by event_at
"""
_USERS_NAMED = """
select exists (from stream.events where user_id = $id) or exists (from stream.identity_facts where user_id = $id)
    as is_user,
    exists (from stream.events where anonymous_id = $device)
        or exists (from stream.identity_facts where anonymous_id = $device) as is_device
"""
REFUSED = """
select verdict, reason, user_id, count(*) as times, count(distinct anonymous_id) as devices, min(event_at) as first_at,
    max(event_at) as last_at
from stream.identity_verdicts group by verdict, reason, user_id
order by times desc, verdict, reason, user_id limit $limit
"""
MOST_CLAIMED = """
select user_id, count(distinct anonymous_id) as devices, min(event_at) as first_at, max(event_at) as last_at
from stream.identity_facts where user_id is not null and anonymous_id is not null
group by user_id order by devices desc, user_id limit $limit
"""
MOST_SHARED = """
select anonymous_id, count(distinct user_id) as users, min(event_at) as first_at, max(event_at) as last_at
from stream.identity_facts where user_id is not null and anonymous_id is not null
group by anonymous_id order by users desc, anonymous_id limit $limit
"""


def change(warehouse: Warehouse, funnels: Sequence[FunnelDefinition], asked: PersonChange) -> dict[str, Any]:
    """Does what is `asked`, and says what that changes: events, sessions, and what `funnels` count. A dry run says the
    same and changes nothing. The flow waits meanwhile.

    Raises UsageError for what cannot be done.
    """
    with warehouse.transaction(keep=not asked.dry_run) as con:
        before, counts = merged(operators.acts(con)), funnel_counts(con, funnels)
        act_id = operators.record(con, asked.kind, asked.person, asked.other, asked.because, asked.actor)
        after = merged(operators.acts(con))
        moved = [p for p in sorted({*before, *after}) if before.get(p, p) != after.get(p, p)]
        (touched,) = query_rows(con, _TOUCHED, {"persons": moved})
        return {
            **asked.model_dump(),
            "act_id": None if asked.dry_run else act_id,
            "persons": [{"person_id": p, "was": before.get(p, p), "is": after.get(p, p)} for p in moved],
            **touched,
            "funnels": changes_of_funnels(funnels, counts, funnel_counts(con, funnels)),
        }


def funnel_counts(con: duckdb.DuckDBPyConnection, funnels: Sequence[FunnelDefinition]) -> list[list[int]]:
    """How many came how far through each of `funnels`, as `con` sees it."""
    return [[step.count for step in run_funnel(con, funnel).steps] for funnel in funnels]


def changes_of_funnels(
    funnels: Sequence[FunnelDefinition], before: list[list[int]], after: list[list[int]]
) -> list[dict[str, Any]]:
    """What `funnels` counted before something was done, and after it, for people."""
    return [
        {"name": funnel.name, "was": was, "is": now} for funnel, was, now in zip(funnels, before, after, strict=True)
    ]


def rebuild(warehouse: Warehouse, rules: FlowRules) -> Judged:
    """Judges all facts anew by the rules that are set now, and makes Redis be filled again when the flow starts."""
    with warehouse.transaction() as con:
        judged = judge_anew(con, rules.legal, rules.sessions.logout_events, rules.links)
    warehouse.begin_generation()
    return judged


def show(con: duckdb.DuckDBPyConnection, rules: FlowRules, asked: str) -> list[dict[str, Any]]:
    """The persons behind the id `asked`, which may be a user's, a device's or a person's; none if nobody has it. The
    same text as user id and as anonymous id are two ids, and may be two persons."""
    device = asked.removeprefix(PERSON_PREFIX)
    (named,) = query_rows(con, _USERS_NAMED, {"id": asked, "device": device})
    counts_to = merged(operators.acts(con))
    found = [asked] if named["is_user"] else []
    if named["is_device"]:
        stretches = _device(con, rules, device, counts_to)["timeline"]
        found += [stretch["person_id"] for stretch in reversed(stretches)]
    persons = [_person(con, rules, one, counts_to) for one in dict.fromkeys(counts_to.get(p, p) for p in found)]
    return [person for person in persons if person["events"]] or persons


def _person(con: duckdb.DuckDBPyConnection, rules: FlowRules, person: str, counts_to: dict[str, str]) -> dict[str, Any]:
    members = [person, *sorted(other for other, to in counts_to.items() if to == person)]
    users = [member for member in members if not member.startswith(PERSON_PREFIX)]
    own = [member.removeprefix(PERSON_PREFIX) for member in members if member.startswith(PERSON_PREFIX)]
    rows = query_rows(con, _DEVICES, {"users": users, "devices": own})
    devices = list(dict.fromkeys(row["anonymous_id"] for row in rows))
    shown = devices[:MOST_DEVICES]
    (touched,) = query_rows(con, _TOUCHED, {"persons": members})
    return {
        "person_id": person,
        "members": members,
        **touched,
        "devices": [_device(con, rules, device, counts_to) for device in shown],
        "more_devices": len(devices) - len(shown),
        "verdicts": query_rows(con, _VERDICTS, {"devices": shown, "users": users}),
        "acts": query_rows(con, _ACTS, {"persons": members}),
    }


def _device(con: duckdb.DuckDBPyConnection, rules: FlowRules, device: str, counts_to: dict[str, str]) -> dict[str, Any]:
    told = dict(ledger.facts_of(con, rules.legal, rules.sessions.logout_events, pl.Series([device])))
    facts = compact(told.get(device, ()))
    held = ledger.held(con, devices=[device])["user_id"].to_list()
    counted = query_rows(con, _COUNTS, {"devices": [device]})
    counts = counted[0] if counted else {"events": 0, "sessions": 0, "first_seen_at": None, "last_seen_at": None}

    def stretches() -> Iterator[dict[str, Any]]:
        for stretch in timeline(facts, rules.links, held):
            person = stretch.user or device_person(device)
            yield {
                "from": None if stretch.start == BEGINNING else _time(stretch.start[0]),
                "to": None if stretch.end == END else _time(stretch.end[0]),
                "person_id": counts_to.get(person, person),
            }

    return {
        "anonymous_id": device,
        **{name: counts[name] for name in ("events", "sessions", "first_seen_at", "last_seen_at")},
        "is_shared": sharing_claim(facts, rules.links) is not None,
        "held_for": held,
        "timeline": list(stretches()),
        "evidence": [
            {"kind": fact.kind, "user_id": fact.user, "event_at": _time(fact.at), "message_id": fact.message_id}
            for fact in facts
        ],
    }


def _time(micros: int) -> str:
    return iso_utc(max(_YEAR_1, _EPOCH + timedelta(microseconds=micros)))
