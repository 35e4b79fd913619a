"""The page over a running flow: who signs up is seen at once, with what she did before anybody knew her."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.services import Kafka
from tests.whole.runs import Run, event

FUNNEL = {"name": "signup", "steps": [{"event": "Viewed Product"}, {"event": "Signed Up"}], "window": "1 day"}
AT_ONCE = 3.0  # seconds from the event to the page
PEOPLE = 4
"""The fastest of them is held to it: on a busy machine one or the other waits for its turn."""


def test_who_signs_up_is_seen_with_her_anonymous_steps(
    tmp_path: Path, redis_url: str, kafka: Kafka, browser: Browser
) -> None:
    (tmp_path / "funnels").mkdir()
    (tmp_path / "funnels" / "signup.json").write_text(json.dumps(FUNNEL))
    run = Run(tmp_path / "warehouse.duckdb", redis_url, kafka, settings={"FUNNELS": str(tmp_path / "funnels")})
    kafka.create_topic(run.topic, 1)
    kafka.create_topic(f"{run.topic}.dead", 1)

    def now() -> str:
        return datetime.now(UTC).isoformat()

    with run.serving() as service:
        page = browser.new_page(base_url=service.url)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/")
        expect(page.get_by_text("No events yet")).to_be_visible()
        looked, signed_up = (page.locator(f"[data-text='funnel.{step}.count']") for step in range(2))
        took = []
        for number in range(1, PEOPLE + 1):
            device = f"device-{number}"
            run.produce([event(f"v{number}", now(), device, event="Viewed Product")])
            expect(looked).to_have_text(str(number))
            expect(signed_up).to_have_text(str(number - 1))
            began = time.monotonic()
            run.produce([event(f"s{number}", now(), device, event="Signed Up", userId=f"user-{number}")])
            expect(signed_up).to_have_text(str(number))
            took.append(time.monotonic() - began)
        assert min(took) <= AT_ONCE, took
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Sessions").click()
        expect(page.locator(".sessions tbody tr").first.locator(".person")).to_have_text(f"user-{PEOPLE}")
        page.locator(".sessions tbody tr").first.locator(".id a").click()
        expect(page.locator(".timeline > li")).to_have_count(2)
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Health").click()
        expect(page.locator(".services")).to_contain_text("answers")
        assert complaints == []
        page.close()
