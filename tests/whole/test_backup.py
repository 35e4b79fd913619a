"""A backup of a service under load, restored elsewhere and resumed from Kafka, gives what an undisturbed run gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import redis

from sinks.backups import FILE, MANIFEST
from tests.identity.worlds import PERSONS_NOW, SESSION_PERSONS_NOW
from tests.whole.runs import EVENTS, SESSIONS, Run


def identity_state(run: Run) -> dict[bytes, bytes]:
    """What Redis holds of the run's devices."""
    prefix = f"stitchline:{{{run.value('select warehouse_id from stream.warehouse')}}}:device:".encode()
    with redis.Redis.from_url(run.redis_url) as client:
        keys = sorted(client.scan_iter(prefix + b"*", count=10_000))
        values: list[bytes] = client.mget(keys)
    return dict(zip([key.removeprefix(prefix) for key in keys], values, strict=True))


def covered(run: Run) -> tuple[str, dict[str, int]]:
    """The generation of what Redis holds, and the offsets that it covers."""
    warehouse_id = run.value("select warehouse_id from stream.warehouse")
    with redis.Redis.from_url(run.redis_url) as client:
        meta = client.hgetall(f"stitchline:{{{warehouse_id}}}:meta")
    return meta[b"generation"].decode(), json.loads(meta[b"offsets"])


def same(run: Run, undisturbed: Run) -> None:
    assert run.rows(EVENTS) == undisturbed.rows(EVENTS)
    assert run.rows(SESSIONS) == undisturbed.rows(SESSIONS)
    for persons in (PERSONS_NOW, SESSION_PERSONS_NOW):
        assert sorted(run.rows(persons)) == sorted(undisturbed.rows(persons))
    assert identity_state(run) == identity_state(undisturbed)


def test_made_under_load_and_resumed_elsewhere(
    kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes], tmp_path: Path
) -> None:
    run = kafka_run(partitions=4, FLOW__COMMIT_EVENTS="1000")
    folder = tmp_path / "backup"
    half = len(shop) // 2
    with run.serving() as service:
        run.produce(shop[:half])
        service.until("select count(*) from stream.events", half, 60)
        ended = threading.Event()

        def live() -> None:
            for i in range(half, len(shop), 100):
                run.produce(shop[i : i + 100])
                ended.wait(0.1 if i < len(shop) - 2000 else 60)

        load = threading.Thread(target=live)
        load.start()
        told = json.loads(run.command("backup", str(folder), "--json"))
        ended.set()
        load.join()
        service.until("select count(*) from stream.events", len(shop), 60)
        stranger = httpx.post(f"{service.url}/api/backup", json={"directory": str(tmp_path / "theirs")})
        assert (stranger.status_code, (tmp_path / "theirs").exists()) == (403, False)
        refused = run.command("restore", str(folder), "--replace", exits=1)
        assert "is held by another process" in refused
        assert "Traceback" not in refused

    in_backup = told["rows"]["stream.events"]
    assert half <= in_backup < len(shop), "in mid-stream"
    assert sum(offset["next_offset"] for offset in told["offsets"]) == in_backup
    assert sorted(file.name for file in folder.iterdir()) == [MANIFEST, FILE]

    elsewhere = Run(tmp_path / "elsewhere" / "w.duckdb", run.redis_url, run.kafka, run.topic)
    restored = json.loads(elsewhere.command("restore", str(folder), "--json"))
    assert restored["offsets"] == told["offsets"]
    assert elsewhere.value("select count(*) from stream.events") == in_backup
    assert restored["generation"] != told["generation"] == covered(run)[0]

    summary = elsewhere.replay()
    assert summary["stored"] == len(shop) - in_backup, "what came after the backup, out of Kafka"
    same(elsewhere, replayed)
    offsets = dict(elsewhere.rows("""select topic || '/' || "partition", next_offset from stream.progress"""))
    assert covered(elsewhere) == (restored["generation"], offsets)


def test_of_a_warehouse_that_nobody_holds(replayed: Run, tmp_path: Path) -> None:
    said = replayed.command("backup", str(tmp_path / "backup"))
    assert "31,106 events" in said
    again = replayed.command("backup", str(tmp_path / "backup"), exits=1)
    assert "holds a backup already" in again
    copy = Run(tmp_path / "copy.duckdb", replayed.redis_url)
    said = copy.command("restore", str(tmp_path / "backup"))
    assert "which Kafka must still have" in said
    assert copy.rows(SESSIONS) == replayed.rows(SESSIONS)
    again = copy.command("restore", str(tmp_path / "backup"), exits=1)
    assert "--replace puts the backup in its place" in again
