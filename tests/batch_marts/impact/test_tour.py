"""A tour through the change process: three branches, what is said of each, and who is told, once.

The first renames a column, the second works out what a customer costs in another way, the third only lays out anew.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.signature import SignatureVerifier

from batch_marts.dbt import PROJECT
from sinks.warehouse import Warehouse
from tests.faults.waiting import until
from tests.slack import TOKEN, SlackServer, slack_server
from tests.whole.runs import Run

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
CHANNELS = ("product-alerts", "marketing-alerts", "growth-alerts", "finance-alerts", "platform-alerts")


class Branches:
    """A repository with the marts on `main`, and branches off it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "marts"
        unneeded = shutil.ignore_patterns("*.py[c]", "__pycache__", "anomalies", "spend", "impact")
        shutil.copytree(PROJECT, self.project, ignore=unneeded)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("The marts as they are")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@shop.example")
        ran = subprocess.run(
            ["git", "-C", str(self.folder), *who, *arguments], check=True, capture_output=True, text=True
        )
        return ran.stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def branch(self, name: str) -> None:
        self.git("checkout", "--quiet", "-b", name, "main")

    def change(self, file: str, what: str, into: str, times: int = 1) -> None:
        path = self.project / file
        text = path.read_text(encoding="utf-8")
        assert text.count(what) == times, f"{what!r} in {file}"
        path.write_text(text.replace(what, into), encoding="utf-8")


@pytest.fixture
def branches(tmp_path: Path) -> Branches:
    (tmp_path / "repository").mkdir()
    return Branches(tmp_path / "repository")


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with slack_server() as server:
        for name in CHANNELS:
            server.channel(name)
        yield server


@pytest.fixture
def run(tmp_path: Path, branches: Branches, slack: SlackServer, redis_url: str) -> Run:
    with Warehouse.open(tmp_path / "w.duckdb"):
        pass
    settings = {
        "SLACK__TOKEN": TOKEN,
        "SLACK__BASE_URL": slack.base_url,
        "SLACK__SIGNING_SECRET": SECRET,
        "MARTS__PROJECT": str(branches.project),
        "MARTS__METRICS": str(branches.project / "metrics.yml"),
    }
    return Run(tmp_path / "w.duckdb", redis_url, settings=settings)


def told(slack: SlackServer) -> dict[str, list[dict[str, Any]]]:
    """The messages of each channel that has some."""
    return {name: [one.body for one in posts] for name in CHANNELS if (posts := slack.channel(name).top())}


def words(body: dict[str, Any]) -> str:
    return json.dumps(body["blocks"], ensure_ascii=False)


def test_the_tour(run: Run, branches: Branches, slack: SlackServer, tmp_path: Path) -> None:
    def impact(exits: int, *options: str) -> dict[str, Any]:
        out = run.command("marts", "impact", "--base", "main", "--json", *options, exits=exits)
        report: dict[str, Any] = json.loads(out[: out.rindex("}") + 1])
        (tmp_path / "impact.json").write_text(json.dumps(report), encoding="utf-8")
        return report

    def announce(*options: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            run.command("marts", "announce", "--impact", str(tmp_path / "impact.json"), "--json", *options)
        )
        return answer

    # It lays out anew: nothing is said, and nobody is told.
    branches.branch("layout")
    branches.change("models/marts/mart_acquisition.sql", "with won as (", "WITH won AS ( -- what was won\n")
    branches.change("models/marts/mart_acquisition.sql", "from won\n", "FROM won AS w\n")
    text = (branches.project / "models/marts/mart_acquisition.sql").read_text(encoding="utf-8")
    head, tail = text[: text.index("coalesce(spent")], text[text.index("coalesce(spent") :]
    relaid = head + re.sub(r"\bwon\.", "w.", tail)
    (branches.project / "models/marts/mart_acquisition.sql").write_text(relaid, encoding="utf-8")
    branches.commit("Lay out anew")
    report = impact(0)
    assert (report["changes"], report["breaches"]) == ([], [])
    assert announce()["told"] == []
    assert told(slack) == {}

    # It renames a column: that breaks, and those are told who read that mart.
    branches.branch("rename")
    branches.change("models/marts/mart_acquisition.sql", "as cac_usd", "as cost_of_customer_usd")
    branches.change("models/marts/marts.yml", "{name: cac_usd,", "{name: cost_of_customer_usd,")
    branches.commit("Call it what it is")
    report = impact(4, "--approved-by", "marketing", "--markdown", str(tmp_path / "report.md"))
    (change,) = report["changes"]
    assert [change[name] for name in ("what", "mart", "before", "after", "is_breaking")] == [
        "column_renamed",
        "mart_acquisition",
        "cac_usd",
        "cost_of_customer_usd",
        True,
    ]
    assert [one["rule"] for one in report["breaches"]] == ["breaking"]
    assert "breaking" in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()[0]
    first = announce("--link", "https://code.example/pull/7", "--by", "Ada")
    assert [one["owner"] for one in first["told"]] == ["marketing"]
    (message,) = told(slack)["marketing-alerts"]
    assert list(told(slack)) == ["marketing-alerts"]
    for word in ("cac_usd", "cost_of_customer_usd", "https://code.example/pull/7", "Seen", "Ada", "/spend"):
        assert word in words(message)
    assert announce()["told"] == [], "of each change once"
    assert len(told(slack)["marketing-alerts"]) == 1
    listed = json.loads(run.command("marts", "announce", "--json"))
    assert [one["owner"] for one in listed["not_seen"]] == ["marketing"]
    assert [one["change_id"] for one in listed["pending"]] == [change["change_id"]], "it waits for the notice period"

    # It works out what a customer costs in another way: refused, as long as that is no new version.
    branches.branch("cac")
    branches.change("metrics.yml", "where is_first_order\n", "where is_first_order and channel <> 'none'\n")
    branches.commit("Leave those out who came by themselves")
    report = impact(3, "--approved-by", "marketing")
    assert {(one["what"], one["metric"]) for one in report["changes"]} == {
        ("meaning_changed", "cac"),
        ("meaning_changed", "new_customers"),
    }
    assert [one["rule"] for one in report["breaches"]] == ["meaning"]
    assert "+where is_first_order and channel <> 'none'" in report["changes"][0]["sql"]
    cac = next(one for one in report["changes"] if one["metric"] == "cac")
    assert cac["lineage"] == ["new_customers", "cac"]
    second = announce("--now-because", "the old figure is in the board's slides")
    assert sorted(one["owner"] for one in second["told"]) == ["platform", "product"], "alerts, and the page of metrics"
    assert {name: len(posts) for name, posts in told(slack).items()} == {
        "product-alerts": 1,
        "marketing-alerts": 1,
        "platform-alerts": 1,
    }
    assert "the board's slides" in words(told(slack)["product-alerts"][0])
    assert len(second["told"][0]["changes"]) == 1, "of alerts, cac has none"
    assert slack.refusals == []

    # Somebody presses "Seen".
    with run.serving() as service:
        press(service.url, next(one["notice_id"] for one in first["told"]), "grace")
        until(lambda: "Seen by grace" in words(slack.channel("marketing-alerts").top()[0].body), 60)
    listed = json.loads(run.command("marts", "announce", "--json"))
    assert sorted(one["owner"] for one in listed["not_seen"]) == ["platform", "product"]
    seen = next(one for one in listed["notices"] if one["owner"] == "marketing")
    assert seen["seen_by"] == "grace"
    assert len(slack.channel("marketing-alerts").top()) == 1, "updated in place"
    assert slack.refusals == []


def press(url: str, notice: str, who: str) -> None:
    """The button, as Slack sends it."""
    action = {"type": "button", "action_id": "change_seen", "value": notice, "action_ts": "1"}
    payload = {"type": "block_actions", "trigger_id": "1.2", "user": {"id": "U1", "name": who}, "actions": [action]}
    body = urllib.parse.urlencode({"payload": json.dumps(payload)})
    at = str(int(time.time()))
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=at, body=body)
    assert signature is not None
    headers = {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": signature}
    request = urllib.request.Request(f"{url}/slack/actions", body.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
