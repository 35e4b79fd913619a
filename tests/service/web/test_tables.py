"""What is published, over HTTP: as JSON, CSV and Arrow, and not again what did not change."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pyarrow as pa
import pytest

from batch_marts import builds
from batch_marts.builds import Build
from batch_marts.dbt import Finding
from service.web.app import create_app
from tests.service.web.marts import publish
from tests.service.web.shop import Server, Shop, at

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("tables") / "warehouse.duckdb")
    shop.fill()
    publish(shop)
    yield shop
    shop.warehouse.close()


@pytest.fixture(scope="module")
def asked(shop: Shop) -> Iterator[httpx.Client]:
    server = Server()
    server.start(create_app(shop))
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client
    server.stop()


def test_a_table_in_three_forms(asked: httpx.Client) -> None:
    path = "/api/spend"
    rows = asked.get(path).json()
    assert [(row["month_start"], row["channel"], row["cac_usd"], row["roas"]) for row in rows] == [
        ("2026-01-01", "google", 30.0, 4.0),
        ("2026-01-01", "direct", None, None),
        ("2025-12-01", "google", 45.0, 2.0),
    ]
    comma = asked.get(path, headers={"Accept": "text/csv"})
    assert comma.headers["content-type"].startswith("text/csv")
    assert comma.headers["content-disposition"] == 'attachment; filename="spend.csv"'
    assert comma.text.splitlines()[0].startswith('"month_start","channel","spend_usd"')
    assert asked.get(path, params={"format": "csv"}).text == comma.text
    arrow = asked.get(path, headers={"Accept": ARROW})
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table.column("spend_usd").to_pylist() == [1200.0, 0.0, 900.0]


def test_the_rows_of_a_mart_come_by_pages(asked: httpx.Client) -> None:
    path = "/api/marts/tables/mart_daily_metrics/rows"
    every = asked.get(path, params={"limit": 100_000}).json()
    some = [
        *asked.get(path, params={"limit": 100}).json(),
        *asked.get(path, params={"limit": 100, "offset": 100}).json(),
    ]
    assert some == every[:200]
    assert asked.get("/api/marts/tables/stream.events/rows").status_code == 404
    assert "Published are: dim_campaign" in asked.get("/api/marts/tables/x").json()["error"]


def test_what_did_not_change_is_not_sent_again(asked: httpx.Client, shop: Shop) -> None:
    for path in (
        "/api/marts/tables",
        "/api/marts/tables/dim_person",
        "/api/metrics",
        "/api/metrics?q=cost",
        "/api/metrics/orders",
        "/api/metrics/orders/values",
        "/api/spend",
        "/api/marts/tables/dim_person/rows",
    ):
        first = asked.get(path)
        again = asked.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert asked.get(path, headers={"If-None-Match": 'W/"other"'}).status_code == 200
        in_csv = asked.get(path, headers={"Accept": "text/csv", "If-None-Match": first.headers["etag"]})
        assert in_csv.status_code == 200, "another form is another answer"
    known = asked.get("/api/spend").headers["etag"]
    publish(shop, 7)
    assert asked.get("/api/spend", headers={"If-None-Match": known}).status_code == 200


def test_what_the_stream_changes_has_an_etag_of_what_it_says(asked: httpx.Client, shop: Shop) -> None:
    for path in ("/api/sessions", "/api/sessions?format=csv", "/api/experiments", "/api/experiments/looks?format=csv",
                 f"/api/sessions/{'5e551011' * 4}", "/api/funnels", "/api/events"):  # fmt: skip
        first = asked.get(path)
        again = asked.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
    known = asked.get("/api/sessions?limit=1000").headers["etag"]
    shop.session("e" * 32, "early", at(-60), at(-59))
    assert asked.get("/api/sessions?limit=1000", headers={"If-None-Match": known}).status_code == 200
    assert "etag" not in asked.get("/health/live").headers


def test_sessions_and_experiments_as_files(asked: httpx.Client) -> None:
    answer = asked.get("/api/sessions", params={"limit": 2, "format": "csv"})
    assert answer.headers["content-disposition"] == 'attachment; filename="sessions.csv"'
    first = answer.text.splitlines()
    assert first[0].startswith('"session_id","anonymous_id","user_id"')
    assert len(first) == 3
    path, _, relation = answer.headers["link"].partition("; ")
    assert relation == 'rel="next"'
    following = asked.get(path.strip("<>"))
    assert following.text.splitlines()[0] == first[0]
    assert set(following.text.splitlines()[1:]).isdisjoint(first)
    told = asked.get("/api/sessions", params={"limit": 2}).json()["sessions"]
    table = pa.ipc.open_stream(asked.get("/api/sessions?limit=2", headers={"Accept": ARROW}).content).read_all()
    assert table.column("session_id").to_pylist() == [one["session_id"] for one in told]
    assert table.schema.field("started_at").type == pa.timestamp("us", "UTC")
    none = asked.get("/api/sessions", params={"device": "nobody", "format": "csv"})
    assert (none.text.splitlines(), "link" in none.headers) == (first[:1], False)
    for path in ("/api/experiments", "/api/experiments/looks"):
        assert asked.get(path, params={"format": "csv"}).text.splitlines()[0].count("experiment_id") == 1


def test_metrics_with_their_values(asked: httpx.Client) -> None:
    orders = next(one for one in asked.get("/api/metrics").json() if one["name"] == "orders")
    assert (orders["owner"], orders["value"], orders["date"]) == ("finance", 155.0, "2026-01-30")
    assert orders["values"][-2:] == [154.0, 155.0]
    (cac, *_) = asked.get("/api/metrics", params={"q": "how much does a customer cost us"}).json()
    assert cac["name"] == "cac"
    told = asked.get("/api/metrics/sessions").json()
    assert [(part["dimension"], part["value"], part["sum"]) for part in told["parts"]] == [
        ("channel=google", 30.0, 840.0),
        ("channel=direct", 12.0, 336.0),
    ]
    assert told["days"] == {
        "first_day": "2025-12-22",
        "last_day": "2026-01-30",
        "complete_until": "2026-01-30",
        "incomplete_days": 0,
    }
    values = asked.get("/api/metrics/orders/values", params={"since": "2026-01-30"}).json()
    assert [(row["metric_date"], row["metric_value"], row["is_complete"]) for row in values] == [
        ("2026-01-30", 155.0, True),
        ("2026-01-31", 7.0, False),
    ]
    assert "Defined are: page_views" in asked.get("/api/metrics/nothing").json()["error"]


def test_marts_say_what_they_are_made_from(asked: httpx.Client) -> None:
    told = asked.get("/api/marts/tables/fct_sessions").json()
    assert told["question"] == "What happened in each visit, by whom, and through which channel?"
    assert told["made_from"]["intermediate"] == ["int_sessions", "int_ways_in"]
    assert "stg_sessions" in told["made_from"]["staging"]
    assert "mart_daily_metrics" in told["read_by"]
    assert "sessions" in told["metrics"]
    column = next(one for one in told["columns"] if one["name"] == "channel")
    assert (column["data_type"], column["tests"]) == ("varchar", ["is in dim_channel.channel"])
    reaches = {one["name"]: one["reaches"] for one in asked.get("/api/marts/tables").json()["tables"]}
    assert reaches["fct_ad_spend_daily"] == "2026-01-28"
    assert reaches["fct_sessions"] is None


def test_plain_words_find_metrics_and_marts_with_what_there_is_to_say_of_them(asked: httpx.Client) -> None:
    told = asked.get("/api/catalog/search", params={"q": "what do we pay to win one new buyer"}).json()
    cac = told["metrics"][0]
    assert (cac["name"], cac["owner"], cac["value"], cac["date"]) == ("cac", "marketing", 30.0, "2026-01-30")
    assert cac["definition"].startswith("Ad spend of the day, divided by the new customers")
    assert "fct_ad_spend_daily" in cac["made_from"]["marts"]
    assert cac["tests"] == 19
    assert (cac["trust"]["verdict"], len(cac["values"])) == ("not", 39)
    told = asked.get("/api/catalog/search", params={"q": "what happened in each visit"}).json()
    sessions = told["marts"][0]
    assert (sessions["name"], sessions["owner"], sessions["rows"]) == ("fct_sessions", "product", 0)
    assert (sessions["chart_of"], len(sessions["values"])) == ("sessions", 40)
    every = asked.get("/api/catalog/search").json()
    assert (len(every["metrics"]), len(every["marts"])) == (19, 12)
    none = asked.get("/api/catalog/search", params={"q": "zeppelin"}).json()
    assert (none["metrics"], none["marts"]) == ([], [])


@pytest.fixture
def new_shop(empty_shop: Shop, server: Server) -> Iterator[tuple[httpx.Client, Shop]]:
    publish(empty_shop)
    server.start(create_app(empty_shop))
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client, empty_shop


def test_trust_is_told_of_every_mart_and_metric(new_shop: tuple[httpx.Client, Shop]) -> None:
    asked, shop = new_shop
    told = asked.get("/api/trust").json()
    assert (told["build_id"], told["complete_until"], told["drift"]) == (1, "2026-01-30", None)
    assert told["last_refresh"] | {"finished_at": ""} == {
        "build_id": 1,
        "passed": True,
        "finished_at": "",
        "message": None,
        "findings": [],
    }
    marts = {one["name"]: one for one in told["marts"]}
    assert len(marts) == 12
    spend = marts["fct_ad_spend_daily"]
    assert (spend["owner"], spend["rows"], spend["reaches"]) == ("marketing", 1, "2026-01-28")
    assert spend["tests"] == {"passed": 6, "failed_since": []}
    assert "Ad spend is loaded for google up to 2026-01-28: later days lack its cost." in [
        one["says"] for one in spend["because"]
    ]
    assert {one["name"] for one in told["metrics"]} >= {"cac", "orders"}
    with shop.warehouse.transaction() as con:
        failed = Build(2, "build_0002", "full", "failed", at(80), at(81))
        builds.save(con, failed, [Finding("one_row", "int_orders", "an order is there twice")])
    told = asked.get("/api/trust").json()
    assert not told["last_refresh"]["passed"]
    marts = {one["name"]: one for one in told["marts"]}
    assert [one["what"] for one in marts["fct_conversions"]["tests"]["failed_since"]] == ["one_row"]
    assert marts["dim_channel"]["tests"]["failed_since"] == []


def test_where_nothing_is_published_it_says_so(empty_shop: Shop, server: Server) -> None:
    server.start(create_app(empty_shop))
    with httpx.Client(base_url=server.url) as api:
        for path in ("/api/marts/tables", "/api/metrics/orders", "/api/spend", "/api/trust"):
            answer = api.get(path)
            assert (answer.status_code, "stitchline marts refresh" in answer.json()["error"]) == (503, True)
        assert [one["value"] for one in api.get("/api/metrics").json()] == [None] * 19
        found = api.get("/api/catalog/search", params={"q": "how much does a customer cost us"}).json()
        assert (found["build"], found["metrics"][0]["name"], found["metrics"][0]["trust"]) == (None, "cac", None)
        assert api.get("/api/experiments/looks").json() == []
        assert api.get("/api/overview").json()["marts"] is None


def test_prometheus_and_people_share_an_address(asked: httpx.Client) -> None:
    assert asked.get("/metrics").text.startswith("# HELP")
    assert asked.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text.startswith("# HELP")
    assert asked.get("/metrics", headers={"Accept": "text/html,*/*"}).text.startswith("<!doctype html>")


def test_sessions_are_found_a_page_at_a_time(asked: httpx.Client, shop: Shop) -> None:
    for number in range(25):  # several at one instant
        device = f"x{number:02d}"
        shop.session(
            f"{number:032x}", device, at(-number // 4), at(1), device_type="tablet", entry_path=f"/{number % 2}"
        )
    found: list[str] = []
    after, pages = None, 0
    while True:
        wanted = {"limit": "4", "device_type": "tablet"} | ({"after": after} if after else {})
        answer = asked.get("/api/sessions", params=wanted).json()
        found += [one["session_id"] for one in answer["sessions"]]
        after, pages = answer["next"], pages + 1
        if after is None:
            break
    assert found == [f"{number:032x}" for number in range(25)]
    assert pages == 7

    def ids(**wanted: str) -> list[str]:
        answer = asked.get("/api/sessions", params=wanted).json()["sessions"]
        return [one["session_id"] for one in answer]

    assert len(ids(entry="/1", device_type="tablet")) == 12
    assert ids(q="x07") == ids(q="anon:x07") == [f"{7:032x}"]
    assert ids(q="u1") == ids(q="5e551011") == ids(source="google", campaign="spring") == ["5e551011" * 4]
    assert ids(q="5e5") == [], "three letters say nothing"
    assert ids(bots="only") == []
    assert ids(since="2026-01-31T12:09:00Z") == ["5e551033" * 4]
    assert "`after` is not where a page ended" in asked.get("/api/sessions?after=x").json()["error"]


def test_what_there_is_to_build_a_funnel_of(asked: httpx.Client, shop: Shop) -> None:
    shop.event("v1", "Paid", "d1", at(20), properties='{"cart.total": 5, "plan": "pro", "new": true}', path="/buy")
    shop.event("v2", "Paid", "d1", at(21), properties='{"cart.total": 7.5, "a/b~c": "x"}', path="/buy")
    shop.event("v3", "Paid", "robot", at(21), is_bot=True)
    names = {one["name"]: one["events"] for one in asked.get("/api/events").json()}
    assert names == {"Page Viewed": 3, "Viewed Product": 2, "Paid": 2, "Signed Up": 1}
    assert [one["name"] for one in asked.get("/api/events", params={"q": "view", "limit": 1}).json()] == ["Page Viewed"]
    told = asked.get("/api/events/fields", params={"event": "Paid"}).json()
    fields = {one["field"]: (one["type"], one["events"]) for one in told["fields"]}
    assert told["sample"] == 2
    assert fields == {
        "path": ("text", 2),
        'properties."cart.total"': ("number", 2),
        "properties.a/b~c": ("text", 1),
        "properties.new": ("boolean", 1),
        "properties.plan": ("text", 1),
    }
    for field, values in (
        ("path", [("/buy", 2)]),
        ('properties."cart.total"', [("5", 1), ("7.5", 1)]),
        ("properties.a/b~c", [("x", 1)]),
    ):
        found = asked.get("/api/events/values", params={"event": "Paid", "field": field}).json()["values"]
        assert [(one["value"], one["events"]) for one in found] == values
    wrong = asked.get("/api/events/values", params={"event": "Paid", "field": "nonsense"})
    assert (wrong.status_code, "is no field" in wrong.json()["error"]) == (422, True)
