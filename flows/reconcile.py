"""The stream's sessions against the batch definition (flows/sessions.sql): where they differ, and the mending of it.
What a comparison of all sessions found is kept in stream.reconciliations.

DESIGN: decision 4. Compared is everything but revision and is_open; and whether a device's last session is over by a
gap or still open, which depends on the watermark. Persons (flows/persons.sql) are compared as known now.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from flows.rules import FlowRules
from identity.stitch import overrides_of
from sinks import tables
from sinks.warehouse import Warehouse

COMPARED: Final = tuple(
    name for name in tables.SESSION_COLUMNS.split(", ") if name not in ("session_id", "person_id", "revision")
)
EVENTS_AT_ONCE: Final = 4_000_000
"""Of so many the sessions are worked out together: what that takes stays within DuckDB's memory."""

_MICROSECOND: Final = timedelta(microseconds=1)
_TEMPORARY: Final = ("illegal_users", "expected_sessions", "expected_persons", "differing", "mended")

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
_DIFFERING: Final = f"""
create or replace temp table differing as
with compared as (
    select session_id, coalesce(e.anonymous_id, s.anonymous_id) as anonymous_id,
        coalesce(e.started_at, s.started_at) as started_at,
        case when s.started_at is null then 'missing' when e.started_at is null then 'unexpected'
            else 'changed' end as what,
        list_filter([{_CHANGES}], lambda name: name is not null) as columns
    from expected_sessions e full join stream.sessions s using (session_id)
    left join expected_persons p using (session_id)
    left join stream.person_overrides o on o.anonymous_id = s.anonymous_id
      and (s.started_at, s.first_message_id) >= (o.from_at, o.from_message_id)
      and (s.started_at, s.first_message_id) < (o.to_at, o.to_message_id)
)
select * from compared
where (what <> 'changed' or len(columns) > 0) and ($since is null or started_at >= $since)
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


_DEVICES_WITH_FACTS: Final = """
select distinct anonymous_id from stream.events
semi join (from expected_sessions where user_id is null) using (anonymous_id)
where user_id is not null or name in (select unnest($logout_events))
union
select anonymous_id from stream.identity_facts
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


def expect(con: duckdb.DuckDBPyConnection, rules: FlowRules, at_once: int = EVENTS_AT_ONCE) -> None:
    """Makes the temporary table expected_sessions on `con`: what the batch definition has over the stored events,
    of about `at_once` of them at a time."""
    sessions = rules.sessions
    users = con.execute("select distinct user_id from stream.events where user_id is not null").fetchall()
    illegal = [user for (user,) in users if rules.legal.why_not(user) is not None]
    gaps = pa.table(
        {
            "library": pa.array(sessions.gap_by_library, pa.string()),
            "gap": pa.array([gap // _MICROSECOND for gap in sessions.gap_by_library.values()], pa.int64()),
        }
    )
    with (
        tables.registered(con, "illegal", pa.table({"user_id": pa.array(illegal, pa.string())})),
        tables.registered(con, "library_gaps", gaps),
    ):
        con.execute("create or replace temp table illegal_users as from illegal")
        statement = files("flows").joinpath("sessions.sql").read_text()
        events = con.execute("select count(*) from stream.events").fetchone()
        assert events is not None
        shares = 1 + events[0] // at_once
        for share in range(shares):
            into = "insert into expected_sessions" if share else "create or replace temp table expected_sessions as"
            con.execute(
                f"{into} {statement}",
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


def expect_persons(con: duckdb.DuckDBPyConnection, rules: FlowRules) -> None:
    """Makes the temporary table expected_persons (session_id, person_id) of what `expect` made."""
    logouts = sorted(rules.sessions.logout_events)
    devices = con.execute(_DEVICES_WITH_FACTS, {"logout_events": logouts}).pl()["anonymous_id"]
    legal = rules.legal.legal(devices)
    illegal = pa.table({"anonymous_id": devices.filter(legal.is_null()).cast(pl.String).to_arrow()})
    with tables.registered(con, "illegal_devices", illegal):
        con.execute(
            f"create or replace temp table expected_persons as {files('flows').joinpath('persons.sql').read_text()}",
            {"logout_events": logouts, "look_back": rules.look_back},
        )


def compare(
    con: duckdb.DuckDBPyConnection, rules: FlowRules, since: datetime | None = None
) -> tuple[int, list[Difference]]:
    """How many sessions there should be, and all that differ; of `since` on, if that is given."""
    expect(con, rules)
    expect_persons(con, rules)
    con.execute(_DIFFERING, {"since": since})
    counted = con.execute("select count(*) from expected_sessions").fetchone()
    assert counted is not None
    rows = con.execute(
        "select session_id, anonymous_id, started_at, what, columns from differing order by 2, 3, 1"
    ).fetchall()
    found = [
        Difference(session_id, anonymous_id, started_at, what, tuple(columns) if what == "changed" else ())
        for session_id, anonymous_id, started_at, what, columns in rows
    ]
    return counted[0], found


def reconcile(
    warehouse: Warehouse,
    rules: FlowRules,
    *,
    since: datetime | None = None,
    mend: bool = False,
    reader: duckdb.DuckDBPyConnection | None = None,
) -> Reconciliation:
    """Compares in one transaction, on `reader` if one is given, so that another thread can interrupt it. If it is to
    `mend`, a transaction of the writer rewrites what differs, and the flow waits."""
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
            sessions, found = compare(con, rules, since)
            if found:
                warehouse.repairs += 1  # before it is certain: a commit may be there although it is said to have failed
                repair(con, rules)
            result = told(sessions, found)
            _note(con, result, since)
            for table in _TEMPORARY:
                con.execute(f"drop table if exists {table}")
        return result
    with nullcontext(reader) if reader is not None else warehouse.reader() as con:
        con.execute("begin transaction")
        result = told(*compare(con, rules, since))
        con.execute("rollback")
    with warehouse.transaction() as con:
        _note(con, result, since)
    return result


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


def repair(con: duckdb.DuckDBPyConnection, rules: FlowRules) -> None:
    """Puts the expected sessions in the place of those that `compare` found differing, on the same connection."""
    con.execute(_MENDED, {"gap": rules.sessions.longest_gap})
    mended = con.execute("select * from mended").pl()
    replaced = con.execute(_REPLACED).pl()
    tables.note_changes(con, replaced, con.execute(_EXPECTED_OF_THESE).pl())
    tables.replace_sessions(con, replaced, mended)
    strangers = con.execute(
        "select distinct anonymous_id from differing where list_contains(columns, 'person_id')"
    ).pl()
    if not strangers.is_empty():
        devices = strangers["anonymous_id"]
        overrides = overrides_of(con, rules.legal, rules.sessions.logout_events, devices, rules.look_back)
        tables.replace_overrides(con, devices.to_list(), overrides)
