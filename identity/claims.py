"""Who a device belonged to, at any time, as a function of what is known about it. DESIGN: identity rules 2 and 5. Pure.

The facts of a device are ordered by (event_at, message_id), so that it does not matter when they became known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

LOOK_BACK: Final = timedelta(days=30)
"""How far before a login a stretch without a user still belongs to it. What lies further back may be somebody else."""

BEGINNING: Final = (-(2**62), "")
"""Before every event: (event_at in microseconds UTC, message_id)."""

END: Final = (2**62, "")
"""After every event."""


class Fact(NamedTuple):
    """Something that an event said about a device. Sorts by when it was said."""

    at: int  # event_at, microseconds UTC
    message_id: str
    user: str | None  # None for a logout
    kind: str  # claim, alias, logout

    @property
    def key(self) -> tuple[int, str]:
        return self.at, self.message_id


class Stretch(NamedTuple):
    """From `start` (inclusive) to `end` (exclusive), both (event_at in microseconds, message_id), the device's
    events belong to `user`, or to the device itself where it is None."""

    start: tuple[int, str]
    end: tuple[int, str]
    user: str | None


def changes(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """`facts` in order without those that change nothing: a claim by the user who already has the device, and a
    logout where nobody has it and none could be cut off."""
    facts = facts if isinstance(facts, tuple | list) else list(facts)
    if len({fact.user for fact in facts}) == 1 and facts[0].user is not None:  # most devices
        return (min(facts, key=_order),)
    kept: list[Fact] = []
    for fact in sorted(set(facts), key=_order):
        if not kept or fact.user != kept[-1].user or fact.user is None:
            kept.append(fact)
    return tuple(kept)


def timeline(facts: Iterable[Fact], look_back: timedelta = LOOK_BACK) -> list[Stretch]:
    """The device's whole history in stretches without holes, from BEGINNING to END.

    A login takes the stretch without a user before it, back to the last logout and at most `look_back` (inclusive).
    A switch without a logout leaves earlier events where they were.
    """
    told = changes(facts)
    reach = look_back // timedelta(microseconds=1)
    if len(told) == 1 and told[0].user is not None:  # most devices: one user, for ever
        back = (told[0].at - reach, "")
        return [Stretch(BEGINNING, back, None), Stretch(back, END, told[0].user)]
    stretches: list[Stretch] = []
    start, owner = BEGINNING, None

    def close(end: tuple[int, str], user: str | None) -> None:
        nonlocal start
        if start < end:
            if stretches and stretches[-1].user == user and stretches[-1].end == start:
                stretches[-1] = Stretch(stretches[-1].start, end, user)
            else:
                stretches.append(Stretch(start, end, user))
            start = end

    for fact in told:
        if fact.user is None:
            close(after(fact.key), owner)
            owner = None
        elif owner is None:
            close((fact.at - reach, ""), None)
            close(fact.key, fact.user)
            owner = fact.user
        else:
            close(fact.key, owner)
            owner = fact.user
    close(END, owner)
    return stretches


def owner_at(stretches: Sequence[Stretch], key: tuple[int, str]) -> str | None:
    """The user to whom the device belonged at `key`."""
    return next((s.user for s in stretches if s.start <= key < s.end), None)


def after(key: tuple[int, str]) -> tuple[int, str]:
    """The least key above `key`: message ids are compared byte by byte."""
    return key[0], key[1] + "\0"


def _order(fact: Fact) -> tuple[int, str, bool, str, str]:
    """A logout that carries a user is first that user's event, then the end of it. The rest only breaks ties."""
    return fact.at, fact.message_id, fact.user is None, fact.user or "", fact.kind
