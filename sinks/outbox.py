"""What has to be said in Slack, on record: put there with the change it tells of, in one transaction; claimed by one
sender at a time; kept until Slack has it.

Every function works on a connection inside somebody's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import duckdb

BASE_URL: Final = "https://slack.com/api/"
"""Where Slack's Web API is."""

ItemKind = Literal["message", "reply", "image"]
State = Literal["waiting", "said", "stuck", "withdrawn"]

_INSERT: Final = """
insert into anomalies.outbox (item_id, kind, incident_id, position, channel, payload, image, wanted, said, state,
    is_unsure, attempts, due_at, created_at)
select $item_id, $kind, $incident_id, $position, $channel, $payload, $image, 1, 0, 'waiting', false, 0, $now, $now
where not exists (from anomalies.outbox where item_id = $item_id)
  and not exists (from anomalies.outbox where item_id = $incident_id and state = 'withdrawn')
"""
_ITEM: Final = (
    *("item_id", "kind", "incident_id", "position", "channel", "channel_id", "payload", "image", "wanted", "said"),
    *("ts", "former_ts", "is_unsure", "attempts", "created_at"),
)
# One item of an incident at a time: first its message, then the replies in their order. No text waits for a picture.
_DUE: Final = f"""
select {", ".join(f"o.{name}" for name in _ITEM)}, m.ts, m.former_ts, m.channel_id
from anomalies.outbox o
join anomalies.outbox m on m.incident_id = o.incident_id and m.kind = 'message'
where o.state in ('waiting', 'stuck') and o.due_at <= $now and not list_contains($not_in, o.channel)
  and (o.kind = 'message' or (m.ts is not null and m.state in ('waiting', 'said')))
  and not exists (
    from anomalies.outbox c where c.incident_id = o.incident_id and c.claimed_until > $now
  )
  and not exists (
    from anomalies.outbox e where e.incident_id = o.incident_id and e.kind = 'reply' and o.kind = 'reply'
      and e.position < o.position and e.state in ('waiting', 'stuck')
  )
order by o.kind = 'message' desc, o.due_at, o.created_at, o.position, o.item_id
limit 1
"""
# When the first that waits of each incident may be tried: its thread waits for the message, and for who claimed it.
_NEXT_DUE: Final = """
with firsts as (
    select incident_id, due_at, kind from anomalies.outbox where state in ('waiting', 'stuck')
    qualify kind <> 'reply' or row_number() over (partition by incident_id, kind order by position) = 1
),
claims as (
    select incident_id, max(claimed_until) as claimed_until from anomalies.outbox group by incident_id
)
select min(greatest(f.due_at, coalesce(c.claimed_until, f.due_at),
    case when m.ts is null or m.state = 'stuck' then m.due_at else f.due_at end))
from firsts f
join claims c using (incident_id)
join anomalies.outbox m on m.incident_id = f.incident_id and m.kind = 'message'
"""


@dataclass(slots=True)
class Item:
    """One thing to say. `payload` is as it has to be said now."""

    item_id: str
    kind: ItemKind
    incident_id: str
    position: int
    channel: str
    channel_id: str | None
    payload: dict[str, Any]
    image: bytes | None
    wanted: int
    said: int
    ts: str | None
    former_ts: str | None
    is_unsure: bool
    """Whether an earlier try may have come through."""
    attempts: int
    created_at: datetime
    thread_ts: str | None
    """Of the incident's message."""
    former_thread_ts: str | None
    claimed_until: datetime


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is not said, and why: one row for each channel and error."""

    channel: str
    error: str
    items: int
    since: datetime
    next_try_at: datetime


def put_message(
    con: duckdb.DuckDBPyConnection, incident_id: str, channel: str, payload: Mapping[str, Any], now: datetime
) -> None:
    """The incident's message shall say this from now on. The channel stays the first one."""
    text = _json(payload)
    _put(con, incident_id, "message", incident_id, 0, channel, text, None, now)
    con.execute(
        "update anomalies.outbox set payload = $payload, wanted = wanted + 1, "
        "state = case when state = 'said' then 'waiting' else state end, "
        "due_at = case when state = 'said' then $now else due_at end "
        "where item_id = $item_id and payload <> $payload and state <> 'withdrawn'",
        {"payload": text, "item_id": incident_id, "now": now},
    )


def put_reply(
    con: duckdb.DuckDBPyConnection,
    change_id: str,
    incident_id: str,
    position: int,
    payload: Mapping[str, Any],
    now: datetime,
) -> None:
    """This shall be said in the incident's thread, once, whatever was put before under that id."""
    _put(con, change_id, "reply", incident_id, position, _channel(con, incident_id), _json(payload), None, now)


def put_image(
    con: duckdb.DuckDBPyConnection, incident_id: str, image: bytes, name: str, shows: str, now: datetime
) -> None:
    """The picture shall be in the incident's thread, once. `shows` is for who cannot see it."""
    payload = _json({"name": name, "shows": shows})
    channel = _channel(con, incident_id)
    _put(con, f"{incident_id}-chart", "image", incident_id, 0, channel, payload, image, now)


def without_image(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The incidents whose message is on record, and no picture."""
    rows = con.execute(
        "select incident_id from anomalies.outbox where kind = 'message' and state <> 'withdrawn' "
        "and incident_id in (select incident_id from anomalies.incidents) "  # other messages have none
        "and incident_id not in (select incident_id from anomalies.outbox where kind = 'image') "
        "order by created_at, incident_id"
    ).fetchall()
    return [incident_id for (incident_id,) in rows]


def claim(
    con: duckdb.DuckDBPyConnection, sender: str, now: datetime, lease: timedelta, not_in: Collection[str] = ()
) -> Item | None:
    """The next item that is due, claimed for `sender` until now + lease: until then nobody else takes anything of the
    incident. From here on Slack may have it, whatever becomes of this process."""
    row = con.execute(_DUE, {"now": now, "not_in": list(not_in)}).fetchone()
    if row is None:
        return None
    *told, thread_ts, former_thread_ts, channel_id = row
    values = dict(zip(_ITEM, told, strict=True))
    values["payload"] = json.loads(values["payload"])
    values["channel_id"] = values["channel_id"] or channel_id
    until = now + lease
    con.execute(
        "update anomalies.outbox set claimed_by = ?, claimed_until = ?, is_unsure = true, attempts = attempts + 1 "
        "where item_id = ?",
        [sender, until, values["item_id"]],
    )
    return Item(**values, thread_ts=thread_ts, former_thread_ts=former_thread_ts, claimed_until=until)


def said(con: duckdb.DuckDBPyConnection, item: Item, ts: str, channel_id: str, now: datetime) -> None:
    """Slack has it. What waits in the same channel because that could not be used is due at once."""
    con.execute(
        "update anomalies.outbox set ts = $ts, channel_id = $channel_id, said = $wanted, said_at = $now, "
        "state = case when wanted = $wanted then 'said' else 'waiting' end, due_at = $now, attempts = 0, "
        "is_unsure = false, claimed_by = null, claimed_until = null, error = null where item_id = $item_id",
        {"ts": ts, "channel_id": channel_id, "wanted": item.wanted, "now": now, "item_id": item.item_id},
    )
    con.execute(
        "update anomalies.outbox set state = 'waiting', due_at = ?, error = null where state = 'stuck' and channel = ?",
        [now, item.channel],
    )


def put_off(con: duckdb.DuckDBPyConnection, item: Item, due_at: datetime, error: str, *, unsure: bool) -> None:
    """It is tried again at `due_at`."""
    con.execute(
        "update anomalies.outbox set due_at = ?, error = ?, is_unsure = ?, claimed_by = null, claimed_until = null "
        "where item_id = ?",
        [due_at, error, unsure, item.item_id],
    )


def hold_channel(con: duckdb.DuckDBPyConnection, item: Item, due_at: datetime, error: str) -> None:
    """Slack asked for a pause: nothing goes to the channel before `due_at`."""
    put_off(con, item, due_at, error, unsure=item.is_unsure)
    con.execute(
        "update anomalies.outbox set due_at = ? where state = 'waiting' and channel = ? and due_at < ?",
        [due_at, item.channel, due_at],
    )


def stick(
    con: duckdb.DuckDBPyConnection,
    item: Item,
    due_at: datetime,
    error: str,
    scope: Literal["all", "channel", "item"],
) -> None:
    """Nothing of that scope can be said until somebody mends it; it is looked at again at `due_at`."""
    put_off(con, item, due_at, error, unsure=item.is_unsure)
    where = {"all": "true", "channel": "channel = $channel", "item": "item_id = $item_id"}[scope]
    con.execute(
        "update anomalies.outbox set state = 'stuck', due_at = $due_at, error = $error "
        f"where state in ('waiting', 'stuck') and {where} and $channel = $channel and $item_id = $item_id",
        {"due_at": due_at, "error": error, "channel": item.channel, "item_id": item.item_id},
    )


def gone(con: duckdb.DuckDBPyConnection, item: Item, now: datetime) -> bool:
    """The incident's message was deleted. Returns whether it is posted anew: the first time it is, after that whoever
    deletes it means it, and nothing more is said of the incident."""
    row = con.execute(
        "select ts, former_ts from anomalies.outbox where item_id = ? and kind = 'message'", [item.incident_id]
    ).fetchone()
    assert row is not None
    ts, former_ts = row
    if former_ts is not None:
        con.execute(
            "update anomalies.outbox set state = 'withdrawn', claimed_by = null, claimed_until = null "
            "where incident_id = ? and (kind = 'message' or state <> 'said')",
            [item.incident_id],
        )
        return False
    if item.kind != "message":
        put_off(con, item, now, "the message was deleted", unsure=item.is_unsure)
    con.execute(
        "update anomalies.outbox set ts = null, former_ts = ?, said = 0, state = 'waiting', due_at = ?, "
        "is_unsure = false, claimed_by = null, claimed_until = null where item_id = ?",
        [ts, now, item.incident_id],
    )
    return True


def next_due(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """When there is something to say again; None if everything is said."""
    row = con.execute(_NEXT_DUE).fetchone()
    return row[0] if row else None


def troubles(con: duckdb.DuckDBPyConnection) -> list[Trouble]:
    """What Slack refuses or could not be told, by channel and error."""
    rows = con.execute(
        "select channel, error, count(*), min(created_at), min(due_at) from anomalies.outbox "
        "where state in ('waiting', 'stuck') and error is not null group by channel, error order by channel, error"
    ).fetchall()
    return [Trouble(*row) for row in rows]


def _put(
    con: duckdb.DuckDBPyConnection,
    item_id: str,
    kind: ItemKind,
    incident_id: str,
    position: int,
    channel: str,
    payload: str,
    image: bytes | None,
    now: datetime,
) -> None:
    values = {"item_id": item_id, "kind": kind, "incident_id": incident_id, "position": position, "channel": channel}
    con.execute(_INSERT, {**values, "payload": payload, "image": image, "now": now})


def _channel(con: duckdb.DuckDBPyConnection, incident_id: str) -> str:
    row = con.execute("select channel from anomalies.outbox where item_id = ?", [incident_id]).fetchone()
    assert row is not None, "a thread begins with its message"
    return str(row[0])


def _json(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False, sort_keys=True)
