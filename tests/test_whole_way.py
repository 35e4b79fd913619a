"""The whole way: events on a topic become a live funnel, what people did before they signed up counted to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from tests.services import Kafka

STITCHLINE = Path(sys.executable).with_name("stitchline")
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
FUNNEL = {"name": "order", "steps": [{"event": "Product Viewed"}, {"event": "Order Completed"}], "window": "1 day"}

# Seconds after START, device, user, event. Ada looks on her phone, signs up there, and orders on her laptop; Ben only
# looks; Cem orders without ever signing up.
STORY = [
    (0, "phone-of-ada", None, "Product Viewed"),
    (0, "phone-of-ben", None, "Product Viewed"),
    (5, "phone-of-cem", None, "Product Viewed"),
    (10, "phone-of-ada", "ada", "Signed Up"),
    (50, "phone-of-cem", None, "Order Completed"),
    (60, "laptop-of-ada", "ada", "Signed In"),
    (90, "laptop-of-ada", "ada", "Order Completed"),
]


@dataclass(frozen=True)
class Running:
    """A service under test."""

    process: subprocess.Popen[bytes]
    url: str
    environment: dict[str, str]

    def funnel(self) -> list[int]:
        """How many reached each step, by the API."""
        answer = httpx.post(f"{self.url}/api/funnel", json=FUNNEL).raise_for_status().json()
        return [step["count"] for step in answer["steps"]]

    def ask(self, *arguments: str) -> Any:
        """What a command answers."""
        command = [str(STITCHLINE), *arguments, "--json"]
        return json.loads(subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True).stdout)


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"events-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name, 4)
    kafka.create_topic(f"{name}.dead")
    return name


@pytest.fixture
def service(kafka: Kafka, redis_url: str, topic: str, tmp_path: Path) -> Iterator[Running]:
    """`stitchline up` on the topic."""
    environment = os.environ | {
        "STITCHLINE_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "STITCHLINE_KAFKA__TOPIC": topic,
        "STITCHLINE_REDIS__URL": redis_url,
        "STITCHLINE_WAREHOUSE": str(tmp_path / "warehouse.duckdb"),
        "STITCHLINE_WEB__PORT": "0",
    }
    log = tmp_path / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen([STITCHLINE, "up"], env=environment, cwd=tmp_path, stderr=output)
    try:
        while not (said := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)  # another process starts
        yield Running(process, said[0], environment)
    finally:
        process.kill()
        process.wait()
        print(log.read_text())  # pytest shows it when the test fails


def put(kafka: Kafka, topic: str) -> None:
    """The story on the topic, each device under its key, with one event twice and one record that is no event."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number, (seconds, device, user, name) in enumerate([*STORY, STORY[1]]):
        event = {
            "type": "track",
            "messageId": f"m{number % len(STORY)}" if number < len(STORY) else "m1",
            "anonymousId": device,
            "userId": user,
            "event": name,
            "timestamp": (START + timedelta(seconds=seconds)).isoformat(),
        }
        producer.produce(topic, json.dumps(event).encode(), key=device.encode())
    producer.produce(topic, b"no event", key=b"phone-of-ben")
    assert producer.flush(30) == 0


@pytest.mark.whole_way
def test_events_in_kafka_become_a_live_funnel(kafka: Kafka, topic: str, service: Running, tmp_path: Path) -> None:
    put(kafka, topic)
    deadline = time.monotonic() + 60
    while (counts := service.funnel()) != [3, 2]:  # Ada, Ben and Cem looked; Ada and Cem ordered
        assert time.monotonic() < deadline, counts
        time.sleep(0.2)  # for the service to commit

    assert service.ask("sql", "select count(*) as n from stream.events") == [{"n": 7}]
    assert service.ask("sql", "select reason from stream.dead_letters") == [{"reason": "not_json"}]
    assert httpx.get(service.url).raise_for_status().headers["content-type"].startswith("text/html")

    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    definition = tmp_path / "order.json"
    definition.write_text(json.dumps(FUNNEL))
    answer = service.ask("funnel", "--definition", str(definition))
    assert [step["count"] for step in answer["steps"]] == [3, 2]
