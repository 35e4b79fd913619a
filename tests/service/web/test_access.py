"""Who gets in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from service.web.access import Access
from service.web.app import create_app
from stitchline.errors import SettingsError
from tests.service.web.shop import PURCHASE, Server, Shop

TOKEN = "correct horse battery staple"
VIEWERS = "look but do not touch"

CHANGES: list[tuple[str, object]] = [
    ("/api/anomalies/check", None),
    ("/api/anomalies/none", {"deed": "acknowledge", "actor": "me"}),
    ("/api/anomalies/test", {"channel": "page"}),
    ("/api/backup", {"directory": "/nowhere"}),
    ("/api/identity/change", {"kind": "merge", "anonymous_id": "d1", "user_id": "u1"}),
    ("/api/identity/forget", {"id": "u1"}),
    ("/api/identity/rebuild", None),
    ("/api/marts/changes", {"changes": [], "by": "ada"}),
    ("/api/marts/changes/withdrawn", {"change_ids": ["0123456789abcdef"]}),
    ("/api/marts/refresh", {}),
    ("/api/marts/rollback", {}),
    ("/api/reconcile", {"repair": True}),
    ("/api/spend/files", {"files": []}),
    ("/api/spend/rates", {"name": "rates.csv", "content": ""}),
    ("/anomalies/none", None),
]

QUESTIONS: list[tuple[str, object]] = [
    ("/api/funnel", PURCHASE.model_dump(mode="json")),
    ("/api/funnel/people", {"definition": PURCHASE.model_dump(mode="json"), "step": 0}),
    ("/api/funnel/next", {"definition": PURCHASE.model_dump(mode="json"), "step": 0}),
    ("/api/trend", {"events": [{"event": "Page Viewed"}], "since": "2026-01-01"}),
    ("/api/sql", {"sql": "select 1 as a"}),
    ("/api/reconcile", {}),
]


@pytest.fixture(scope="module")
def guarded_url(untouched: Shop) -> Iterator[str]:
    server = Server()
    server.start(create_app(untouched, access=Access("0.0.0.0", token=TOKEN, viewer_token=VIEWERS)))
    yield server.url
    server.stop()


@pytest.fixture
def guarded(guarded_url: str) -> Iterator[httpx.Client]:
    """A client without cookies."""
    with httpx.Client(base_url=guarded_url) as client:
        yield client


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", None), ("192.0.2.7", None), ("::", None), ("127.0.0.1", " ")])
def test_beyond_loopback_a_token_is_demanded(untouched: Shop, host: str, token: str | None) -> None:
    with pytest.raises(SettingsError, match="token"):
        Access(host, token=token)


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/state", "/api/openapi.json", "/api/live", "/nope"])
def test_without_the_token_nothing_is_seen(guarded: httpx.Client, path: str) -> None:
    answer = guarded.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/static/app.css", "/static/favicon.svg", "/login"])
def test_but_the_probe_and_the_way_in(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/static/../api/state", "/static/%2e%2e/%2e%2e/app.py", "//static/", "/login/../api/state"]
)
def test_no_path_around_it(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code in (401, 404)


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "Basic " + TOKEN, "Bearer Zo\u00eb", TOKEN])
def test_a_wrong_token_does_not_open(guarded: httpx.Client, header: str) -> None:
    assert guarded.get("/api/state", headers=[(b"Authorization", header.encode())]).status_code == 401


def test_the_right_one_does(guarded: httpx.Client) -> None:
    assert guarded.get("/api/state", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_browser_is_led_to_the_form_and_gets_a_cookie(guarded: httpx.Client) -> None:
    browser = {"Accept": "text/html"}
    turned_away = guarded.get("/", headers=browser)
    assert (turned_away.status_code, turned_away.headers["location"]) == (303, "/login")
    assert 'name="token"' in guarded.get("/login", headers=browser).text
    wrong = guarded.post("/login", data={"token": "guess"}, headers=browser)
    assert (wrong.status_code, wrong.cookies) == (401, httpx.Cookies())
    right = guarded.post("/login", data={"token": TOKEN}, headers=browser)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert TOKEN not in cookie
    assert "Events stored" in guarded.get("/", headers=browser).text


def test_a_link_with_the_token_lets_in(guarded: httpx.Client) -> None:
    assert guarded.get("/login", params={"token": "guess"}).status_code == 401
    assert guarded.get("/login", params={"token": TOKEN}).status_code == 303
    assert guarded.get("/api/state").status_code == 200


def test_a_forged_cookie_does_not(guarded: httpx.Client) -> None:
    for value in ("", TOKEN, "0" * 64, '"'):
        assert guarded.get("/api/state", headers={"Cookie": f"stitchline_access={value}"}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil", "", "[::1"]
)
def test_without_a_token_other_names_are_turned_away(reading_api: httpx.Client, host: str) -> None:
    answer = reading_api.get("/api/state", headers={"Host": host})
    assert answer.status_code in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LOCALHOST", "[::1]:80", "127.1.2.3"])
def test_loopback_names_are_ours(reading_api: httpx.Client, host: str) -> None:
    assert reading_api.get("/api/state", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_another_sites_page_cannot_ask(reading_api: httpx.Client, headers: dict[str, str]) -> None:
    assert reading_api.post("/api/sql", json={"sql": "select 1"}, headers=headers).status_code == 403


def test_our_own_page_can(reading_api: httpx.Client) -> None:
    headers = {"Origin": str(reading_api.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert reading_api.post("/api/sql", json={"sql": "select 1 as a"}, headers=headers).json() == [{"a": 1}]


@pytest.mark.parametrize("path", ["/", "/api/state", "/static/app.css", "/nope"])
def test_every_answer_carries_the_policy(reading_api: httpx.Client, path: str) -> None:
    headers = reading_api.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_what_never_changes_is_asked_for_by_its_etag(reading_api: httpx.Client) -> None:
    first = reading_api.get("/static/app.css")
    assert first.headers["cache-control"] == "no-cache"
    again = reading_api.get("/static/app.css", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert reading_api.get("/").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("path", "body"), CHANGES)
def test_viewers_change_nothing(guarded: httpx.Client, path: str, body: object) -> None:
    answer = guarded.post(path, json=body, headers={"Authorization": f"Bearer {VIEWERS}"})
    assert answer.status_code == 403, answer.text
    assert "you are a viewer" in answer.json()["error"]
    assert "web.token" in answer.json()["error"]


def test_every_route_that_is_posted_to_is_either_a_question_or_closed_to_viewers(guarded: httpx.Client) -> None:
    document = guarded.get("/api/openapi.json", headers={"Authorization": f"Bearer {VIEWERS}"}).json()
    posted = {path for path, operations in document["paths"].items() if set(operations) - {"get"}}
    known = {path for path, _ in CHANGES + QUESTIONS} | {"/api/anomalies/{incident_id}", "/api/retention"}
    assert posted <= known


@pytest.mark.parametrize(("path", "body"), QUESTIONS)
def test_but_they_may_ask(guarded: httpx.Client, path: str, body: object) -> None:
    answer = guarded.post(path, json=body, headers={"Authorization": f"Bearer {VIEWERS}"})
    assert answer.status_code == 200, answer.text


def test_a_viewer_logs_in_as_one(guarded: httpx.Client) -> None:
    assert guarded.post("/login", data={"token": VIEWERS}).status_code == 303
    assert "You are a viewer." in guarded.get("/", headers={"Accept": "text/html"}).text
    assert guarded.post("/api/anomalies/check").status_code == 403
    guarded.cookies.clear()
    assert guarded.post("/login", data={"token": TOKEN}).status_code == 303
    assert "You are a viewer." not in guarded.get("/", headers={"Accept": "text/html"}).text
    assert guarded.post("/api/anomalies/check").status_code == 200


def test_the_same_token_for_both_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"web\.viewer_token"):
        Access(token=TOKEN, viewer_token=TOKEN)
