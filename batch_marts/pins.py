"""What a build holds still: copies of the stream's small tables, the sessions that it has to make, and where the events
end, all of one moment.

The events themselves are not copied: they are appended once and never updated, so the last row of `stream.events` says
which of them count. Rows keep their numbers as long as nothing is deleted; a build that carries over from the one
before checks that this held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import duckdb
import pyarrow as pa

from sinks.tables import registered

__all__ = ["AS_OF", "Pin", "pin"]


@dataclass(frozen=True, slots=True)
class Pin:
    """The moment that a build sees. Times are aware UTC."""

    as_of: datetime
    """Up to when the events are known: the lowest watermark of the partitions that have one."""
    last_row: int
    """The greatest rowid of stream.events that counts."""
    events: int
    """How many rows of stream.events that are."""
    forgotten: int
    """How often a person had been forgotten, which moves rows."""
    generation: str
    """The warehouse's; another one after each restore, which moves rows."""


_COPIES: Final = {
    "pinned_overrides": "select * from stream.person_overrides",
    "pinned_merges": "select * from stream.person_merges",
    "pinned_progress": "select * from stream.progress",
    "pinned_bot_devices": "select * from stream.bot_devices",
    "pinned_claims": """
        select user_id, min(event_at) as claimed_at, arg_min(anonymous_id, (event_at, message_id)) as anonymous_id
        from stream.identity_facts
        where kind = 'claim' and user_id is not null
        group by user_id
    """,
}

AS_OF: Final = "coalesce((select min(watermark) from stream.progress), (select max(event_at) from stream.events))"
"""Up to when the events are known."""

_MOMENT: Final = f"""
select
    {AS_OF} as as_of,
    coalesce((select max(rowid) from stream.events), -1) as last_row,
    (select count(*) from stream.events) as events,
    (select count(*) from stream.forgotten) as forgotten,
    (select generation from stream.warehouse) as generation,
    (select min(event_at) from stream.events) as first_event_at,
    (select max(event_at) from stream.events) as last_event_at
"""

_NEW: Final = "rowid between $first_row and $last_row"
_EVENTS: Final = (
    'select rowid as event_row, event_at, anonymous_id, message_id, "partition", "offset" from stream.events'
)

# Of records with the same (anonymous_id, message_id) the earliest counts, as in the funnels. Hashes find the few
# candidates: grouping all rows by two texts would cost more than the rest. Of earlier rows only those are looked at
# whose message_id lies among the new ones: many a producer's ids grow with time.
_EARLIER: Final = f"""
create temp table earlier as
{_EVENTS}
where rowid < $first_row and message_id between $least and $greatest
    and hash(message_id) in (select hash(message_id) from stream.events where {_NEW})
"""
_NOTHING_EARLIER: Final = f"create temp table earlier as {_EVENTS} limit 0"
_MESSAGE_IDS: Final = f"select min(message_id), max(message_id) from stream.events where {_NEW}"

_COPIES_OF_EVENTS: Final = f"""
create temp table copies as
with told as not materialized (
    {_EVENTS} where {_NEW}
    union all
    from earlier
),

alike as (
    select hash(anonymous_id, message_id) as copy from told group by copy having count(*) > 1
)

from told
where hash(anonymous_id, message_id) in (from alike)
qualify count(*) over (partition by anonymous_id, message_id) > 1
"""

_SECOND_ONES: Final = """
select event_row from copies
qualify row_number() over (partition by anonymous_id, message_id order by event_at, "partition", "offset") > 1
"""

# A closed session is what it was if its revision is: what rewrites it raises that. An open one grows, and ends.
_AS_IT_WAS: Final = """
was.session_id = s.session_id and was.revision = s.revision and was.is_open = s.is_open
    and was.ended_at = s.ended_at and was.event_count = s.event_count
    and was.end_reason is not distinct from s.end_reason
"""

_CHANGED_DEVICES: Final = """
create temp table changed_devices as
with people as ({people})

select anonymous_id, min(from_at) as from_at
from (
    {devices}
    union all
    select anonymous_id, '-infinity'::timestamptz from stream.sessions
    where person_id in (from people)
    union all
    select anonymous_id, from_at from {now}.pinned_overrides where person_id in (from people)
)
group by anonymous_id
"""

# Whatever of a day's sessions is not what it was shows in a sum of hashes: they are compared by days first, and one by
# one only on days that differ. Joining all of them with all of the build before would cost some times as much.
_SESSION_DAYS: Final = """
select
    {day} as session_date,
    count(*) filter (not is_bot and anonymous_id not in (select anonymous_id from {now}.pinned_bot_devices))
        as session_count,
    sum(hash(session_id, revision, is_open, ended_at, event_count, end_reason)) as digest
from stream.sessions
group by all
"""

_OTHER_SESSION_DAYS: Final = """
select session_date
from {now}.pinned_session_days as now
full join {before}.pinned_session_days as before using (session_date)
where now.digest is distinct from before.digest
"""

_SESSIONS: Final = f"""
select s.*
from stream.sessions as s
anti join (from {{before}}.int_sessions where session_date in (from other_days)) as was on {_AS_IT_WAS}
where {{day}} in (from other_days) and s.started_at >= $since and s.started_at < $until
"""

_SESSIONS_OF_CHANGED_DEVICES: Final = """
select s.*
from stream.sessions as s
join changed_devices as d on d.anonymous_id = s.anonymous_id and d.from_at <= s.ended_at
where s.session_id not in (select session_id from {now}.pinned_sessions)
"""

_ENDED_SESSIONS: Final = f"""
select was.session_id, was.session_date
from {{before}}.int_sessions as was
anti join (from stream.sessions where started_at >= $since and started_at < $until) as s on {_AS_IT_WAS}
where was.session_date in (from other_days)
union
select session_id, {{day}} from {{now}}.pinned_sessions
"""

_DAY: Final = "cast(make_timestamp(epoch_us({})) as date)"
"""The UTC day of a time; a cast by itself takes sixteen times as long."""

_DEVICES: Final = """
-- Whose events these are was not what it is, or is no longer.
select anonymous_id, min(from_at) as from_at, max(to_at) as to_at
from (
    (from {now}.pinned_overrides except all from {before}.pinned_overrides)
    union all
    (from {before}.pinned_overrides except all from {now}.pinned_overrides)
)
group by anonymous_id
union all
select anonymous_id, '-infinity'::timestamptz, 'infinity'::timestamptz
from (
    (select anonymous_id from {now}.pinned_bot_devices except select anonymous_id from {before}.pinned_bot_devices)
    union
    (select anonymous_id from {before}.pinned_bot_devices except select anonymous_id from {now}.pinned_bot_devices)
)
"""

_PEOPLE: Final = """
select person_id from (
    (from {now}.pinned_merges except from {before}.pinned_merges)
    union
    (from {before}.pinned_merges except from {now}.pinned_merges)
)
"""

_CHANGED_DAYS: Final = """
with devices as ({devices}),

people as ({people})

select {day} as changed_day from stream.events where rowid between $first_row and $last_row
union
select {day} from copies
union
select {day}
from stream.events as e
join devices as d on d.anonymous_id = e.anonymous_id and e.event_at between d.from_at and d.to_at
where e.rowid <= $last_row
union
select {day} from stream.events
where rowid <= $last_row and person_id in (from people)
union
select {day}
from stream.events as e
join {now}.pinned_overrides as o on o.anonymous_id = e.anonymous_id and o.person_id in (from people)
    and e.event_at between o.from_at and o.to_at
where e.rowid <= $last_row
"""


def pin(
    con: duckdb.DuckDBPyConnection,
    schema: str,
    before: tuple[str, Pin] | None,
    window: timedelta,
    funnel_days: Callable[[duckdb.DuckDBPyConnection, str, datetime | None], str],
    experiments: pa.Table,
) -> tuple[Pin, list[date] | None]:
    """Makes `schema` with the pinned tables, in one transaction of `con`. Returns what was pinned, and the days to work
    out, None for all.

    `before` is the schema and the moment of the build whose days are carried over, None to work out all of them; then
    they are worked out, too, if rows have moved since. `window` is the longest of the funnels: an entry so long before
    a changed day may have gone further. `funnel_days` fills a temporary table with what the funnels say of days from a
    time on, leaving out rows of stream.events that a table names, and returns its name. `experiments` is what
    experiments are judged by (experiments.settings_table).
    """
    has_sessions = before is not None and _has_sessions(con, before[0])
    schema = f'"{schema}"'
    if before is not None:
        before = (f'"{before[0]}"', before[1])
    con.execute("begin transaction")
    try:
        con.execute(f"create schema {schema}")
        for table, query in _COPIES.items():
            con.execute(f"create table {schema}.{table} as {query}")
        with registered(con, "experiments", experiments):
            con.execute(f"create table {schema}.pinned_experiments as from experiments")
        row = con.execute(_MOMENT).fetchone()
        assert row is not None
        as_of, *rest, first_event_at, last_event_at = row
        pinned = Pin(as_of or datetime.now(UTC), *rest)
        if before is not None and not _rows_stand(con, before[1], pinned):
            before = None
        days = _find_changes(con, schema, before, pinned.last_row)
        _pin_sessions(con, schema, before[0] if before is not None and has_sessions else None)
        since = None if days is None else _midnight(min(days, default=pinned.as_of.date())) - window
        filled = funnel_days(con, f"{schema}.pinned_copies", since and _midnight(since.date()))
        con.execute(f"create table {schema}.pinned_funnel_days as from {filled}")
        con.execute(f"drop table {filled}")
        con.execute(
            f"create table {schema}.pinned_moment as select $as_of::timestamptz as as_of, "
            "$last_row::bigint as last_row, $first_day::date as first_day, $last_day::date as last_day, "
            "$funnels_from::date as funnels_from",
            {
                "as_of": pinned.as_of,
                "last_row": pinned.last_row,
                "first_day": (first_event_at or pinned.as_of).date(),
                "last_day": max(last_event_at or pinned.as_of, pinned.as_of).date(),  # events come before watermarks
                "funnels_from": since and since.date(),
            },
        )
    except BaseException:
        con.execute("rollback")
        raise
    con.execute("commit")
    return pinned, days


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _rows_stand(con: duckdb.DuckDBPyConnection, before: Pin, now: Pin) -> bool:
    """Whether rows up to the last of the build before are what they were."""
    if (before.generation, before.forgotten) != (now.generation, now.forgotten):
        return False
    row = con.execute("select count(*) from stream.events where rowid <= ?", [before.last_row]).fetchone()
    return row == (before.events,)


def _find_changes(
    con: duckdb.DuckDBPyConnection, schema: str, before: tuple[str, Pin] | None, last_row: int
) -> list[date] | None:
    """Makes pinned_copies, of all events that are second ones, and pinned_changed_days. Returns these; None for all."""
    rows = {"first_row": 0 if before is None else before[1].last_row + 1, "last_row": last_row}
    if before is None:
        con.execute(_NOTHING_EARLIER)
    else:
        least, greatest = con.execute(_MESSAGE_IDS, rows).fetchall()[0]
        con.execute(_EARLIER, rows | {"least": least, "greatest": greatest})
    # Of events that came more than once, those of which at least one came since the build before.
    con.execute(_COPIES_OF_EVENTS, rows)
    again = f"select event_row from {before[0]}.pinned_copies" if before else "select null::bigint where false"
    con.execute(f"create table {schema}.pinned_copies as ({_SECOND_ONES}) union ({again})")
    days = None
    if before is None:
        con.execute(f"create table {schema}.pinned_changed_days (changed_day date)")
    else:
        devices, people = (part.format(now=schema, before=before[0]) for part in (_DEVICES, _PEOPLE))
        changed = _CHANGED_DAYS.format(now=schema, day=_DAY.format("event_at"), devices=devices, people=people)
        con.execute(f"create table {schema}.pinned_changed_days as {changed}", rows)
        days = [day for (day,) in con.execute(f"from {schema}.pinned_changed_days").fetchall()]
    con.execute(f"create table {schema}.pinned_alike as select event_row from copies")
    con.execute("drop table copies; drop table earlier")
    return days


def _pin_sessions(con: duckdb.DuckDBPyConnection, schema: str, before: str | None) -> None:
    """Makes pinned_sessions, of those that the build has to make; pinned_ended_sessions, of those that are no more, or
    no more as they were; and pinned_session_days, which counts all sessions and tells whether they are others. `before`
    is the schema of the build before, if that has sessions to compare with."""
    day = _DAY.format("started_at")
    con.execute(f"create table {schema}.pinned_session_days as {_SESSION_DAYS.format(now=schema, day=day)}")
    if before is None:
        con.execute(f"create table {schema}.pinned_sessions as from stream.sessions")
        con.execute(f"create table {schema}.pinned_ended_sessions (session_id varchar, session_date date)")
        return
    names = {"now": schema, "before": before, "day": day}
    con.execute(f"create temp table other_days as {_OTHER_SESSION_DAYS.format(**names)}")
    row = con.execute("select min(session_date), max(session_date) from other_days").fetchone()
    assert row is not None
    first, last = row if row[0] is not None else (date.min, date.min)
    bounds = {"since": _midnight(first), "until": _midnight(last) + timedelta(days=1)}
    con.execute(f"create table {schema}.pinned_sessions as {_SESSIONS.format(**names)}", bounds)
    devices = f"select anonymous_id, from_at from ({_DEVICES.format(**names)})"
    con.execute(_CHANGED_DEVICES.format(**names, devices=devices, people=_PEOPLE.format(**names)))
    con.execute(f"insert into {schema}.pinned_sessions {_SESSIONS_OF_CHANGED_DEVICES.format(**names)}")
    con.execute(f"create table {schema}.pinned_ended_sessions as {_ENDED_SESSIONS.format(**names)}", bounds)
    con.execute("drop table changed_devices; drop table other_days")


def _has_sessions(con: duckdb.DuckDBPyConnection, schema: str) -> bool:
    """Whether that build has them, and says what they were; a project of somebody's own may do without."""
    query = """
        select count(*) from (
            select view_name as name from duckdb_views() where schema_name = $schema
            union all
            select table_name from duckdb_columns() where schema_name = $schema and column_name = 'digest'
        )
        where name in ('int_sessions', 'pinned_session_days')
    """
    return con.execute(query, {"schema": schema}).fetchone() == (2,)
