"""kill -9 at any moment: what a resumed flow makes is equal to what an undisturbed one makes."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from tests.whole.runs import EVENTS, SESSIONS, Log, Run

COMMIT = 1_000  # events
COMMIT_TAKES = 0.015  # seconds, at least: the time that one event in a thousand has to be killed in
SEED = int(os.environ.get("STITCHLINE_PROVE_SEED") or random.randrange(2**32))


def test_kills_of_the_flow_from_kafka(
    proving: bool, kafka_run: Callable[..., Run], replayed: Run, shop: list[bytes]
) -> None:
    rng = random.Random(SEED)
    for _ in range(3 if proving else 1):
        run = kafka_run(partitions=1)
        run.produce(shop)
        kill_in_mid_stream(run, ["--topic", run.topic], kills=20 if proving else 10, end=len(shop), rng=rng)
        check(run, replayed)


def test_kills_of_the_flow_from_a_file(
    proving: bool, redis_url: str, replayed: Run, shop: list[bytes], tmp_path: Path
) -> None:
    rng = random.Random(SEED + 1)
    (tmp_path / "shop.jsonl").write_bytes(b"\n".join(shop))
    for i in range(2 if proving else 1):
        run = Run(tmp_path / f"warehouse-{i}.duckdb", redis_url)
        kills = 20 if proving else 4
        kill_in_mid_stream(run, [str(tmp_path / "shop.jsonl")], kills=kills, end=len(shop), rng=rng)
        check(run, replayed)


def kill_in_mid_stream(run: Run, what: list[str], *, kills: int, end: int, rng: random.Random) -> None:
    """Replays `what`, killed so often, each time after the warehouse has moved on and before `end`, then to its end.

    The moments are random, from the first commit of a process over as many more as there are to spare: before, inside
    and after commits, which follow each other without a pause.
    """
    run.settings |= {"FLOW__COMMIT_EVENTS": str(COMMIT), "FLOW__WORKERS": "1"}
    before, untold = 0, 0
    for kill in range(kills):
        process = run.start("-v", "replay", "--json", *what)
        log = Log(process)
        log.until("committed", 60)
        spare = (end - before) // COMMIT - (kills - kill)
        process.wait(rng.uniform(0, COMMIT_TAKES) * max(spare - 2, 0))
        assert process.kill() == -signal.SIGKILL, f"kill {kill}: the replay had ended by itself"
        offset = run.value("select coalesce(max(next_offset), 0) from stream.progress")
        assert before < offset < end, f"kill {kill} at offset {offset}, the one before at {before}"
        told = [line for line in log.rest() if "committed" in line]
        untold += offset > before + COMMIT * len(told)
        before = offset
    between = f"{untold} of them between a commit and the word of it"
    print(f"seed {SEED}: {kills} kills, {between}; the last at offset {before} of {end}")
    run.command("replay", "--json", *what)


def check(run: Run, undisturbed: Run) -> None:
    assert run.counts() == (31_106, 31_106, 0, 0)
    assert run.rows(EVENTS) == undisturbed.rows(EVENTS)
    assert run.rows(SESSIONS) == undisturbed.rows(SESSIONS)
