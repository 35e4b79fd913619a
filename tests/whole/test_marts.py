"""The marts of a running service: one refresh at a time, beside the flow, and nothing lost when it is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from tests.faults.waiting import until
from tests.whole.runs import Log, Run, Serving, event


def status(run: Run) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run.command("marts", "status", "--json"))
    return told


def until_it_runs(run: Run) -> None:
    progress = run.warehouse.with_name(f"{run.warehouse.stem}.marts") / "progress.json"  # which is what `status` tells
    until(lambda: progress.exists() and json.loads(progress.read_text() or "{}").get("done", 0) >= 3, 60)


def test_beside_the_flow_and_killed_in_the_middle(kafka_run: Callable[..., Run]) -> None:
    run = kafka_run()
    with run.serving() as service:
        run.produce([event("a", "10:00:00"), event("b", "10:01:00", event="Signed Up", userId="u")])
        service.until("select count(*) from stream.events", 2, 60)
        asked = run.start("marts", "refresh", "--json")
        until_it_runs(run)
        assert status(run)["running"]["done"] >= 3
        assert "runs already" in run.command("marts", "refresh", exits=2)
        assert "runs already" in run.command("marts", "rollback", exits=2)
        run.produce([event("c", "10:02:00")])
        service.until("select count(*) from stream.events", 3, 30)
        out, err = asked.communicate("", 240)
        assert asked.returncode == 0, err
        assert json.loads(out)["status"] == "published"
        assert status(run)["running"] is None
        assert service.value("select sum(event_count)::bigint from marts.fct_events_daily") == 2, (
            "as it was at its start"
        )
        missing = service.value("select count(*) from marts.dim_person where person_id = 'u'")
        assert missing == 1

    process = run.start("-v", "up", "--port", "0")
    Log(process).until("The page is at", 60)
    asked = run.start("marts", "refresh", "--full", "--json")
    until_it_runs(run)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    _, said = asked.communicate("", 60)
    assert asked.returncode == 1
    assert "Traceback" not in said

    with run.serving() as service:
        told = status(run)
        assert (told["running"], told["published"]["build_id"]) == (None, 1)
        assert of_events(service) == 2, "readers never noticed"
        again = json.loads(run.command("marts", "refresh", "--json"))
        assert (again["build_id"], again["kind"]) == (3, "incremental")
        assert of_events(service) == 3
        history = json.loads(run.command("marts", "history", "--json"))
        assert [(each["build_id"], each["status"], each["kept"]) for each in history] == [
            (3, "published", True),
            (2, "failed", False),
            (1, "replaced", True),
        ]
        assert history[1]["message"] == "Its process ended before it did."

    with duckdb.connect(str(run.warehouse)) as con:
        con.execute("update refreshes.builds set started_at = started_at - interval 2 day")
    run.settings["SCHEDULE__REFRESH_AT"] = (datetime.now(UTC) - timedelta(minutes=1)).time().isoformat()
    with run.serving() as service:  # what was due while nothing ran is made up for
        service.log.until("build 4 of the marts is published", 90)


def of_events(service: Serving) -> int:
    return int(service.value("select sum(event_count)::bigint from marts.fct_events_daily"))
