"""Whatever arrives, in whatever order: the stream's sessions are the batch definition's and the naive reference's.

One property through the real checkpoint, DuckDB and Redis. What arrives is drawn; after every commit all that is stored
and shown is compared with what the references make of the first arrival of each message.

An example is one history of a few devices. A crowd of them, each drawn by itself, with ids and partitions of its own,
goes through the same commits: what a history arrives with does not depend on the others.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.reconcile import compare
from flows.rules import FlowRules
from flows.session_rules import SessionRules
from flows.sessions import SESSIONS
from identity.claims import LinkRules
from tests.crowds import crowds, of_crowds
from tests.flows.reference import BACKGROUND, LOGOUTS, Session, sessions_of
from tests.flows.sent import FIREFOX, GOOGLEBOT, Sent
from tests.identity.reference import owners_of, persons_of, verdicts_of
from tests.identity.worlds import (
    IN_MEMORY,
    MICROSECOND,
    NEVER,
    SESSION_PERSONS_NOW,
    START,
    VERDICTS,
    World,
    clear,
    limits_of,
)

MILLISECOND = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MANY, FEW = 35, 20
"""Histories of a crowd, in the long form and in the short one: a commit by itself costs as much as what so many of them
have in it."""
FORGETFUL = replace(NEVER, forget_every=1)
KAFKA_FROM = START + 100 * DAY
"""When Kafka got the first record: all of it is a backfill."""

Fields = dict[str, Any]

# What each device does: how long after the event before, and what.
STEPS = [timedelta(), timedelta(), MICROSECOND, MINUTE, 20 * MINUTE, 20 * MINUTE]
GAPS = [30 * MINUTE - MICROSECOND, 30 * MINUTE, 30 * MINUTE + MICROSECOND, 30 * MINUTE + MILLISECOND, HOUR]
LEAPS = [12 * HOUR, 12 * HOUR + MILLISECOND, DAY, 29 * DAY, 30 * DAY - MICROSECOND, 30 * DAY, 30 * DAY + MICROSECOND]
STRIDES = [[*STEPS, *GAPS], [*STEPS, *GAPS], [*STEPS, *GAPS, *LEAPS], [timedelta(), 12 * HOUR, 12 * HOUR]]
ON_AND_ON = "on and on"
"""Fifty events in a session of exactly 24 hours, or of a millisecond more."""

ANONYMOUS: list[Fields] = [
    {},
    {},
    {},
    {"type": "page", "path": "/a"},
    {"type": "page", "path": "/b", "referrer": "r", "agent": FIREFOX},
    {"type": "screen", "referrer": "q"},
    {"campaign": ("x", None, None)},
    {"campaign": ("x", "y", None), "path": "/c"},
    {"agent": GOOGLEBOT},
    {"type": "group"},
    {"library": "tv"},
    {"library": "tv"},
    {"library": "kiosk"},
    {"user_id": "guest"},
    {"user_id": "u" * 201},
    {"track": "Email Opened"},
    {"track": "Email Sent", "user_id": "u2", "agent": GOOGLEBOT},
]
KNOWN: list[Fields] = [
    {"user_id": "u1"},
    {"user_id": "u1"},
    {"user_id": "u2"},
    {"user_id": "U1"},
    {"type": "identify", "user_id": "u1"},
    {"type": "identify", "user_id": "u2"},
    {"track": "Signed Out"},
    {"track": "Logout", "user_id": "u1"},
]
NO_DEVICE: list[Fields] = [
    {"anonymous_id": None, "user_id": "u1"},
    {"anonymous_id": None, "user_id": "u1", "type": "alias", "previous_id": "d"},
    {"anonymous_id": None, "user_id": "u2", "type": "alias", "previous_id": "é"},
    {"anonymous_id": None, "user_id": "u1", "type": "alias", "previous_id": "u2"},
    {"anonymous_id": None, "user_id": "u1", "type": "alias", "previous_id": "u2"},
    {"user_id": "u3", "type": "alias", "previous_id": "d"},
    {"anonymous_id": None, "user_id": "guest", "type": "alias", "previous_id": "d"},
    {"anonymous_id": "u3", "user_id": "u2"},
]
DOINGS = [ANONYMOUS, [*ANONYMOUS, *KNOWN], [*ANONYMOUS, *KNOWN, *NO_DEVICE], [*KNOWN, *KNOWN, *NO_DEVICE]]
CLOCKS = ["right"] * 14 + ["fast, corrected", "two years ahead"]
LATENESS = [timedelta()] * 6 + [MINUTE / 2, 3 * HOUR, 2 * DAY, 30 * DAY]
COPIES = [None] * 14 + ["the same", "sent again", "another time", "long after"]
FOREIGN = [False] * 5 + [True]
TROUBLES: list[tuple[str, timedelta, str | None, bool]] = list(itertools.product(CLOCKS, LATENESS, COPIES, FOREIGN))
# Made once: Hypothesis looks at everything there is to choose from, of each choice anew.
WALKS: list[st.SearchStrategy[Any]] = [
    st.sampled_from([*strides * 3, ON_AND_ON] if i == 0 else strides) for i, strides in enumerate(STRIDES)
]
WORKS = [st.sampled_from(doings) for doings in DOINGS]
TROUBLED = st.sampled_from(TROUBLES)
RULES = st.builds(
    SessionRules,
    gap_by_library=st.sampled_from([{}, {}, {"tv": 12 * HOUR, "kiosk": MILLISECOND}]),
    split_at_midnight=st.sampled_from([False, False, True]),
    split_on_campaign=st.sampled_from([False, False, True]),
)
LINKS = [
    LinkRules(),
    LinkRules(),
    LinkRules(users_of_device=1),
    LinkRules(devices_of_user=1, within=HOUR),
    LinkRules(users_of_device=1, devices_of_user=1, within=30 * DAY, look_back=DAY),
]


@dataclass(frozen=True)
class Arrival:
    """A record as it comes."""

    sent: Sent | None
    """None for a record that is no event."""
    place: int = 0
    """Which of its history's partitions it comes from: the one that its device has, or, foreign, the next one."""
    is_foreign: bool = False


@dataclass(frozen=True)
class Piece:
    """What one commit takes of a history."""

    arrivals: Sequence[Arrival]
    is_mixed: bool
    """Its partitions are read as the records arrive, and else one after the other."""
    quiet: timedelta | None = None
    """The partitions' ends were reached so long after their last records."""


@dataclass(frozen=True)
class History:
    """What a few devices send."""

    partitions: int
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Stream:
    rules: SessionRules
    links: LinkRules
    has_kafka_times: bool
    histories: Sequence[History]
    then: Sequence[str]
    """What happens after each commit. There are as many as the longest history has pieces."""


@st.composite
def events_of_devices(draw: st.DrawFn) -> list[tuple[Sent, timedelta, str | None, bool]]:
    """Events of a few devices, each with how late it comes, which copy of it comes too, and whether it is foreign."""
    events: list[tuple[Sent, timedelta, str | None, bool]] = []
    numbers = list(range(400))
    Random(draw(st.integers(0, 999))).shuffle(numbers)
    for device in draw(st.sampled_from([["d"], ["d", "u2"], ["d", "é", "u2"], ["é", "u2", "undefined", "d"]])):
        at = START + draw(st.sampled_from([timedelta(), 12 * HOUR, 23 * HOUR, 40 * DAY]))
        walk, work = draw(st.sampled_from(WALKS)), draw(st.sampled_from(WORKS))
        rows = draw(st.lists(st.tuples(walk, work, TROUBLED), min_size=3, max_size=12))
        for step, doing, (clock, late, copy, is_foreign) in rows:
            if step == ON_AND_ON:
                for _ in range(49):
                    at += 29 * MINUTE
                    events.append((Sent(f"b{numbers.pop()}", at, device), late, None, False))
                at += 19 * MINUTE + (MILLISECOND if copy else timedelta())
            else:
                at += step
            sent = Sent(**{"message_id": f"m{numbers.pop()}", "timestamp": at, "anonymous_id": device, **doing})
            if clock == "two years ahead":
                sent = replace(sent, timestamp=at + 731 * DAY)
            elif clock == "fast, corrected":
                ahead, received = at + 3 * HOUR, at + 5 * MILLISECOND
                sent = replace(sent, timestamp=ahead, sent_at=ahead + 5 * MILLISECOND, received_at=received)
            events.append((sent, late, copy, is_foreign))
    return events


def copy_of(sent: Sent, kind: str) -> Sent:
    if kind == "sent again":
        again = sent.timestamp + HOUR
        return replace(sent, sent_at=again, received_at=again + 2 * MINUTE)
    if kind == "another time":
        return replace(sent, timestamp=sent.timestamp - 25 * MINUTE, user_id="u2")
    if kind == "long after":
        return replace(sent, timestamp=sent.timestamp + 2 * DAY, track="Logout")
    return sent


@st.composite
def histories(draw: st.DrawFn) -> History:
    events = draw(events_of_devices())
    arriving = [
        (event.timestamp + late, i, _arrival(event, foreign)) for i, (event, late, _, foreign) in enumerate(events)
    ]
    for i, (event, late, kind, foreign) in enumerate(events):
        if kind is not None:
            again = event.timestamp + late + (MINUTE if i % 2 else DAY)
            arriving.append((again, len(events) + i, _arrival(copy_of(event, kind), foreign)))
    arriving.sort(key=lambda row: row[:2])
    arrivals = [arrival for _, _, arrival in arriving]
    if draw(st.sampled_from([False, False, True])):
        Random(draw(st.integers(0, 999))).shuffle(arrivals)
    if draw(st.integers(0, 3)) == 0:
        arrivals.insert(len(arrivals) // 2, Arrival(None))
    cuts = sorted(draw(st.lists(st.integers(1, len(arrivals)), max_size=3)))
    pieces = [
        Piece(
            arrivals[start:end],
            draw(st.booleans()),
            draw(st.sampled_from([None, None, timedelta(), 2 * HOUR, 40 * DAY])),
        )
        for start, end in itertools.pairwise([0, *cuts, len(arrivals)])
        if start < end
    ]
    return History(draw(st.integers(1, 3)), pieces)


def _arrival(sent: Sent, is_foreign: bool) -> Arrival:
    return Arrival(sent, len((sent.anonymous_id or "").encode()) + is_foreign, is_foreign)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    crowd = [told_apart(history, number) for number, history in enumerate(draw(crowds(histories(), MANY, FEW)))]
    then = st.sampled_from(["", "", "", "restart", "without Redis", "forgetful", "another partition"])
    commits = max(len(history.pieces) for history in crowd)
    return Stream(
        draw(RULES), draw(st.sampled_from(LINKS)), draw(st.booleans()), crowd, [draw(then) for _ in range(commits)]
    )


def told_apart(history: History, number: int) -> History:
    """The same with devices, users and messages that no other history of the crowd has."""
    if number == 0:
        return history

    def told(name: str | None) -> str | None:
        if name == "undefined":  # which is nobody's id, however it is written
            return "".join(c.upper() if number >> i & 1 else c for i, c in enumerate(name))
        return name if name is None or len(name) > 2 else f"{name}.{number}"

    def one(arrival: Arrival) -> Arrival:
        sent = arrival.sent
        if sent is None:
            return arrival
        return replace(
            arrival,
            sent=replace(
                sent,
                message_id=f"{sent.message_id}.{number}",
                anonymous_id=told(sent.anonymous_id),
                user_id=told(sent.user_id),
                previous_id=told(sent.previous_id),
            ),
        )

    return replace(
        history,
        pieces=[replace(piece, arrivals=[one(arrival) for arrival in piece.arrivals]) for piece in history.pieces],
    )


@of_crowds(MANY, FEW)
@given(streams())
def test_stream_and_batch_and_reference_agree(redis_url: str, stream: Stream) -> None:
    rules = FlowRules(sessions=stream.rules, links=stream.links)
    world = World(IN_MEMORY, redis_url, rules)
    with world.opened():
        told = Told(world, stream)
        for number in range(len(stream.then)):
            told.commit(number)
            told.check()
            if number + 1 < len(stream.then):
                told.go_on(stream.then[number])
        world.checkpointer.finish(close_sessions=True)
        told.check_at_the_end()
        with world.warehouse.transaction() as con:
            assert compare(con, rules)[1] == []
    clear(redis_url, world.warehouse.warehouse_id)


MOST_PARTITIONS = 6
"""Of one history: three, and one more after each commit but the last."""


class Told:
    """What was sent into a world, and what it has to show for it."""

    def __init__(self, world: World, stream: Stream) -> None:
        self.world = world
        self.stream = stream
        self.added = 0
        """Partitions."""
        self.number = 0
        self.first: dict[tuple[str | None, str], tuple[Sent, datetime, int]] = {}
        """By device and message: what came first, when that happened, and its partition."""
        self.counts: dict[int, Counter[str]] = {}
        self.shown: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, int] = {}
        self.marks: dict[int, datetime] = {}
        """Watermarks by partition, and below when the devices' open sessions started: as the last commit left them."""
        self.open: dict[str, datetime] = {}

    def commit(self, number: int) -> None:
        progress = self.world.checkpointer.progress
        self.marks = {key[1]: p.watermark for key, p in progress.items() if p.watermark is not None}
        self.open = dict(self.world.rows("select anonymous_id, started_at from stream.open_sessions"))
        for i, history in enumerate(self.stream.histories):
            if number < len(history.pieces):
                self._read(history.pieces[number], i * MOST_PARTITIONS, history.partitions + self.added)
        self.world.checkpointer.finish(close_sessions=False)

    def _read(self, piece: Piece, first: int, partitions: int) -> None:
        """The `partitions` from number `first` on are those of the piece's history."""
        placed = [(first + arrival.place % partitions, arrival) for arrival in piece.arrivals]
        if not piece.is_mixed:
            placed.sort(key=lambda row: row[0])
        for partition, arrivals in itertools.groupby(placed, lambda row: row[0]):
            records = [(arrival, at) for _, arrival in arrivals if (at := self._take(arrival, partition)) is not None]
            if not records:
                continue
            kafka_at = [at for _, at in records] if self.stream.has_kafka_times else None
            self.world.read(
                partition,
                [self._key(arrival) for arrival, _ in records],
                [b"broken" if arrival.sent is None else arrival.sent.payload() for arrival, _ in records],
                kafka_at,
                kafka_at[-1] + piece.quiet if kafka_at and piece.quiet is not None else None,
            )

    def go_on(self, then: str) -> None:
        if then == "another partition":
            self.added += 1
        elif then:
            limits = FORGETFUL if then == "forgetful" else NEVER
            self.world.restart(forget=then == "without Redis", limits=limits)

    def _key(self, arrival: Arrival) -> bytes | None:
        return None if arrival.sent is None or arrival.is_foreign else (arrival.sent.anonymous_id or "").encode()

    def _take(self, arrival: Arrival, partition: int) -> datetime | None:
        """Notes the record and returns Kafka's time of it; None if it is not to be sent."""
        kafka_at = KAFKA_FROM + timedelta(seconds=self.number)
        counts = self.counts.setdefault(partition, Counter())
        if arrival.sent is None:
            counts.update(["consumed", "dead"])
        else:
            sent = arrival.sent
            event_at = sent.happened(kafka_at if self.stream.has_kafka_times else None)
            is_copy = (sent.anonymous_id, sent.message_id) in self.first
            if is_copy and not self._has_to_be_known(sent, event_at, partition):
                return None
            counts.update(["consumed", "duplicates" if is_copy else "stored"])
            self.first.setdefault((sent.anonymous_id, sent.message_id), (sent, event_at, partition))
        self.number += 1
        return kafka_at

    def _has_to_be_known(self, copy: Sent, event_at: datetime, partition: int) -> bool:
        """Rule 8: what is above the watermark or of an open session is remembered, and what is older than the watermark
        is looked up. A copy with a new time long after is left to those who read the events."""
        _, first_at, first_partition = self.first[copy.anonymous_id, copy.message_id]
        start = partition - partition % MOST_PARTITIONS
        marks = {p: self.marks[p] for p in range(start, start + MOST_PARTITIONS) if p in self.marks}
        if not marks or event_at <= marks.get(partition, max(marks.values())):
            return True
        if first_partition not in marks or first_at > marks[first_partition]:
            return True
        started_at = self.open.get(copy.anonymous_id or "")
        return started_at is not None and started_at <= first_at

    # What has to be so after every commit

    def check(self) -> None:
        self._check_counts()
        events = [(sent, at) for sent, at, _ in self.first.values()]
        said, limits = [sent.said(at) for sent, at in events], limits_of(self.world.rules)
        persons = persons_of(said, limits)
        assert Counter(self.world.rows(VERDICTS)) == Counter(verdicts_of(said, limits))
        assert Counter(self.world.rows(EVENTS_NOW)) == Counter(
            (sent.anonymous_id, sent.message_id, at, persons[sent.anonymous_id, sent.message_id]) for sent, at in events
        )
        expected = sessions_of([sent.event(at) for sent, at in events], self.stream.rules)
        shown = self._shown()
        assert [{name: row[name] for name in SESSIONS.names()} for row in shown] == [
            wanted | {"end_reason": wanted["end_reason"] or row["end_reason"]}
            for wanted, row in itertools.zip_longest(expected, shown, fillvalue={"end_reason": "?"})
        ]
        for wanted, row in zip(expected, shown, strict=True):
            assert row["end_reason"] == (wanted["end_reason"] or (None if row["is_open"] else "gap"))
        assert Counter(self.world.rows(SESSION_PERSONS_NOW)) == Counter(
            (s["anonymous_id"], s["first_message_id"], persons[s["anonymous_id"], s["first_message_id"]])
            if s["user_id"] is None
            else (s["anonymous_id"], s["first_message_id"], s["user_id"])
            for s in expected
        )
        self._check_what_changed(shown)

    def _check_counts(self) -> None:
        found = {
            key[1]: Counter(consumed=p.consumed, stored=p.stored, duplicates=p.duplicates, dead=p.dead)
            for key, p in self.world.checkpointer.progress.items()
        }
        assert found == {partition: counts for partition, counts in self.counts.items() if counts}
        assert all(c["stored"] + c["duplicates"] + c["dead"] == c["consumed"] for c in found.values())

    def _shown(self) -> list[dict[str, Any]]:
        names = [*SESSIONS.names(), "revision", "is_open"]
        order = "order by anonymous_id, started_at, first_message_id"
        rows = self.world.rows(f"select {', '.join(names)} from stream.sessions {order}")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _check_what_changed(self, shown: list[dict[str, Any]]) -> None:
        now = {row["session_id"]: row for row in shown}
        assert len(now) == len(shown), "a session_id is there twice"
        for session_id, row in now.items():
            before = self.shown.get(session_id)
            assert row["revision"] >= self.revisions.get(session_id, 1)
            if before is not None and not before["is_open"] and _without_marks(before) != _without_marks(row):
                assert row["revision"] > before["revision"], "a closed session was rewritten"
        gone = self.shown.keys() - now.keys()
        if gone:
            by_device: dict[str, list[dict[str, Any]]] = {}
            for row in shown:
                by_device.setdefault(row["anonymous_id"], []).append(row)
            changes = set(self.world.rows("select session_id, superseded_by, revision from stream.session_changes"))
            for session_id in gone:
                before = self.shown[session_id]
                first = before["started_at"], before["first_message_id"].encode()
                (holder,) = [
                    row["session_id"]
                    for row in by_device.get(before["anonymous_id"], [])
                    if _start(row) <= first <= _end(row)
                ]
                assert (session_id, holder, before["revision"]) in changes
        self.shown = now
        self.revisions |= {session_id: row["revision"] for session_id, row in now.items()}

    def check_at_the_end(self) -> None:
        """All sessions are closed, and else as they were. Each event is in the one whose span it lies in, background
        events included. Each id has its last owner."""
        shown = self._shown()
        assert not any(row["is_open"] for row in shown)
        self._check_what_changed(shown)
        owners = owners_of([sent.said(at) for sent, at, _ in self.first.values()], limits_of(self.world.rules))
        found = self.world.rows("select kind, id, person_id from stream.identities")
        assert Counter(found) == Counter((*key, owner) for key, owner in owners.items())
        by_device: dict[str | None, list[dict[str, Any]]] = {}
        for row in shown:
            by_device.setdefault(row["anonymous_id"], []).append(row)
        expected = Counter(
            (sent.anonymous_id, sent.message_id, row["session_id"])
            for sent, at, _ in self.first.values()
            for row in by_device.get(sent.anonymous_id, [])
            if _start(row) <= (at, sent.message_id.encode()) <= _end(row)
        )
        assert Counter(self.world.rows("select anonymous_id, message_id, session_id from stream.session_events")) == (
            expected
        )


EVENTS_NOW = """
select e.anonymous_id, e.message_id, e.event_at, coalesce(o.person_id, e.person_id)
from stream.events e left join stream.person_overrides o
  on o.anonymous_id = e.anonymous_id
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
 and (e.user_id is null or e.person_id is distinct from e.user_id)
"""


def _without_marks(row: Session) -> Session:
    return {name: value for name, value in row.items() if name not in ("revision", "is_open")}


def _start(row: Session) -> tuple[datetime, bytes]:
    return row["started_at"], row["first_message_id"].encode()


def _end(row: Session) -> tuple[datetime, bytes]:
    return row["ended_at"], row["last_message_id"].encode()


def test_the_references_lists_are_the_defaults() -> None:
    assert set(SessionRules().logout_events) == LOGOUTS
    assert set(SessionRules().background_events) == BACKGROUND
