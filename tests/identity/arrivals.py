"""Histories of a few devices and users, and the ways in which they may arrive: strategies for property tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st

from tests.flows.reference import is_legal
from tests.identity.reference import Said
from tests.identity.worlds import START

# Times where the rules change their mind: the session's gap and cap, the reorder window, the look-back of 30 days.
moments = st.builds(
    lambda days, minutes, micros: START + timedelta(days=days, minutes=minutes, microseconds=micros),
    st.sampled_from([1, 1, 1, 1, 1, 2, 30, 31, 61]),
    st.sampled_from([0, 1, 2, 20, 30, 40, 60]),
    st.sampled_from([0, 0, 0, 1, -1]),
)
devices = st.sampled_from(["d1", "d1", "d1", "d2", "undefined"])
users = st.sampled_from([None, None, "u1", "u1", "u2", "u3", "guest"])
kinds = st.sampled_from(["Click"] * 5 + ["Signed Out", "Email Opened"])


@st.composite
def said_events(draw: st.DrawFn, message_id: str) -> Said:
    at, user = draw(moments), draw(users)
    if draw(st.sampled_from([False] * 7 + [True])):
        return Said(message_id, at, draw(st.sampled_from([None, "d1", "d2"])), user or "u1", "alias", draw(devices))
    device = draw(devices) if user is None or user == "guest" else draw(st.sampled_from(["d1", "d1", "d2", None]))
    return Said(message_id, at, device, user, draw(kinds))


@st.composite
def histories(draw: st.DrawFn) -> list[Said]:
    count = draw(st.integers(1, 14))
    return [draw(said_events(f"m{i:02d}")) for i in draw(st.permutations(range(count)))]


def told_apart(events: list[Said], number: int) -> list[Said]:
    """The same with ids that no other history of the crowd has, but for those that mean nobody."""

    def told(name: str | None) -> str | None:
        return f"{name}.{number}" if is_legal(name) else name

    return [
        e._replace(
            message_id=f"{e.message_id}.{number}",
            anonymous_id=told(e.anonymous_id),
            user_id=told(e.user_id),
            previous_id=told(e.previous_id),
        )
        for e in events
    ]


@dataclass(frozen=True)
class Commit:
    """One transaction: (event, partition, whether its key is a foreign one), as they arrive; then what else happens."""

    events: tuple[tuple[Said, int, bool], ...]
    then: str = ""


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Said], list[Commit]]:
    events = draw(histories())
    stream = list(events)
    for _ in range(draw(st.integers(0, 3))):
        stream.insert(draw(st.integers(0, len(stream))), draw(st.sampled_from(events)))
    commits: list[Commit] = []
    current: list[tuple[Said, int, bool]] = []
    for said in stream:
        at_home = draw(st.sampled_from([True, True, True, False]))
        home = 0 if said.anonymous_id in ("d1", None) else 1
        current.append((said, home if at_home else 1 - home, not at_home))
        if draw(st.booleans()):
            commits.append(Commit(tuple(current), draw(st.sampled_from(["", "", "", "restart", "forget"]))))
            current = []
    return events, [*commits, Commit(tuple(current))]
