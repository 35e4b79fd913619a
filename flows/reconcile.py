"""The stream's sessions against the batch definition (flows/sessions.sql): where they differ, and the mending of it.
What a comparison of all sessions found is kept in stream.reconciliations.

DESIGN: decision 4. Compared is everything but revision and is_open; and whether a device's last session is over by a
gap or still open, which depends on the watermark. Persons (flows/persons.sql) are compared as known now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import chain
from typing import Final

import duckdb
import polars as pl

from flows.rules import FlowRules
from identity.verdicts import overrides_of
from sinks import tables
from sinks.warehouse import Warehouse

COMPARED: Final = tuple(
    name for name in tables.SESSION_COLUMNS.split(", ") if name not in ("session_id", "person_id", "revision")
)
_OCTETS: Final = 550
"""Of DuckDB's memory for each event that is looked at with others: what that takes stays within it, twice over."""

MOST_WORKERS: Final = 2
"""Shares that are compared at a time, each by a thread of its own. DuckDB's memory has to do for all."""

_MICROSECOND: Final = timedelta(microseconds=1)
_SESSIONS: Final = files("flows").joinpath("sessions.sql").read_text()
_PERSONS: Final = files("flows").joinpath("persons.sql").read_text()
_TEMPORARY: Final = (
    "illegal_users",
    "library_gaps",
    "illegal_devices",
    "held_links",
    "telling_events",
    "share_sessions",
    "share_persons",
    "share_suspects",
    "share_doubtful",
    "doubtful",
    "expected_sessions",
    "expected_persons",
    "differing",
    "mended",
    "these_devices",
)

MOST_ROWS: Final = 1_000
"""Differing sessions that are named; the others are counted."""

_EXACTLY: Final = [name for name in COMPARED if name != "end_reason"]
# Without a user of its own a session's person is what became known of its device, else what was known at the commit.
_PERSON: Final = "case when s.user_id is null then coalesce(o.person_id, s.person_id) else s.person_id end"
_CHANGES: Final = ", ".join(
    [f"case when e.{name} is distinct from s.{name} then '{name}' end" for name in _EXACTLY]
    + ["case when coalesce(e.end_reason, 'gap') <> coalesce(s.end_reason, 'gap') then 'end_reason' end"]
    + [f"case when p.person_id is distinct from {_PERSON} then 'person_id' end"]
)
_DIFFERS: Final = " or ".join(
    ["s.started_at is null", "e.started_at is null"]
    + [f"e.{name} is distinct from s.{name}" for name in _EXACTLY]
    + ["coalesce(e.end_reason, 'gap') <> coalesce(s.end_reason, 'gap')", f"p.person_id is distinct from {_PERSON}"]
)
_OVERRIDDEN: Final = """o.anonymous_id = s.anonymous_id
  and (s.started_at, s.first_message_id) >= (o.from_at, o.from_message_id)
  and (s.started_at, s.first_message_id) < (o.to_at, o.to_message_id)"""
# Of a share of the devices, the sessions that may differ: that of the other side may be another device's by mistake.
# Sums of hashes, over all sessions whose ids have a hash in common, are compared first: joining a text and comparing
# twenty columns takes far longer. Of 2**64 sums that differ one is the same.
_TOLD: Final = f"hash(session_id, {', '.join(_EXACTLY)}, coalesce(end_reason, 'gap')) as told"
_OF_SHARE: Final = "hash(anonymous_id) % $shares::ubigint = $share::ubigint"
_BUCKET: Final = "hash(session_id) % 131072"
_STORED_OF_SHARE: Final = f"""
    select {{columns}} from stream.closed_sessions where {_OF_SHARE}
    union all
    select {{columns}} from stream.open_sessions where {_OF_SHARE}
"""
_SUSPECTS: Final = f"""
create or replace temp table share_suspects as
with stored as ({
    _STORED_OF_SHARE.format(
        columns="session_id, anonymous_id, person_id, user_id, started_at, first_message_id, " + _TOLD
    )
}),
sides as (
    select {_BUCKET} as bucket, {_TOLD}, null::ubigint as person, 1 as expected from share_sessions
    union all
    select {_BUCKET}, null, hash(session_id, person_id), 1 from share_persons
    union all
    select {_BUCKET}, told, hash(session_id, {_PERSON}), 0
    from stored s left join stream.person_overrides o on {_OVERRIDDEN}
)
select bucket from sides group by bucket
having sum(told) filter (expected = 1) is distinct from sum(told) filter (expected = 0)
    or sum(person) filter (expected = 1) is distinct from sum(person) filter (expected = 0)
"""
_DOUBTFUL: Final = f"""
create or replace temp table share_doubtful as
with suspects as (select bucket from share_suspects),
expected as (select session_id, anonymous_id from share_sessions where {_BUCKET} in (from suspects)),
stored as (
    select session_id, anonymous_id from ({_STORED_OF_SHARE.format(columns="session_id, anonymous_id")})
    where {_BUCKET} in (from suspects)
)
select session_id, e.anonymous_id as expected_of, s.anonymous_id as stored_of
from expected e full join stored s using (session_id)
"""
_OF_DOUBTFUL_DEVICES: Final = """
from share_sessions
where anonymous_id in (select expected_of from share_doubtful union all select stored_of from share_doubtful)
"""
_KEPT: Final = {
    "doubtful": "select session_id from share_doubtful",
    "expected_sessions": f"select * {_OF_DOUBTFUL_DEVICES}",
    "expected_persons": f"from share_persons where session_id in (select session_id {_OF_DOUBTFUL_DEVICES})",
}
# Given doubtful, and all the sessions that are expected of their devices, with their persons.
_DIFFERING: Final = f"""
create or replace temp table differing as
with stored as (
    select * from stream.sessions
    where session_id in (select session_id from doubtful union all select session_id from expected_sessions)
)
select session_id, coalesce(e.anonymous_id, s.anonymous_id) as anonymous_id,
    coalesce(e.started_at, s.started_at) as started_at,
    case when s.started_at is null then 'missing' when e.started_at is null then 'unexpected'
        else 'changed' end as what,
    list_filter([{_CHANGES}], lambda name: name is not null) as columns
from expected_sessions e full join stored s using (session_id)
left join expected_persons p using (session_id)
left join stream.person_overrides o on {_OVERRIDDEN}
where ({_DIFFERS}) and ($since is null or coalesce(e.started_at, s.started_at) >= $since)
"""

_MENDED: Final = """
create or replace temp table mended as
with passed as (
    select e.*, p.topic, coalesce(e.ended_at + $gap < p.watermark, false) as is_passed,
        lead(session_id) over (partition by anonymous_id order by started_at, first_message_id) is null as is_last
    from expected_sessions e
    left join (
        select "partition", any_value(topic) as topic, min(watermark) as watermark from stream.progress group by all
    ) p using ("partition")
)
select e.* exclude (end_reason),
    w.person_id,
    coalesce(s.revision + 1, 1) as revision,
    e.is_last and not e.is_passed as stays_open,
    case when e.is_last and e.is_passed then coalesce(e.end_reason, 'gap') else e.end_reason end as end_reason
from passed e
join differing d using (session_id)
left join stream.sessions s using (session_id)
join expected_persons w using (session_id)
qualify row_number() over (partition by e.session_id) = 1
"""


_REPLACED: Final = """
select session_id, anonymous_id, started_at, first_message_id, revision, true as is_stored_closed
from stream.closed_sessions semi join differing using (session_id)
union all
select session_id, anonymous_id, started_at, first_message_id, revision, false
from stream.open_sessions semi join differing using (session_id)
"""
_NOTE: Final = "insert into stream.reconciliations values ($compared_at, $seconds, $sessions, $differing, $repaired)"
_LAST: Final = """
select sessions, differing, repaired, compared_at, seconds from stream.reconciliations
order by compared_at desc limit 1
"""
_EXPECTED_OF_THESE: Final = "select * from expected_sessions semi join differing using (anonymous_id)"


# Few events tell who has a device: one reading of all of them is enough.
_TELLING: Final = """
create or replace temp table telling_events as
select anonymous_id, event_at, message_id, user_id, name in (select unnest($logout_events)) as is_logout
from stream.events where anonymous_id is not null and user_id is not null
union all
select anonymous_id, event_at, message_id, null, true
from stream.events where anonymous_id is not null and user_id is null and name in (select unnest($logout_events))
"""
_CLAIMS: Final = """
select user_id, anonymous_id, event_at, message_id from telling_events
where user_id is not null and user_id not in (select user_id from illegal_users)
union all
select user_id, anonymous_id, event_at, message_id from stream.identity_facts
anti join (select anonymous_id, message_id from stream.identity_verdicts where verdict = 'refused')
    using (anonymous_id, message_id)
where kind in ('alias', 'forgotten') and user_id is not null
"""
# Users with more devices than may link at a time, at any distance: few, as a rule.
_OF_MANY: Final = f"""
select * from ({_CLAIMS}) where user_id in (
    select user_id from ({_CLAIMS}) group by user_id having count(distinct anonymous_id) > $most)
"""
_DEVICES_OF_MANY: Final = f"select distinct anonymous_id from ({_OF_MANY})"
# In the order in which the user first claimed them, so many devices come before a held one, within the time.
_HELD: Final = f"""
create or replace temp table held_links as
with firsts as (
    select user_id, anonymous_id, min({{'at': epoch_us(event_at), 'message_id': message_id}}) as first
    from ({_OF_MANY}) where anonymous_id not in (select anonymous_id from illegal_devices)
    group by all
)
select user_id, anonymous_id from firsts
qualify row_number() over (partition by user_id order by first, anonymous_id) - 1
    - count(*) over (partition by user_id order by first.at range between unbounded preceding and $within + 1 preceding)
    >= $most
"""
_DEVICES_WITH_FACTS: Final = f"""
select anonymous_id from telling_events where {_OF_SHARE}
union
select anonymous_id from stream.identity_facts where {_OF_SHARE}
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A session that is not as the batch definition has it."""

    session_id: str
    anonymous_id: str
    started_at: datetime
    what: str
    """missing, unexpected or changed."""
    columns: tuple[str, ...]
    """Of a changed one."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a comparison found. Times are aware UTC."""

    sessions: int
    """As many as the batch definition has."""
    differing: int
    differences: tuple[Difference, ...]
    """The first MOST_ROWS of them, by device and time."""
    repaired: bool
    compared_at: datetime
    seconds: float


def expect(con: duckdb.DuckDBPyConnection, rules: FlowRules, at_once: int | None = None) -> None:
    """Makes the temporary table expected_sessions on `con`: what the batch definition has over the stored events,
    of about `at_once` of them at a time, by default of as many as DuckDB's memory has room for."""
    _prepare(con, rules)
    shares = _shares(con, at_once)
    for share in range(shares):
        into = "insert into" if share else "create or replace temp table"
        _expect(con, rules, share, shares, f"{into} expected_sessions{'' if share else ' as'}")


def _shares(con: duckdb.DuckDBPyConnection, at_once: int | None) -> int:
    sizes = "select (select count(*) from stream.events), parse_formatted_bytes(current_setting('memory_limit'))"
    row = con.execute(sizes).fetchone()
    assert row is not None
    events, memory = row
    return 1 + int(events) // (at_once or max(1, int(memory) // _OCTETS))


def _prepare(con: duckdb.DuckDBPyConnection, rules: FlowRules) -> None:
    """Makes the tables of what the statements are given besides the stream's, on `con`."""
    users = con.execute("select distinct user_id from stream.events where user_id is not null").pl()["user_id"]
    _make(con, "illegal_users", pl.DataFrame({"user_id": users.filter(rules.legal.legal(users).is_null())}))
    by_library = rules.sessions.gap_by_library
    gaps = pl.DataFrame(
        [(library, gap // _MICROSECOND) for library, gap in by_library.items()],
        schema={"library": pl.String, "gap": pl.Int64},
        orient="row",
    )
    _make(con, "library_gaps", gaps)


def _make(con: duckdb.DuckDBPyConnection, name: str, rows: pl.DataFrame) -> None:
    with tables.registered(con, "given", rows.to_arrow()):
        con.execute(f"create or replace temp table {name} as select * from given")


def _expect(
    con: duckdb.DuckDBPyConnection, rules: FlowRules, share: int, shares: int, into: str, among: str = _OF_SHARE
) -> None:
    """Puts the sessions that are expected of a share of the devices `into` a table."""
    sessions = rules.sessions
    con.execute(
        f"{into} {_SESSIONS.replace(_OF_SHARE, among)}",
        {
            "gap": sessions.gap // _MICROSECOND,
            "cap": sessions.cap // _MICROSECOND,
            "by_library": bool(sessions.gap_by_library),
            "logout_events": sorted(sessions.logout_events),
            "at_midnight": sessions.split_at_midnight,
            "on_campaign": sessions.split_on_campaign,
            "share": share,
            "shares": shares,
        },
    )


def _expect_persons(con: duckdb.DuckDBPyConnection, rules: FlowRules, share: int, shares: int, among: str) -> None:
    """Makes share_persons (session_id, person_id) of share_sessions."""
    of_share = {"share": share, "shares": shares}
    links = rules.links
    devices = con.execute(_DEVICES_WITH_FACTS.replace(_OF_SHARE, among), of_share).pl()["anonymous_id"].cast(pl.String)
    _make(con, "illegal_devices", pl.DataFrame({"anonymous_id": devices.filter(rules.legal.legal(devices).is_null())}))
    given = {
        "look_back": links.look_back,
        "within": links.within // _MICROSECOND,
        "users_of_device": links.users_of_device,
    }
    con.execute(f"create or replace temp table share_persons as {_PERSONS.replace(_OF_SHARE, among)}", of_share | given)


def _make_held_links(con: duckdb.DuckDBPyConnection, rules: FlowRules) -> None:
    """Makes held_links (user_id, anonymous_id) of telling_events."""
    devices = con.execute(_DEVICES_OF_MANY, {"most": rules.links.devices_of_user}).pl()["anonymous_id"].cast(pl.String)
    _make(con, "illegal_devices", pl.DataFrame({"anonymous_id": devices.filter(rules.legal.legal(devices).is_null())}))
    con.execute(_HELD, {"most": rules.links.devices_of_user, "within": rules.links.within // _MICROSECOND})


def compare(
    con: duckdb.DuckDBPyConnection,
    rules: FlowRules,
    since: datetime | None = None,
    others: Sequence[duckdb.DuckDBPyConnection] = (),
    at_once: int | None = None,
) -> tuple[int, list[Difference]]:
    """How many sessions there should be, and all that differ; of `since` on, if that is given. Each connection takes
    about `at_once` events at a time, by default as many as DuckDB's memory has room for.

    `others` help, each in a thread of its own: they have to see what `con` sees. On `con` it leaves the temporary
    tables differing, and of the devices in it expected_sessions and expected_persons.
    """
    shares = _shares(con, at_once)
    workers = (con, *others)[:shares]
    rest = iter(range(len(workers), shares))
    failures: list[BaseException] = []

    def work(worker: int) -> int:
        try:
            return _compare_shares(workers[worker], rules, chain([worker], rest), shares)
        except BaseException as error:  # noqa: BLE001 the thread's edge: raised again below, once the others have ended
            failures.append(error)
            for each in workers:
                each.interrupt()
            return 0

    with ThreadPoolExecutor(len(workers), "compare") as pool:
        sessions = sum(pool.map(work, range(len(workers))))
    if failures:
        raise failures[0]
    for other in workers[1:]:
        for name in _KEPT:
            with tables.registered(con, "theirs", other.execute(f"select * from {name}").to_arrow_reader()):
                con.execute(f"insert into {name} select * from theirs")
    con.execute(_DIFFERING, {"since": since})
    rows = con.execute(
        "select session_id, anonymous_id, started_at, what, columns from differing order by 2, 3, 1"
    ).fetchall()
    return sessions, [
        Difference(session_id, anonymous_id, started_at, what, tuple(columns) if what == "changed" else ())
        for session_id, anonymous_id, started_at, what, columns in rows
    ]


def _compare_shares(
    con: duckdb.DuckDBPyConnection, rules: FlowRules, shares: Iterable[int], of: int, among: str = _OF_SHARE
) -> int:
    """Takes `shares` of the devices, of so many there are, and leaves what is doubtful in the tables _KEPT. Returns how
    many sessions are expected of these shares. `among`, with _OF_SHARE in it, tells which devices are looked at."""
    _prepare(con, rules)
    con.execute(_TELLING, {"logout_events": sorted(rules.sessions.logout_events)})
    _make_held_links(con, rules)
    sessions = 0
    into = "create or replace temp table {} as"
    for share in shares:
        _expect(con, rules, share, of, "create or replace temp table share_sessions as", among)
        _expect_persons(con, rules, share, of, among)
        con.execute(_SUSPECTS.replace(_OF_SHARE, among), {"share": share, "shares": of})
        con.execute(_DOUBTFUL.replace(_OF_SHARE, among), {"share": share, "shares": of})
        for name, rows in _KEPT.items():
            con.execute(f"{into.format(name)} {rows}")
        into = "insert into {}"
        counted = con.execute("select count(*) from share_sessions").fetchone()
        assert counted is not None
        sessions += counted[0]
    return sessions


def make_anew(con: duckdb.DuckDBPyConnection, rules: FlowRules, devices: Sequence[str]) -> None:
    """Makes the sessions of `devices` what the batch definition has of the events that are stored now. Part of a
    transaction of the writer."""
    _make(con, "these_devices", pl.DataFrame({"anonymous_id": devices}, schema={"anonymous_id": pl.String}))
    _compare_shares(con, rules, [0], 1, f"{_OF_SHARE} and anonymous_id in (select anonymous_id from these_devices)")
    con.execute(_DIFFERING, {"since": None})
    repair(con, rules)
    _drop_temporary(con)


def reconcile(
    warehouse: Warehouse,
    rules: FlowRules,
    *,
    since: datetime | None = None,
    mend: bool = False,
    reader: duckdb.DuckDBPyConnection | None = None,
) -> Reconciliation:
    """Compares in one transaction, on `reader` if one is given, so that another thread can interrupt it, and on as many
    cores as there are. If it is to `mend`, a transaction of the writer rewrites what differs, and the flow waits."""
    compared_at, began = datetime.now(UTC), time.monotonic()

    def told(sessions: int, found: list[Difference]) -> Reconciliation:
        return Reconciliation(
            sessions=sessions,
            differing=len(found),
            differences=tuple(found[:MOST_ROWS]),
            repaired=mend and bool(found),
            compared_at=compared_at,
            seconds=time.monotonic() - began,
        )

    if mend:
        with warehouse.transaction() as con:
            sessions, found = _compare_together(warehouse, con, rules, since, begun=True)
            if found:
                warehouse.repairs += 1  # before it is certain: a commit may be there although it is said to have failed
                warehouse.moved.note(repair(con, rules))
            result = told(sessions, found)
            _note(con, result, since)
            _drop_temporary(con)
        return result
    with nullcontext(reader) if reader is not None else warehouse.reader() as con:
        result = told(*_compare_together(warehouse, con, rules, since, begun=False))
        con.execute("rollback")
    with warehouse.transaction() as con:
        _note(con, result, since)
    return result


def _drop_temporary(con: duckdb.DuckDBPyConnection) -> None:
    for table in _TEMPORARY:
        con.execute(f"drop table if exists {table}")


def _compare_together(
    warehouse: Warehouse, con: duckdb.DuckDBPyConnection, rules: FlowRules, since: datetime | None, *, begun: bool
) -> tuple[int, list[Difference]]:
    """Compares on `con` and, where there are more cores than DuckDB has threads, on others beside it; in a transaction
    that has `begun`, and in which nothing was written yet, or in one that begins."""
    with ExitStack() as stack:
        threads = con.execute("select current_setting('threads')").fetchone()
        assert threads is not None
        workers = min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // int(threads[0])))
        others = [stack.enter_context(warehouse.reader()) for _ in range(workers - 1)]
        warehouse.begin_together(others if begun else [con, *others])
        return compare(con, rules, since, others)


def last_reconciliation(con: duckdb.DuckDBPyConnection) -> Reconciliation | None:
    """What the last comparison of all sessions found; which ones differed is not kept."""
    row = con.execute(_LAST).fetchone()
    if row is None:
        return None
    sessions, differing, repaired, compared_at, seconds = row
    return Reconciliation(sessions, differing, (), repaired, compared_at, seconds)


def _note(con: duckdb.DuckDBPyConnection, result: Reconciliation, since: datetime | None) -> None:
    """Keeps `result`, unless it is of a part of the sessions, which says nothing about the others."""
    if since is None:
        names = ("compared_at", "seconds", "sessions", "differing", "repaired")
        con.execute(_NOTE, {name: getattr(result, name) for name in names})


def repair(con: duckdb.DuckDBPyConnection, rules: FlowRules) -> list[str]:
    """Puts the expected sessions in the place of those that `compare` found differing, on the same connection. Returns
    the devices that were told other persons of."""
    con.execute(_MENDED, {"gap": rules.sessions.longest_gap})
    mended = con.execute("select * from mended").pl()
    replaced = con.execute(_REPLACED).pl()
    tables.note_changes(con, replaced, con.execute(_EXPECTED_OF_THESE).pl())
    tables.replace_sessions(con, replaced, mended)
    strangers = con.execute(
        "select distinct anonymous_id from differing where list_contains(columns, 'person_id')"
    ).pl()
    devices = strangers["anonymous_id"]
    if not strangers.is_empty():
        overrides = overrides_of(con, rules.legal, rules.sessions.logout_events, devices, rules.links)
        tables.replace_overrides(con, devices.to_list(), overrides)
    return devices.to_list()
