"""Sessions: each rule by hand, then the vectorised function against the naive reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.session_rules import SessionRules
from flows.sessions import ACTIVITY, SESSIONS, Cut, cut, in_order, session_id
from tests.crowds import crowds, of_crowds
from tests.flows.reference import Event, Session, is_activity, is_legal, sessions_of

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
RULES = SessionRules()
NOTHING_BEFORE = pl.DataFrame(schema=SESSIONS)


def event(message_id: str, after: timedelta = timedelta(), *, device: str = "d", **fields: Any) -> Event:
    """A product view on device "d" so long after noon."""
    return {
        "anonymous_id": device,
        "message_id": message_id,
        "event_at": NOON + after,
        "type": "track",
        "name": "Product Viewed",
        "user_id": None,
        "is_bot": False,
        "path": None,
        "referrer": None,
        "utm_source": None,
        "utm_medium": None,
        "utm_campaign": None,
        "device_type": None,
        "browser": None,
        "os": None,
        "library": None,
        **fields,
    }


def logout(message_id: str, after: timedelta = timedelta(), **fields: Any) -> Event:
    return event(message_id, after, name="Signed Out", **fields)


def activity(events: Iterable[Event], rules: SessionRules = RULES) -> pl.DataFrame:
    """What the flow makes of events before it cuts them."""
    rows = [
        {
            **{name: e[name] for name in ACTIVITY.names() if name in e},
            "user_id": e["user_id"] if is_legal(e["user_id"]) else None,
            "is_logout": e["name"] in rules.logout_events,
            "is_page": e["type"] == "page",
        }
        for e in events
        if is_activity(e, rules)
    ]
    return pl.DataFrame(rows, schema=ACTIVITY)


def sessions(events: Sequence[Event], rules: SessionRules = RULES) -> list[Session]:
    """The sessions of `events` with nothing before; the reference has to say the same."""
    found = cut(NOTHING_BEFORE, in_order(activity(events, rules)), rules)
    assert found.sessions.schema == SESSIONS
    assert found.unsettled.is_empty()
    rows = found.sessions.to_dicts()
    assert rows == sessions_of(events, rules)
    return rows


def members(events: Sequence[Event], rules: SessionRules = RULES) -> list[tuple[str, str, int]]:
    """First and last message and number of events of each session."""
    return [(s["first_message_id"], s["last_message_id"], s["event_count"]) for s in sessions(events, rules)]


def reasons(events: Sequence[Event], rules: SessionRules = RULES) -> list[tuple[str, str | None]]:
    """Start and end reason of each session."""
    return [(s["start_reason"], s["end_reason"]) for s in sessions(events, rules)]


# Rule 1: the key is the device.


def test_no_events_make_no_sessions() -> None:
    assert sessions([]) == []


def test_a_single_event_is_a_session_that_may_go_on() -> None:
    assert sessions([event("m", path="/a", user_id="u")]) == [
        {
            "session_id": session_id("d", "m"),
            "anonymous_id": "d",
            "user_id": "u",
            "started_at": NOON,
            "ended_at": NOON,
            "event_count": 1,
            "page_count": 0,
            "entry_path": "/a",
            "exit_path": "/a",
            "referrer": None,
            "utm_source": None,
            "utm_medium": None,
            "utm_campaign": None,
            "device_type": None,
            "browser": None,
            "os": None,
            "start_reason": "first",
            "end_reason": None,
            "is_bot": False,
            "first_message_id": "m",
            "last_message_id": "m",
        }
    ]


def test_two_devices_of_one_user_are_two_sessions() -> None:
    events = [event("m1", user_id="u"), event("m2", MINUTE, device="e", user_id="u"), event("m3", 2 * MINUTE)]
    assert members(events) == [("m1", "m3", 2), ("m2", "m2", 1)]


def test_a_device_is_told_apart_by_its_very_text() -> None:
    events = [event("m1", device="d"), event("m2", device="D"), event("m3", device="d "), event("m4", device="d")]
    assert members(events) == [("m2", "m2", 1), ("m1", "m4", 2), ("m3", "m3", 1)]


# Rule 2: gaps.


@pytest.mark.parametrize(
    ("silence", "count"),
    [
        (timedelta(minutes=29, seconds=59, microseconds=999_999), 1),
        (timedelta(minutes=30), 1),
        (timedelta(minutes=30, microseconds=1), 2),
        (timedelta(minutes=30, milliseconds=1), 2),
    ],
)
def test_only_a_silence_of_more_than_30_minutes_cuts(silence: timedelta, count: int) -> None:
    assert len(sessions([event("m1"), event("m2", silence)])) == count


def test_a_gap_is_named_at_both_its_sides() -> None:
    assert reasons([event("m1"), event("m2", HOUR)]) == [("first", "gap"), ("gap", None)]


def test_the_gap_counts_from_the_event_before_not_from_the_start() -> None:
    events = [event(f"m{i}", i * 30 * MINUTE) for i in range(5)]
    assert members(events) == [("m0", "m4", 5)]


def test_the_later_events_library_sets_the_gap() -> None:
    rules = SessionRules(gap_by_library={"tv": 4 * HOUR, "kiosk": 2 * MINUTE})
    four_hours_to_a_tv = [event("m1", library="web"), event("m2", 4 * HOUR, library="tv")]
    assert members(four_hours_to_a_tv, rules) == [("m1", "m2", 2)]
    longer_to_a_tv = [event("m1", library="web"), event("m2", 4 * HOUR + MICROSECOND, library="tv")]
    assert members(longer_to_a_tv, rules) == [("m1", "m1", 1), ("m2", "m2", 1)]
    from_a_tv = [event("m1", library="tv"), event("m2", 31 * MINUTE, library="web")]
    assert members(from_a_tv, rules) == [("m1", "m1", 1), ("m2", "m2", 1)]
    to_a_kiosk = [event("m1"), event("m2", 2 * MINUTE, library="kiosk"), event("m3", 5 * MINUTE, library="kiosk")]
    assert members(to_a_kiosk, rules) == [("m1", "m2", 2), ("m3", "m3", 1)]
    assert rules.longest_gap == 4 * HOUR


# Rule 3: the cap.


@pytest.mark.parametrize(("last_at", "count"), [(24 * HOUR, 1), (24 * HOUR + MICROSECOND, 2)])
def test_only_an_event_more_than_24_hours_after_the_start_is_capped(last_at: timedelta, count: int) -> None:
    events = [event(f"m{i:02}", i * 30 * MINUTE) for i in range(48)] + [event("z", last_at)]
    assert len(sessions(events)) == count


def test_a_cap_moves_the_caps_after_it() -> None:
    events = [event(f"m{i:03}", i * 25 * MINUTE) for i in range(150)]  # 57 steps of 25 minutes are 23:45
    assert members(events) == [("m000", "m057", 58), ("m058", "m115", 58), ("m116", "m149", 34)]
    assert reasons(events) == [("first", "cap"), ("cap", "cap"), ("cap", None)]


def test_a_cap_forgets_the_user() -> None:
    rules = SessionRules(cap=HOUR)
    capped_away = [event("m1", user_id="u"), event("m2", 30 * MINUTE), event("m3", HOUR), event("m4", 70 * MINUTE)]
    assert members([*capped_away, event("m5", 80 * MINUTE, user_id="v")], rules) == [("m1", "m3", 3), ("m4", "m5", 2)]


# Rule 4: user switches.


def test_a_login_inside_a_session_does_not_cut_it() -> None:
    events = [event("m1"), event("m2", MINUTE, user_id="u"), event("m3", 2 * MINUTE)]
    assert members(events) == [("m1", "m3", 3)]
    assert sessions(events)[0]["user_id"] == "u"


def test_another_user_cuts() -> None:
    events = [
        event("m1"),
        event("m2", MINUTE, user_id="u"),
        event("m3", 2 * MINUTE, user_id="v"),
        event("m4", 3 * MINUTE),
    ]
    assert members(events) == [("m1", "m2", 2), ("m3", "m4", 2)]
    assert reasons(events) == [("first", "user_switch"), ("user_switch", None)]
    assert [s["user_id"] for s in sessions(events)] == ["u", "v"]


def test_the_known_user_is_remembered_over_events_without_one() -> None:
    events = [
        event("m1", user_id="u"),
        event("m2", MINUTE),
        event("m3", 2 * MINUTE, user_id="u"),
        event("m4", 3 * MINUTE),
    ]
    assert members(events) == [("m1", "m4", 4)]
    assert members([*events, event("m5", 4 * MINUTE, user_id="v")]) == [("m1", "m4", 4), ("m5", "m5", 1)]


def test_users_who_alternate_cut_each_time() -> None:
    events = [event(f"m{i}", i * MINUTE, user_id="uv"[i % 2]) for i in range(4)]
    assert reasons(events) == [
        ("first", "user_switch"),
        ("user_switch", "user_switch"),
        ("user_switch", "user_switch"),
        ("user_switch", None),
    ]


@pytest.mark.parametrize("illegal", ["", "null", "Guest", "0", "anon:d", "0000"])
def test_an_illegal_id_is_no_user(illegal: str) -> None:
    events = [event("m1", user_id="u"), event("m2", MINUTE, user_id=illegal), event("m3", 2 * MINUTE, user_id="u")]
    assert members(events) == [("m1", "m3", 3)]
    assert sessions([event("m1", user_id=illegal)])[0]["user_id"] is None


def test_the_case_of_a_user_id_counts() -> None:
    assert len(sessions([event("m1", user_id="u"), event("m2", MINUTE, user_id="U")])) == 2


# Rule 5: logouts.


@pytest.mark.parametrize("name", ["Signed Out", "Logged Out", "Logout", "User Signed Out"])
def test_a_logout_is_the_last_event_of_its_session(name: str) -> None:
    events = [event("m1"), event("m2", MINUTE, name=name), event("m3", 2 * MINUTE)]
    assert members(events) == [("m1", "m2", 2), ("m3", "m3", 1)]
    assert reasons(events) == [("first", "logout"), ("logout", None)]


def test_a_logout_ends_its_session_even_if_nothing_follows() -> None:
    assert reasons([event("m1"), logout("m2", MINUTE)]) == [("first", "logout")]


def test_two_logouts_are_two_sessions() -> None:
    assert reasons([logout("m1"), logout("m2", MINUTE)]) == [("first", "logout"), ("logout", "logout")]


def test_after_a_logout_in_the_same_instant_the_message_id_decides() -> None:
    assert members([event("m1"), logout("m2", MINUTE), event("m3", MINUTE)]) == [("m1", "m2", 2), ("m3", "m3", 1)]
    assert members([event("m1"), logout("m3", MINUTE), event("m2", MINUTE)]) == [("m1", "m3", 3)]


def test_logout_events_are_a_setting() -> None:
    rules = SessionRules(logout_events=frozenset({"Left"}))
    assert members([logout("m1"), event("m2", name="Left"), event("m3")], rules) == [("m1", "m2", 2), ("m3", "m3", 1)]


# Rule 6: midnight and campaigns.

CAMPAIGN: dict[str, Any] = {"utm_source": "google", "utm_medium": "cpc", "utm_campaign": "spring"}
MIDNIGHT = 12 * HOUR


def test_neither_midnight_nor_a_campaign_cuts_by_default() -> None:
    events = [event("m1", MIDNIGHT - MINUTE, **CAMPAIGN), event("m2", MIDNIGHT + MINUTE, utm_source="bing")]
    assert members(events) == [("m1", "m2", 2)]
    assert [sessions(events)[0][name] for name in CAMPAIGN] == ["google", "cpc", "spring"]


def test_midnight_utc_cuts_if_asked() -> None:
    rules = SessionRules(split_at_midnight=True)
    events = [event("m1", MIDNIGHT - MICROSECOND), event("m2", MIDNIGHT), event("m3", MIDNIGHT + MINUTE)]
    assert members(events, rules) == [("m1", "m1", 1), ("m2", "m3", 2)]
    assert reasons(events, rules) == [("first", "midnight"), ("midnight", None)]


def test_midnight_cuts_before_1970_too() -> None:
    rules = SessionRules(split_at_midnight=True)
    long_ago = [
        event("m1", event_at=datetime(1969, 12, 30, 23, 59, tzinfo=UTC)),
        event("m2", event_at=datetime(1969, 12, 31, 0, 1, tzinfo=UTC)),
        event("m3", event_at=datetime(1969, 12, 31, 0, 2, tzinfo=UTC)),
    ]
    assert members(long_ago, rules) == [("m1", "m1", 1), ("m2", "m3", 2)]


def test_another_campaign_cuts_if_asked() -> None:
    rules = SessionRules(split_on_campaign=True)
    events = [
        event("m1"),
        event("m2", 1 * MINUTE, **CAMPAIGN),
        event("m3", 2 * MINUTE),
        event("m4", 3 * MINUTE, **CAMPAIGN),
        event("m5", 4 * MINUTE, **CAMPAIGN | {"utm_campaign": "summer"}),
        event("m6", 5 * MINUTE, utm_source="google"),
    ]
    assert members(events, rules) == [("m1", "m4", 4), ("m5", "m5", 1), ("m6", "m6", 1)]
    assert reasons(events, rules) == [("first", "campaign"), ("campaign", "campaign"), ("campaign", None)]


# Rule 7: what is activity.


@pytest.mark.parametrize("kind", ["identify", "alias", "group", "screen", "page"])
def test_every_type_is_activity(kind: str) -> None:
    events = [event("m1"), event("m2", 20 * MINUTE, type=kind, name=kind), event("m3", 40 * MINUTE)]
    assert members(events) == [("m1", "m3", 3)]


@pytest.mark.parametrize(
    "name",
    [
        "Email Sent",
        "Email Delivered",
        "Email Opened",
        "Email Bounced",
        "Push Notification Received",
        "Experiment Viewed",
    ],
)
def test_a_background_event_neither_starts_nor_extends_nor_switches(name: str) -> None:
    assert sessions([event("m1", name=name)]) == []
    around = [
        event("m1", user_id="u"),
        event("m2", 20 * MINUTE, name=name, user_id="v", is_bot=True),
        event("m3", 30 * MINUTE + MICROSECOND, user_id="u"),
    ]
    assert members(around) == [("m1", "m1", 1), ("m3", "m3", 1)]
    assert reasons(around) == [("first", "gap"), ("gap", None)]
    assert [s["is_bot"] for s in sessions(around)] == [False, False]


def test_an_event_without_a_device_is_in_no_session() -> None:
    assert sessions([event("m1", anonymous_id=None, user_id="u")]) == []


# Rules 11 and 13: identity, order, reasons.


def test_the_id_is_made_of_device_and_first_message() -> None:
    # printf 'd\037m' | sha256sum | head -c 32
    assert session_id("d", "m") == "f304e6d21b99a783bbbf8776aa5309c8"


def test_events_of_one_instant_are_ordered_by_the_bytes_of_their_ids() -> None:
    events = [event("b"), event("\U0001f600"), event("a"), event("\uffee"), event("B"), event("é")]
    assert members(events) == [("B", "\U0001f600", 6)]
    assert members([*events, event("\uffff", name="Logout")]) == [("B", "\uffff", 6), ("\U0001f600", "\U0001f600", 1)]


def test_the_order_of_arrival_does_not_matter() -> None:
    events = [event("m1"), event("m2", 20 * MINUTE, user_id="u"), logout("m3", 40 * MINUTE), event("m4", 50 * MINUTE)]
    assert sessions(events[::-1]) == sessions(events)


SWITCH: dict[str, Any] = {"user_id": "v"}


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (logout("m1", user_id="u"), event("m2", 48 * HOUR, **SWITCH), "logout"),
        (logout("m1", user_id="u"), event("m2", MINUTE, **SWITCH), "logout"),
        (event("m1", user_id="u"), event("m2", 48 * HOUR, **SWITCH), "user_switch"),
        (event("m1", user_id="u"), event("m2", 48 * HOUR, user_id="u"), "gap"),
        (event("m1", user_id="u"), event("m2", 48 * HOUR), "gap"),
        (event("m1"), event("m2", 48 * HOUR, **SWITCH), "gap"),
        (event("m1", user_id="u"), event("m2", 28 * HOUR, library="tv", **SWITCH), "user_switch"),
        (event("m1", **CAMPAIGN), event("m2", 28 * HOUR, library="tv", utm_source="bing"), "cap"),
        (event("m1", **CAMPAIGN), event("m2", 20 * HOUR, library="tv", utm_source="bing"), "midnight"),
        (event("m1", **CAMPAIGN), event("m2", 2 * HOUR, library="tv", utm_source="bing"), "campaign"),
    ],
)
def test_where_several_reasons_apply_the_first_is_named(before: Event, after: Event, reason: str) -> None:
    rules = SessionRules(gap_by_library={"tv": 30 * HOUR}, split_at_midnight=True, split_on_campaign=True)
    assert reasons([before, after], rules)[1] == (reason, None)
    assert reasons([before, after], rules)[0] == ("first", reason)


def test_a_cap_of_ones_own_is_named_before_a_campaign() -> None:
    rules = SessionRules(cap=10 * MINUTE, split_on_campaign=True)
    events = [event("m1", **CAMPAIGN), event("m2", 11 * MINUTE, utm_source="bing")]
    assert reasons(events, rules) == [("first", "cap"), ("cap", None)]


def test_after_a_gap_the_user_of_the_session_before_that_one_does_not_count() -> None:
    events = [event("m1", user_id="u"), event("m2", HOUR), event("m3", 2 * HOUR, user_id="v")]
    assert reasons(events) == [("first", "gap"), ("gap", "gap"), ("gap", None)]


# What a session says of itself.


def test_paths_pages_referrer_campaign_device_and_bots_of_a_session() -> None:
    agent = {"device_type": "mobile", "browser": "Firefox", "os": "Android"}
    found = sessions(
        [
            event("m1", referrer="https://search.example/"),
            event("m2", 1 * MINUTE, type="page", path="/in", referrer="https://other.example/", os="Linux"),
            event("m3", 2 * MINUTE, type="page", path="/shop", **CAMPAIGN, **agent),
            event("m4", 3 * MINUTE, type="page", path="/out", utm_source="bing", is_bot=True),
            event("m5", 4 * MINUTE),
        ]
    )[0]
    assert (found["event_count"], found["page_count"], found["is_bot"]) == (5, 3, True)
    assert (found["entry_path"], found["exit_path"]) == ("/in", "/out")
    assert found["referrer"] == "https://search.example/"
    assert [found[name] for name in CAMPAIGN] == ["google", "cpc", "spring"]
    assert [found[name] for name in agent] == [None, None, "Linux"]


def test_a_session_that_began_direct_has_no_referrer_later() -> None:
    found = sessions([event("m1", path="/"), event("m2", MINUTE, path="/x", referrer="https://shop.example/")])
    assert found[0]["referrer"] is None


# Going on after a session that was cut before.


def cut_after(previous: Sequence[Session], events: Sequence[Event], rules: SessionRules = RULES) -> Cut:
    return cut(pl.DataFrame(previous, schema=SESSIONS), in_order(activity(events, rules)), rules)


def test_a_previous_session_goes_on() -> None:
    events = [event("m1", user_id="u", path="/a"), event("m2", 30 * MINUTE, path="/b")]
    went_on = cut_after(sessions(events[:1]), events[1:])
    assert went_on.sessions.to_dicts() == sessions(events)


def test_a_previous_session_learns_why_it_ended() -> None:
    events = [event("m1"), event("m2", HOUR)]
    found = cut_after(sessions(events[:1]), events[1:])
    assert found.sessions.to_dicts() == sessions(events)
    assert found.sessions["end_reason"].to_list() == ["gap", None]


def test_a_device_without_new_events_is_not_in_the_result() -> None:
    before = sessions([event("m1"), event("m2", device="e")])
    found = cut_after(before, [event("m3", MINUTE, device="e")])
    assert found.sessions["anonymous_id"].to_list() == ["e"]
    assert found.unsettled.is_empty()


@pytest.mark.parametrize(
    ("late", "unsettled"),
    [
        (event("a", 2 * MINUTE), True),
        (event("n", 2 * MINUTE - MICROSECOND), True),
        (event("l", 2 * MINUTE), True),
        (event("m", 2 * MINUTE), True),
        (event("n", 2 * MINUTE), False),
        (event("a", 2 * MINUTE + MICROSECOND), False),
    ],
)
def test_an_event_not_after_the_previous_sessions_last_leaves_its_device_unsettled(
    late: Event, unsettled: bool
) -> None:
    before = sessions([event("l"), event("m", 2 * MINUTE), event("o", device="e")])
    found = cut_after(before, [late, event("p", HOUR), event("p", MINUTE, device="e")])
    assert found.unsettled.to_list() == (["d"] if unsettled else [])
    assert ("d" in found.sessions["anonymous_id"]) is not unsettled
    assert "e" in found.sessions["anonymous_id"]


# Against the reference.

JUST_WITHIN = timedelta(minutes=29, seconds=59, microseconds=999_999)
SMALL_STEPS = [timedelta(), MICROSECOND, timedelta(seconds=1), JUST_WITHIN, 30 * MINUTE]
LARGE_STEPS = [10 * HOUR, 12 * HOUR, 12 * HOUR + MICROSECOND, 24 * HOUR]
STEPS = [
    SMALL_STEPS,
    [timedelta(), MICROSECOND],
    [*SMALL_STEPS, *SMALL_STEPS, 30 * MINUTE + MICROSECOND, 2 * HOUR],
    [*SMALL_STEPS, *LARGE_STEPS],
    [timedelta(), *LARGE_STEPS],
]
KINDS = [
    *[("track", "Product Viewed")] * 5,
    *[("page", "Page Viewed")] * 3,
    ("identify", "identify"),
    ("track", "Email Opened"),
    ("track", "Signed Out"),
]
USERS: list[list[str | None]] = [[None], [None, None, None, "u"], [None, "u", "u", "u", "v", "null", "U"]]
LIBRARIES = [None, None, "patient", "patient", "hasty"]
RULE_SETS = st.builds(
    SessionRules,
    gap_by_library=st.sampled_from([{}, {"patient": 12 * HOUR, "hasty": timedelta(seconds=1)}]),
    cap=st.sampled_from([24 * HOUR, 24 * HOUR, HOUR, 30 * MINUTE, timedelta()]),
    split_at_midnight=st.booleans(),
    split_on_campaign=st.booleans(),
)
ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {},
    {"is_bot": True},
    {"path": "/a"},
    {"path": "/b", "referrer": "x", "browser": "x"},
    {"referrer": "y", "utm_campaign": "x"},
    {"utm_source": "x", "utm_medium": "y", "os": "y"},
    {"utm_source": "x", "device_type": "y", "os": "x"},
]
PREFIXES = ["a", "Z", "é", "\uffee", "\U0001f600"]
DETAILS = list(itertools.product(PREFIXES, KINDS, LIBRARIES, ATTRIBUTES))
BEFORE_1970 = datetime(1969, 12, 30, 23, 30, tzinfo=UTC)

Shuffle = Callable[[Iterable[Any]], list[Any]]


def _shuffle(seed: int) -> Shuffle:
    def shuffled(items: Iterable[Any]) -> list[Any]:
        found = list(items)
        Random(seed).shuffle(found)
        return found

    return shuffled


SHUFFLES = st.builds(_shuffle, st.integers(0, 1000))


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of three devices in (device, time) order: many ties, exact gaps, caps, switches and logouts."""
    events: list[Event] = []
    unused = draw(SHUFFLES)(range(24))
    for device in ("d", "de", "é"):
        at = draw(st.sampled_from([NOON, NOON + MIDNIGHT - MINUTE, BEFORE_1970]))
        choices = st.tuples(
            st.sampled_from(draw(st.sampled_from(STEPS))),
            st.sampled_from(draw(st.sampled_from(USERS))),
            st.sampled_from(DETAILS),
        )
        for step, user_id, (prefix, (kind, name), library, rest) in draw(
            st.lists(choices, min_size=draw(st.sampled_from([0, 4, 8])), max_size=8)
        ):
            at += step
            message_id = f"{prefix}{unused.pop()}"
            fields = {"type": kind, "name": name, "user_id": user_id, "library": library, **rest}
            events.append(event(message_id, device=device, event_at=at, **fields))
    return sorted(events, key=_order)


def _order(e: Event) -> tuple[bytes, datetime, bytes]:
    return e["anonymous_id"].encode(), e["event_at"], e["message_id"].encode()


def told_apart(history: list[Event], number: int) -> list[Event]:
    """The same on devices that no other history of a crowd has."""
    return [e | {"anonymous_id": f"{e['anonymous_id']}.{number}"} for e in history] if number else history


def together(crowd: list[list[Event]]) -> list[Event]:
    """All events of a crowd of histories."""
    return [e for number, history in enumerate(crowd) for e in told_apart(history, number)]


@of_crowds()
@given(crowd=crowds(histories()), shuffle=SHUFFLES, rules=RULE_SETS)
def test_all_at_once_in_any_order_is_what_the_reference_says(
    crowd: list[list[Event]], shuffle: Shuffle, rules: SessionRules
) -> None:
    events = together(crowd)
    found = cut(NOTHING_BEFORE, in_order(activity(shuffle(events), rules)), rules)
    assert found.unsettled.is_empty()
    assert found.sessions.to_dicts() == sessions_of(events, rules)


TURNS = st.lists(st.integers(0, 2), min_size=8, max_size=8)
"""Which piece each event of a device is in: as many as a device has at most."""


@of_crowds()
@given(crowd=crowds(st.tuples(histories(), TURNS)), shuffle=SHUFFLES, rules=RULE_SETS)
def test_piece_by_piece_is_what_the_reference_says(
    crowd: list[tuple[list[Event], list[int]]], shuffle: Shuffle, rules: SessionRules
) -> None:
    """Each device's events come in time order over a few pieces, its last session being handed back each time."""
    pieces: list[list[Event]] = [[], [], []]
    for number, (history, turns) in enumerate(crowd):
        for _, events in itertools.groupby(told_apart(history, number), lambda e: e["anonymous_id"]):
            mine = list(events)
            for e, turn in zip(mine, sorted(turns[: len(mine)]), strict=True):
                pieces[turn].append(e)
    known: dict[str, Session] = {}
    last: dict[str, Session] = {}
    for piece in pieces:
        found = cut_after(list(last.values()), shuffle(piece), rules)
        assert found.unsettled.is_empty()
        for session in found.sessions.to_dicts():
            known[session["session_id"]] = last[session["anonymous_id"]] = session
    expected = sessions_of(together([history for history, _ in crowd]), rules)
    assert sorted(known.values(), key=_session_order) == expected


@of_crowds()
@given(crowd=crowds(st.tuples(histories(), SHUFFLES, st.integers(0, 24))), rules=RULE_SETS)
def test_exactly_the_devices_with_an_event_not_after_their_last_are_unsettled(
    crowd: list[tuple[list[Event], Shuffle, int]], rules: SessionRules
) -> None:
    stored: list[Event] = []
    arrived: list[Event] = []
    for number, (history, shuffle, share) in enumerate(crowd):
        events = shuffle(told_apart(history, number))
        stored += events[:share]
        arrived += events[share:]
    last = {session["anonymous_id"]: session for session in sessions_of(stored, rules)}
    late = {
        e["anonymous_id"]
        for e in arrived
        if is_activity(e, rules)
        and (session := last.get(e["anonymous_id"]))
        and (e["event_at"], e["message_id"].encode()) <= (session["ended_at"], session["last_message_id"].encode())
    }
    found = cut_after(list(last.values()), arrived, rules)
    assert sorted(found.unsettled.to_list()) == sorted(late)

    touched = {e["anonymous_id"] for e in arrived if is_activity(e, rules)} - late
    expected = [
        session
        for session in sessions_of([*stored, *arrived], rules)
        if (device := session["anonymous_id"]) in touched
        and (device not in last or _session_order(session) >= _session_order(last[device]))
    ]
    assert found.sessions.to_dicts() == expected


def _session_order(session: Session) -> tuple[bytes, datetime, bytes]:
    return session["anonymous_id"].encode(), session["started_at"], session["first_message_id"].encode()
