"""A client of what docker-compose.yml publishes: puts visits on the topic and waits for them in a funnel."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime

import httpx
from confluent_kafka import Producer

KAFKA = "localhost:9092"
PAGE = "http://127.0.0.1:8765"
TOKEN = "stitchline"
FUNNEL = {"name": "visit", "steps": [{"event": "Product Viewed"}, {"event": "Order Completed"}]}


def put(device: str, names: list[str]) -> None:
    producer = Producer({"bootstrap.servers": KAFKA})
    for name in names:
        event = {
            "type": "track",
            "messageId": str(uuid.uuid4()),
            "anonymousId": device,
            "event": name,
            "timestamp": datetime.now(UTC).isoformat(),
        }
        producer.produce("events", json.dumps(event).encode(), key=device.encode())
    assert producer.flush(30) == 0


def funnel() -> list[int]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{PAGE}/api/funnel", json=FUNNEL, headers=headers).raise_for_status().json()
    return [step["count"] for step in answer["steps"]]


def main() -> None:
    before = funnel()
    put(f"visitor-{uuid.uuid4()}", ["Product Viewed", "Order Completed"])
    put(f"visitor-{uuid.uuid4()}", ["Product Viewed"])
    wanted = [before[0] + 2, before[1] + 1]
    started = time.monotonic()
    while (seen := funnel()) != wanted:
        assert time.monotonic() - started < 60, f"wanted {wanted}, the funnel says {seen}"
        time.sleep(0.2)
    print(
        f"The funnel went from {before} to {seen} {time.monotonic() - started:.1f} s after the events were on the topic"
    )
    assert httpx.get(PAGE).status_code == httpx.codes.UNAUTHORIZED, "the page is open to anyone"


if __name__ == "__main__":
    main()
