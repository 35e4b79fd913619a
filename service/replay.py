"""Replays: the flow over files or a topic to the end, with a progress bar and a summary."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.files import STDIN, topic_of
from service import logs
from service.flow import Flow
from service.runtime import dependencies, open_warehouse, stop_on_signals
from service.settings import Settings
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError


def replay_files(settings: Settings, files: list[str], console: Console) -> dict[str, Any]:
    """Runs the flow over `files` and returns what it did (see `_summary`). Raises SourceError if one cannot be read."""
    for file in files:
        topic_of(file)  # before anything is started for a file that is not there
    sizes = {file: Path(file).stat().st_size for file in files if file != STDIN and Path(file).is_file()}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=logs.as_json) as bar:
        task = bar.add_task("replaying", total=sum(sizes.values()) or None)
        done: dict[str, int] = {}

        def read(file: str, position: int) -> None:
            done[file] = position
            bar.update(task, completed=sum(done.values()))

        return _replay(settings, None, lambda flow: flow.replay_files(files, read))


def replay_topic(settings: Settings, console: Console) -> dict[str, Any]:
    """Runs the flow over the topic up to its end and returns what it did (see `_summary`)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("records"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=logs.as_json) as bar:
        task = bar.add_task(f"replaying topic {settings.kafka.topic}", total=None)
        return _replay(
            settings,
            settings.kafka.topic,
            lambda flow: flow.replay_topic(lambda done, total: bar.update(task, completed=done, total=total)),
        )


def _replay(settings: Settings, topic: str | None, run: Any) -> dict[str, Any]:
    stopping = threading.Event()
    with (
        stop_on_signals(stopping),
        dependencies(settings, kafka=topic is not None) as addresses,
        open_warehouse(settings) as warehouse,
    ):
        flow = Flow(settings, warehouse, addresses.redis_url, addresses.bootstrap, stopping)
        failure: list[BaseException] = []

        def in_thread() -> None:
            try:
                run(flow)
            except BaseException as error:  # noqa: BLE001 the thread's edge: raised again below
                failure.append(error)

        thread = threading.Thread(target=in_thread, name="flow", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
        flow.close()
        if failure:
            raise failure[0]
        if stopping.is_set():
            raise StitchlineError("The replay was stopped. What was read is committed; run it again to go on.")
        return _summary(flow, warehouse)


def _summary(flow: Flow, warehouse: Warehouse) -> dict[str, Any]:
    """What this run did, and what the warehouse holds now."""
    counts = flow.counts
    with warehouse.reader() as con:
        row = con.execute(
            "select (select count(*) from stream.events), (select count(*) from stream.sessions), "
            "(select count(distinct person_id) from stream.sessions)"
        ).fetchone()
    assert row is not None
    began, ended = counts.first_read_at, counts.last_commit_at
    return {
        "consumed": counts.consumed,
        "stored": counts.stored,
        "duplicates": counts.duplicates,
        "dead": counts.dead,
        "late": counts.late,
        "devices_recut": counts.recut,
        "checkpoints": counts.checkpoints,
        "first_read_at": began.isoformat() if began else None,
        "last_commit_at": ended.isoformat() if ended else None,
        "seconds": (ended - began).total_seconds() if began and ended else 0.0,
        "warehouse": {"path": str(warehouse.path), "events": row[0], "sessions": row[1], "people": row[2]},
    }
