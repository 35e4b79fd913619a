"""A person is forgotten, by the command, with and without a running service: not a byte of the id is left anywhere, and
nothing that still arrives brings it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from service.embedded import EmbeddedValkey
from tests.whole.runs import Run, event

USER = "zoe.to-be-forgotten@example.com"
PHONE, LAPTOP, KIOSK = "device-of-zoe-phone", "device-of-zoe-laptop", "kiosk-of-many"
FUNNEL = {"name": "signup", "steps": [{"event": "Viewed Product"}, {"event": "Signed Up"}], "window": "14 days"}

EVENTS = [
    event("a1", "10:00:00", PHONE, event="Viewed Product"),
    event("a2", "10:05:00", PHONE, event="Signed Up", userId=USER, properties={"email": USER}),
    event("a3", "11:00:00", LAPTOP, event="Viewed Product"),
    event("a4", "11:05:00", LAPTOP, event="Logged In", userId=USER),
    event("a5", "11:30:00", None, event="Paid", userId=USER),
    event("a6", "12:00:00", KIOSK, event="Viewed Product"),
    event("a7", "12:05:00", KIOSK, event="Logged In", userId=USER),
    event("a8", "12:10:00", KIOSK, event="Signed Out"),
    event("b1", "12:20:00", KIOSK, event="Viewed Product"),
    event("b2", "12:25:00", KIOSK, event="Signed Up", userId="bob"),
    event("a9", "13:00:00", None, type="alias", event=None, previousId="bob", userId=USER),
    event("b3", "14:00:00", "device-of-bob", event="Viewed Product", userId="bob", path="/"),
    f'{{"messageId": "x1", "anonymousId": "{PHONE}", "userId": "{USER}'.encode(),
    json.dumps({"messageId": 7, "anonymousId": "d", "type": "track", "event": "E", "userId": USER}).encode(),
    b'{"messageId": "x2", "type": "track"}',
]
LATE = [
    event("l1", "10:02:00", PHONE, event="Viewed Product"),
    event("l2", "15:00:00", "a-third-device", event="Viewed Product", userId=USER),
    event("l3", "12:02:00", KIOSK, event="Viewed Product"),
    event("l4", "12:21:00", KIOSK, event="Viewed Product"),
]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """Whose files can be looked at."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("appendonly", "yes")
        yield server


def places_of(ids: list[str], folder: Path, url: str) -> list[str]:
    """Where a byte of one of `ids` is: files under `folder`, keys and values of Redis."""
    words = [name.encode() for name in ids]
    found = [
        str(file.relative_to(folder))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "kafka" not in file.parts and any(word in file.read_bytes() for word in words)
    ]
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            value = client.get(key) if client.type(key) == b"string" else str(client.hgetall(key)).encode()
            found += [f"key {key!r}" for word in words if word in key or word in (value or b"")]
    return found


def identity(run: Run, *arguments: str) -> Any:
    return json.loads(run.command("identity", *arguments, "--json"))


def forget(run: Run, *more: str) -> Any:
    return identity(run, "forget", USER, "--because", "asked for it by letter", "--as", "Sue", *more)


@pytest.fixture
def told(run: Run, valkey: EmbeddedValkey, tmp_path: Path) -> Run:
    run.redis_url = valkey.url
    (tmp_path / "funnels").mkdir()
    (tmp_path / "funnels" / "signup.json").write_text(json.dumps(FUNNEL))
    run.settings["FUNNELS"] = str(tmp_path / "funnels")
    sent = tmp_path / "sent.jsonl"
    sent.write_bytes(b"\n".join(EVENTS))
    run.replay(sent)
    sent.unlink()
    return run


def test_not_a_byte_is_left(told: Run, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    ids = [USER, PHONE, LAPTOP, "asked for it by phone"]
    told.command("identity", "merge", "bob", USER, "--because", f"not {USER}")
    told.command("identity", "unmerge", "bob", USER, "--because", "a mistake")
    assert {place.partition(" ")[0] for place in places_of(ids, tmp_path, valkey.url)} >= {"warehouse.duckdb", "key"}
    foreseen = forget(told, "--dry-run")
    assert told.value("select count(*) from stream.events") == 12
    done = forget(told)
    assert places_of(ids, tmp_path, valkey.url) == []
    assert done | {
        name: foreseen[name] for name in ("dry_run", "tombstone_id", "forgotten_at", "redis_keys", "left")
    } == (foreseen)
    counted = ("events", "sessions", "dead_letters", "acts")
    assert [done[name] for name in counted] == [9, 3, 2, 2]
    assert (done["persons"], done["devices"], done["shared_devices"]) == ([USER], sorted([LAPTOP, PHONE]), [KIOSK])
    assert done["funnels"] == [{"name": "signup", "was": [2, 2], "is": [1, 1]}]
    assert done["redis_keys"] == 3
    assert done["left"]["kafka"]["records"] == [{"partition": 0, "records": 9, "first_offset": 0, "last_offset": 10}]
    assert done["left"]["redis"] is None
    assert done["left"]["mentions"] == 0
    assert told.rows(
        "select actor, reason, events, sessions, devices, dead_letters, is_erased from stream.forgotten"
    ) == [("Sue", "asked for it by letter", 9, 3, 2, 2, True)]

    # What others had is theirs still, and is what the batch definition says.
    assert told.rows("select message_id, person_id from stream.events order by 1") == [
        ("b1", "bob"),
        ("b2", "bob"),
        ("b3", "bob"),
    ]
    assert json.loads(told.command("reconcile", "--json"))["differing"] == 0
    (bob,) = identity(told, "show", "bob")["persons"]
    assert (bob["events"], bob["sessions"]) == (3, 2)
    shown = told.command("identity", "show", USER, exits=2)
    assert f"{USER!r} was forgotten on 20" in shown
    assert "0 late arrivals were refused" in shown
    assert "was forgotten already" in told.command("identity", "forget", USER, "--because", "again", exits=2)

    # What still arrives is refused and counted.
    late = tmp_path / "late.jsonl"
    late.write_bytes(b"\n".join(LATE))
    told.replay(late)
    late.unlink()
    assert "3 late arrivals were refused" in told.command("identity", "show", USER, exits=2)
    assert places_of(ids, tmp_path, valkey.url) == []
    assert told.rows("select message_id from stream.events where message_id like 'l%'") == [("l4",)]
    assert told.value("select count(*) from stream.dead_letters where reason = 'forgotten'") == 3
    assert json.loads(told.command("reconcile", "--json"))["differing"] == 0


def test_what_the_person_who_does_it_reads(told: Run) -> None:
    said = told.command("identity", "forget", USER, "--because", "asked", "--dry-run")
    assert "Would remove 9 events, 3 sessions" in said
    assert "Nothing was removed." in said
    said = told.command("identity", "forget", USER, "--because", "asked")
    for words in ("Removed 9 events", f"Devices, whole: {LAPTOP}, {PHONE}.", "Backups made before hold the person"):
        assert words in said
    assert "say why without the id" in told.command("identity", "forget", "bob", "--because", "of bob", exits=2)


def test_while_the_service_runs(kafka_run: Callable[..., Run], valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """The flow stands still, and goes on; the page answers all the time."""
    run = kafka_run(partitions=2)
    run.redis_url = valkey.url
    ids = [USER, PHONE, LAPTOP]
    with run.serving() as service:
        run.produce(EVENTS)
        service.until("select count(*) from stream.events", 12, 60)
        done = forget(run)
        assert service.value("select count(*) from stream.events") == 3
        assert sum(place["records"] for place in done["left"]["kafka"]["records"]) == 9
        assert done["left"]["kafka"]["kept_for"] == "for ever"
        assert places_of(ids, tmp_path, valkey.url) == []
        run.produce(LATE)
        run.produce([event("n1", "16:00:00", "device-of-bob", event="Viewed Product")])
        service.until("select count(*) from stream.events", 5, 60)
        service.until("select count(*) from stream.dead_letters where reason = 'forgotten'", 3, 60)
        assert service.rows("select distinct person_id from stream.events where message_id = 'n1'") == [
            {"person_id": "bob"}
        ]
    assert places_of(ids, tmp_path, valkey.url) == []
    assert json.loads(run.command("reconcile", "--json"))["differing"] == 0


def test_ended_before_the_file_was_written_anew(told: Run, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """The next start of a service, or the next forgetting, does it."""
    folder = tmp_path / "warehouse.duckdb.rewriting"
    folder.mkdir()
    (folder / "in the way").touch()  # what cannot be removed stands where the new file is to be
    said = told.command("identity", "forget", USER, "--because", "asked", exits=1)
    assert "The person is removed, and what arrives is refused." in said
    assert "could not be written anew" in said
    assert told.rows("select is_erased from stream.forgotten") == [(False,)]
    assert told.value("select count(*) from stream.events") == 3
    (folder / "in the way").unlink()
    folder.rmdir()
    told.command("identity", "forget", "bob", "--because", "asked")
    assert told.rows("select is_erased from stream.forgotten") == [(True,), (True,)]
    assert places_of([USER, PHONE, LAPTOP, "bob"], tmp_path, valkey.url) == []


def test_a_backup_that_is_restored(told: Run, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """Who was forgotten since it was made is forgotten again before it takes the warehouse's place."""
    ids = [USER, PHONE, LAPTOP]
    folder = tmp_path / "backup"
    told.command("backup", str(folder))
    forget(told)
    known = told.rows("select message_id, person_id from stream.events order by 1")
    told.command("restore", str(folder), "--replace")
    assert {place.partition("/")[0] for place in places_of(ids, tmp_path, valkey.url)} == {"backup"}
    assert told.rows("select message_id, person_id from stream.events order by 1") == known
    assert told.rows("select actor, events, sessions, dead_letters, is_erased from stream.forgotten") == [
        ("Sue", 9, 3, 2, True)
    ]
    late = tmp_path / "late.jsonl"
    late.write_bytes(b"\n".join(LATE))
    told.replay(late)
    assert told.rows("select message_id from stream.events where message_id like 'l%'") == [("l4",)]
    assert json.loads(told.command("reconcile", "--json"))["differing"] == 0


def test_an_id_that_is_used_again_is_somebody_new(told: Run, tmp_path: Path) -> None:
    forget(told)
    now = datetime.now(UTC).isoformat()
    again = tmp_path / "again.jsonl"
    again.write_bytes(event("z1", now, PHONE, event="Signed Up", userId=USER) + b"\n" + LATE[1])
    told.replay(again)
    (zoe,) = identity(told, "show", USER)["persons"]
    assert (zoe["events"], [device["anonymous_id"] for device in zoe["devices"]]) == (1, [PHONE])
    assert told.rows(f"select message_id, person_id from stream.events where user_id = '{USER}'") == [("z1", USER)]
