"""Changes to the marts by the API: who reads them, what is announced, and the button in Slack."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.changes import MartChanges
from sinks.slack_actions import Press
from tests.service.web.marts import publish
from tests.service.web.shop import Shop

CHANGE: dict[str, Any] = {
    "change_id": "0123456789abcdef",
    "mart": "mart_acquisition",
    "column": "cac_usd",
    "what": "column_removed",
    "is_breaking": True,
    "says": "The column cac_usd of mart_acquisition is gone.",
    "before": "double",
    "consumers": [
        {"name": "page_spend", "label": "The page of spend", "owner": "marketing", "channel": "#marketing-alerts"},
        {"name": "slides", "label": "Slides <of> the board", "owner": "marketing", "channel": "#marketing-alerts"},
        {"name": "report", "label": "A report", "owner": "finance", "channel": "#finance-alerts"},
    ],
}
PROGRAM = {"User-Agent": "weekly-report/1.2 (somebody@shop.example)"}


def test_programs_that_read_marts_and_saved_funnels_are_proposed(shop: Shop, api: httpx.Client) -> None:
    publish(shop)
    for path in (
        "/api/metrics/orders/values",
        "/api/metrics/orders/values",
        "/api/spend",
        "/api/marts/tables/nothing/rows",
    ):
        api.get(path, headers=PROGRAM)
    sql = {"sql": "select count(*) from marts.dim_person"}
    assert api.post("/api/sql", json=sql, headers=PROGRAM).status_code == 200
    api.get("/api/spend", headers={"User-Agent": "Mozilla/5.0 (X11; Linux)"})
    told = api.get("/api/marts/consumers").json()

    assert {"page_spend", "anomaly_alerts"} <= {one["name"] for one in told["consumers"]}
    assert {(one["client"], one["mart"], one["metric"], one["reads"]) for one in told["reads"]} == {
        ("weekly-report", "mart_daily_metrics", "orders", 2),
        ("weekly-report", "mart_acquisition", None, 1),
        ("weekly-report", "dim_person", None, 1),
    }, "what a browser reads, and what is not there, does not count"
    funnel, program = told["proposed"]
    assert (funnel["name"], funnel["depends_on"]) == ("funnel_purchase", ["ref('fct_funnel_daily')"])
    assert program["name"] == "api_operator_weekly_report"
    assert program["depends_on"] == ["ref('dim_person')", "ref('mart_acquisition')", "ref('mart_daily_metrics')"]
    assert program["config"]["meta"]["metrics"] == ["orders"]
    assert told["yaml"].startswith("exposures:\n- name: funnel_purchase\n")


def test_each_owner_is_told_once_in_one_message(shop: Shop, api: httpx.Client) -> None:
    body = {"changes": [CHANGE], "by": "ada", "link": "https://code.example/pull/7"}
    first = api.post("/api/marts/changes", json=body).json()
    assert [(one["owner"], len(one["changes"])) for one in first["told"]] == [("finance", 1), ("marketing", 1)]
    assert first["told"][1]["consumers"] == ["The page of spend", "Slides <of> the board"]
    assert api.post("/api/marts/changes", json=body).json()["told"] == []
    listed = api.get("/api/marts/changes").json()
    assert [one["owner"] for one in listed["not_seen"]] == ["finance", "marketing"]
    assert [one["change_id"] for one in listed["pending"]] == [CHANGE["change_id"]]

    with shop.reader() as con:
        ((text,),) = con.execute(
            "select payload::varchar from anomalies.outbox where channel = '#marketing-alerts'"
        ).fetchall()
    assert "Slides &lt;of&gt; the board" in text
    assert "https://code.example/pull/7" in text

    changes = MartChanges(shop.warehouse, shop.marts()._settings)
    notice = first["told"][1]["notice_id"]
    assert changes.pressed(Press("p", "change_seen", notice, "U1", "grace"))
    assert changes.pressed(Press("q", "change_seen", notice, "U2", "heidi")), "again changes nothing"
    assert changes.pressed(Press("q", "change_seen", "no such notice", "U2", "heidi"))
    assert not changes.pressed(Press("r", "stitchline_acknowledge", notice, "U2", "heidi"))
    listed = api.get("/api/marts/changes").json()
    assert [one["owner"] for one in listed["not_seen"]] == ["finance"]
    assert next(one["seen_by"] for one in listed["notices"] if one["owner"] == "marketing") == "grace"

    withdrawn = api.post("/api/marts/changes/withdrawn", json={"change_ids": [CHANGE["change_id"]]})
    assert withdrawn.json() == {"withdrawn": [CHANGE["change_id"]]}
    assert api.get("/api/marts/changes").json()["notices"] == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"changes": [CHANGE | {"change_id": "x"}]}, "change_id"),
        ({"changes": [CHANGE | {"what": "improved"}]}, "what"),
        ({"link": "javascript:alert(1)"}, "link"),
        ({"because": " "}, "because"),
        ({"by": ""}, "by"),
    ],
)
def test_what_is_wrong_is_refused(api: httpx.Client, wrong: dict[str, Any], says: str) -> None:
    answer = api.post("/api/marts/changes", json={"changes": [CHANGE], "by": "ada"} | wrong)
    assert answer.status_code == 422
    assert says in answer.json()["error"]
