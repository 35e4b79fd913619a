"""The flow as a separate process, watched from outside: what it did, its CPU and its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

import duckdb
import numpy as np
import psutil
from confluent_kafka import Consumer, TopicPartition

SAMPLE_EVERY = timedelta(milliseconds=50)
ASK_EVERY = timedelta(milliseconds=500)
MARK = 0.5  # of the topic's records
STOP_LIMIT = timedelta(seconds=60)
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True)
class FlowRun:
    """One run over a topic, from the first record to the last commit. CPU is that of the flow's process alone."""

    events: int
    """Stored by this run."""
    stored: int
    """In the warehouse then, as are the sessions, links and dead letters."""
    sessions: int
    links: int
    dead: int
    seconds: float
    cpu_seconds: float
    process_cpu_seconds: float
    """From the process's start to its end: Python's imports and the closing of the warehouse are in it too."""
    peak_rss: int
    warehouse_bytes: int
    marked_rss: tuple[int, int]
    """Highest RSS seen until MARK of the topic was committed, and until the end."""

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / self.events * 1e6


class Watch(threading.Thread):
    """Samples a process's CPU and memory until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._cpu: list[tuple[float, float]] = []  # wall clock, CPU-seconds so far
        self._rss: list[tuple[float, int]] = []  # wall clock, bytes

    def run(self) -> None:
        try:
            while True:
                with self._process.oneshot():
                    times, memory = self._process.cpu_times(), self._process.memory_info()
                now = time.time()
                self._cpu.append((now, times.user + times.system))
                self._rss.append((now, memory.rss))
                time.sleep(SAMPLE_EVERY.total_seconds())
        except psutil.NoSuchProcess:
            pass

    def peak(self, until: float, since: float = 0.0) -> int:
        """The highest RSS seen between two moments, wall clock."""
        return max((rss for at, rss in self._rss if since <= at <= until), default=0)

    def cpu_at(self, at: datetime) -> float:
        """CPU-seconds used up to `at`, interpolated."""
        moments, spent = zip(*self._cpu, strict=True)
        return float(np.interp(at.timestamp(), moments, spent))


class Offsets(threading.Thread):
    """Asks Kafka how far the flow's consumer group is, which learns it after each commit, until `share` is done."""

    def __init__(self, bootstrap: str, topic: str, share: float) -> None:
        super().__init__(daemon=True)
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "stitchline"})
        self._topic = topic
        self._share = share
        self.ended = threading.Event()
        self.done_at = float("inf")
        """When that was; wall clock."""

    def run(self) -> None:
        numbers = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic].partitions
        partitions = [TopicPartition(self._topic, number) for number in numbers]
        records = sum(self._consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions)
        while not self.ended.wait(ASK_EVERY.total_seconds()):
            places = self._consumer.committed(partitions, timeout=10)
            if sum(max(0, place.offset) for place in places) >= self._share * records:
                self.done_at = time.time()
                break
        self._consumer.close()


def environment(bootstrap: str, redis_url: str) -> dict[str, str]:
    """That of the flow's process: ours without any other setting of Stitchline."""
    return _without_settings() | {"STITCHLINE_KAFKA__BOOTSTRAP": bootstrap, "STITCHLINE_REDIS__URL": redis_url}


def run_flow(bootstrap: str, topic: str, redis_url: str, warehouse: Path) -> FlowRun:
    """Runs the flow over `topic` up to its end. Raises RuntimeError if it fails."""
    log = warehouse.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*_stitchline(), "replay", "--topic", topic, "--warehouse", str(warehouse), "--json"],
            env=environment(bootstrap, redis_url),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        watch, offsets = Watch(process.pid), Offsets(bootstrap, topic, MARK)
        watch.start()
        offsets.start()
        assert process.stdout is not None
        answer, usage = _reap(process, process.stdout)
        offsets.ended.set()
        watch.join()
        offsets.join()
    if process.returncode != 0:
        raise RuntimeError(f"the flow ended with {process.returncode}:\n{log.read_text()[-4000:]}")
    told = json.loads(answer)
    began, ended = (datetime.fromisoformat(told[name]) for name in ("first_read_at", "last_commit_at"))
    with duckdb.connect(str(warehouse), read_only=True) as con:
        counted = con.execute(
            "select (select count(*) from stream.events), (select count(*) from stream.sessions), "
            "(select count(distinct anonymous_id) from stream.identity_facts where user_id is not null), "
            "(select count(*) from stream.dead_letters)"
        ).fetchone()
    assert counted is not None
    events, sessions, links, dead = counted
    return FlowRun(
        events=told["stored"],
        stored=events,
        sessions=sessions,
        links=links,
        dead=dead,
        seconds=(ended - began).total_seconds(),
        cpu_seconds=watch.cpu_at(ended) - watch.cpu_at(began),
        process_cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_rss=usage.ru_maxrss * _MAXRSS_UNIT,
        warehouse_bytes=warehouse.stat().st_size,
        marked_rss=(watch.peak(offsets.done_at), watch.peak(time.time())),
    )


@dataclass(frozen=True)
class Reconciled:
    """What `stitchline reconcile` said, and the memory that it took."""

    sessions: int
    differing: int
    seconds: float
    peak_rss: int


def run_reconcile(warehouse: Path) -> Reconciled:
    """`stitchline reconcile` over a warehouse that nobody holds. Raises RuntimeError if it fails."""
    told, peak_rss = run_command("reconcile", "--warehouse", str(warehouse))
    return Reconciled(told["sessions"], told["differing"], told["seconds"], peak_rss)


def run_command(*arguments: str, **settings: str) -> tuple[dict[str, Any], int]:
    """What `stitchline ARGUMENTS --json` answers, and its peak RSS in bytes. Raises RuntimeError if it does not."""
    process = subprocess.Popen(
        [*_stitchline(), *arguments, "--json"],
        env=_without_settings() | settings,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    answer, usage = _reap(process, process.stdout)
    if process.returncode not in (0, 1) or not answer:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return json.loads(answer), usage.ru_maxrss * _MAXRSS_UNIT


@contextmanager
def running_service(
    bootstrap: str, topic: str, redis_url: str, warehouse: Path, port: int, **settings: str
) -> Iterator[tuple[str, Watch]]:
    """`stitchline up` over `topic`, yields the address of its page and who watches its memory; ended by SIGTERM, which
    has to work."""
    log = warehouse.with_suffix(".service.log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*_stitchline(), "up", "--warehouse", str(warehouse), "--port", str(port)],
            env=environment(bootstrap, redis_url) | {"STITCHLINE_KAFKA__TOPIC": topic} | settings,
            stdout=errors,
            stderr=errors,
        )
        watch = Watch(process.pid)
        watch.start()
        try:
            yield f"http://127.0.0.1:{port}", watch
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT.total_seconds())
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
    if process.returncode != 0:
        raise RuntimeError(f"the service ended with {process.returncode}:\n{log.read_text()[-4000:]}")


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("STITCHLINE_")}


def _stitchline() -> list[str]:
    """What the command `stitchline` runs, in this interpreter's environment."""
    return [sys.executable, "-c", "from service.cli import app; app()"]


def _reap(process: subprocess.Popen[str], output: IO[str]) -> tuple[str, Any]:
    """The process's output and its resource usage, which only whoever waits for it is told."""
    answer = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return answer, usage
