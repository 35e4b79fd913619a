"""The same events by every road give the same warehouse: file, Kafka, any order."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import zstandard

from tests.whole.conftest import SHOP
from tests.whole.runs import EVENTS, SESSIONS, Run, event

WINDOW = 60.0  # seconds: the default reorder window


def shuffled_within(lines: list[bytes], window: float, seed: int) -> list[bytes]:
    """`lines` in an order in which none comes more than `window` seconds of event time after a later one."""
    rng = random.Random(seed)

    def moved(line: bytes) -> float:
        return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() + rng.uniform(0, window)

    return sorted(lines, key=moved)


def test_replay_of_the_shop(replayed: Run) -> None:
    assert replayed.value("select count(*) from stream.sessions") == 3_605
    assert replayed.value("select count(distinct session_id) from stream.sessions") == 3_605
    assert replayed.counts() == (31_106, 31_106, 0, 0)
    assert replayed.rows("select distinct end_reason, is_open from stream.sessions") == [("gap", False)]
    assert replayed.value("select sum(event_count) from stream.sessions") == 31_106


@pytest.mark.parametrize("form", ["plain", "zstd", "stdin", "two files"])
def test_every_form_of_a_file(form: str, run: Run, replayed: Run, shop: list[bytes], tmp_path: Path) -> None:
    text = b"\n".join(shop)
    if form == "stdin":
        process = run.start("replay", "--json", "-", stdin=SHOP.open("rb"))
        # SHOP is gzip; standard input is plain, so this one is refused line by line rather than taken for events
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert json.loads(out)["stored"] == 0
        run.command("replay", "--json", "-", text=text.decode() + "\n")
        run.rows("select 1")
    elif form == "two files":
        half = len(shop) // 2
        for name, part in (("a.jsonl", shop[:half]), ("b.jsonl.gz", shop[half:])):
            body = b"\r\n".join(part) + b"\n\n"
            (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith("gz") else body)
        run.replay(tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz")
    else:
        file = tmp_path / "shop.jsonl"
        file.write_bytes(text if form == "plain" else zstandard.compress(text))
        run.replay(file)
    assert run.rows(EVENTS) == replayed.rows(EVENTS)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)


def test_replayed_twice_it_changes_nothing(run: Run, replayed: Run, tmp_path: Path, shop: list[bytes]) -> None:
    run.replay(SHOP)
    again = run.replay(SHOP)
    assert (again["consumed"], again["stored"]) == (0, 0)
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_bytes(b"\n".join(shop))
    copies = run.replay(renamed)
    assert (copies["consumed"], copies["duplicates"], copies["stored"]) == (31_106, 31_106, 0)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_within_the_reorder_window(
    seed: int, run: Run, replayed: Run, shop: list[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "shuffled.jsonl"
    file.write_bytes(b"\n".join(shuffled_within(shop, WINDOW, seed)))
    run.settings["FLOW__COMMIT_EVENTS"] = "2000"
    run.replay(file)
    assert run.rows(EVENTS) == replayed.rows(EVENTS)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)


def test_any_order_at_all(run: Run, replayed: Run, shop: list[bytes], tmp_path: Path) -> None:
    lines = list(shop)
    random.Random(4).shuffle(lines)
    (tmp_path / "shuffled.jsonl").write_bytes(b"\n".join(lines))
    run.settings["FLOW__COMMIT_EVENTS"] = "5000"
    run.replay(tmp_path / "shuffled.jsonl")
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)
    assert run.value("select count(*) from stream.session_changes where superseded_by is null") == 0


def test_through_kafka(kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes]) -> None:
    run = kafka_run(partitions=4)
    run.produce(shop)
    summary = run.replay()
    assert (summary["stored"], summary["warehouse"]["sessions"]) == (31_106, 3_605)
    assert run.rows(EVENTS) == replayed.rows(EVENTS)
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)
    assert run.counts() == (31_106, 31_106, 0, 0)
    known_up_to = run.rows("select distinct watermark from stream.progress")
    assert known_up_to == run.rows("select max(event_at) from stream.events")


@pytest.mark.parametrize("keys", ["null", "random"])
def test_foreign_keys_cost_time_alone(
    keys: str, kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes]
) -> None:
    run = kafka_run(partitions=4, FLOW__COMMIT_EVENTS="4000")
    rng = random.Random(5)
    run.produce(shop, [None if keys == "null" else rng.randbytes(8) for _ in shop])
    run.replay()
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)
    assert run.value("select sum(foreign_keys) from stream.progress") == 31_106


def test_partitions_added_in_the_middle_of_sessions(
    kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes]
) -> None:
    """Half of the events on 4 partitions, then, while the flow runs, the rest on 8."""
    from confluent_kafka.admin import AdminClient, NewPartitions

    run = kafka_run(partitions=4, FLOW__COMMIT_EVENTS="1000")
    half = len(shop) // 2
    run.produce(shop[:half])
    assert run.kafka is not None
    with run.serving() as service:
        service.until("select count(*) from stream.events", half, 60)
        admin = AdminClient({"bootstrap.servers": run.kafka.bootstrap})
        admin.create_partitions([NewPartitions(run.topic, 8)])[run.topic].result()
        run.produce(shop[half:])
        service.until("select count(*) from stream.events", len(shop), 90)
    assert run.value("select count(*) from stream.progress where next_offset > 0") > 4
    run.replay()
    assert run.rows(SESSIONS) == replayed.rows(SESSIONS)


def test_sigterm_commits_what_was_read_and_exits_0(kafka_run: Callable[..., Run]) -> None:
    run = kafka_run(partitions=2, FLOW__COMMIT_INTERVAL="1 hour")
    with run.serving() as service:
        run.produce([event(f"m{i}", f"10:00:{i:02d}", f"d{i % 5}") for i in range(50)])
        read = 0
        while read < 50:
            read += int(service.log.until(" read ", 30).split(" read ")[1].split()[0])
    assert run.counts() == (50, 50, 0, 0)
    assert run.value("select count(*) from stream.sessions where is_open") == 5, "a stop closes no session"
