"""Who a device belonged to, case by case, and against the naive reference."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.claims import (
    BEGINNING,
    DEFAULT,
    END,
    Act,
    Fact,
    LinkRules,
    Stretch,
    after,
    changes,
    compact,
    held,
    merged,
    owner_at,
    sharing_claim,
    timeline,
)
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
    assert timeline(compact(facts)) == expected
    assert timeline(compact(facts[::-1])) == expected


def test_exactly_thirty_days_count_and_a_microsecond_more_does_not() -> None:
    stretches = timeline([claim(NOON, "login", "u")])
    assert owner_at(stretches, (NOON - 30 * DAY, "zzz")) == "u"
    assert owner_at(stretches, (NOON - 30 * DAY, "")) == "u"
    assert owner_at(stretches, (NOON - 30 * DAY - 1, "zzz")) is None
    shorter = timeline([claim(NOON, "login", "u")], LinkRules(look_back=timedelta(hours=1)))
    assert owner_at(shorter, (NOON - 60 * MINUTE, "")) == "u"
    assert owner_at(shorter, (NOON - 60 * MINUTE - 1, "")) is None
    assert timedelta(days=30) == DEFAULT.look_back


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
    assert changes(compact([*facts, facts[0]])) == (facts[0], facts[2], facts[3])


def test_a_device_of_more_than_three_users_within_seven_days_is_shared() -> None:
    week = 7 * DAY
    claims = [claim(NOON, "a", "a"), claim(NOON + DAY, "b", "b"), claim(NOON + 2 * DAY, "c", "c")]
    assert sharing_claim(claims) is None
    assert sharing_claim([*claims, claim(NOON + week, "d", "d")]) == claim(NOON + week, "d", "d")
    assert sharing_claim([*claims, claim(NOON + week + 1, "d", "d")]) is None
    between = [*claims, logout(NOON + 3 * DAY, "l"), claim(NOON + 3 * DAY, "m", "a"), claim(NOON + week + 1, "d", "d")]
    assert sharing_claim(between) == between[-1], "the first user came back"


def test_no_login_on_a_shared_device_reaches_back() -> None:
    told = [claim(NOON + i * MINUTE, user, user) for i, user in enumerate("abcd")]
    alone = LinkRules(users_of_device=4)
    assert owner_at(timeline(told, alone), (NOON - 1, "")) == "a"
    assert owner_at(timeline(told), (NOON - 1, "")) is None
    assert [owner_at(timeline(told), fact.key) for fact in told] == ["a", "b", "c", "d"]


def test_a_user_to_whom_the_device_is_not_linked_leaves_it_to_itself() -> None:
    told = [claim(NOON, "a", "u"), claim(NOON + MINUTE, "b", "v"), claim(NOON + 2 * MINUTE, "c", "u")]
    assert timeline(told, held={"v"}) == [
        Stretch(BEGINNING, FLOOR, None),
        Stretch(FLOOR, (NOON + MINUTE, "b"), "u"),
        Stretch((NOON + MINUTE, "b"), (NOON + 2 * MINUTE, "c"), None),
        Stretch((NOON + 2 * MINUTE, "c"), END, "u"),
    ]


def test_of_the_devices_claimed_within_seven_days_the_first_twenty_link() -> None:
    hourly = np.arange(30) * 60 * MINUTE
    assert held(hourly).tolist() == [False] * 20 + [True] * 10
    assert not held(np.arange(100) * DAY).any()
    exactly = np.array([0] * 20 + [7 * DAY, 7 * DAY + 1])
    assert held(exactly).tolist() == [False] * 20 + [True, False]


ACTS: dict[str, tuple[list[tuple[str, str, str]], dict[str, str]]] = {
    "one": ([("merge", "a", "b")], {"b": "a"}),
    "a chain": ([("merge", "a", "b"), ("merge", "b", "c")], {"b": "a", "c": "a"}),
    "who stayed joins another": ([("merge", "a", "b"), ("merge", "c", "a")], {"a": "c", "b": "c"}),
    "who had gone joins another, and takes along who stayed": (
        [("merge", "a", "b"), ("merge", "c", "b")],
        {"a": "c", "b": "c"},
    ),
    "taken back": ([("merge", "a", "b"), ("unmerge", "b", "a")], {}),
    "taken back out of the middle": (
        [("merge", "a", "b"), ("merge", "b", "c"), ("unmerge", "a", "b")],
        {"c": "b"},
    ),
    "taken back and done again": ([("merge", "a", "b"), ("unmerge", "a", "b"), ("merge", "b", "a")], {"a": "b"}),
    "in a ring": ([("merge", "a", "b"), ("merge", "b", "c"), ("merge", "c", "a")], {"b": "a", "c": "a"}),
    "oneself": ([("merge", "a", "a")], {}),
    "nothing to take back": ([("unmerge", "a", "b")], {}),
}


def acts(told: list[tuple[str, str, str]]) -> list[Act]:
    return [Act(at, f"act-{at}", *act) for at, act in enumerate(told)]


@pytest.mark.parametrize("case", ACTS)
def test_merges(case: str) -> None:
    told, expected = ACTS[case]
    assert merged(acts(told)) == expected
    assert merged(acts(told)[::-1]) == expected


people = st.sampled_from("abcde")
act_lists = st.lists(st.tuples(st.sampled_from(["merge", "merge", "unmerge"]), people, people), max_size=10)


@given(act_lists, people, people, act_lists, st.randoms(use_true_random=False))
def test_a_merge_that_was_taken_back_is_as_if_it_had_never_been(
    before: list[tuple[str, str, str]], one: str, other: str, after: list[tuple[str, str, str]], random: Random
) -> None:
    pair = {one, other}
    before = [act for act in before if set(act[1:]) != pair]
    between = [act for act in after if set(act[1:]) != pair]
    done = acts([*before, ("merge", one, other), *between, ("unmerge", one, other)])
    never = [act for act in done if {act.person, act.other} != pair]
    shuffled = list(done)
    random.shuffle(shuffled)
    assert merged(shuffled) == merged(never)


@given(act_lists)
def test_merges_are_those_of_the_reference(told: list[tuple[str, str, str]]) -> None:
    standing: list[tuple[str, str]] = []
    for kind, one, other in told:
        standing = [pair for pair in standing if set(pair) != {one, other}]
        if kind == "merge":
            standing.append((one, other))
    groups = [[person] for person in "abcde"]  # who stays comes first
    for one, other in standing:
        (stays,) = [group for group in groups if one in group]
        (goes,) = [group for group in groups if other in group]
        if stays is not goes:
            groups.remove(goes)
            stays += goes
    assert merged(acts(told)) == {person: group[0] for group in groups for person in group[1:]}


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
    stretches = timeline(sorted(facts, key=lambda fact: (fact.key, fact.user is None)))
    shuffled = list(facts)
    random.shuffle(shuffled)
    assert timeline(compact([*shuffled, *facts])) == stretches, "nor does it matter how often a fact is told"

    assert [s.end for s in stretches[:-1]] == [s.start for s in stretches[1:]], "without holes"
    assert (stretches[0].start, stretches[-1].end) == (BEGINNING, END)
    assert all(a.user != b.user or a.user is None for a, b in itertools.pairwise(stretches))

    persons = persons_of(said)
    for event in said:
        owner = owner_at(stretches, ((event.event_at - EPOCH) // timedelta(microseconds=1), event.message_id))
        expected = persons["d", event.message_id]
        assert (event.user_id or owner or "anon:d") == expected
