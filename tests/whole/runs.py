"""Runs of the command line on a warehouse of their own, and what the warehouse holds afterwards."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import duckdb
import httpx
from confluent_kafka import KafkaError, Producer

from tests.services import Kafka
from tests.whole.forks import Forked

# What must be equal whatever the road: events without where and when they came in, sessions without their history.
EVENTS = 'select * exclude ("partition", "offset", received_at, person_id) from stream.events order by all'
SESSIONS = "select * exclude (revision, is_open, person_id) from stream.sessions order by all"


@dataclass
class Run:
    """A warehouse and the settings of the commands run on it."""

    warehouse: Path
    redis_url: str
    kafka: Kafka | None = None
    topic: str = field(default_factory=lambda: f"events-{uuid.uuid4().hex[:8]}")
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("STITCHLINE_")}
        env |= {"STITCHLINE_WAREHOUSE": str(self.warehouse), "STITCHLINE_REDIS__URL": self.redis_url}
        if self.kafka is not None:
            env |= {"STITCHLINE_KAFKA__BOOTSTRAP": self.kafka.bootstrap, "STITCHLINE_KAFKA__TOPIC": self.topic}
        return env | {f"STITCHLINE_{name}": value for name, value in self.settings.items()}

    def start(self, *arguments: str, stdin: IO[bytes] | None = None) -> Forked:
        return Forked(arguments, self.environment(), stdin)

    def command(self, *arguments: str, exits: int = 0, text: str = "") -> str:
        """Runs a command to its end and returns its standard output."""
        process = self.start(*arguments)
        out, err = process.communicate(text, 240)
        assert process.returncode == exits, f"{arguments} exited {process.returncode}: {out}\n{err}"
        return out if exits == 0 else out + err

    def replay(self, *files: str | Path) -> dict[str, Any]:
        """Replays files, or the topic if none are named."""
        what = [str(file) for file in files] or ["--topic", self.topic]
        return json.loads(self.command("replay", "--json", *what))

    @contextmanager
    def serving(self, *options: str) -> Iterator[Serving]:
        """`stitchline up`, from when its page answers to its end by SIGTERM, which must exit 0."""
        process = self.start("-v", "up", "--port", "0", *options)
        log = Log(process)
        try:
            url = re.search(r"http://\S+?(?=\. )", log.until("The page is at", 60))
            assert url is not None
            yield Serving(url[0], log, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
        assert status == 0, "".join(log.rest())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Asked of the file itself, which no process may hold now."""
        with duckdb.connect(str(self.warehouse), read_only=True) as con:
            con.execute("set TimeZone = 'UTC'")
            return con.execute(sql).fetchall()

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]

    def counts(self) -> tuple[int, int, int, int]:
        """consumed, stored, duplicates, dead: as counted, over all partitions."""
        row = self.rows("select sum(consumed), sum(stored), sum(duplicates), sum(dead) from stream.progress")[0]
        consumed, stored, duplicates, dead = (int(number) for number in row)
        assert consumed == stored + duplicates + dead
        assert stored == self.value("select count(*) from stream.events")
        assert dead == self.value("select count(*) from stream.dead_letters")
        return consumed, stored, duplicates, dead

    def produce(self, values: Iterable[bytes | None], keys: Sequence[bytes | None] | None = None, **more: Any) -> None:
        """Puts `values` on the topic, each under its key, by default its anonymousId."""
        assert self.kafka is not None
        producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "message.max.bytes": 4_000_000, "linger.ms": 5, "log_level": 2}
        )
        failed: list[KafkaError] = []
        more["on_delivery"] = lambda error, _: failed.append(error) if error is not None else None
        for i, value in enumerate(values):
            while True:
                try:
                    producer.produce(self.topic, value, keys[i] if keys is not None else key_of(value), **more)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0
        assert failed == []


class Speaks(Protocol):
    """A running command whose standard error can be read."""

    stderr: IO[str] | None


class Log:
    """The standard error of a running command, line by line; `seen` are the lines so far."""

    def __init__(self, process: Speaks) -> None:
        self.seen: list[str] = []
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def rest(self) -> list[str]:
        """All lines, once the command has ended."""
        while (line := self._lines.get(timeout=10)) is not None:
            self.seen.append(line)
        return self.seen

    def until(self, text: str, seconds: float) -> str:
        """Waits for a further line with `text` in it and returns it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {seconds} s after:\n{''.join(self.seen[-20:])}") from None
            assert line is not None, f"ended before {text!r}:\n{''.join(self.seen[-20:])}"
            self.seen.append(line)
            if text in line:
                return line

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put(None)


@dataclass
class Serving:
    """A running service."""

    url: str
    log: Log
    pid: int

    def rows(self, sql: str) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}/api/sql", json={"sql": sql}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def value(self, sql: str) -> Any:
        return next(iter(self.rows(sql)[0].values()))

    def until(self, sql: str, expected: Any, seconds: float) -> None:
        """Waits until the one value of `sql` is `expected`."""
        deadline = time.monotonic() + seconds
        while (found := self.value(sql)) != expected:
            assert time.monotonic() < deadline, f"{sql}: {found}, not {expected}, after {seconds} s"
            time.sleep(0.05)


def key_of(value: bytes | None) -> bytes | None:
    try:
        anonymous_id = json.loads(value or b"")["anonymousId"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return anonymous_id.encode("utf-8", "replace") if isinstance(anonymous_id, str) else None


def event(message_id: str, at: str, anonymous_id: str | None = "d", **fields: Any) -> bytes:
    """One record; `at` is a time of 2026-01-01, like 10:00:00."""
    stamp = at if "T" in at else f"2026-01-01T{at}Z"
    whole = {
        "messageId": message_id,
        "type": "track",
        "event": "Click",
        "anonymousId": anonymous_id,
        "timestamp": stamp,
    }
    return json.dumps({k: v for k, v in (whole | fields).items() if v is not None}).encode()
