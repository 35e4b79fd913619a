"""Who is who, through the whole flow: replays, restarts and the running service."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.identity.worlds import PERSONS_NOW, SESSION_PERSONS_NOW, clear
from tests.whole.runs import Run, Serving, event

FUNNEL = {
    "name": "signup",
    "steps": [{"event": "Viewed Product"}, {"event": "Signed Up"}],
    "window": "14 days",
    "by": "person",
}


def viewed(message_id: str, at: str, device: str | None = "d", **fields: Any) -> bytes:
    return event(message_id, at, device, event="Viewed Product", **fields)


def signed_up(message_id: str, at: str, user: str, device: str | None = "d") -> bytes:
    return event(message_id, at, device, event="Signed Up", userId=user)


def signed_out(message_id: str, at: str, device: str = "d") -> bytes:
    return event(message_id, at, device, event="Signed Out")


def alias(message_id: str, at: str, previous: str, user: str) -> bytes:
    return event(message_id, at, None, type="alias", event=None, previousId=previous, userId=user)


# The events, then whose each is by message id, as known when all are.
CASES: dict[str, tuple[list[bytes], dict[str, str]]] = {
    "anonymous, then signed up": (
        [viewed("a", "10:00:00"), viewed("b", "10:05:00"), signed_up("c", "10:10:00", "u"), viewed("e", "10:20:00")],
        {"a": "u", "b": "u", "c": "u", "e": "u"},
    ),
    "an earlier session of the same day is the user's too": (
        [viewed("a", "10:00:00"), signed_up("b", "15:00:00", "u")],
        {"a": "u", "b": "u"},
    ),
    "a second device": (
        [
            viewed("a", "10:00:00", "d1"),
            signed_up("b", "10:05:00", "u", "d1"),
            viewed("c", "11:00:00", "d2"),
            signed_up("e", "11:05:00", "u", "d2"),
        ],
        {"a": "u", "b": "u", "c": "u", "e": "u"},
    ),
    "a shared browser without logout": (
        [
            viewed("a", "10:00:00"),
            signed_up("b", "10:05:00", "u"),
            viewed("c", "10:10:00"),
            signed_up("e", "10:15:00", "v"),
            viewed("f", "10:20:00"),
        ],
        {"a": "u", "b": "u", "c": "u", "e": "v", "f": "v"},
    ),
    "a shared browser with logout": (
        [
            viewed("a", "10:00:00"),
            signed_up("b", "10:05:00", "u"),
            signed_out("c", "10:10:00"),
            viewed("e", "10:15:00"),
            signed_up("f", "10:20:00", "v"),
        ],
        {"a": "u", "b": "u", "c": "u", "e": "v", "f": "v"},
    ),
    "after a logout the device is itself": (
        [signed_up("b", "10:05:00", "u"), signed_out("c", "10:10:00"), viewed("e", "10:15:00")],
        {"b": "u", "c": "u", "e": "anon:d"},
    ),
    "exactly 30 days back": (
        [viewed("a", "2026-01-01T10:00:00Z"), signed_up("b", "2026-01-31T10:00:00Z", "u")],
        {"a": "u", "b": "u"},
    ),
    "30 days and a microsecond back": (
        [
            viewed("a", "2026-01-01T10:00:00Z"),
            viewed("c", "2026-01-01T10:00:00.000001Z"),
            signed_up("b", "2026-01-31T10:00:00.000001Z", "u"),
        ],
        {"a": "anon:d", "c": "u", "b": "u"},
    ),
    "an alias of an anonymous id": (
        [viewed("a", "10:00:00"), alias("b", "10:05:00", "d", "u"), viewed("c", "10:10:00")],
        {"a": "u", "b": "u", "c": "u"},
    ),
    "an alias between two users": (
        [
            signed_up("a", "10:00:00", "v", "d1"),
            signed_up("b", "10:01:00", "u", "d2"),
            alias("c", "10:05:00", "v", "u"),
            viewed("e", "10:10:00", "d1"),
        ],
        {"a": "v", "b": "u", "c": "u", "e": "v"},
    ),
    "a private window": (
        [
            viewed("a", "10:00:00", "d1"),
            viewed("b", "10:01:00", "d2"),
            signed_up("c", "10:05:00", "u", "d2"),
            viewed("e", "10:10:00", "d1"),
        ],
        {"a": "anon:d1", "b": "u", "c": "u", "e": "anon:d1"},
    ),
    "the same user after a logout": (
        [
            signed_up("a", "10:00:00", "u"),
            signed_out("b", "10:05:00"),
            viewed("c", "10:10:00"),
            signed_up("e", "10:15:00", "u"),
        ],
        {"a": "u", "b": "u", "c": "u", "e": "u"},
    ),
    "two logins at the same instant": (
        [
            viewed("a", "10:00:00"),
            signed_up("c", "10:05:00", "v"),
            signed_up("b", "10:05:00", "u"),
            viewed("bb", "10:05:00"),
            viewed("e", "10:06:00"),
        ],
        {"a": "u", "b": "u", "bb": "u", "c": "v", "e": "v"},
    ),
    "a late login that pre-dates another": (
        [
            viewed("a", "10:00:00"),
            viewed("f", "10:15:00"),
            signed_up("c", "10:20:00", "v"),
            signed_up("b", "10:10:00", "u"),
        ],
        {"a": "u", "b": "u", "f": "u", "c": "v"},
    ),
    "a chain of aliases": (
        [viewed("a", "10:00:00"), alias("b", "10:05:00", "d", "x"), alias("c", "10:06:00", "x", "u")],
        {"a": "x", "b": "x", "c": "u"},
    ),
    "aliases in a circle": (
        [
            signed_up("a", "10:00:00", "u", "d1"),
            signed_up("b", "10:01:00", "v", "d2"),
            alias("c", "10:05:00", "u", "v"),
            alias("e", "10:06:00", "v", "u"),
            viewed("f", "10:10:00", "d1"),
            viewed("g", "10:10:00", "d2"),
        ],
        {"a": "u", "b": "v", "c": "v", "e": "u", "f": "u", "g": "v"},
    ),
    "an alias onto itself": (
        [viewed("a", "10:00:00", "u"), alias("b", "10:05:00", "u", "u"), viewed("c", "10:10:00", "u")],
        {"a": "anon:u", "b": "u", "c": "anon:u"},
    ),
    "an alias of what turns out to be a user": (
        [
            viewed("a", "10:00:00", "x"),
            alias("b", "10:05:00", "x", "u"),
            signed_up("c", "11:00:00", "x", "d2"),
            viewed("e", "11:05:00", "d2"),
        ],
        {"a": "anon:x", "b": "u", "c": "x", "e": "x"},
    ),
    "the same text as user id and as anonymous id": (
        [viewed("a", "10:00:00", "u"), signed_up("b", "10:05:00", "u", "d"), viewed("c", "10:10:00", "u")],
        {"a": "anon:u", "b": "u", "c": "anon:u"},
    ),
    "server events without an anonymous id": (
        [
            viewed("a", "10:00:00"),
            event("b", "10:01:00", None, event="Invoice Paid", userId="u"),
            viewed("c", "10:02:00"),
        ],
        {"a": "anon:d", "b": "u", "c": "anon:d"},
    ),
    "a user id that changes its case": (
        [signed_up("a", "10:00:00", "Ann"), signed_up("b", "10:05:00", "ann"), viewed("c", "10:10:00")],
        {"a": "Ann", "b": "ann", "c": "ann"},
    ),
    "user ids of another Unicode form, or with a blank": (
        [
            signed_up("a", "10:00:00", "ren\u00e9"),
            signed_up("b", "10:05:00", "rene\u0301"),
            viewed("c", "10:06:00"),
            signed_up("e", "10:10:00", "rene\u0301 "),
            viewed("f", "10:15:00"),
        ],
        {"a": "ren\u00e9", "b": "rene\u0301", "c": "rene\u0301", "e": "rene\u0301 ", "f": "rene\u0301 "},
    ),
    "a browser that four people share in a week": (
        [
            viewed("a", "2026-01-01T10:00:00Z"),
            signed_up("b", "2026-01-01T10:05:00Z", "u"),
            signed_out("c", "2026-01-01T10:10:00Z"),
            viewed("e", "2026-01-02T10:00:00Z"),
            signed_up("f", "2026-01-02T10:05:00Z", "v"),
            viewed("g", "2026-01-02T10:10:00Z"),
            signed_up("h", "2026-01-03T10:00:00Z", "w"),
            signed_up("i", "2026-01-08T10:05:00Z", "x"),
            viewed("j", "2026-01-08T10:10:00Z"),
        ],
        {
            "a": "anon:d",
            "b": "u",
            "c": "u",
            "e": "anon:d",
            "f": "v",
            "g": "v",
            "h": "w",
            "i": "x",
            "j": "x",
        },
    ),
    "twenty-one devices of a user in a day": (
        [viewed(f"a{i:02}", "10:00:00", f"d{i:02}") for i in range(21)]
        + [signed_up(f"b{i:02}", f"11:{i:02}:00", "u", f"d{i:02}") for i in range(21)],
        {f"{kind}{i:02}": "u" for kind in "ab" for i in range(21)} | {"a20": "anon:d20"},
    ),
}


def replay(run: Run, events: list[bytes], file: Path) -> None:
    file.write_bytes(b"\n".join(events))
    run.replay(file)


def persons_now(run: Run) -> dict[str, str]:
    rows = run.rows(PERSONS_NOW)
    assert len(rows) == len({message_id for _, message_id, _ in rows}), "overrides overlap"
    return {message_id: person for _, message_id, person in rows}


def identity(run: Run) -> dict[str, list[tuple[Any, ...]]]:
    """All that is known about who is who."""
    return {
        "facts": run.rows("select * exclude recorded_at from stream.identity_facts order by all"),
        "verdicts": run.rows("select * exclude recorded_at from stream.identity_verdicts order by all"),
        "identities": run.rows("select * from stream.identities order by all"),
        "overrides": run.rows("select * from stream.person_overrides order by all"),
        "events": sorted(run.rows(PERSONS_NOW), key=str),
        "sessions": sorted(run.rows(SESSION_PERSONS_NOW), key=str),
    }


def all_cases() -> tuple[list[bytes], dict[str, str]]:
    """The events of all cases, each case with ids of its own, and whose each is."""
    lines: list[bytes] = []
    persons: dict[str, str] = {}
    for case, (events, expected) in CASES.items():
        for line in events:
            said = json.loads(line)
            ids = {name: f"{case}/{said[name]}" for name in said.keys() & _IDS}
            lines.append(json.dumps(said | ids).encode())
        for message_id, person in expected.items():
            device = person.removeprefix("anon:")
            persons[f"{case}/{message_id}"] = f"{'anon:' if person != device else ''}{case}/{device}"
    return lines, persons


_IDS = {"messageId", "anonymousId", "userId", "previousId"}


@pytest.mark.parametrize(
    ("order", "commit"), [(1, "250000"), (1, "1"), (-1, "1")], ids=["at once", "one by one", "backwards"]
)
def test_persons(order: int, commit: str, run: Run, tmp_path: Path) -> None:
    """With all in one commit, with every event in one of its own, and told backwards."""
    events, persons = all_cases()
    run.settings["FLOW__COMMIT_EVENTS"] = commit
    replay(run, events[::order], tmp_path / "events.jsonl")
    assert persons_now(run) == persons
    sessions = run.rows(SESSION_PERSONS_NOW)
    users = dict(run.rows("select first_message_id, user_id from stream.sessions"))
    assert {first: person for _, first, person in sessions} == {
        first: user or persons[first] for first, user in users.items()
    }


def test_an_alias_between_two_users_is_refused_and_listed(run: Run, tmp_path: Path) -> None:
    replay(run, CASES["an alias between two users"][0], tmp_path / "events.jsonl")
    assert run.rows("select verdict, anonymous_id, user_id, message_id, reason from stream.identity_verdicts") == [
        ("refused", "v", "u", "c", "two users: the alias names another known user")
    ]
    assert run.rows("select * from stream.identities where kind = 'user' order by all") == [
        ("user", "u", "u"),
        ("user", "v", "v"),
    ]


def test_one_anonymous_id_for_thousands_of_users(run: Run, tmp_path: Path) -> None:
    """A client that never makes a new one: everybody keeps what they did, and gets nothing of what others did."""
    run.settings["FLOW__COMMIT_EVENTS"] = "1000"
    events = [viewed("first", "09:00:00")]
    for i in range(3_000):
        at = f"1{i // 600}:{i // 10 % 60:02}:{i % 10 * 6:02}"
        events += [signed_up(f"s{i:04}", at, f"u{i:04}"), viewed(f"v{i:04}", at)]
    replay(run, events, tmp_path / "events.jsonl")
    expected = {f"{kind}{i:04}": f"u{i:04}" for kind in "sv" for i in range(3_000)}
    # A login comes before what was seen at the same instant, by the message ids; so nothing is somebody else's.
    assert persons_now(run) == expected | {"first": "anon:d"}
    assert run.rows("select verdict, anonymous_id, message_id from stream.identity_verdicts") == [
        ("shared", "d", "s0003")
    ]


def test_illegal_ids_never_link(run: Run, tmp_path: Path) -> None:
    illegal = {
        "null": "user id means nobody",
        "Undefined": "user id means nobody",
        "GUEST": "user id means nobody",
        "-1": "user id means nobody",
        "[object Object]": "user id means nobody",
        "00000000-0000-0000-0000-000000000000": "user id all zeros",
        "Anon:x": "user id starts with anon:",
        "x" * 201: "user id longer than 200 characters",
        "of this site": "user id means nobody",
    }
    run.settings["IDENTITY__LOCAL_ILLEGAL_IDS"] = '["Of This Site"]'
    events = [viewed(f"v{i}", "10:00:00", f"d{i}") for i in range(len(illegal))]
    events += [signed_up(f"s{i}", "10:05:00", user, f"d{i}") for i, user in enumerate(illegal)]
    events += [signed_up("w", "10:00:00", "u", "undefined"), viewed("x", "10:05:00", "undefined")]
    replay(run, events, tmp_path / "events.jsonl")

    assert run.counts() == (len(events), len(events), 0, 0)
    devices = {f"{kind}{i}": f"anon:d{i}" for kind in "vs" for i in range(len(illegal))}
    assert persons_now(run) == devices | {"w": "u", "x": "anon:undefined"}
    assert run.value("select count(*) from stream.identity_facts") == 0
    assert dict(run.rows("select message_id, verdict || ': ' || reason from stream.identity_verdicts")) == {
        f"s{i}": f"refused: {reason}" for i, reason in enumerate(illegal.values())
    } | {"w": "refused: anonymous id means nobody"}


def test_redis_emptied_between_two_runs(run: Run, redis_url: str, tmp_path: Path) -> None:
    """What a Redis without memory is told by the warehouse is what one with memory knows."""
    first = [*CASES["a shared browser with logout"][0], viewed("g", "10:00:00", "e"), alias("h", "10:01:00", "e", "u")]
    second = [
        viewed("k", "10:25:00"),
        signed_out("l", "10:30:00"),
        viewed("m", "10:35:00"),
        signed_up("n", "10:07:00", "w"),
        viewed("o", "10:40:00", "e"),
    ]
    steady = Run(tmp_path / "steady.duckdb", redis_url)
    for each in (run, steady):
        replay(each, first, tmp_path / "first.jsonl")
        warehouse_id = each.value("select warehouse_id from stream.warehouse")
        with redis.Redis.from_url(redis_url) as client:
            assert client.exists(f"stitchline:{{{warehouse_id}}}:device:d")
            if each is run:
                clear(redis_url, warehouse_id)
                assert not list(client.scan_iter(f"stitchline:{{{warehouse_id}}}:*"))
        replay(each, second, tmp_path / "second.jsonl")
        with redis.Redis.from_url(redis_url) as client:
            assert client.exists(f"stitchline:{{{warehouse_id}}}:device:d")
    assert identity(run) == identity(steady)
    assert persons_now(run) == {
        "a": "u",
        "b": "u",
        "n": "w",
        "c": "w",
        "e": "v",
        "f": "v",
        "k": "v",
        "l": "v",
        "m": "anon:d",
        "g": "u",
        "h": "u",
        "o": "u",
    }


def test_replayed_twice_nothing_changes(run: Run, tmp_path: Path) -> None:
    events, _ = all_cases()
    replay(run, events, tmp_path / "events.jsonl")
    known = identity(run)
    assert known["facts"]
    assert known["verdicts"]
    run.replay(tmp_path / "events.jsonl")
    assert identity(run) == known
    replay(run, events[::-1], tmp_path / "again.jsonl")
    assert identity(run) == known
    assert run.counts()[2] == len(events)


def counts(told: dict[str, Any]) -> list[int]:
    return [step["count"] for step in told["steps"]]


def funnel_of(service: Serving) -> list[int]:
    answer = httpx.post(f"{service.url}/api/funnel", json=FUNNEL, timeout=60)
    assert answer.status_code == 200, answer.text
    return counts(answer.json())


def until_funnel(service: Serving, expected: list[int], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while (found := funnel_of(service)) != expected:
        assert time.monotonic() < deadline, f"{found}, not {expected}"
        time.sleep(0.05)


def test_a_live_funnel_counts_the_anonymous_steps_for_the_user(kafka_run: Callable[..., Run], tmp_path: Path) -> None:
    run = kafka_run(partitions=2)
    definition = tmp_path / "signup.json"
    definition.write_text(json.dumps(FUNNEL))

    def asked() -> list[int]:
        return counts(json.loads(run.command("funnel", "--definition", str(definition), "--json")))

    with run.serving() as service:
        run.produce([viewed("a", "10:00:00", "d1"), viewed("b", "10:01:00", "d2"), viewed("c", "10:02:00", "d3")])
        until_funnel(service, [3, 0])
        assert asked() == [3, 0]
        # The user signs up on one device, and logs in on the second: two people are left, one of whom signed up.
        run.produce([signed_up("e", "10:10:00", "u", "d1")])
        until_funnel(service, [3, 1])
        run.produce([event("f", "10:15:00", "d2", event="Logged In", userId="u")])
        until_funnel(service, [2, 1])
        assert asked() == [2, 1]
        persons = {row["message_id"]: row["person_id"] for row in service.rows(PERSONS_NOW_NAMED)}
        assert persons == {"a": "u", "b": "u", "c": "anon:d3", "e": "u", "f": "u"}
        found = httpx.get(f"{service.url}/api/sessions", timeout=60).json()["sessions"]
        assert {session["anonymous_id"]: session["person_id"] for session in found} == {
            "d1": "u",
            "d2": "u",
            "d3": "anon:d3",
        }
    assert asked() == [2, 1]


PERSONS_NOW_NAMED = f"select * from ({PERSONS_NOW}) as known(anonymous_id, message_id, person_id)"


@pytest.mark.parametrize("commit", ["1", "250000"])
def test_a_funnel_after_a_replay(commit: str, run: Run, tmp_path: Path) -> None:
    run.settings["FLOW__COMMIT_EVENTS"] = commit
    (tmp_path / "signup.json").write_text(json.dumps(FUNNEL))
    events = [
        viewed("a", "10:00:00", "d1"),
        viewed("b", "10:01:00", "d2"),
        signed_up("c", "10:10:00", "u", "d2"),
        viewed("e", "10:20:00", "d3"),
        signed_out("f", "10:21:00", "d3"),
        signed_up("g", "10:22:00", "v", "d3"),  # not the one who looked
    ]
    replay(run, events, tmp_path / "events.jsonl")
    told = json.loads(run.command("funnel", "--definition", str(tmp_path / "signup.json"), "--json"))
    assert counts(told) == [3, 1]
    assert told["steps"][1]["median_seconds"] == 540
