"""kill -9 at any moment while Slack fails in every way: at the end each incident has exactly one message, and each of
its changes is in its thread exactly once.

A run is a story of verdicts and presses, told from its beginning by every process that is started, as the night is run
again after a crash. Processes are killed at random moments, or two are started at once. What stands in the warehouse at
the end is compared with what an undisturbed process makes of the same story, without Slack.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from batch_marts.anomalies.incidents import Act, Deed, Incident
from batch_marts.anomalies.record import act, record
from batch_marts.anomalies.store import incidents_on_record
from batch_marts.anomalies.verdicts import Verdict
from sinks import outbox
from sinks.sender import Patience, Sender
from sinks.slack import Slack
from sinks.warehouse import Warehouse
from tests.batch_marts.anomalies.made import DAY, FIVE, HOUR, NOON, ONE_DAY, office, verdict
from tests.slack import TOKEN, Fault, Posted, SlackServer, at_random, slack_server
from tests.whole.forks import forking

SEED: Final = int(os.environ.get("STITCHLINE_PROVE_SEED") or random.randrange(2**32))
FAULTS: Final[list[Fault]] = [
    "429", "500_before", "drop_before", "500_after", "drop_after", "slow", "internal_error", "not_json",
    "500_after", "drop_after",  # of which a duplicate might come, twice as often
]  # fmt: skip
TIMEOUT: Final = timedelta(seconds=0.15)
PATIENCE: Final = Patience(
    lease=timedelta(seconds=0.8),
    first=timedelta(seconds=0.15),
    most=timedelta(seconds=0.5),
    stuck=timedelta(seconds=0.2),
)
"""As short as the server's slowness lets it be: what it does is done before it is looked for."""
METRICS: Final = ["page_views", "sessions", "visitors", "sign_ups", "orders", "revenue", "ad_spend"]
STEPS: Final = 4


@dataclass(frozen=True)
class Step:
    """What happens at one time of the story."""

    now: timedelta
    verdicts: tuple[Verdict, ...] = ()
    presses: tuple[tuple[int, Deed], ...] = ()
    """Which of the incidents that there are, in order, and what is done."""


def story(rng: random.Random) -> list[Step]:
    """Some metrics leave their range and come back, alone or together; people press buttons; a night ends it."""
    out: set[str] = set()
    steps = []
    for number in range(STEPS):
        now = number * HOUR
        if rng.random() < 0.15:
            out |= set(METRICS)
        for metric in METRICS:
            if rng.random() < 0.12:
                out ^= {metric}
        judged = [
            verdict(metric, NOON + now, "anomaly" if metric in out else "normal", "hour", z=rng.uniform(2.6, 9))
            for metric in METRICS
            if rng.random() < 0.9
        ]
        deeds: tuple[Deed, ...] = ("acknowledge", "snooze", "not_anomaly")
        presses = tuple((rng.randrange(4), rng.choice(deeds)) for _ in range(rng.randrange(3)))
        steps.append(Step(now, tuple(judged), presses))
    night = DAY + ONE_DAY + 2 * HOUR - NOON
    days = [
        verdict(metric, DAY, rng.choice(["anomaly", "normal", "normal", "normal"]), "day", z=5.0) for metric in METRICS
    ]
    return [*steps, Step(night, tuple(days)), Step(night + FIVE, tuple(replace(each, z=8.0) for each in days))]


def tell(warehouse: Warehouse, steps: list[Step], sender: Sender | None) -> None:
    """Tells the story from its beginning; with a sender until Slack has been told all of it."""
    desk = office(in_slack=sender is not None)
    for number, step in enumerate(steps):
        now = NOON + step.now
        record(warehouse, step.verdicts, now, desk)
        with warehouse.reader() as con:
            there = sorted(each.incident_id for each in incidents_on_record(con) if each.opened_at <= now)
        for press, (which, deed) in enumerate(step.presses):
            if which < len(there):
                act(warehouse, Act(f"{number}-{press}", there[which], deed, "ada", now), desk)
        if sender is not None:
            if number == 1:
                with warehouse.transaction() as con:
                    for key in outbox.without_image(con):
                        outbox.put_image(con, key, b"\x89PNG", f"incident-{key}.png", "A chart", now)
            sender.send_due(5)
    while sender is not None and sender.send_due().next_due_at is not None:
        time.sleep(0.02)


def work(path: Path, base_url: str, steps: list[Step]) -> None:
    """A process: it waits for the warehouse if another one has it, as the service does."""
    with Warehouse.open(path, patience=timedelta(seconds=60), threads=1) as warehouse:
        sender = Sender(warehouse, Slack(TOKEN, base_url=base_url, timeout=TIMEOUT), PATIENCE)
        tell(warehouse, steps, sender)


@dataclass
class Run:
    """One run, and what it met."""

    warehouse: Path
    server: SlackServer
    rng: random.Random
    kills: int = 0
    deleted: str = ""
    """The ts of the message that somebody deleted, if so."""
    steps: list[Step] = field(default_factory=list)

    def process(self) -> multiprocessing.process.BaseProcess:
        """Another process at the story, from its beginning."""
        made = forking.Process(target=work, args=(self.warehouse, self.server.base_url, self.steps), daemon=True)
        made.start()
        return made

    def go(self) -> None:
        """Kills some processes, in the middle of requests or between them, and lets the last one end."""
        self.steps = story(self.rng)
        for _ in range(self.rng.randint(1, 3)):
            processes = [self.process() for _ in range(self.rng.choice([1, 1, 2]))]
            target = len(self.server.calls) + self.rng.randint(0, 12)
            deadline = time.monotonic() + 120
            while len(self.server.calls) < target and any(p.is_alive() for p in processes):
                assert time.monotonic() < deadline, "nothing moves"
                time.sleep(0.002)
            time.sleep(self.rng.uniform(0, 0.02))
            for process in processes:
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, signal.SIGKILL)
                    self.kills += 1
            for process in processes:
                process.join(60)
            self.delete_something()
        self.server.faults = at_random(random.Random(self.rng.random()), 0.1, FAULTS)
        last = self.process()
        last.join(240)
        assert last.exitcode == 0, f"the last process ended with {last.exitcode}"

    def delete_something(self) -> None:
        """Now and then somebody deletes a message, once in a run."""
        with self.server._lock:
            there = [(channel, each) for channel in self.server.channels.values() for each in channel.top()]
            if there and not self.deleted and self.rng.random() < 0.2:
                channel, message = self.rng.choice(there)
                self.server.delete(channel, message.ts)
                self.deleted = message.ts

    def check(self, expected: list[Incident]) -> tuple[int, int]:
        """Returns how many incidents and replies there are, all as they should be."""
        with Warehouse.open(self.warehouse, threads=1) as warehouse, warehouse.reader() as con:
            assert incidents_on_record(con) == expected, "crashes change nothing"
            assert outbox.troubles(con) == []
            told = con.execute("select item_id from anomalies.outbox where kind = 'reply'").fetchall()
            unseen = con.execute(
                "select incident_id from anomalies.outbox where kind = 'message' and ts = ?", [self.deleted]
            ).fetchall()
            drawn = con.execute("select incident_id from anomalies.outbox where kind = 'image'").fetchall()
        everything = [each for channel in self.server.channels.values() for each in channel.messages.values()]
        messages = Counter(_payload(each)["incident_id"] for each in everything if _type(each) == "stitchline_incident")
        replies = Counter(_payload(each)["change_id"] for each in everything if _type(each) == "stitchline_change")
        wanted = {each.incident_id for each in expected} - {key for (key,) in unseen}  # deleted, and no news since
        assert messages == Counter(wanted), "one message for each incident"
        changes = Counter(change.change_id for each in expected for change in each.changes if change.what != "opened")
        assert replies == changes == Counter(item for (item,) in told), "one reply for each change"
        files = Counter(file["name"] for each in everything for file in each.files)
        assert files == Counter(f"incident-{key}.png" for (key,) in drawn), "one picture"
        threads = {each.ts: each for channel in self.server.channels.values() for each in channel.top()}
        gone = {ts for channel in self.server.channels.values() for ts in channel.tombstones}
        for each in everything:
            if _type(each) == "stitchline_change":
                parent = threads.get(each.thread_ts or "")
                assert each.thread_ts in gone or parent is not None, "no reply stands alone"
                assert parent is None or _payload(parent)["incident_id"] == _payload(each)["incident_id"]
        assert self.server.refusals == []
        return len(expected), len(changes)


def _type(posted: Posted) -> str:
    return str(posted.body.get("metadata", {}).get("event_type", ""))


def _payload(posted: Posted) -> dict[str, str]:
    return dict(posted.body["metadata"]["event_payload"])


def undisturbed(empty: Path, steps: list[Step]) -> list[Incident]:
    """What a process that nothing happens to makes of the story."""
    alone = Path(shutil.copy(empty, empty.with_name(f"{uuid.uuid4().hex}.duckdb")))
    with Warehouse.open(alone, threads=1) as warehouse:
        tell(warehouse, steps, None)
        with warehouse.reader() as con:
            return incidents_on_record(con)


def one_run(number: int, empty: Path) -> Counter[str]:
    """What was met in a run, which went well."""
    rng = random.Random(f"{SEED}-{number}")
    with slack_server(at_random(random.Random(f"{SEED}-{number}-faults"), 0.3, FAULTS)) as server:
        server.retry_after, server.slowness = 0, 0.3
        for name in ("product", "growth", "finance", "marketing", "platform"):
            server.channel(f"{name}-alerts")
        run = Run(Path(shutil.copy(empty, empty.with_name(f"{number}.duckdb"))), server, rng)
        try:
            run.go()
            incidents, replies = run.check(undisturbed(empty, run.steps))
        except BaseException:
            print(f"seed {SEED}, run {number}")
            raise
        told = {"kills": run.kills, "deleted": int(bool(run.deleted)), "incidents": incidents, "replies": replies}
        return Counter(told | {"calls": len(server.calls)})


def test_each_incident_one_message_each_change_one_reply_whatever_happens(proving: bool, tmp_path: Path) -> None:
    count = 200 if proving else 20
    empty = tmp_path / "empty.duckdb"
    Warehouse.open(empty).close()
    with ThreadPoolExecutor(3) as runs:  # most of their time they wait
        totals = sum(runs.map(lambda number: one_run(number, empty), range(count)), Counter())
    print(f"seed {SEED}: {count} runs, {dict(totals)}")
    assert totals["kills"] >= count
