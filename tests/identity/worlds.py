"""A flow without its sources: the checkpoint over a real warehouse and a real Redis, told events commit by commit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import redis

from flows.checkpoint import Checkpointer
from flows.decode import Decoder
from flows.records import RawBatch, octets
from flows.rules import CheckpointLimits, FlowRules
from flows.sessions import SESSIONS
from identity.graph import Graph
from identity.stitch import Stitcher
from sinks.warehouse import Warehouse
from stitchline.errors import WarehouseUnwritable
from tests.flows.reference import sessions_of
from tests.identity.reference import Limits, Said, owners_of, persons_of, verdicts_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
RULES = FlowRules()
IN_MEMORY = Path(":memory:")
START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = CheckpointLimits(events=10**9, interval=timedelta(hours=1))  # only `finish` commits


@dataclass
class World:
    """A warehouse, its Redis and the flow between them, which can be stopped and started again."""

    path: Path
    """Of the warehouse; IN_MEMORY is one without a file."""
    redis_url: str
    rules: FlowRules = RULES
    offsets: dict[int, int] = field(default_factory=dict)
    unwritable: Callable[[WarehouseUnwritable], None] | None = None
    decoder: Decoder = field(default_factory=lambda: Decoder(timedelta(minutes=5)))

    @contextmanager
    def opened(self) -> Iterator[World]:
        with Warehouse.open(self.path, threads=1) as self.warehouse:
            self.start()
            try:
                yield self
            finally:
                self.graph.close()

    def start(self, limits: CheckpointLimits = NEVER) -> None:
        self.graph = Graph(self.redis_url, self.warehouse.warehouse_id, self.warehouse.generation, threading.Event())
        stitcher = Stitcher(self.graph, self.rules.legal, self.rules.sessions.logout_events, self.rules.links)
        stitcher.recover(self.warehouse)
        self.checkpointer = Checkpointer(self.warehouse, stitcher, self.rules, limits, unwritable=self.unwritable)

    def restart(self, *, forget: bool = False, limits: CheckpointLimits = NEVER) -> None:
        self.graph.close()
        if forget:
            clear(self.redis_url, self.warehouse.warehouse_id)
        self.start(limits)

    def commit(self, events: Iterable[Said], partition: int = 0) -> None:
        self.gather(events, partition)
        self.checkpointer.finish(close_sessions=False)

    def gather(self, events: Iterable[Said], partition: int = 0, *, foreign: bool = False) -> None:
        said = list(events)
        keys = [None if foreign else (event.anonymous_id or "").encode() for event in said]
        self.read(partition, keys, [record(event) for event in said])

    def read(
        self,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes | None],
        kafka_at: list[datetime] | None = None,
        end_read_at: datetime | None = None,
    ) -> None:
        """Gathers the next records of a partition. `end_read_at`: nothing waits behind them, at that time."""
        first = self.offsets.get(partition, 0)
        self.offsets[partition] = first + len(values)
        batch = RawBatch(
            topic="events",
            partition=partition,
            next_offset=first + len(values),
            values=octets(values),
            keys=octets(keys),
            offsets=np.arange(first, first + len(values), dtype=np.int64),
            kafka_at=None if kafka_at is None else np.array([(at - EPOCH) // MICROSECOND for at in kafka_at], np.int64),
            at_end=end_read_at is not None,
            read_at=end_read_at,
        )
        self.checkpointer.add(self.decoder.decode(batch))

    def twice(self) -> list[tuple[Any, ...]]:
        """Messages that are stored more than once."""
        return self.rows("select anonymous_id, message_id from stream.events group by all having count(*) > 1")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse.reader() as con:
            return con.execute(sql).fetchall()


def record(said: Said) -> bytes:
    kind = "alias" if said.previous_id is not None else "track"
    fields = {
        "messageId": said.message_id,
        "type": kind,
        "event": said.name if kind == "track" else None,
        "anonymousId": said.anonymous_id,
        "userId": said.user_id,
        "previousId": said.previous_id,
        "timestamp": said.event_at.isoformat(),
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def clear(redis_url: str, warehouse_id: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"stitchline:{{{warehouse_id}}}:*"):
            client.delete(key)


PERSONS_NOW = """
select e.anonymous_id, e.message_id, coalesce(o.person_id, e.person_id)
from stream.events e left join stream.person_overrides o
  on o.anonymous_id = e.anonymous_id
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
 and (e.user_id is null or e.person_id is distinct from e.user_id)
"""
"""An event twice here means that overrides overlap."""

SESSION_PERSONS_NOW = """
select s.anonymous_id, s.first_message_id, coalesce(s.user_id, o.person_id, s.person_id)
from stream.sessions s left join stream.person_overrides o
  on o.anonymous_id = s.anonymous_id
 and (s.started_at, s.first_message_id) >= (o.from_at, o.from_message_id)
 and (s.started_at, s.first_message_id) < (o.to_at, o.to_message_id)
"""


VERDICTS = "select verdict, anonymous_id, user_id from stream.identity_verdicts where verdict in ('shared', 'held')"


def limits_of(rules: FlowRules) -> Limits:
    """The numbers of `rules`, as the reference takes them."""
    links = rules.links
    return Limits(links.look_back, links.users_of_device, links.devices_of_user, links.within)


def check(world: World, events: list[Said]) -> None:
    """Against the references; `events` without copies."""
    limits = limits_of(world.rules)
    persons = persons_of(events, limits)
    assert {(kind, name): who for kind, name, who in world.rows("from stream.identities")} == owners_of(events, limits)
    assert sorted(world.rows(VERDICTS), key=str) == sorted(verdicts_of(events, limits), key=str)
    assert sorted(world.rows(PERSONS_NOW), key=str) == sorted(((*key, who) for key, who in persons.items()), key=str)
    expected = sessions_of([as_event(said) for said in events], RULES.sessions)
    names = SESSIONS.names()
    found = world.rows(
        f"select {', '.join(names)} from stream.sessions order by anonymous_id, started_at, first_message_id"
    )
    assert [dict(zip(names, row, strict=True)) for row in found] == [
        session | {"end_reason": session["end_reason"] or "gap"} for session in expected
    ]
    assert sorted(world.rows(SESSION_PERSONS_NOW)) == sorted(
        (
            s["anonymous_id"],
            s["first_message_id"],
            s["user_id"] or persons[s["anonymous_id"], s["first_message_id"]],
        )
        for s in expected
    )


def as_event(said: Said) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ["path", "referrer", "utm_source", "utm_medium", "utm_campaign", "device_type", "browser", "os", "library"],
        None,
    )
    return nothing | {
        "anonymous_id": said.anonymous_id,
        "message_id": said.message_id,
        "event_at": said.event_at,
        "type": "track" if said.previous_id is None else "alias",
        "name": said.name if said.previous_id is None else "alias",
        "user_id": said.user_id,
        "is_bot": False,
    }


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def anon(message_id: str, minutes: float, device: str = "d") -> Said:
    return Said(message_id, at(minutes), device)


def login(message_id: str, minutes: float, user: str, device: str = "d") -> Said:
    return Said(message_id, at(minutes), device, user)


def logout(message_id: str, minutes: float, device: str = "d", user: str | None = None) -> Said:
    return Said(message_id, at(minutes), device, user, "Signed Out")


def alias(message_id: str, minutes: float, user: str, device: str = "d") -> Said:
    return Said(message_id, at(minutes), None, user, "alias", device)


def email(message_id: str, minutes: float, device: str = "d") -> Said:
    return Said(message_id, at(minutes), device, None, "Email Opened")
