"""Persons once more, event by event: what identity/claims.py and identity/stitch.py have to agree with.

Written from the identity rules alone and as slowly as they read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from tests.flows.reference import LOGOUTS, is_legal

THIRTY_DAYS = timedelta(days=30)

Key = tuple[datetime, bytes]
"""When, and by which message: what events are ordered by."""


class Said(NamedTuple):
    """One event, as far as it says who is who."""

    message_id: str
    event_at: datetime
    anonymous_id: str | None = None
    user_id: str | None = None
    name: str = "Click"
    previous_id: str | None = None

    @property
    def key(self) -> Key:
        return self.event_at, self.message_id.encode()


class Act(NamedTuple):
    """A login (user) or a logout (None) on a device."""

    key: Key
    user: str | None


def persons_of(events: Iterable[Said]) -> dict[tuple[str | None, str], str | None]:
    """The person of every event, by (anonymous_id, message_id), as known when all of `events` are."""
    events = list(events)
    acts = _acts_by_device(events)
    return {(event.anonymous_id, event.message_id): _person(event, acts) for event in events}


def owners_of(events: Iterable[Said]) -> dict[tuple[str, str], str]:
    """Whose each id is after the last act, by ("anonymous" or "user", id), as known when all of `events` are."""
    events = list(events)
    acts = _acts_by_device(events)
    owners = {("user", event.user_id): event.user_id for event in events if event.user_id and is_legal(event.user_id)}
    for device in {event.anonymous_id for event in events} | set(acts):
        if device is not None:
            last = _latest(acts.get(device, []))
            owners["anonymous", device] = last.user if last is not None and last.user is not None else f"anon:{device}"
    return owners


def _acts_by_device(events: list[Said]) -> dict[str, list[Act]]:
    users = {event.user_id for event in events if is_legal(event.user_id)}
    acts: dict[str, list[Act]] = {}
    for event in events:
        for device, act in _acts(event, users):
            acts.setdefault(device, []).append(act)
    return acts


def _acts(event: Said, users: Collection[str | None]) -> Iterable[tuple[str, Act]]:
    """Rule 2: both ids, or an alias. Rule 3: illegal ids never link. Rule 4: nor does an alias of a user, whenever that
    one is first heard of."""
    if is_legal(event.anonymous_id):
        assert event.anonymous_id is not None
        if is_legal(event.user_id):
            yield event.anonymous_id, Act(event.key, event.user_id)
        if event.name in LOGOUTS:
            yield event.anonymous_id, Act(event.key, None)
    if is_legal(event.previous_id) and is_legal(event.user_id) and event.previous_id not in users:
        assert event.previous_id is not None
        yield event.previous_id, Act(event.key, event.user_id)


def _person(event: Said, acts: dict[str, list[Act]]) -> str | None:
    if is_legal(event.user_id):
        return event.user_id
    if event.anonymous_id is None:
        return None
    mine = acts.get(event.anonymous_id, [])
    # A logout ends what came before it and is itself still a part of that.
    before = [act for act in mine if act.key < event.key or (act.key == event.key and act.user is not None)]
    after = [act for act in mine if act.key > event.key]
    present = _latest(before)
    if present is not None and present.user is not None:
        return present.user
    coming = None if event.name in LOGOUTS else _earliest(after)
    if coming is not None and coming.user is not None and coming.key[0] - event.event_at <= THIRTY_DAYS:
        return coming.user
    return f"anon:{event.anonymous_id}"


def _latest(acts: list[Act]) -> Act | None:
    """Of a logout that carries a user, the login comes first."""
    return max(acts, key=lambda act: (act.key, act.user is None), default=None)


def _earliest(acts: list[Act]) -> Act | None:
    return min(acts, key=lambda act: (act.key, act.user is None), default=None)
