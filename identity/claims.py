"""Who a device belonged to, at any time, as a function of what is known about it. Pure. DESIGN: identity rules 2 to 7.

The facts of a device are ordered by (event_at, message_id), so that it does not matter when they became known.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

BEGINNING: Final = (-(2**62), "")
"""Before every event: (event_at in microseconds UTC, message_id)."""

END: Final = (2**62, "")
"""After every event."""

_MICROSECOND: Final = timedelta(microseconds=1)

Key = tuple[int, str]
"""When, and by which message: (event_at in microseconds UTC, message_id)."""


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How far a claim reaches, and how many are believed."""

    look_back: timedelta = timedelta(days=30)
    """How far before a login a stretch without a user still belongs to it, inclusive. What lies further back may be
    somebody else."""
    users_of_device: int = 3
    """Users who may claim a device within `within`, inclusive; with more it is shared, and no claim reaches back."""
    devices_of_user: int = 20
    """Devices that a user may claim within `within`, inclusive; those after them are held, and do not link."""
    within: timedelta = timedelta(days=7)


DEFAULT: Final = LinkRules()


class Fact(NamedTuple):
    """Something that an event said about a device."""

    at: int  # event_at, microseconds UTC
    message_id: str
    user: str | None  # None for a logout
    kind: str  # claim, alias, logout

    @property
    def key(self) -> Key:
        return self.at, self.message_id


class Stretch(NamedTuple):
    """From `start` (inclusive) to `end` (exclusive) the device's events belong to `user`, or to the device itself where
    it is None."""

    start: Key
    end: Key
    user: str | None


def compact(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """`facts` in order, and of those that tell of the same user in a row, or of nobody, the first and the last alone.

    What is left out changes neither the timeline nor whether the device is shared; a later fact can be added to what is
    left unless it `parts` two of them.
    """
    facts = list(facts)
    if len(facts) == 1:  # most devices
        return (facts[0],)
    kept: list[Fact] = []
    for fact in sorted(set(facts), key=_order):
        if len(kept) > 1 and fact.user == kept[-1].user == kept[-2].user:
            kept[-1] = fact
        else:
            kept.append(fact)
    return tuple(kept)


def parts(facts: Sequence[Fact], new: Fact) -> bool:
    """Whether `new` comes between two of the compact `facts` that were neighbours of others left out, which it would
    have kept."""
    place = _order(new)
    return any(
        first.user == last.user != new.user and _order(first) < place < _order(last)
        for first, last in itertools.pairwise(facts)
    )


def changes(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Of the compact `facts` those that change something: not a claim by the user who has the device already."""
    kept: list[Fact] = []
    for fact in facts:
        if not kept or fact.user is None or fact.user != kept[-1].user:
            kept.append(fact)
    return tuple(kept)


def of_one_user(facts: Sequence[Fact]) -> bool:
    """Whether the compact `facts` are claims by one user and nothing else, as those of most devices are."""
    return 0 < len(facts) <= 2 and facts[0].user is not None and facts[0].user == facts[-1].user


def goes_on(before: Sequence[Fact], now: Sequence[Fact]) -> bool:
    """Whether a device is, by its compact facts, of one user who has it as `before`: what is new are further claims."""
    return of_one_user(before) and of_one_user(now) and before[0] == now[0]


def sharing_claim(facts: Sequence[Fact], rules: LinkRules = DEFAULT) -> Fact | None:
    """The first of the compact `facts` by which the device is known to be shared, if it is (identity rule 6)."""
    if len({fact.user for fact in facts}) <= rules.users_of_device:
        return None
    reach = rules.within // _MICROSECOND
    last: dict[str, int] = {}  # by user, when that one claimed it last; whoever did so longest ago comes first
    for fact in facts:
        if fact.user is None:
            continue
        last.pop(fact.user, None)
        last[fact.user] = fact.at
        while last[oldest := next(iter(last))] < fact.at - reach:
            del last[oldest]
        if len(last) > rules.users_of_device:
            return fact
    return None


def timeline(facts: Sequence[Fact], rules: LinkRules = DEFAULT, held: Collection[str] = ()) -> list[Stretch]:
    """The device's whole history by its compact `facts`, in stretches without holes, from BEGINNING to END.

    A login takes the stretch without a user before it, back to the last logout and at most `look_back`; nothing if the
    device is shared. A switch without a logout leaves earlier events where they were. What would be a user's for whom
    the device is `held` is the device's own.
    """
    reach = rules.look_back // _MICROSECOND
    is_shared = sharing_claim(facts, rules) is not None
    stretches: list[Stretch] = []
    start, owner = BEGINNING, None

    def close(end: Key, user: str | None) -> None:
        nonlocal start
        if start < end:
            user = None if user in held else user
            if stretches and stretches[-1].user == user:
                stretches[-1] = Stretch(stretches[-1].start, end, user)
            else:
                stretches.append(Stretch(start, end, user))
            start = end

    for fact in facts:
        if fact.user is None:
            close(after(fact.key), owner)
        elif owner is None:
            if not is_shared:
                close((fact.at - reach, ""), None)
            close(fact.key, None if is_shared else fact.user)
        elif owner != fact.user:
            close(fact.key, owner)
        owner = fact.user
    close(END, owner)
    return stretches


def owner_at(stretches: Sequence[Stretch], key: Key) -> str | None:
    """The user to whom the device belonged at `key`."""
    return next((s.user for s in stretches if s.start <= key < s.end), None)


def first_change(before: Sequence[Stretch], now: Sequence[Stretch]) -> Key | None:
    """From when on two timelines tell of different users; None if they tell of the same ones."""
    for one, other in zip(before, now, strict=False):
        if one.user != other.user:
            return one.start
        if one.end != other.end:
            return min(one.end, other.end)
    return None


def held(claimed_at: npt.NDArray[np.int64], rules: LinkRules = DEFAULT) -> npt.NDArray[np.bool_]:
    """Which of a user's devices do not link (identity rule 6), given when the user first claimed each: microseconds, in
    the order of (event_at, message_id, anonymous_id)."""
    earliest = np.searchsorted(claimed_at, claimed_at - rules.within // _MICROSECOND)
    too_many: npt.NDArray[np.bool_] = np.arange(len(claimed_at)) - earliest >= rules.devices_of_user
    return too_many


class Act(NamedTuple):
    """An operator says that two persons are one, or are not after all. Sorts by when it was done."""

    at: int  # microseconds UTC
    act_id: str
    kind: str  # merge, unmerge
    person: str  # who stays
    other: str


def merged(acts: Iterable[Act]) -> dict[str, str]:
    """Whom each person counts to that was merged into another (identity rules 4 and 7).

    An unmerge takes back the merges of these two, whichever stayed; then all is as if there had been none.
    """
    standing: dict[frozenset[str], Act] = {}
    for act in sorted(set(acts)):
        pair = frozenset((act.person, act.other))
        standing.pop(pair, None)
        if act.kind == "merge" and len(pair) == 2:
            standing[pair] = act
    counts_to: dict[str, str] = {}
    for act in standing.values():
        stays, goes = counts_to.get(act.person, act.person), counts_to.get(act.other, act.other)
        if stays != goes:
            counts_to |= {one: stays for one, to in counts_to.items() if to == goes}
            counts_to[goes] = stays
    return counts_to


def after(key: Key) -> Key:
    """The least key above `key`: message ids are compared byte by byte."""
    return key[0], key[1] + "\0"


def _order(fact: Fact) -> tuple[int, str, bool, str, str]:
    """A logout that carries a user is first that user's event, then the end of it. The rest only breaks ties."""
    return fact.at, fact.message_id, fact.user is None, fact.user or "", fact.kind
