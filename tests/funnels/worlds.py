"""Small worlds of events, sessions and overrides, how they get into a warehouse, and what is read off an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa

from funnels import FunnelResult

START = datetime(2025, 6, 1, 12, tzinfo=UTC)


def at(seconds: float = 0, days: float = 0) -> datetime:
    """A time that long after START."""
    return START + timedelta(days=days, seconds=seconds)


@dataclass(frozen=True)
class Event:
    """A row of stream.events. `person` is the one known at commit: `user`, unless said otherwise, or the device."""

    name: str
    event_at: datetime
    message_id: str
    device: str | None = "d1"
    user: str | None = None
    person: str | None = None
    properties: Mapping[str, object] | None = None
    context: Mapping[str, object] | None = None
    path: str | None = None
    utm_source: str | None = None
    is_bot: bool = False
    is_background: bool = False
    offset: int = 0
    type: str = "track"

    @property
    def person_then(self) -> str:
        return self.person or self.user or f"anon:{self.device}"


@dataclass(frozen=True)
class Session:
    """A row of stream.closed_sessions; the bounds are (event_at, message_id), both inclusive."""

    session_id: str
    device: str
    first: tuple[datetime, str]
    last: tuple[datetime, str]
    is_bot: bool = False
    browser: str | None = None
    page_count: int = 0

    @property
    def started_at(self) -> datetime:
        return self.first[0]


@dataclass(frozen=True)
class Override:
    """A row of stream.person_overrides; from `first`, inclusive, to `end`, exclusive."""

    device: str
    first: tuple[datetime, str]
    end: tuple[datetime, str]
    person: str


@dataclass(frozen=True)
class World:
    """What a warehouse holds."""

    events: Sequence[Event] = ()
    sessions: Sequence[Session] = ()
    overrides: Sequence[Override] = ()
    bot_devices: Sequence[str] = ()
    watermarks: Sequence[datetime | None] = field(default=(at(days=365),))


def alone(*events: Event) -> World:
    """A world of events and nothing else."""
    return World(events)


def counts(result: FunnelResult) -> list[int]:
    """How many reached each step."""
    return [step.count for step in result.steps]


def fill(con: duckdb.DuckDBPyConnection, world: World) -> None:
    """Makes `world` all that the warehouse holds, in a transaction that the next world ends: so nothing is left."""
    with suppress(duckdb.TransactionException):
        con.rollback()
    con.begin()
    put(con, world)


def put(con: duckdb.DuckDBPyConnection, world: World) -> None:
    """Adds `world` to what the warehouse holds."""
    _insert(
        con,
        "events",
        [
            {
                "message_id": event.message_id,
                "type": event.type,
                "name": event.name,
                "anonymous_id": event.device,
                "user_id": event.user,
                "person_id": event.person_then,
                "event_at": event.event_at,
                "received_at": event.event_at,
                "path": event.path,
                "utm_source": event.utm_source,
                "properties": None if event.properties is None else json.dumps(event.properties),
                "context": None if event.context is None else json.dumps(event.context),
                "clock_skewed": False,
                "is_bot": event.is_bot,
                "is_background": event.is_background,
                "partition": 0,
                "offset": event.offset,
            }
            for event in world.events
        ],
    )
    _insert(
        con,
        "closed_sessions",
        [
            {
                "session_id": session.session_id,
                "anonymous_id": session.device,
                "person_id": f"anon:{session.device}",
                "started_at": session.first[0],
                "ended_at": session.last[0],
                "event_count": 1,
                "page_count": session.page_count,
                "browser": session.browser,
                "start_reason": "first",
                "is_bot": session.is_bot,
                "revision": 0,
                "first_message_id": session.first[1],
                "last_message_id": session.last[1],
            }
            for session in world.sessions
        ],
    )
    _insert(
        con,
        "person_overrides",
        [
            {
                "anonymous_id": override.device,
                "from_at": override.first[0],
                "from_message_id": override.first[1],
                "to_at": override.end[0],
                "to_message_id": override.end[1],
                "person_id": override.person,
            }
            for override in world.overrides
        ],
    )
    _insert(
        con,
        "bot_devices",
        [{"anonymous_id": device, "reason": "test", "first_seen_at": START} for device in world.bot_devices],
    )
    _insert(
        con,
        "progress",
        [
            {
                "topic": "events",
                "partition": partition,
                "watermark": watermark,
                "committed_at": START,
                **dict.fromkeys(("next_offset", "consumed", "stored", "duplicates", "dead", "late", "foreign_keys"), 0),
            }
            for partition, watermark in enumerate(world.watermarks)
        ],
    )


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]]) -> None:
    if rows:
        con.register("rows", pa.Table.from_pylist(rows))
        con.execute(f"insert into stream.{table} by name from rows")
        con.unregister("rows")
