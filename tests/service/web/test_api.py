"""The JSON API over a filled shop, asked over HTTP."""

from __future__ import annotations

import base64
import csv
import json
from datetime import datetime, timedelta

import httpx
import pyarrow as pa
import pytest

from batch_marts.experiments import Experiment
from service.web.app import create_app
from service.web.view import FlowState
from tests.service.web.shop import PURCHASE, Server, Shop, at

SIGNED_UP, ONE_PAGE, STILL_OPEN = "5e551011" * 4, "5e551022" * 4, "5e551033" * 4


def test_the_process_says_that_it_is_alive(reading_api: httpx.Client) -> None:
    answer = reading_api.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        (FlowState("running"), []),
        (FlowState("catching up", "a backlog"), []),
        (FlowState("stopped", "no broker at 10.0.0.1 knows"), ["The flow has ended."]),
        (FlowState("waiting", "getting ready to read"), ["The flow does not read yet."]),
        (FlowState("waiting", "no broker at 10.0.0.1 answers", waits_for=("kafka",)), ["The flow waits for Kafka."]),
        (FlowState("waiting", "the disk is full", waits_for=("warehouse",)), ["The flow waits for the warehouse."]),
        (FlowState("running", "Redis at 10.0.0.2 is away", silent=("redis",)), ["Redis does not answer."]),
        (
            FlowState("waiting", "all is away", waits_for=("kafka",), silent=("kafka", "redis")),
            ["The flow waits for Kafka.", "Redis does not answer."],
        ),
    ],
)
def test_it_is_ready_when_the_flow_runs_and_the_services_answer(
    api: httpx.Client, shop: Shop, state: FlowState, reasons: list[str]
) -> None:
    shop.state = state
    answer = api.get("/health/ready")
    assert answer.json() == {"status": "not ready" if reasons else "ready", "reasons": reasons}
    assert answer.status_code == (503 if reasons else 200)


def test_a_funnel(reading_api: httpx.Client) -> None:
    answer = reading_api.post("/api/funnel", json=PURCHASE.model_dump(mode="json"))
    assert answer.status_code == 200, answer.text
    result = answer.json()
    found = [(step["step"], step["count"], step["dropped"], step["still_open"]) for step in result["steps"]]
    assert found == [("Page Viewed", 3, 1, 0), ("Viewed Product", 2, 1, 0), ("Signed Up", 1, 0, 0)]
    assert [step["median_seconds"] for step in result["steps"]] == [None, 90, 240]
    assert result["steps"][2]["conversion"] == 0.5
    assert result["as_of"] == "2026-01-31T13:30:00Z"


def test_a_funnel_as_sql_counts_the_same_here(reading_api: httpx.Client) -> None:
    definition = PURCHASE.model_dump(mode="json")
    answer = reading_api.get("/api/funnel/sql", params={"definition": json.dumps(definition)})
    assert answer.headers["content-type"].startswith("text/plain")
    rows = reading_api.post("/api/sql", json={"sql": answer.text}).json()
    assert [(row["step"], row["count"], row["dropped"]) for row in rows] == [
        *(("Page Viewed", 3, 1), ("Viewed Product", 2, 1), ("Signed Up", 1, 0)),
    ]
    refused = reading_api.get("/api/funnel/sql", params={"definition": json.dumps(definition | {"order": "any"})})
    assert (refused.status_code, "in any order" in refused.json()["error"]) == (422, True)


def test_experiments_as_they_stand(api: httpx.Client, shop: Shop) -> None:
    assert api.get("/api/experiments").json() == []
    shop.trials = [
        Experiment.model_validate(
            {
                "id": "hats",
                "variations": {"control": 1, "big": 1},
                "minimum_effect": 0.1,
                "metrics": [{"name": "spent", "event": "Paid", "sum": "total"}],
            }
        )
    ]

    def told(message_id: str, name: str, device: str, minute: float, properties: object, **columns: object) -> None:
        shop.event(message_id, name, device, at(minute), properties=json.dumps(properties), **columns)

    big = {"experiment_id": "hats", "variation_id": "big"}
    for device in ("d1", "d2", "robot", "caught"):
        told(f"{device}-seen", "Experiment Viewed", device, 2, big, is_bot=device == "robot")
    told("d2-again", "Experiment Viewed", "d2", 3, big | {"variation_id": "control"})
    told("d1-paid", "Paid", "d1", 3, {"total": 8})
    told("d1-paid", "Paid", "d1", 20, {"total": 8}, offset=1)  # a copy, long after
    told("u1-paid", "Paid", "d4", 30, {"total": 4}, user_id="u1", person_id="u1")  # the same person elsewhere
    shop.write("insert into stream.bot_devices values ('caught', 'hours', ?)", at(0))
    control, variation = api.get("/api/experiments", params={"id": "hats"}).json()
    assert (control["variation_id"], control["persons"], control["mean"]) == ("control", 0, None)
    assert (variation["persons"], variation["mean"], variation["persons_in_several"]) == (1, 12.0, 1)
    assert (variation["first_exposed_at"], variation["as_of"]) == (
        *("2026-01-31T12:02:00.000000Z", "2026-01-31T13:30:00.000000Z"),
    )
    assert (variation["verdict"], control["verdict"]) == ("too_few", None)
    unknown = api.get("/api/experiments", params={"id": "hat"})
    assert (unknown.status_code, "Defined are: hats" in unknown.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"name": "x", "stepz": []}', "did you mean steps?"),
        (b'{"steps": [{"event": "A"}], "window": "soon"}', "window"),
        (b'{"steps": [{"event": "A", "event": "B"}]}', "'event' is there twice"),
        (b'{"steps": ', "is not JSON"),
        (b"", "is not JSON"),
        (b"[1]", "the funnel definition"),
    ],
)
def test_a_wrong_definition_is_explained(reading_api: httpx.Client, body: bytes, says: str) -> None:
    answer = reading_api.post("/api/funnel", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("the funnel definition")
    assert says in answer.json()["error"]


def test_who_is_behind_a_number_and_what_they_did_next(reading_api: httpx.Client) -> None:
    (definition,) = reading_api.get("/api/funnels").json()
    count = reading_api.post("/api/funnel", json=definition).json()["steps"][0]["count"]
    question = {"definition": definition, "step": 0, "limit": 1}
    page = reading_api.post("/api/funnel/people", json=question).json()
    found = list(page["people"])
    while page["after"] is not None:
        page = reading_api.post("/api/funnel/people", json=question | {"after": page["after"]}).json()
        found += page["people"]
    assert len({one["subject"] for one in found}) == len(found) == count
    assert all(one["entered_at"] == one["reached_at"] for one in found)
    text = reading_api.post("/api/funnel/people", json=question, headers={"Accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(text.text.splitlines())
    assert list(row) == ["subject", "entered_at", "reached_at"]
    assert row["subject"] == found[0]["subject"]
    assert datetime.fromisoformat(row["entered_at"]) == datetime.fromisoformat(found[0]["entered_at"])
    for path in ("/api/funnel/people", "/api/funnel/next"):
        refused = reading_api.post(path, json=question | {"step": 9})
        assert refused.status_code == 422
        assert "has no step 9" in refused.json()["error"]
    told = reading_api.post("/api/funnel/next", json=question | {"limit": 5})
    assert told.status_code == 200


def test_trends_and_retention(reading_api: httpx.Client) -> None:
    (definition,) = reading_api.get("/api/funnels").json()
    event = definition["steps"][0]["event"]
    trend = {"events": [{"event": event}], "since": "2026-01-01", "until": "2026-12-31", "interval": "week"}
    answer = reading_api.post("/api/trend", json=trend).json()
    assert len(answer["periods"]) == len(answer["series"][0]["counts"]) == 53
    assert answer["series"][0]["total"] > 0
    asked = {"start": {"event": event}, "back": {"event": event}, "since": "2026-01-01", "until": "2026-12-31"}
    cohorts = reading_api.post("/api/retention", json=asked).json()["cohorts"]
    assert sum(cohort["size"] for cohort in cohorts) > 0
    refused = reading_api.post("/api/trend", json={"events": [{"event": event}]})
    assert refused.status_code == 422


def test_the_named_funnels(reading_api: httpx.Client) -> None:
    (definition,) = reading_api.get("/api/funnels").json()
    assert definition["name"] == "purchase"
    assert definition["window"] == "1 hour"
    assert reading_api.post("/api/funnel", json=definition).status_code == 200


def test_sql(reading_api: httpx.Client) -> None:
    answer = reading_api.post(
        "/api/sql", json={"sql": "select event_at, properties from stream.events order by event_at limit 1"}
    )
    assert answer.json() == [
        {"event_at": "2026-01-31T12:00:00.000000Z", "properties": {"price": 9.5, "tags": ["a"]}},
    ]


def test_sql_as_a_table(reading_api: httpx.Client) -> None:
    def asked(sql: str, form: str) -> httpx.Response:
        return reading_api.post("/api/sql", json={"sql": sql}, params={"format": form})

    sql = "select message_id, event_at, properties from stream.events order by 1"
    table = pa.ipc.open_stream(asked(sql, "arrow").content).read_all()
    assert table.column("message_id").to_pylist() == ["d1-1", "d1-2", "d1-3", "d2-1", "d3-1", "d3-2"]
    assert table.schema.field("event_at").type == pa.timestamp("us", "UTC")
    assert asked(sql, "csv").text.splitlines()[1].startswith('"d1-1",2026-01-31 12:00:00')
    nested = asked("select [1, 2] as a", "csv")
    assert (nested.status_code, "cast it to text" in nested.json()["error"]) == (422, True)
    assert asked("delete from stream.events", "arrow").status_code == 422


def test_sql_that_writes_is_refused(reading_api: httpx.Client) -> None:
    answer = reading_api.post("/api/sql", json={"sql": "delete from stream.events"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("DELETE is not read-only")


def test_sql_that_takes_too_long_is_stopped(reading_api: httpx.Client) -> None:
    endless = "select count(*) from range(100_000_000) a, range(1_000_000) b where hash(a.range + b.range) % 7 = 0"
    answer = reading_api.post("/api/sql", json={"sql": endless})
    assert answer.status_code == 504
    assert "longer than 2 s" in answer.json()["error"]


def test_a_funnel_that_takes_too_long_is_stopped(shop: Shop, server: Server) -> None:
    shop.write(
        "insert into stream.events select 'x' || range, 'track', 'Page Viewed', 'x' || range % 1000, null, "
        "'anon:x' || range % 1000, ?::timestamptz + to_seconds(range), now(), null, null, null, null, null, null, "
        "null, null, null, null, false, false, false, 0, 0 from range(500_000)",
        at(0),
    )
    server.start(create_app(shop, question_timeout=timedelta(milliseconds=30)))
    answer = httpx.post(server.url + "/api/funnel", json=PURCHASE.model_dump(mode="json"))
    assert (answer.status_code, "the funnel took longer" in answer.json()["error"]) == (504, True)


def test_sessions_are_held_against_the_batch_definition(reading_api: httpx.Client) -> None:
    told = reading_api.post("/api/reconcile", json={}).json()
    assert told["differing"] == len(told["differences"])
    assert told["sessions"] > 0
    assert not told["repaired"]
    later = reading_api.post("/api/reconcile", json={"since": "2100-01-01T00:00:00Z"}).json()
    assert later["differing"] == 0
    assert reading_api.post("/api/reconcile", json={"since": "yesterday"}).status_code == 422


def test_a_wrong_question_is_explained(reading_api: httpx.Client) -> None:
    answer = reading_api.post("/api/sql", json={"query": "select 1"})
    assert (answer.status_code, answer.json()) == (422, {"error": "body.sql: Field required"})


def test_a_body_in_another_encoding_is_explained(reading_api: httpx.Client) -> None:
    sent = '{"sql": "select \'é\'"}'.encode("latin-1")
    answer = reading_api.post("/api/sql", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body is no text in UTF-8: ")


def test_every_refusal_is_documented_as_it_is_sent(reading_api: httpx.Client) -> None:
    document = reading_api.get("/api/openapi.json").json()
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_sessions_newest_first(reading_api: httpx.Client) -> None:
    sessions = reading_api.get("/api/sessions").json()["sessions"]
    assert [one["session_id"] for one in sessions] == [STILL_OPEN, ONE_PAGE, SIGNED_UP]
    assert [one["is_open"] for one in sessions] == [True, False, False]
    assert sessions[2]["started_at"] == "2026-01-31T12:00:00Z"
    assert [one["session_id"] for one in reading_api.get("/api/sessions?limit=1").json()["sessions"]] == [STILL_OPEN]
    assert [one["session_id"] for one in reading_api.get("/api/sessions?device=d1").json()["sessions"]] == [SIGNED_UP]
    assert [one["session_id"] for one in reading_api.get("/api/sessions?open=true").json()["sessions"]] == [STILL_OPEN]


def test_a_session_without_a_user_belongs_to_whom_it_is_known_to_now(api: httpx.Client, shop: Shop) -> None:
    assert api.get(f"/api/sessions/{ONE_PAGE}").json()["session"]["person_id"] == "anon:d2"
    shop.override("d2", "u2", at(60))
    assert api.get(f"/api/sessions/{ONE_PAGE}").json()["session"]["person_id"] == "u2"
    assert api.get("/api/sessions?device=d2").json()["sessions"][0]["person_id"] == "u2"


def test_a_session_with_its_events(api: httpx.Client, shop: Shop) -> None:
    shop.event("zzz", "Page Viewed", "d1", at(5))  # the instant of the session's last event, after it
    shop.event("c", "Email Sent", "d1", at(2), is_background=True)
    answer = api.get(f"/api/sessions/{SIGNED_UP}").json()
    assert answer["session"]["person_id"] == "u1"
    assert [event["message_id"] for event in answer["events"]] == ["d1-1", "d1-2", "c", "d1-3"]
    assert answer["events"][0]["properties"] == {"price": 9.5, "tags": ["a"]}
    assert answer["more"] is False
    first = api.get(f"/api/sessions/{SIGNED_UP}?limit=2").json()
    assert ([event["message_id"] for event in first["events"]], first["more"]) == (["d1-1", "d1-2"], True)


def test_a_session_that_is_not_there(api: httpx.Client, shop: Shop) -> None:
    answer = api.get("/api/sessions/nope")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no session nope"})
    shop.write("insert into stream.session_changes values ('old', ?, 2, now())", SIGNED_UP)
    assert api.get("/api/sessions/old").json()["error"].endswith(f"late events made it part of {SIGNED_UP}")


def test_dead_letters(api: httpx.Client, shop: Shop) -> None:
    shop.write(
        "insert into stream.dead_letters values ('events', 1, 7, 'no_id', 'No messageId', null, null, null, ?)", at(4)
    )
    answer = api.get("/api/dead-letters").json()
    assert (answer["total"], answer["by_reason"]) == (2, {"not_json": 1, "no_id": 1})
    tombstone, letter = answer["dead_letters"]
    assert (tombstone["key"], tombstone["text"], tombstone["size"]) == (None, None, None)
    assert (letter["key"], letter["text"], letter["size"]) == ("d1", '{"a": \ufffd', 7)
    assert letter["dead_at"] == "2026-01-31T12:03:00Z"
    assert letter["raw_base64"] is None
    (letter,) = api.get("/api/dead-letters?reason=not_json&raw=true").json()["dead_letters"]
    assert base64.b64decode(letter["raw_base64"]) == b'{"a": \xff'


def test_the_state(reading_api: httpx.Client) -> None:
    state = reading_api.get("/api/state").json()
    assert (state["status"], state["detail"]) == ("running", "all partitions assigned")
    assert (state["lag_records"], state["lag_seconds"], state["events_per_second"]) == (42, 3.5, 1234.5)
    assert [place["watermark"] for place in state["partitions"]] == ["2026-01-31T13:30:00Z", None]
    assert state["totals"] == {
        "consumed": 1209,
        "stored": 1206,
        "duplicates": 2,
        "dead": 1,
        "late": 1,
        "foreign_keys": 0,
        "closed_sessions": 2,
        "open_sessions": 1,
    }


def test_an_empty_warehouse_answers_too(empty_shop: Shop, server: Server) -> None:
    server.start(create_app(empty_shop))
    with httpx.Client(base_url=server.url) as api:
        assert api.get("/api/state").json()["totals"]["consumed"] == 0
        assert api.get("/api/sessions").json() == {"sessions": [], "next": None}
        assert api.get("/api/dead-letters").json() == {"total": 0, "by_reason": {}, "dead_letters": []}
        result = api.post("/api/funnel", json=PURCHASE.model_dump(mode="json")).json()
        assert (result["as_of"], [step["count"] for step in result["steps"]]) == (None, [0, 0, 0])


def test_the_openapi_document_describes_every_route(reading_api: httpx.Client) -> None:
    document = reading_api.get("/api/openapi.json").json()
    assert set(document["paths"]) == {
        "/api/anomalies",
        "/api/anomalies/backtest",
        "/api/anomalies/backtest.png",
        "/api/anomalies/check",
        "/api/anomalies/test",
        "/api/anomalies/{incident_id}",
        "/api/anomalies/{incident_id}/chart.png",
        "/api/backup",
        "/api/catalog/search",
        "/api/dead-letters",
        "/api/events",
        "/api/events/fields",
        "/api/events/values",
        "/api/experiments",
        "/api/experiments/looks",
        "/api/funnel",
        "/api/funnel.png",
        "/api/funnel/next",
        "/api/funnel/people",
        "/api/funnel/sql",
        "/api/funnels",
        "/api/health",
        "/api/identity",
        "/api/identity/audit",
        "/api/identity/change",
        "/api/identity/forget",
        "/api/identity/rebuild",
        "/api/identity/refused",
        "/api/live",
        "/api/marts",
        "/api/marts/changes",
        "/api/marts/changes/withdrawn",
        "/api/marts/consumers",
        "/api/marts/history",
        "/api/marts/refresh",
        "/api/marts/rollback",
        "/api/marts/tables",
        "/api/marts/tables/{mart}",
        "/api/marts/tables/{mart}/rows",
        "/api/metrics",
        "/api/metrics/{name}",
        "/api/metrics/{name}/values",
        "/api/overview",
        "/api/reconcile",
        "/api/retention",
        "/api/sessions",
        "/api/sessions/{session_id}",
        "/api/spend",
        "/api/spend/files",
        "/api/spend/rates",
        "/api/sql",
        "/api/state",
        "/api/trend",
        "/api/trust",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            assert "200" in operation["responses"], path
    body = document["paths"]["/api/funnel"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "FunnelDefinition" in body["$ref"]
    assert document["components"]["schemas"]["Problem"]["properties"]["error"]


def test_a_path_that_is_not_there_is_said_to_the_browser_in_html(reading_api: httpx.Client) -> None:
    assert reading_api.get("/nope").json() == {"error": "Not Found"}
    page = reading_api.get("/nope", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
