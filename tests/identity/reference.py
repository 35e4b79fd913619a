"""Persons once more, event by event: what identity/claims.py and identity/stitch.py have to agree with.

Written from the identity rules alone and as slowly as they read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from tests.flows.reference import LOGOUTS, is_legal


class Limits(NamedTuple):
    """The numbers in the rules."""

    look_back: timedelta = timedelta(days=30)
    users_of_device: int = 3
    devices_of_user: int = 20
    within: timedelta = timedelta(days=7)


LIMITS = Limits()

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


def persons_of(events: Iterable[Said], limits: Limits = LIMITS) -> dict[tuple[str | None, str], str | None]:
    """The person of every event, by (anonymous_id, message_id), as known when all of `events` are."""
    events = list(events)
    acts = _acts_by_device(events)
    shared, held = _shared(acts, limits), held_of(acts, limits)
    return {(event.anonymous_id, event.message_id): _person(event, acts, shared, held, limits) for event in events}


def persons_without_holding(
    events: Iterable[Said], limits: Limits, users: Collection[str]
) -> dict[tuple[str | None, str], str | None]:
    """As `persons_of`, but that nothing of `users` is held."""
    events = list(events)
    acts = _acts_by_device(events)
    shared, held = _shared(acts, limits), {link for link in held_of(acts, limits) if link[0] not in users}
    return {(event.anonymous_id, event.message_id): _person(event, acts, shared, held, limits) for event in events}


def owners_of(events: Iterable[Said], limits: Limits = LIMITS) -> dict[tuple[str, str], str]:
    """Whose each id is after the last act, by ("anonymous" or "user", id), as known when all of `events` are."""
    events = list(events)
    acts = _acts_by_device(events)
    held = held_of(acts, limits)
    owners = {("user", event.user_id): event.user_id for event in events if event.user_id and is_legal(event.user_id)}
    for device in {event.anonymous_id for event in events} | set(acts):
        if device is not None:
            last = _latest(acts.get(device, []))
            owner = last.user if last is not None and (last.user, device) not in held else None
            owners["anonymous", device] = owner or f"anon:{device}"
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


def verdicts_of(events: Iterable[Said], limits: Limits = LIMITS) -> set[tuple[str, str, str | None]]:
    """What is shared and held: (verdict, anonymous_id, user_id)."""
    acts = _acts_by_device(list(events))
    shared: set[tuple[str, str, str | None]] = {("shared", device, None) for device in _shared(acts, limits)}
    return shared | {("held", device, user) for user, device in held_of(acts, limits)}


def _shared(acts: dict[str, list[Act]], limits: Limits) -> set[str]:
    """Rule 6: devices that more than so many users claim within the time, counted from any claim on."""
    shared = set()
    for device, mine in acts.items():
        claims = [act for act in mine if act.user is not None]
        for first in claims:
            users = {c.user for c in claims if first.key[0] <= c.key[0] <= first.key[0] + limits.within}
            if len(users) > limits.users_of_device:
                shared.add(device)
    return shared


def held_of(acts: dict[str, list[Act]], limits: Limits) -> set[tuple[str, str]]:
    """Rule 6: (user, device) where the user claimed so many other devices before, within the time before."""
    firsts: dict[tuple[str, str], Key] = {}
    for device, mine in acts.items():
        for act in mine:
            if act.user is not None:
                firsts[act.user, device] = min(act.key, firsts.get((act.user, device), act.key))
    held = set()
    for (user, device), key in firsts.items():
        before = [
            other
            for (who, other), when in firsts.items()
            if who == user and (when, other.encode()) < (key, device.encode()) and when[0] >= key[0] - limits.within
        ]
        if len(before) >= limits.devices_of_user:
            held.add((user, device))
    return held


def _person(
    event: Said, acts: dict[str, list[Act]], shared: set[str], held: set[tuple[str, str]], limits: Limits
) -> str | None:
    if is_legal(event.user_id):
        return event.user_id
    if event.anonymous_id is None:
        return None
    mine = acts.get(event.anonymous_id, [])
    # A logout ends what came before it and is itself still a part of that.
    before = [act for act in mine if act.key < event.key or (act.key == event.key and act.user is not None)]
    after = [act for act in mine if act.key > event.key]
    present = _latest(before)
    owner = present.user if present is not None else None
    coming = None if event.name in LOGOUTS or event.anonymous_id in shared else _earliest(after)
    if owner is None and coming is not None and coming.key[0] - event.event_at <= limits.look_back:
        owner = coming.user
    return f"anon:{event.anonymous_id}" if owner is None or (owner, event.anonymous_id) in held else owner


def _latest(acts: list[Act]) -> Act | None:
    """Of a logout that carries a user, the login comes first."""
    return max(acts, key=lambda act: (act.key, act.user is None), default=None)


def _earliest(acts: list[Act]) -> Act | None:
    return min(acts, key=lambda act: (act.key, act.user is None), default=None)
