"""Funnels over many stored events: asked for once, next to chDB's windowFunnel over the same events, and watched.

The events go straight into the warehouse's table, as a question does not tell how they came there: so many people, each
with one device and some with two, who do things at random over thirty days. chDB has them as it likes them best, sorted
by a number for each person and by time. Both answer the same question in turn, and have to count the same.

Watched: each second's arrivals are committed, some of them late by days, some on devices that change hands with their
history (stream.person_overrides) and some persons merged, and the funnel is refreshed. In the end it has to be what
the same question, asked anew, says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import psutil

from funnels.definition import FunnelDefinition
from funnels.query import run_funnel
from funnels.store import Store, Watched
from sinks.warehouse import Warehouse

EVENTS: Final = 20_000_000
PEOPLE: Final = 1_000_000
NAMES: Final = 8
START: Final = datetime(2026, 5, 1, tzinfo=UTC)
SPAN: Final = timedelta(days=30)
WINDOW: Final = timedelta(days=7)
TURNS: Final = 7
REFRESHES: Final = 60
RATE: Final = 5_000
LATE, MOVED, MERGED = 100, 50, 2  # of a refresh: events that are late, devices that change hands, merges by operators
CHDB: Final = "chdb==4.4.0"

_COLUMNS: Final = (
    "message_id, type, name, anonymous_id, user_id, person_id, event_at, received_at, properties, clock_skewed, "
    'is_bot, is_background, "partition", "offset"'
)
# A fifth of the people have a second device, on which a third of their events are.
_EVENTS: Final = f"""
insert into stream.events ({_COLUMNS})
select
    'message-' || i::varchar as message_id, 'track', 'Event ' || (hash(16 * i + 1) % {NAMES})::varchar as name,
    'device-' || p::varchar || case when p % 5 = 0 and hash(16 * i + 2) % 3 = 0 then 'b' else '' end as anonymous_id,
    'user-' || p::varchar as user_id, 'user-' || p::varchar as person_id,
    make_timestamptz($start + (i * ($span // $events)) + (hash(16 * i + 3) % 1_000_000)::bigint) as event_at,
    event_at, null,
    false, false, false, 0, i
from (select i, (hash(16 * i + 5) % $people)::bigint as p from range($first, $last) as t (i))
"""
_PROGRESS: Final = """
insert into stream.progress by name
select 'events' as topic, 0 as "partition", 0 as next_offset, max(event_at) as watermark, 0 as consumed, 0 as stored,
    0 as duplicates, 0 as dead, 0 as late, 0 as foreign_keys, now() as committed_at
from stream.events
"""
# Events of devices that nobody signed in on, some of them late by up to twenty days.
_SECOND: Final = f"""
insert into stream.events ({_COLUMNS})
select
    'message-' || i::varchar, 'track', 'Event ' || (hash(16 * i + 1) % {NAMES})::varchar,
    'device-' || p::varchar as anonymous_id, null, 'anon:device-' || p::varchar,
    make_timestamptz($now - case when i % $rate < {LATE} then (hash(16 * i + 6) % 1_728_000_000_000)::bigint else 0 end
        + (hash(16 * i + 3) % 1_000_000)::bigint) as event_at,
    event_at, null, false, false, false, 0, i
from (select i, (hash(16 * i + 5) % $people)::bigint as p from range($first, $first + $rate) as t (i))
"""
_HANDS: Final = """
insert into stream.person_overrides
select device, timestamptz '2026-01-01', timestamptz '2027-01-01', 'user-' || owner::varchar, '', ''
from (select 'device-' || (hash(16 * i + 7) % $people)::varchar as device, hash(16 * i + 8) % $people as owner
    from range($first, $first + $moved) as t (i))
where device not in (select anonymous_id from stream.person_overrides)
returning anonymous_id
"""
_MERGES: Final = """
insert into stream.person_merges
select 'user-' || (hash(16 * i + 9) % $people)::varchar, 'user-' || (hash(16 * i + 10) % $people)::varchar
from range($first, $first + $merged) as t (i)
"""


@dataclass(frozen=True)
class Funnels:
    """What was measured. Times in seconds."""

    events: int
    people: int
    filled: float
    bytes: int
    rss: int
    counts: list[int]
    store: list[float]
    chdb: list[float]
    store_cpu: float
    """Of processor time, the least of a question."""
    chdb_cpu: float
    sql: float
    refreshes: list[float]
    refresh_cpu: float
    """Of processor time, the median of a refresh."""
    changed: int
    """Subjects that were followed again in a refresh, on the average."""
    same: bool
    """Whether what is watched came to what the question said in the end."""

    def refresh(self, share: float) -> float:
        return float(np.percentile(self.refreshes, share))


def definition() -> FunnelDefinition:
    steps = [{"event": f"Event {number}"} for number in range(3)]
    return FunnelDefinition.model_validate({"steps": steps, "window": f"{WINDOW.days} days"})


def measure(home: Path, events: int = EVENTS, people: int = PEOPLE) -> Funnels:
    home.mkdir(parents=True, exist_ok=True)
    with Warehouse.open(home / "warehouse.duckdb") as warehouse:
        _make(warehouse, events, people)
        store = Store(warehouse, 8 << 30)
        began = time.perf_counter()
        if not store.fill():
            raise RuntimeError("the store cannot hold the events")
        filled = time.perf_counter() - began
        asked = definition()
        with warehouse.reader() as con, _Yardstick(home, warehouse) as yardstick:
            ours, theirs, our_cpu, their_cpu = [], [], [], []
            for _ in range(TURNS):
                counts, seconds, cpu = _ask(store, con, asked)
                ours.append(seconds)
                our_cpu.append(cpu)
                other, seconds, cpu = yardstick.ask()
                theirs.append(seconds)
                their_cpu.append(cpu)
                if counts != other:
                    raise RuntimeError(f"the counts differ: {counts} and, by chDB, {other}")
            began = time.perf_counter()
            run_funnel(con, asked)
            sql = time.perf_counter() - began
        watched = Watched(store, asked)
        refreshes, refresh_cpu, changed = _watch(warehouse, watched, events, people)
        with warehouse.reader() as con:
            kept = watched.refresh(con)
            same = kept == run_funnel(con, asked, follows=store.follow)
        nbytes, rss = store.nbytes, psutil.Process().memory_info().rss
        store.close()
    return Funnels(
        events=events,
        people=people,
        filled=filled,
        bytes=nbytes,
        rss=rss,
        counts=counts,
        store=ours,
        chdb=theirs,
        store_cpu=min(our_cpu),
        chdb_cpu=min(their_cpu),
        sql=sql,
        refreshes=refreshes,
        refresh_cpu=refresh_cpu,
        changed=changed,
        same=same,
    )


def _make(warehouse: Warehouse, events: int, people: int) -> None:
    start, span, part = int(START.timestamp() * 1e6), int(SPAN.total_seconds() * 1e6), 1_000_000
    for first in range(0, events, part):
        with warehouse.transaction(bulk=True) as con:
            last = min(first + part, events)
            asked = {"start": start, "span": span, "events": events, "people": people, "first": first, "last": last}
            con.execute(_EVENTS, asked)
    with warehouse.transaction() as con:
        con.execute(_PROGRESS)


def _ask(store: Store, con: duckdb.DuckDBPyConnection, asked: FunnelDefinition) -> tuple[list[int], float, float]:
    began, used = time.perf_counter(), time.process_time()
    told = run_funnel(con, asked, follows=store.follow)
    return [step.count for step in told.steps], time.perf_counter() - began, time.process_time() - used


def _watch(warehouse: Warehouse, watched: Watched, events: int, people: int) -> tuple[list[float], float, int]:
    now = int((START + SPAN).timestamp() * 1e6)
    seconds: list[float] = []
    cpu: list[float] = []
    with warehouse.reader() as con:
        watched.refresh(con)
        for turn in range(REFRESHES):
            with warehouse.transaction() as writer:
                first = events + turn * RATE
                asked = {"people": people, "first": first}
                writer.execute(_SECOND, asked | {"now": now + turn * 1_000_000, "rate": RATE})
                warehouse.moved.note(d for (d,) in writer.execute(_HANDS, asked | {"moved": MOVED}).fetchall())
                if turn % 20 == 10:
                    writer.execute(_MERGES, asked | {"merged": MERGED})
                writer.execute("update stream.progress set watermark = make_timestamptz($now)", {"now": now + turn})
            began, used = time.perf_counter(), time.process_time()
            watched.refresh(con)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
    return seconds, float(np.median(cpu)), watched.followed // REFRESHES


class _Yardstick:
    """chDB in a process and an environment of its own, over the same events."""

    def __init__(self, home: Path, warehouse: Warehouse) -> None:
        file = home / "events.parquet"
        with warehouse.reader() as con:
            con.execute(
                "copy (select user_id[6:]::uinteger as person, name, epoch_us(event_at)::ubigint as at "
                f"from stream.events) to '{file}' (format parquet)"
            )
        python = home / "chdb" / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", home / "chdb"], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", CHDB], check=True)
        script = Path(__file__).with_name("windowfunnel.py")
        self._process = subprocess.Popen(
            [python, script, file, str(WINDOW // timedelta(microseconds=1))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask()  # the first one warms up

    def __enter__(self) -> _Yardstick:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self) -> tuple[list[int], float, float]:
        """How many reached each step, how many seconds that took, and how many of processor time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("ask\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return told["counts"], told["seconds"], told["cpu"]


def report(description: str, funnels: Funnels) -> str:
    """The section of RESULTS.md."""
    return f"""## Funnels

{description}

{funnels.events:,} stored events of {funnels.people:,} people, over {SPAN.days} days, of {NAMES} names; three steps,
within {WINDOW.days} days: {", ".join(f"{count:,}" for count in funnels.counts)}. The store was filled in
{funnels.filled:.1f} s and takes {funnels.bytes / 2**20:,.0f} MiB, {funnels.bytes / funnels.events:.0f} bytes an event.

| asked in turn, {TURNS} times | least | median | processor time, least |
|---|---:|---:|---:|
| **store, s** | **{min(funnels.store):.2f}** | {np.median(funnels.store):.2f} | {funnels.store_cpu:.2f} |
| chDB's `windowFunnel`, s | {min(funnels.chdb):.2f} | {np.median(funnels.chdb):.2f} | {funnels.chdb_cpu:.2f} |
| SQL rows and the same pass, once, s | {funnels.sql:.2f} | | |

**Store / chDB: {min(funnels.store) / min(funnels.chdb):.2f}.** Both count the same.

Watched, refreshed after each of {REFRESHES} commits of {RATE:,} events, of which {LATE} are late, with {MOVED} devices
that change hands in each, and {MERGED} merges in every twentieth: **p50 {1000 * funnels.refresh(50):.0f} ms, p95
{1000 * funnels.refresh(95):.0f} ms, longest {1000 * funnels.refresh(100):.0f} ms**, of which processor time
{1000 * funnels.refresh_cpu:.0f} ms; {funnels.changed:,} people were followed again each time. In the end it is
{"what the question, asked anew, says" if funnels.same else "WRONG"}.
"""
