"""Who a device belonged to, case by case, and against the naive reference."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.claims import BEGINNING, END, LOOK_BACK, Fact, Stretch, after, changes, owner_at, timeline
from tests.identity.reference import Said, persons_of

MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def claim(at: int, message_id: str, user: str) -> Fact:
    return Fact(at, message_id, user, "claim")


def logout(at: int, message_id: str) -> Fact:
    return Fact(at, message_id, None, "logout")


NOON = 20_000 * DAY
FLOOR = (NOON - 30 * DAY, "")
"""As far as a login at NOON reaches back."""

CASES: dict[str, tuple[list[Fact], list[Stretch]]] = {
    "nothing is known": ([], [Stretch(BEGINNING, END, None)]),
    "one login": (
        [claim(NOON, "a", "u")],
        [Stretch(BEGINNING, FLOOR, None), Stretch(FLOOR, END, "u")],
    ),
    "the same user again": (
        [claim(NOON, "a", "u"), claim(NOON + MINUTE, "b", "u")],
        [Stretch(BEGINNING, FLOOR, None), Stretch(FLOOR, END, "u")],
    ),
    "login and logout": (
        [claim(NOON, "a", "u"), logout(NOON + MINUTE, "b")],
        [
            Stretch(BEGINNING, FLOOR, None),
            Stretch(FLOOR, (NOON + MINUTE, "b\0"), "u"),  # the logout is still the user's
            Stretch((NOON + MINUTE, "b\0"), END, None),
        ],
    ),
    "another user without a logout": (
        [claim(NOON, "a", "u"), claim(NOON + MINUTE, "b", "v")],
        [
            Stretch(BEGINNING, FLOOR, None),
            Stretch(FLOOR, (NOON + MINUTE, "b"), "u"),
            Stretch((NOON + MINUTE, "b"), END, "v"),
        ],
    ),
    "another user after a logout": (
        [claim(NOON, "a", "u"), logout(NOON + MINUTE, "b"), claim(NOON + 2 * MINUTE, "c", "v")],
        [
            Stretch(BEGINNING, FLOOR, None),
            Stretch(FLOOR, (NOON + MINUTE, "b\0"), "u"),
            Stretch((NOON + MINUTE, "b\0"), END, "v"),  # what lies between is the second user's
        ],
    ),
    "another user long after a logout": (
        [logout(NOON - 60 * DAY, "a"), claim(NOON, "b", "v")],
        [
            Stretch(BEGINNING, FLOOR, None),
            Stretch(FLOOR, END, "v"),
        ],
    ),
    "a logout by nobody cuts": (
        [logout(NOON - DAY, "a"), claim(NOON, "b", "v")],
        [Stretch(BEGINNING, (NOON - DAY, "a\0"), None), Stretch((NOON - DAY, "a\0"), END, "v")],
    ),
    "a logout that carries the user": (
        [claim(NOON, "a", "u"), logout(NOON, "a")],
        [
            Stretch(BEGINNING, FLOOR, None),
            Stretch(FLOOR, (NOON, "a\0"), "u"),
            Stretch((NOON, "a\0"), END, None),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_timelines(case: str) -> None:
    facts, expected = CASES[case]
    assert timeline(facts) == expected
    assert timeline(facts[::-1]) == expected


def test_exactly_thirty_days_count_and_a_microsecond_more_does_not() -> None:
    stretches = timeline([claim(NOON, "login", "u")])
    assert owner_at(stretches, (NOON - 30 * DAY, "zzz")) == "u"
    assert owner_at(stretches, (NOON - 30 * DAY, "")) == "u"
    assert owner_at(stretches, (NOON - 30 * DAY - 1, "zzz")) is None
    shorter = timeline([claim(NOON, "login", "u")], timedelta(hours=1))
    assert owner_at(shorter, (NOON - 60 * MINUTE, "")) == "u"
    assert owner_at(shorter, (NOON - 60 * MINUTE - 1, "")) is None
    assert timedelta(days=30) == LOOK_BACK


def test_at_one_instant_the_message_ids_decide() -> None:
    stretches = timeline([claim(NOON, "b", "u"), claim(NOON, "d", "v")])
    assert [owner_at(stretches, (NOON, message_id)) for message_id in "abcde"] == ["u", "u", "u", "v", "v"]


def test_message_ids_are_compared_as_bytes() -> None:
    assert after((NOON, "b")) < (NOON, "ba")
    stretches = timeline([claim(NOON, "\uffff", "u"), claim(NOON, "\U00010000", "v")])
    assert owner_at(stretches, (NOON, "\uffff")) == "u", "in UTF-16 it would come second"
    assert owner_at(stretches, (NOON, "\U00010000")) == "v"


def test_what_changes_nothing_is_left_out() -> None:
    facts = [claim(NOON, "a", "u"), claim(NOON + 1, "b", "u"), logout(NOON + 2, "c"), claim(NOON + 3, "d", "u")]
    assert changes([*facts, facts[0]]) == (facts[0], facts[2], facts[3])


minutes = st.sampled_from([0, 1, 2, 3, 30 * 24 * 60, 30 * 24 * 60 + 1, 30 * 24 * 60 + 2, 60 * 24 * 60 + 2])
micros = st.sampled_from([0, 0, 1, -1])
users = st.sampled_from([None, None, "u", "v", "w"])
names = st.sampled_from(["Click", "Click", "Signed Out"])


@st.composite
def histories(draw: st.DrawFn) -> list[Said]:
    """What one device said."""
    return [
        Said(
            f"m{i:02d}",
            EPOCH + timedelta(microseconds=NOON + draw(minutes) * MINUTE + draw(micros)),
            "d",
            draw(users),
            draw(names),
        )
        for i in draw(st.permutations(range(draw(st.integers(1, 10)))))
    ]


def facts_of(said: list[Said]) -> list[Fact]:
    facts = []
    for event in said:
        at = (event.event_at - EPOCH) // timedelta(microseconds=1)
        if event.user_id is not None:
            facts.append(claim(at, event.message_id, event.user_id))
        if event.name == "Signed Out":
            facts.append(logout(at, event.message_id))
    return facts


@given(histories(), st.randoms(use_true_random=False))
def test_timelines_are_those_of_the_reference_whatever_the_order(said: list[Said], random: Random) -> None:
    facts = facts_of(said)
    stretches = timeline(facts)
    shuffled = list(facts)
    random.shuffle(shuffled)
    assert timeline([*shuffled, *facts]) == stretches, "nor does it matter how often a fact is told"
    assert timeline(changes(facts)) == stretches

    assert [s.end for s in stretches[:-1]] == [s.start for s in stretches[1:]], "without holes"
    assert (stretches[0].start, stretches[-1].end) == (BEGINNING, END)
    assert all(a.user != b.user or a.user is None for a, b in itertools.pairwise(stretches))

    persons = persons_of(said)
    for event in said:
        owner = owner_at(stretches, ((event.event_at - EPOCH) // timedelta(microseconds=1), event.message_id))
        expected = persons["d", event.message_id]
        assert (event.user_id or owner or "anon:d") == expected
