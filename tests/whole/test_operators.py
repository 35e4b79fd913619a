"""What operators see of persons and do about them, by the commands, with and without a running service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.identity.worlds import PERSONS_NOW
from tests.whole.runs import Run, event

FUNNEL = {
    "name": "signup",
    "steps": [{"event": "Viewed Product"}, {"event": "Signed Up"}],
    "window": "14 days",
    "by": "person",
}
EVENTS = [
    event("a", "10:00:00", "d1", event="Viewed Product"),
    event("b", "10:05:00", "d1", event="Logged In", userId="ann"),
    event("c", "11:00:00", "d2", event="Viewed Product"),
    event("d", "11:05:00", "d2", event="Signed Up", userId="ann@work"),
    event("e", "12:00:00", "d3", event="Viewed Product"),
    event("f", "12:05:00", "d3", event="Viewed Product", userId="undefined"),
]


@pytest.fixture
def told(run: Run, tmp_path: Path) -> Run:
    folder = tmp_path / "funnels"
    folder.mkdir()
    (folder / "signup.json").write_text(json.dumps(FUNNEL))
    run.settings["FUNNELS"] = str(folder)
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(EVENTS))
    run.replay(tmp_path / "events.jsonl")
    return run


def identity(run: Run, *arguments: str) -> Any:
    return json.loads(run.command("identity", *arguments, "--json"))


def funnel(run: Run) -> list[int]:
    file = Path(run.settings["FUNNELS"]) / "signup.json"
    found = json.loads(run.command("funnel", "--definition", str(file), "--json"))
    return [step["count"] for step in found["steps"]]


def everything(run: Run) -> list[Any]:
    """What the warehouse shows of persons."""
    return [
        funnel(run),
        run.rows("select * from stream.identities order by all"),
        run.rows("select * from stream.events order by all"),
        run.rows("select * from stream.sessions order by all"),
        run.rows("select * from stream.person_overrides order by all"),
        [identity(run, "show", name)["persons"][0]["devices"] for name in ("ann", "ann@work", "d3")],
    ]


def test_a_merge_and_its_undoing(told: Run) -> None:
    before = everything(told)
    foreseen = identity(told, "merge", "ann", "ann@work", "--because", "her two mails", "--as", "Sue", "--dry-run")
    assert everything(told) == before, "a dry run changes nothing"
    merged = identity(told, "merge", "ann", "ann@work", "--because", "her two mails", "--as", "Sue")
    assert foreseen == merged | {"act_id": None, "dry_run": True}
    assert merged["persons"] == [{"person_id": "ann@work", "was": "ann@work", "is": "ann"}]
    assert (merged["events"], merged["sessions"]) == (2, 1)
    assert merged["funnels"] == [{"name": "signup", "was": [3, 1], "is": [2, 1]}]

    assert funnel(told) == [2, 1]
    assert told.value("select person_id from stream.identities where kind = 'user' and id = 'ann@work'") == "ann"
    (person,) = identity(told, "show", "ann@work")["persons"]
    assert (person["person_id"], person["members"]) == ("ann", ["ann", "ann@work"])
    assert [device["anonymous_id"] for device in person["devices"]] == ["d1", "d2"]
    assert [(act["kind"], act["actor"], act["because"]) for act in person["acts"]] == [
        ("merge", "Sue", "her two mails")
    ]

    undone = identity(told, "unmerge", "ann", "ann@work", "--because", "a mistake")
    assert undone["funnels"] == [{"name": "signup", "was": [2, 1], "is": [3, 1]}]
    assert everything(told) == before
    assert told.rows("select kind, reason from stream.identity_facts where actor is not null order by event_at") == [
        ("merge", "her two mails"),
        ("unmerge", "a mistake"),
    ]


def test_what_is_shown_of_a_person(told: Run) -> None:
    (person,) = identity(told, "show", "ann")["persons"]
    (device,) = person["devices"]
    assert (person["events"], person["sessions"], device["events"]) == (2, 1, 2)
    assert [stretch["person_id"] for stretch in device["timeline"]] == ["anon:d1", "ann"]
    assert [(fact["kind"], fact["user_id"], fact["message_id"]) for fact in device["evidence"]] == [
        ("claim", "ann", "b")
    ]
    for name in ("d1", "anon:d1"):
        assert [found["person_id"] for found in identity(told, "show", name)["persons"]] == ["ann"], name
    shown = told.command("identity", "show", "ann")
    assert "device d1: 2 events, 1 sessions" in shown
    assert "claim by ann, message b" in shown


def test_what_was_refused_and_who_has_most(told: Run) -> None:
    (refused,) = identity(told, "refused")
    assert refused["verdict"] == "refused"
    assert (refused["reason"], refused["user_id"], refused["times"]) == ("user id means nobody", "undefined", 1)
    found = identity(told, "audit")
    assert [(row["user_id"], row["devices"]) for row in found["users"]] == [("ann", 1), ("ann@work", 1)]
    assert [(row["anonymous_id"], row["users"]) for row in found["devices"]] == [("d1", 1), ("d2", 1)]
    assert "ann@work" in told.command("identity", "audit")


def test_all_is_judged_anew_when_a_rule_has_changed(run: Run, redis_url: str, tmp_path: Path) -> None:
    """Then everything is as if the rule had been so from the beginning, and the flow goes on from there."""
    events = [event("a", "10:00:00", "d", event="Viewed Product")]
    events += [event(f"b{i}", f"11:0{i}:00", "d", event="Logged In", userId=f"u{i}") for i in range(4)]
    for i in range(4):
        events.append(event(f"c{i}", "10:00:00", f"e{i}", event="Viewed Product"))
        events.append(event(f"f{i}", f"12:0{i}:00", f"e{i}", event="Logged In", userId="w"))
    late = [event("z", "10:30:00", "d", event="Viewed Product"), event("y", "12:30:00", "e3")]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(events))
    (tmp_path / "late.jsonl").write_bytes(b"\n".join(late))
    run.replay(tmp_path / "events.jsonl")

    def known(of: Run) -> list[Any]:
        verdicts = (
            "select verdict, anonymous_id, user_id, message_id, reason from stream.identity_verdicts order by all"
        )
        return [
            sorted(of.rows(PERSONS_NOW), key=str),
            of.rows(verdicts),
            of.rows("from stream.identities order by all"),
        ]

    first = known(run)
    for number, rules in enumerate(
        ({"USERS_OF_DEVICE": "4", "DEVICES_OF_USER": "2"}, {"USERS_OF_DEVICE": "3", "DEVICES_OF_USER": "20"})
    ):
        settings = {f"IDENTITY__{name}": value for name, value in rules.items()}
        run.settings |= settings
        fresh = Run(tmp_path / f"fresh-{number}.duckdb", redis_url, settings=settings)
        fresh.replay(tmp_path / "events.jsonl")
        judged = identity(run, "rebuild")
        assert known(run) == known(fresh)
        assert (judged["shared"], judged["held"]) == ((0, 2), (1, 0))[number]
        assert judged["corrected"] == 3
        assert identity(run, "rebuild") == judged | {"corrected": 0}
    assert known(run) == first
    for each in (run, fresh):
        each.replay(tmp_path / "late.jsonl")
    assert known(run) == known(fresh)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nobody"], "nobody has the id"),
        (["merge", "ann", "nobody", "--because", "x"], "There is no person 'nobody'"),
        (["merge", "ann", "ann", "--because", "x"], "one person already"),
        (["merge", "ann", "ann@work", "--because", " "], "because"),
        (["merge", "ann", "ann@work"], "--because"),
        (["unmerge", "ann", "ann@work", "--because", "x"], "No merge of 'ann' and 'ann@work' stands"),
    ],
)
def test_what_cannot_be_done(told: Run, arguments: list[str], words: str) -> None:
    said = told.command("identity", *arguments, exits=2)
    assert words in said
    assert told.value("select count(*) from stream.identity_facts where actor is not null") == 0


def test_while_the_service_runs(kafka_run: Callable[..., Run], tmp_path: Path) -> None:
    """A merge shows at once, and holds for what comes later."""
    run = kafka_run(partitions=2)
    with run.serving() as service:
        run.produce(EVENTS)
        service.until("select count(*) from stream.events", len(EVENTS), 60)
        identity(run, "merge", "ann", "ann@work", "--because", "her two mails")
        run.produce([event("g", "13:00:00", "d2", event="Viewed Product", userId="ann@work")])
        service.until("select count(*) from stream.events", len(EVENTS) + 1, 60)
        (person,) = identity(run, "show", "ann")["persons"]
        assert person["events"] == 5
        assert identity(run, "rebuild") == {"devices": 2, "shared": 0, "held": 0, "corrected": 0}
        run.produce([event("h", "13:05:00", "d2", event="Viewed Product")])
        service.until("select count(*) from stream.events", len(EVENTS) + 2, 60)
        identity(run, "unmerge", "ann@work", "ann", "--because", "a mistake")
        assert [identity(run, "show", name)["persons"][0]["events"] for name in ("ann", "ann@work")] == [2, 4]
