"""What a checkpoint reads from and writes to the stream's tables. Every function here runs on the writer's
connection inside the checkpoint's transaction, except the look-ups, which take any connection.

DELETE and INSERT only, so that the same SQL runs on DuckLake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sinks.warehouse import Progress

EVENT_COLUMNS: Final = (
    "message_id, type, name, anonymous_id, user_id, person_id, event_at, received_at, path, referrer, utm_source, "
    "utm_medium, utm_campaign, device_type, browser, os, properties, context, clock_skewed, is_bot, is_background"
)
KNOWN: Final = ("device_type", "browser", "os", "is_bot", "is_background")
"""What is worked out about an event, besides its person."""
_JSON: Final = pa.json_(pa.string())
SESSION_COLUMNS: Final = (
    "session_id, anonymous_id, user_id, person_id, started_at, ended_at, event_count, page_count, entry_path, "
    "exit_path, referrer, utm_source, utm_medium, utm_campaign, device_type, browser, os, start_reason, end_reason, "
    "is_bot, revision, first_message_id, last_message_id"
)

# The messages to remember after a restart: of open sessions, and what lies above the lowest watermark.
REMEMBERED: Final = """
select e.anonymous_id, e.message_id, epoch_us(e.event_at) as at, e."partition" as "partition"
from stream.events e left join stream.open_sessions o on o.anonymous_id = e.anonymous_id
where e.event_at >= least((select min(started_at) from stream.open_sessions), $least)
  and (e.event_at >= o.started_at or e.event_at > $least)
"""

# Devices that may have stored events, most of them more than once.
KNOWN_DEVICES: Final = """
select anonymous_id from stream.sessions
union all
select anonymous_id from stream.events where is_background and anonymous_id is not null
"""

_CLOSE: Final = f"""
insert into stream.closed_sessions ({SESSION_COLUMNS})
select {SESSION_COLUMNS.replace("end_reason", "coalesce(end_reason, 'gap') as end_reason")} from stream.open_sessions
"""
CLOSE_ALL_SESSIONS: Final = f"{_CLOSE}; delete from stream.open_sessions"

# Nothing is open any more: everything is known up to the greatest event_at, whichever partition had it.
WATERMARK_AT_THE_END: Final = """
update stream.progress set watermark = (select max(greatest_event_at) from stream.progress)
where greatest_event_at is not null
"""

_OPEN_SESSIONS: Final = f"""
select {SESSION_COLUMNS} from stream.open_sessions where anonymous_id in (select anonymous_id from asked)
"""
_LAST_CLOSED_SESSIONS: Final = f"""
with latest as (
    select max(started_at) as started_at, anonymous_id from stream.closed_sessions
    where anonymous_id in (select anonymous_id from asked) group by anonymous_id
)
select {SESSION_COLUMNS} from stream.closed_sessions semi join latest using (anonymous_id, started_at)
qualify row_number() over (partition by anonymous_id order by first_message_id desc) = 1
"""

# How sessions ended.
OPEN_ENDINGS: Final = "select anonymous_id, user_id, ended_at, end_reason from stream.open_sessions"
CLOSED_ENDINGS: Final = "select anonymous_id, user_id, ended_at, end_reason from stream.closed_sessions"


def append_events(con: duckdb.DuckDBPyConnection, decoded: pa.Table, known: pl.DataFrame) -> None:
    """Appends to stream.events: `decoded` (flows.decode.DECODED), and `known` of the same rows (KNOWN and person_id).
    properties and context are JSON text that was read once, and is not checked again."""
    if not decoded.num_rows:
        return
    rows = decoded.drop_columns(["device_type", "os"])
    for name in known.columns:
        rows = rows.append_column(name, known[name].to_arrow())
    for name in ("properties", "context"):
        chunks = [pa.ExtensionArray.from_storage(_JSON, chunk) for chunk in rows[name].chunks]
        rows = rows.set_column(
            rows.schema.get_field_index(name), pa.field(name, _JSON), pa.chunked_array(chunks, _JSON)
        )
    with registered(con, "new_events", rows.select([*EVENT_COLUMNS.split(", "), "partition", "offset"])):
        con.execute(f'insert into stream.events ({EVENT_COLUMNS}, "partition", "offset") select * from new_events')


def stored_already(con: duckdb.DuckDBPyConnection, asked: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Positions in `asked` (anonymous_id, message_id) of messages that stream.events has."""
    with registered(con, "asked", asked.with_row_index("position").to_arrow()):
        found = con.execute(
            "select distinct a.position from asked a join stream.events e "
            "on e.message_id = a.message_id and e.anonymous_id is not distinct from a.anonymous_id"
        ).fetchnumpy()
    return found["position"].astype(np.int64)


def open_sessions(con: duckdb.DuckDBPyConnection, devices: pl.Series) -> pl.DataFrame:
    """The open session of each of `devices` that has one: SESSION_COLUMNS."""
    with registered(con, "asked", pl.DataFrame({"anonymous_id": devices.cast(pl.String)}).to_arrow()):
        return con.execute(_OPEN_SESSIONS).pl()


def last_closed_sessions(con: duckdb.DuckDBPyConnection, devices: pl.Series) -> pl.DataFrame:
    """The last closed session of each of `devices` that has one: SESSION_COLUMNS. Reads through all of them."""
    with registered(con, "asked", pl.DataFrame({"anonymous_id": devices.cast(pl.String)}).to_arrow()):
        return con.execute(_LAST_CLOSED_SESSIONS).pl()


def replace_sessions(con: duckdb.DuckDBPyConnection, replaced: pl.DataFrame, sessions: pl.DataFrame) -> None:
    """Puts `sessions` (SESSION_COLUMNS, stays_open, topic, partition) in the place of `replaced` (session_id,
    is_stored_closed)."""
    for table, rows in (
        ("open_sessions", replaced.filter(~pl.col("is_stored_closed"))),
        ("closed_sessions", replaced.filter("is_stored_closed")),
    ):
        if not rows.is_empty():
            with registered(con, "replaced", rows.select("session_id").to_arrow()):
                con.execute(f"delete from stream.{table} where session_id in (select session_id from replaced)")
    columns = SESSION_COLUMNS.split(", ")
    with registered(con, "closed", sessions.filter(~pl.col("stays_open")).select(columns).to_arrow()):
        con.execute(f"insert into stream.closed_sessions ({SESSION_COLUMNS}) select * from closed")
    with registered(con, "opened", sessions.filter("stays_open").select(*columns, "topic", "partition").to_arrow()):
        con.execute(f'insert into stream.open_sessions ({SESSION_COLUMNS}, topic, "partition") select * from opened')


def close_sessions(
    con: duckdb.DuckDBPyConnection, progress: Collection[Progress], gap: timedelta
) -> pl.DataFrame | None:
    """Closes what the watermark of its partition has passed by more than `gap`. Returns how these ended, by the columns
    of OPEN_ENDINGS."""
    marked = [p for p in progress if p.watermark is not None]
    if not marked:
        return None
    passed = " or ".join(['(topic = ? and "partition" = ? and ended_at + ? < ?)'] * len(marked))
    values = [value for p in marked for value in (p.topic, p.partition, gap, p.watermark)]
    ended = con.execute(f"{OPEN_ENDINGS} where {passed}", values).pl()
    if not ended.is_empty():
        con.execute(f"{_CLOSE} where {passed}", values)
        con.execute(f"delete from stream.open_sessions where {passed}", values)
    return ended


def note_changes(con: duckdb.DuckDBPyConnection, replaced: pl.DataFrame, sessions: pl.DataFrame) -> None:
    """Records in stream.session_changes which sessions are no more, and which one has their first event now."""
    gone = replaced.join(sessions.select("session_id"), on="session_id", how="anti")
    if gone.is_empty():
        return
    with registered(con, "gone", gone.to_arrow()), registered(con, "made", sessions.to_arrow()):
        con.execute(
            """
            insert into stream.session_changes (session_id, superseded_by, revision, changed_at)
            select g.session_id, m.session_id, g.revision, now()
            from gone g left join made m on m.anonymous_id = g.anonymous_id
              and (g.started_at, g.first_message_id) between (m.started_at, m.first_message_id)
                                                         and (m.ended_at, m.last_message_id)
            """
        )


def superseded(con: duckdb.DuckDBPyConnection, session_ids: pl.Series) -> pl.DataFrame:
    """session_id and last revision of those of `session_ids` that are superseded now, and come back."""
    with registered(con, "asked", pl.DataFrame({"session_id": session_ids}).to_arrow()):
        return con.execute(
            """
            select session_id, max(revision) as revision from stream.session_changes semi join asked using (session_id)
            where session_id not in (select session_id from stream.sessions semi join asked using (session_id))
            group by session_id
            """
        ).pl()


def append_dead_letters(con: duckdb.DuckDBPyConnection, letters: list[pa.Table]) -> None:
    """Appends to stream.dead_letters."""
    if not letters:
        return
    with registered(con, "letters", pa.concat_tables(letters)):
        con.execute(
            'insert into stream.dead_letters (topic, "partition", "offset", reason, detail, key, raw, kafka_at, '
            "dead_at) select *, now() from letters"
        )


def append_identity(
    con: duckdb.DuckDBPyConnection, facts: pl.DataFrame, verdicts: pl.DataFrame, gone: pl.DataFrame
) -> None:
    """Appends facts and verdicts to the ledger; the verdicts in `gone` no longer hold, and are dropped."""
    if not gone.is_empty():
        with registered(con, "gone", gone.to_arrow()):
            con.execute(
                """
                delete from stream.identity_verdicts v using gone g
                where v.verdict = g.verdict and v.anonymous_id = g.anonymous_id and v.message_id = g.message_id
                  and v.user_id is not distinct from g.user_id
                """
            )
    for table, rows in (("identity_facts", facts), ("identity_verdicts", verdicts)):
        if not rows.is_empty():
            with registered(con, "told", rows.to_arrow()):
                con.execute(
                    f"insert into stream.{table} ({', '.join(rows.columns)}, recorded_at) select *, now() from told"
                )


def change_overrides(con: duckdb.DuckDBPyConnection, cuts: pl.DataFrame, overrides: pl.DataFrame) -> None:
    """Appends `overrides`. What there is already of the devices in `cuts` (anonymous_id, from_at, from_message_id) ends
    there."""
    rows = [overrides] if not overrides.is_empty() else []
    if not cuts.is_empty():
        with registered(con, "cuts", cuts.to_arrow()):
            spanning = con.execute(_SPANNING).pl()
            con.execute(_FROM_THE_CUT_ON)
        if not spanning.is_empty():
            rows.append(spanning.select(overrides.columns).cast(overrides.schema))
    if rows:
        with registered(con, "told", pl.concat(rows).to_arrow()):
            con.execute(f"insert into stream.person_overrides ({', '.join(overrides.columns)}) select * from told")


_SPANNING: Final = """
select o.anonymous_id, o.from_at, c.from_at as to_at, o.person_id, o.from_message_id, c.from_message_id as to_message_id
from stream.person_overrides o join cuts c using (anonymous_id)
where (o.from_at, o.from_message_id) < (c.from_at, c.from_message_id)
  and (o.to_at, o.to_message_id) > (c.from_at, c.from_message_id)
"""
_FROM_THE_CUT_ON: Final = """
delete from stream.person_overrides o using cuts c
where o.anonymous_id = c.anonymous_id and (o.to_at, o.to_message_id) > (c.from_at, c.from_message_id)
"""


def replace_overrides(con: duckdb.DuckDBPyConnection, devices: list[str], overrides: pl.DataFrame) -> None:
    """Puts `overrides` in the place of all that `devices` have."""
    con.execute("delete from stream.person_overrides where anonymous_id in (select unnest($1))", [devices])
    change_overrides(con, pl.DataFrame(), overrides)


def note_lost_records(
    con: duckdb.DuckDBPyConnection, topic: str, partition: int, from_offset: int, to_offset: int, reason: str
) -> None:
    """Appends to stream.lost_records, in the place of what a flow noted that was ended before it could go on."""
    con.execute(
        """
        delete from stream.lost_records where topic = $1 and "partition" = $2
          and from_offset between $3 and $4 and to_offset between $3 and $4
        """,
        [topic, partition, from_offset, to_offset],
    )
    con.execute(
        "insert into stream.lost_records values ($1, $2, $3, $4, $5, now())",
        [topic, partition, from_offset, to_offset, reason],
    )


def topic_id(con: duckdb.DuckDBPyConnection, topic: str) -> str | None:
    """The id that `topic` had when it was read last, or None if that is not known."""
    row = con.execute("select topic_id from stream.topics where topic = ?", [topic]).fetchone()
    return row[0] if row else None


def save_topic_id(con: duckdb.DuckDBPyConnection, topic: str, topic_id: str) -> None:
    con.execute("delete from stream.topics where topic = ?", [topic])
    con.execute("insert into stream.topics values (?, ?)", [topic, topic_id])


@contextmanager
def registered(con: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    con.register(name, table)
    try:
        yield
    finally:
        con.unregister(name)
