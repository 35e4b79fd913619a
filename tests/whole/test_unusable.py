"""A warehouse that cannot be used or written, as whoever runs the service meets it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import httpx

from service.ask import address_file
from tests.room import Room
from tests.whole.runs import EVENTS, SESSIONS, Log, Run, event


def room_of(run: Run) -> Room:
    """Of the service that holds the warehouse of `run`."""
    return Room(json.loads(address_file(run.warehouse).read_text())["pid"])


def test_a_service_without_room_waits_for_it(kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes]) -> None:
    """It says so once, answers questions meanwhile, loses nothing, and goes on."""
    run = kafka_run(partitions=4, FLOW__COMMIT_EVENTS="1000")
    half = len(shop) // 2
    with run.serving() as service:
        run.produce(shop[:half])
        service.until("select count(*) from stream.events", half, 60)
        room = room_of(run)
        room.take()
        run.produce(shop[half:])
        service.log.until("cannot be written", 30)
        for _ in range(4):  # more than one try, the pause growing from half a second
            state = httpx.get(f"{service.url}/api/state", timeout=30).json()
            assert state["status"] == "waiting"
            assert "cannot be written" in state["detail"]
            assert "Make room on its disk" in state["detail"]
            assert service.value("select count(*) from stream.events") == half
            time.sleep(0.5)
        room.give()
        service.until("select count(*) from stream.events", len(shop), 60)
        assert "can be written again" in service.log.until("Warehouse", 10)
        assert sum("cannot be written" in line for line in service.log.seen) == 1
        assert httpx.get(f"{service.url}/api/state", timeout=30).json()["status"] != "waiting"
    run.replay()
    assert run.counts() == (len(shop), len(shop), 0, 0)
    assert run.rows(EVENTS) == replayed.rows(EVENTS)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)


def test_a_service_that_is_stopped_without_room_says_what_was_not_committed(kafka_run: Callable[..., Run]) -> None:
    run = kafka_run(partitions=1)
    process = run.start("-v", "up", "--port", "0")
    log = Log(process)
    log.until("The page is at", 60)
    run.produce([event("a", "10:00:00")])
    log.until("committed 1 events", 30)
    room_of(run).take()
    run.produce([event("b", "10:00:01")])
    log.until("cannot be written", 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    told = "".join(log.rest())
    assert "Error: The warehouse" in told
    assert "Traceback" not in told
    assert run.rows("select message_id from stream.events") == [("a",)]
    run.replay()
    assert run.counts() == (2, 2, 0, 0)


def test_a_damaged_one_ends_the_command_with_the_way_out(run: Run) -> None:
    run.warehouse.write_bytes(b"no database" * 100_000)
    for command in (["replay", "-"], ["sql", "select 1"]):
        told = run.command(*command, exits=1, text="")
        assert "Error: The warehouse" in told
        assert "restore DIR --replace" in told
        assert "let the flow read the topic again" in " ".join(told.split())
        assert "Traceback" not in told
    assert run.warehouse.read_bytes() == b"no database" * 100_000
