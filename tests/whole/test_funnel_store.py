"""A running service answers funnels from memory, and tells what the file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.whole.runs import Run, Serving
from tests.whole.test_operators import EVENTS, FUNNEL


def test_a_service_answers_from_memory_what_the_file_says(kafka_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "signup.json").write_text(json.dumps(FUNNEL))
    run = kafka_run()
    with run.serving() as service:
        service.log.until("funnels have the events in memory", 60)
        run.produce(EVENTS)
        service.until("select count(*) from stream.events", len(EVENTS), 60)
        assert _counts(service) == [3, 1]
        run.command("identity", "merge", "ann", "ann@work", "--because", "her two mails", "--as", "Sue")
        assert _counts(service) == [2, 1]
        run.command("identity", "forget", "ann", "--because", "she asked", "--as", "Sue")
        assert _counts(service) == [1, 0]
        service.log.until("funnels have the events in memory", 60)
        assert _counts(service) == [1, 0]
    told = json.loads(run.command("funnel", "--definition", str(tmp_path / "signup.json"), "--json"))
    assert [step["count"] for step in told["steps"]] == [1, 0]


def _counts(service: Serving) -> list[int]:
    answer = httpx.post(f"{service.url}/api/funnel", json=FUNNEL, timeout=60).raise_for_status().json()
    return [step["count"] for step in answer["steps"]]
