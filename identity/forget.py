"""The forgetting of a person: what is stored of one is removed, and tombstones are set. DESIGN: identity rule 9.

A device that nobody else ever signed in on goes whole. Of one that others have, too, what belongs to the person goes;
what others are owed stays as it is: the person's sign-ins and sign-outs there are kept under a random name, for they
say what does not belong to the others. What the sessions of such devices are now has to be worked out afterwards.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from identity import ledger, operators, tombstones
from identity.claims import END, Fact, Key, LinkRules, merged, timeline
from identity.ids import FORGOTTEN_PREFIX, PERSON_PREFIX, LegalIds
from identity.tombstones import Tombstone
from identity.verdicts import as_frame, in_range, overrides_of_states, shared_device, states_of, verdict_frame
from sinks import tables
from stitchline.errors import UsageError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REASON: Final = "of a person who was forgotten"
_WORD, _NO_WORD = "[A-Za-z0-9_.@-]", "[^A-Za-z0-9_.@-]"
"""What an id may go on with: `ann` is not meant by `ann@work`."""
_LETTERS_AT_ONCE: Final = 10_000

_DEVICES: Final = """
select distinct anonymous_id from stream.events
where anonymous_id is not null and user_id in (select user_id from forgotten_users)
union
select anonymous_id from stream.identity_facts
where anonymous_id is not null and user_id in (select user_id from forgotten_users)
"""
# An event without a user that may say who somebody is has the person that its device had.
_UNSIGNED: Final = "(e.user_id is null or e.person_id is distinct from e.user_id)"
_GONE: Final = f"""
create or replace temp table gone_events as
select e.anonymous_id, e.message_id, e."partition", e."offset" from stream.events e
where e.user_id in (select user_id from forgotten_users)
   or ({_UNSIGNED} and e.anonymous_id in (select anonymous_id from whole_devices))
union all
select e.anonymous_id, e.message_id, e."partition", e."offset" from stream.events e join spans s using (anonymous_id)
where {_UNSIGNED}
  and (e.event_at, e.message_id) >= (s.from_at, s.from_message_id)
  and (e.event_at, e.message_id) < (s.to_at, s.to_message_id)
"""
_DELETE_EVENTS: Final = """
delete from stream.events e using gone_events g
where e."partition" = g."partition" and e."offset" = g."offset" and e.message_id = g.message_id
  and e.anonymous_id is not distinct from g.anonymous_id
"""
_PLACES: Final = """
select "partition", count(*) as records, min("offset") as first_offset, max("offset") as last_offset from gone_events
group by "partition" order by "partition"
"""
_SESSIONS_OF: Final = """
select session_id from stream.sessions
where user_id in (select user_id from forgotten_users) or anonymous_id in (select anonymous_id from whole_devices)
   or anonymous_id in (select anonymous_id from cut_again)
"""
_DELETE: Final = [
    *(
        f"delete from stream.{table} where anonymous_id in (select anonymous_id from whole_devices)"
        for table in (
            *("closed_sessions", "open_sessions", "identity_facts", "identity_verdicts"),
            *("person_overrides", "bot_devices"),
        )
    ),
    *(
        f"delete from stream.{table} where user_id in (select user_id from forgotten_users)"
        for table in ("closed_sessions", "open_sessions", "identity_facts", "identity_verdicts")
    ),
    # An alias that was refused since it names two users: the first of them.
    """delete from stream.identity_verdicts
    where verdict = 'refused' and anonymous_id in (select user_id from forgotten_users)""",
    """delete from stream.identity_verdicts v using gone_events g
    where v.anonymous_id = g.anonymous_id and v.message_id = g.message_id""",
    "delete from stream.identity_facts where person_id in (select person_id from forgotten_persons) "
    "or other_person_id in (select person_id from forgotten_persons)",
]
# What others had once been taken for: the person, as was known when it was committed.
_RENAME: Final = [
    f"""update stream.{table} set person_id = '{PERSON_PREFIX}' || anonymous_id
    where person_id in (select person_id from forgotten_persons) and anonymous_id is not null"""
    for table in ("events", "closed_sessions", "open_sessions")
]
_UNTOLD: Final = """
delete from stream.identity_facts f using untold u
where f.anonymous_id = u.anonymous_id and f.event_at = u.event_at and f.message_id = u.message_id
  and f.user_id is not distinct from u.user_id
"""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed."""

    tombstone_id: str
    forgotten_at: datetime
    persons: list[str]
    devices: list[str]
    """That nobody else had: they are gone."""
    shared_devices: list[str]
    """That others have, too: what was the person's on them is gone."""
    cut_again: list[str]
    """Devices whose sessions are to be cut again: the shared ones, and ids that mean no device."""
    events: int
    facts: int
    verdicts: int
    acts: int
    """Of operators."""
    dead_letters: int
    places: list[tuple[int, int, int, int]]
    """Where the events came from: partition, how many, the first and the last offset."""
    sessions_before: set[str]
    """The sessions of all these devices and users, before."""
    mentions: int
    """Events of others that name one of the ids, in what they say."""


def forget(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    rules: LinkRules,
    person: str,
    because: str,
    actor: str,
) -> Forgotten:
    """Removes what is stored of `person` (a user id, or anon:ID of a device) and of all that was merged with it, and
    sets tombstones. Part of a transaction of the writer. The sessions of `cut_again` are to be made anew then, and
    `note` is to be called then.

    Raises UsageError if there is nobody of that name, or `because` tells who it is.
    """
    members = _members(con, legal, person)
    if _pattern([member.removeprefix(PERSON_PREFIX) for member in members]).search(because.encode()):
        raise UsageError("--because is kept: say why without the id of the person who is to be forgotten.")
    forgotten_at = datetime.now(UTC)
    tombstone_id = str(uuid.uuid4())
    done, stones = _remove(con, legal, logout_events, rules, members, tombstone_id, forgotten_at)
    tombstones.add(con, tombstone_id, stones, forgotten_at)
    con.execute(
        "insert into stream.forgotten values (?, ?, ?, ?, ?, 0, ?, ?, false)",
        [tombstone_id, forgotten_at, because, actor, done.events, len(done.devices), done.dead_letters],
    )
    return done


def forget_again(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    rules: LinkRules,
    tombstone_id: str,
) -> Forgotten | None:
    """Removes what is stored of a person who was forgotten later than that: all that is left to tell who it was are the
    tombstones. As `forget` else; None if nothing is stored."""
    members = tombstones.Tombstones.read(con).persons(con, tombstone_id)
    if not members:
        return None
    row = con.execute("select forgotten_at from stream.forgotten where tombstone_id = ?", [tombstone_id]).fetchone()
    assert row is not None
    done, _ = _remove(con, legal, logout_events, rules, members, tombstone_id, row[0])
    con.execute(
        "update stream.forgotten set events = ?, devices = ?, dead_letters = ? where tombstone_id = ?",
        [done.events, len(done.devices), done.dead_letters, tombstone_id],
    )
    return done


def _remove(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    rules: LinkRules,
    members: list[str],
    tombstone_id: str,
    forgotten_at: datetime,
) -> tuple[Forgotten, list[Tombstone]]:
    """Removes the persons `members`, who are one, and returns which tombstones they are to get."""
    users = [member for member in members if not member.startswith(PERSON_PREFIX)]
    own = [member.removeprefix(PERSON_PREFIX) for member in members if member.startswith(PERSON_PREFIX)]
    with (
        tables.registered(con, "forgotten_users", _table("user_id", users)),
        tables.registered(con, "forgotten_persons", _table("person_id", members)),
    ):
        claimed = con.execute(_DEVICES).pl()["anonymous_id"].cast(pl.String)
        devices = sorted({*legal.legal(claimed).drop_nulls().to_list(), *own})
        nameless = set(claimed.to_list()).difference(devices)
        facts = ledger.compact_facts_of(con, legal, logout_events, pl.Series(devices, dtype=pl.String))
        others = {device: _others(told, users) for device, told in facts.items()}
        whole = [device for device in devices if not others[device]]
        shared = [device for device in devices if others[device]]
        cut_again = [*shared, *sorted(nameless)]
        spans = _spans(con, shared, facts, rules, users, own)
        with (
            tables.registered(con, "whole_devices", _table("anonymous_id", whole)),
            tables.registered(con, "spans", as_frame([span.row for span in spans], _SPANS, *_TIMES).to_arrow()),
            tables.registered(con, "cut_again", _table("anonymous_id", cut_again)),
        ):
            con.execute(_GONE)
            sessions = {row[0] for row in con.execute(_SESSIONS_OF).fetchall()}
            places = con.execute(_PLACES).fetchall()
            before = _counts(con)
            con.execute(_DELETE_EVENTS)
            for statement in _DELETE:
                con.execute(statement)
            after = _counts(con)
            for statement in _RENAME:
                con.execute(statement)
    con.execute("drop table gone_events")
    operators.count_anew(con)
    _keep_boundaries(con, legal, logout_events, shared, facts, users, spans, forgotten_at)
    _judge(con, legal, logout_events, rules, shared)
    letters = _remove_dead_letters(con, [*users, *whole])
    gone = {name: before[name] - after[name] for name in before}
    done = Forgotten(
        tombstone_id=tombstone_id,
        forgotten_at=forgotten_at,
        persons=members,
        devices=whole,
        shared_devices=shared,
        cut_again=cut_again,
        events=gone["events"],
        facts=gone["facts"],
        verdicts=gone["verdicts"],
        acts=gone["acts"],
        dead_letters=letters,
        places=places,
        sessions_before=sessions,
        mentions=_mentions(con, [*users, *whole]),
    )
    return done, list(_tombstones(users, whole, spans, forgotten_at))


def note(con: duckdb.DuckDBPyConnection, done: Forgotten) -> int:
    """Once the sessions of shared devices were cut again: forgets what is known of sessions that are no more, and
    returns how many these are. Part of the same transaction."""
    with tables.registered(con, "before", _table("session_id", done.sessions_before)):
        gone = con.execute("select session_id from before anti join stream.sessions using (session_id)").pl()
    with tables.registered(con, "gone", gone.cast(pl.String).to_arrow()):
        con.execute(
            "delete from stream.session_changes "
            "where session_id in (select session_id from gone) or superseded_by in (select session_id from gone)"
        )
    con.execute("update stream.forgotten set sessions = ? where tombstone_id = ?", [gone.height, done.tombstone_id])
    return gone.height


def _table(column: str, ids: Iterable[str]) -> pa.Table:
    return pl.DataFrame({column: list(ids)}, schema={column: pl.String}).to_arrow()


_BOUNDS: Final = ("anonymous_id", "from_at", "from_message_id", "to_at", "to_message_id")
_SPANS: Final = pl.Schema({name: ledger.OVERRIDES[name] for name in _BOUNDS})
_TIMES: Final = ("from_at", "to_at")


@dataclass(frozen=True, slots=True)
class _Span:
    """From `start` (inclusive) to `end` (exclusive) the device was the person's."""

    device: str
    start: Key
    end: Key

    @property
    def row(self) -> tuple[object, ...]:
        """By _SPANS, times in microseconds."""
        return self.device, *in_range(self.start), *in_range(self.end)


def _members(con: duckdb.DuckDBPyConnection, legal: LegalIds, person: str) -> list[str]:
    """`person`, and all who count to the same by merges that stand."""
    bare = person.removeprefix(PERSON_PREFIX)
    if why := legal.why_not(bare):
        raise UsageError(f"{person!r} is nobody: the id {why}.")
    if not operators.is_known(con, person):
        kind: tombstones.Kind = "device" if person != bare else "user"
        earlier = tombstones.Tombstones.read(con).of(kind, bare)
        if earlier:
            at = max(earlier.values())
            raise UsageError(f"{person!r} was forgotten already, {at:%Y-%m-%d %H:%M} UTC, and nothing came back since.")
        raise UsageError(
            f"There is no person {person!r}. Name a user id, or anon: and an anonymous id; "
            "`stitchline identity show ID` finds them."
        )
    counts_to = merged(operators.acts(con))
    root = counts_to.get(person, person)
    return [root, *sorted(other for other, to in counts_to.items() if to == root)]


def _others(facts: Iterable[Fact], users: list[str]) -> set[str]:
    """Who else ever signed in on a device, and was not forgotten."""
    named = {fact.user for fact in facts if fact.user is not None and not fact.user.startswith(FORGOTTEN_PREFIX)}
    return named.difference(users)


def _spans(
    con: duckdb.DuckDBPyConnection,
    devices: list[str],
    facts: dict[str, tuple[Fact, ...]],
    rules: LinkRules,
    users: list[str],
    own: list[str],
) -> list[_Span]:
    """When each of these devices was the person's; also where too many devices kept it from being linked."""
    links = ledger.held(con, devices=devices).filter(~pl.col("user_id").is_in(users))
    held = links.group_by("anonymous_id").agg("user_id")
    held_by_device = dict(zip(held["anonymous_id"].to_list(), held["user_id"].to_list(), strict=True))
    return [
        _Span(device, stretch.start, stretch.end)
        for device in devices
        for stretch in timeline(facts[device], rules, held_by_device.get(device, ()))
        if stretch.user in users or (stretch.user is None and device in own)
    ]


def _counts(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    row = con.execute(
        """
        select (select count(*) from stream.events) as events,
            (select count(*) from stream.identity_facts where anonymous_id is not null) as facts,
            (select count(*) from stream.identity_facts where anonymous_id is null) as acts,
            (select count(*) from stream.identity_verdicts) as verdicts
        """
    ).fetchone()
    assert row is not None
    return dict(zip(("events", "facts", "acts", "verdicts"), row, strict=True))


def _keep_boundaries(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    shared: list[str],
    before: dict[str, tuple[Fact, ...]],
    users: list[str],
    spans: list[_Span],
    forgotten_at: datetime,
) -> None:
    """Of shared devices, the facts that no stored event tells any more, under random names; and the end of the person,
    where that one had the device last."""
    told = dict(ledger.facts_of(con, legal, logout_events, pl.Series(shared, dtype=pl.String)))
    rows: list[tuple[object, ...]] = []
    untold: list[tuple[object, ...]] = []
    for device in shared:
        names = {user: FORGOTTEN_PREFIX + uuid.uuid4().hex for user in users}
        kept = told.get(device, [])
        missing = set(before[device]).difference(kept)
        places = _places(con, device, missing, kept)
        for fact in missing:
            user = names.get(fact.user, fact.user) if fact.user is not None else None
            rows.append(("forgotten", device, user, fact.at, places[fact], _REASON))
            untold.append((fact.kind, device, fact.user, fact.at, fact.message_id, ""))
    end = (forgotten_at - _EPOCH) // timedelta(microseconds=1)
    rows += [("forgotten", span.device, None, end, "", _REASON) for span in spans if span.end == END]
    with tables.registered(con, "untold", as_frame(untold, ledger.FACTS).to_arrow()):
        con.execute(_UNTOLD)
    nothing = pl.DataFrame(schema=ledger.VERDICTS)
    tables.append_identity(con, as_frame(rows, ledger.FACTS), nothing, nothing)


def _places(con: duckdb.DuckDBPyConnection, device: str, missing: set[Fact], kept: list[Fact]) -> dict[Fact, str]:
    """For each of the `missing` facts of a device a message id that puts it where it was among what is left of the same
    moment, and tells nothing of its own."""
    moments = {fact.at for fact in missing}
    stored = con.execute(
        "select epoch_us(event_at), message_id from stream.events "
        "where anonymous_id = ? and epoch_us(event_at) in (select unnest(?::bigint[]))",
        [device, sorted(moments)],
    ).fetchall()
    others = sorted({*stored, *(fact.key for fact in kept if fact.at in moments)})
    places: dict[Fact, str] = {}
    taken: dict[Key, int] = {}
    for fact in sorted(missing, key=lambda fact: (fact.key, fact.user is None)):
        before = next((key for key in reversed(others) if (fact.at, "") <= key < fact.key), (fact.at, ""))
        taken[before] = taken.get(before, 0) + 1
        places[fact] = before[1] + "\0" * taken[before]
    return places


def _judge(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    rules: LinkRules,
    shared: list[str],
) -> None:
    """Makes the verdicts on these devices, and what is laid over their events, what is said of them now."""
    devices = pl.Series(shared, dtype=pl.String)
    facts = ledger.compact_facts_of(con, legal, logout_events, devices)
    with tables.registered(con, "judged", _table("anonymous_id", shared)):
        con.execute(
            "delete from stream.identity_verdicts "
            "where verdict = 'shared' and anonymous_id in (select anonymous_id from judged)"
        )
    verdicts = verdict_frame([row for device, told in facts.items() for row in shared_device(device, told, rules)])
    tables.append_identity(con, pl.DataFrame(schema=ledger.FACTS), verdicts, pl.DataFrame(schema=ledger.VERDICTS))
    states = states_of(facts, ledger.held(con, devices=devices))
    tables.replace_overrides(con, shared, overrides_of_states(states, rules))


def _tombstones(users: list[str], whole: list[str], spans: list[_Span], forgotten_at: datetime) -> Iterable[Tombstone]:
    yield from (Tombstone("user", user, None, forgotten_at) for user in users)
    yield from (Tombstone("device", device, None, forgotten_at) for device in whole)
    for span in spans:
        yield Tombstone("device", span.device, _time(span.start), min(_time(span.end), forgotten_at))


def _time(key: Key) -> datetime:
    return _EPOCH + timedelta(microseconds=in_range(key)[0])


def _spellings(ids: Iterable[str]) -> list[str]:
    """`ids` as they are, and as JSON writes them."""
    return sorted(
        {text for name in ids for text in (name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1])}
    )


def _pattern(ids: Iterable[str]) -> re.Pattern[bytes]:
    """Finds any of `ids` as a word."""
    words = "|".join(map(re.escape, _spellings(ids)))
    return re.compile(f"(?<!{_WORD})(?:{words})(?!{_WORD})".encode())


def _remove_dead_letters(con: duckdb.DuckDBPyConnection, ids: list[str]) -> int:
    """Removes those that name one of `ids`, in their key or their record. Returns how many these are."""
    if not ids:
        return 0
    pattern = _pattern(ids)
    places: list[tuple[str, int, int]] = []
    found = con.execute('select topic, "partition", "offset", key, raw, detail from stream.dead_letters')
    while rows := found.fetchmany(_LETTERS_AT_ONCE):
        places += [
            (topic, partition, offset)
            for topic, partition, offset, key, raw, detail in rows
            if any(text and pattern.search(text) for text in (key, raw, detail.encode()))
        ]
    if places:
        columns = ["topic", "partition", "offset"]
        with tables.registered(con, "named", pl.DataFrame(places, schema=columns, orient="row").to_arrow()):
            con.execute(
                """
                delete from stream.dead_letters d using named n
                where d.topic = n.topic and d."partition" = n."partition" and d."offset" = n."offset"
                """
            )
    return len(places)


def _mentions(con: duckdb.DuckDBPyConnection, ids: list[str]) -> int:
    """How many events of others name one of `ids` in what they say."""
    if not ids:
        return 0
    words = "|".join(map(re.escape, _spellings(ids)))
    columns = ("name", "path", "referrer", "utm_campaign", "properties::varchar", "context::varchar")
    pattern = f"(^|{_NO_WORD})({words})($|{_NO_WORD})"
    any_column = " or ".join(f"regexp_matches({column}, $pattern)" for column in columns)
    row = con.execute(f"select count(*) from stream.events where {any_column}", {"pattern": pattern}).fetchone()
    assert row is not None
    return int(row[0])
