"""The planted fall of the demo's shop: found the night after, told once, whatever is done again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from demo import Shop
from tests.shared import made_once
from tests.slack import TOKEN, SlackServer, slack_server
from tests.whole.runs import Run

SHOP = Shop(now=datetime(2026, 9, 21, 7, 30, tzinfo=UTC))
NIGHT = datetime.combine(SHOP.drop_day + timedelta(days=1), time(2), UTC)


UNSEEN = """
delete from anomalies.acts; delete from anomalies.changes; delete from anomalies.incidents;
delete from anomalies.outbox; delete from anomalies.verdicts;
"""
"""What the refreshes found, when there was no Slack, is not known any more."""


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with slack_server() as server:
        for team in ("product", "platform"):
            server.channel(f"{team}-alerts")
        yield server


@pytest.fixture
def run(redis_url: str, slack: SlackServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The shop up to the night after its fall, refreshed twice, and looked at for the first time; nobody serves it."""
    made, _ = made_once(tmp_path_factory, "fallen", lambda folder: make(Run(folder / "w.duckdb", redis_url)))
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    with duckdb.connect(str(folder / "w.duckdb")) as con:
        con.execute(UNSEEN)
    settings = {"SLACK__TOKEN": TOKEN, "SLACK__BASE_URL": slack.base_url}
    run = Run(folder / "w.duckdb", redis_url, settings=settings)
    run.command("anomalies", "check", "--json", exits=1)
    return run


def make(run: Run) -> None:
    file = run.warehouse.with_name("events.jsonl")
    with file.open("wb") as out:
        for record in SHOP.history():
            if record.kafka_at < NIGHT:
                out.write(record.value.replace(b"\n", b" ") + b"\n")
    run.replay(file)
    run.command("marts", "refresh")
    run.command("marts", "refresh")


def listed(run: Run, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run.command("anomalies", "list", "--json", *options))
    return found


def test_the_fall_is_one_incident_however_often_it_is_looked_for(run: Run) -> None:
    run.command("anomalies", "check", "--json", exits=1)
    (incident,) = listed(run, "--all")
    assert incident["metrics"] == [{"metric": "page_views", "segment": "path=/"}]
    assert incident["since"] == f"{SHOP.drop_day}T00:00:00+00:00"
    assert incident["title"] == "Traffic by page, path=/ 40 % below expected"
    assert (incident["status"], incident["team"], incident["rule"]) == ("open", "product", "seasonal")
    assert re.fullmatch(r"lowest \w+ of all \d+|lowest \w+ in \d+ weeks", incident["unusual"])


def test_slack_has_one_message_of_it_with_its_chart(run: Run, slack: SlackServer) -> None:
    channel = slack.channel("product-alerts")
    (message,) = channel.top()
    assert message.body["text"].startswith("Critical: Traffic by page, path=/ 40 % below expected. ")
    (reply,) = channel.replies()
    assert reply.files, "the chart is in its thread"
    assert slack.channel("platform-alerts").top() == []
    assert slack.refusals == []


def test_one_incident_in_words_and_under_other_settings(run: Run, tmp_path: Path) -> None:
    (incident,) = listed(run)
    told = run.command("anomalies", "show", incident["incident_id"])
    assert incident["because"][:40] in told.replace("\n", " ")
    picture = tmp_path / "chart.png"
    days = ("--from", str(SHOP.drop_day - timedelta(days=7)), "--to", str(SHOP.drop_day))
    shown = run.command("anomalies", "backtest", "page_views", *days, "--segment", "path=/", "--chart", str(picture))
    assert str(SHOP.drop_day) in shown.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "There is no metric 'pages'" in run.command("anomalies", "backtest", "pages", exits=2)


def test_what_people_do_about_it_is_said_in_its_thread(run: Run, slack: SlackServer) -> None:
    (incident,) = listed(run)
    channel = slack.channel("product-alerts")
    before = len(channel.replies())
    run.command("anomalies", "ack", incident["incident_id"], "--by", "Ada")
    assert [(one["status"], one["acted_by"]) for one in listed(run)] == [("acknowledged", "Ada")]
    assert "nothing to acknowledge" in run.command("anomalies", "ack", incident["incident_id"], exits=2)
    assert len(channel.replies()) == before + 1
    assert "Ada" in channel.replies()[-1].body["text"]
    run.command("anomalies", "dismiss", incident["incident_id"], "--by", "Ada")
    assert run.rows("from anomalies.left_out") == [], "its values stay in the baseline"
    assert len(channel.top()) == 1
    assert "There is no incident 'x'" in run.command("anomalies", "show", "x", exits=2)


def test_a_sample_says_what_happened(run: Run, slack: SlackServer) -> None:
    assert "Posted in #product-alerts" in run.command("anomalies", "test", "#product-alerts")
    refused = run.command("anomalies", "test", "#no-such-channel", exits=1)
    assert "channel_not_found" in refused
    assert "Check the channel in owners.yml" in refused.replace("\n", " ")
    without = Run(run.warehouse, run.redis_url)
    assert "slack.token" in without.command("anomalies", "test", "#product-alerts", exits=2)
