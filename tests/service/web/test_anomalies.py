"""Anomalies as the service has them: found while the day runs, on the page, by buttons, of Stitchline itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from batch_marts.anomalies.message import ACTIONS
from service.anomalies import Anomalies
from service.settings import Settings
from service.unserved import Unserved
from service.watch import Observer
from service.web.access import Access
from service.web.app import create_app
from service.web.view import FlowState
from service.web.visitors import ProxyLogin, networks
from sinks.warehouse import Warehouse
from tests.batch_marts.anomalies.streams import NOON, Stream, stream_of
from tests.service.web.shop import Server
from tests.shared import made_once

SECRET = "s" * 32


def today(stream: Stream) -> None:
    """40 % of the views of the main page stop at noon, for phones lost their tag."""
    stream.views(NOON - timedelta(hours=2.5), NOON, 2400)
    stream.views(NOON, NOON + timedelta(hours=1), 2400, lost={"/": 0.4})


@contextmanager
def copied(made: Path, folder: Path) -> Iterator[Stream]:
    shutil.copyfile(made / "w.duckdb", folder / "w.duckdb")
    with Warehouse.open(folder / "w.duckdb", threads=1) as warehouse:
        yield Stream(warehouse)


@pytest.fixture(scope="module")
def nine_weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nine weeks of views, and today's."""

    def make(folder: Path) -> None:
        with stream_of(folder, today=today):
            pass

    return made_once(tmp_path_factory, "nine_weeks", make)[0]


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory, nine_weeks: Path) -> Path:
    """A folder with the same, in which the fall was found."""

    def make(folder: Path) -> None:
        with copied(nine_weeks, folder) as stream:
            found_at(Anomalies(stream.warehouse, settings_of(stream)), stream)

    return made_once(tmp_path_factory, "nine_weeks_looked_at", make)[0]


@pytest.fixture
def stream(nine_weeks: Path, tmp_path: Path) -> Iterator[Stream]:
    with copied(nine_weeks, tmp_path) as stream:
        yield stream


@pytest.fixture
def found(looked_at: Path, tmp_path: Path) -> Iterator[Stream]:
    """A stream in which the fall was found."""
    with copied(looked_at, tmp_path) as stream:
        yield stream


def settings_of(stream: Stream) -> Settings:
    return Settings(warehouse={"path": stream.warehouse.path}, slack={"signing_secret": SECRET})


def found_at(anomalies: Anomalies, stream: Stream) -> datetime:
    """Looks each minute, as the service does, until something is found."""
    for minute in range(60):
        now = NOON + timedelta(minutes=minute)
        stream.known_until(now - timedelta(seconds=70))
        if any(one.kind == "anomaly" for one in anomalies.check_rolling(now)):
            return now
    raise AssertionError("it was not found within an hour")


def test_a_fall_is_found_within_a_quarter_of_an_hour_with_where_it_is(stream: Stream) -> None:
    anomalies = Anomalies(stream.warehouse, settings_of(stream))
    assert found_at(anomalies, stream) <= NOON + timedelta(minutes=15)
    found = anomalies.listed()
    of_the_page = [one for one in found if one["metrics"] == [{"metric": "page_views", "segment": "path=/"}]]
    assert of_the_page, [one["title"] for one in found]
    (told,) = [anomalies.one(one["incident_id"]) for one in of_the_page]
    parts = [part["segment"] for verdict in told["verdicts"] for part in verdict["parts"]]
    assert "device=mobile" in parts or "device_type=mobile" in parts, parts
    again = {one["incident_id"] for one in found}
    stream.known_until(NOON + timedelta(minutes=20))
    anomalies.check_rolling(NOON + timedelta(minutes=21))
    assert again <= {one["incident_id"] for one in anomalies.listed()}
    picture = anomalies.picture(of_the_page[0]["incident_id"])
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def test_a_stream_that_is_as_ever_is_no_matter(stream: Stream) -> None:
    anomalies = Anomalies(stream.warehouse, settings_of(stream))
    now = NOON - timedelta(minutes=5)
    stream.known_until(now)
    assert [one.kind for one in anomalies.check_rolling(now)] == []


def test_the_page_shows_an_incident_and_takes_acts(found: Stream, server: Server) -> None:
    server.start(create_app(Unserved(found.warehouse, settings_of(found))))
    with httpx.Client(base_url=server.url, follow_redirects=True) as page:
        incident = page.get("/api/anomalies").json()[0]
        place = f"/anomalies/{incident['incident_id']}"
        assert place in page.get("/anomalies").text
        shown = page.get(place).text
        assert incident["because"] in shown
        assert 'value="acknowledge"' in shown
        assert page.get(f"/api{place}/chart.png").content.startswith(b"\x89PNG")
        after = page.post(place, data={"deed": "acknowledge", "actor": "Ada <b>"})
        assert (after.status_code, after.url.path) == (200, place)
        assert "Acknowledged by <bdi>Ada &lt;b&gt;</bdi>" in after.text
        assert page.post(place, data={"deed": "delete", "actor": "Ada"}).status_code == 422
        assert page.get("/anomalies/none").status_code == 422
        assert 'id="lag"' in page.get("/runbook").text


def test_viewers_see_no_buttons_and_acts_are_signed_by_whom_the_proxy_names(found: Stream, server: Server) -> None:
    proxy = ProxyLogin("X-Forwarded-User", networks(["127.0.0.1"]), operators=frozenset({"ann"}))
    server.start(create_app(Unserved(found.warehouse, settings_of(found)), access=Access(proxy=proxy)))
    with httpx.Client(base_url=server.url, follow_redirects=True, headers={"X-Forwarded-User": "ben"}) as page:
        place = f"/anomalies/{page.get('/api/anomalies').json()[0]['incident_id']}"
        shown = page.get(place).text
        assert 'value="acknowledge"' not in shown
        assert "is for operators" in shown
        deed = {"deed": "acknowledge", "actor": "somebody else"}
        assert page.post(place, data=deed).status_code == 403
        page.headers["X-Forwarded-User"] = "ann"
        shown = page.get(place).text
        assert 'value="acknowledge"' in shown
        assert "Your name" not in shown
        assert "Acknowledged by <bdi>ann</bdi>" in page.post(place, data=deed).text


def test_buttons_count_only_if_slack_signed_them(found: Stream, server: Server) -> None:
    settings = settings_of(found)
    anomalies = Anomalies(found.warehouse, settings)
    incident_id = anomalies.listed()[0]["incident_id"]
    press = {
        "type": "block_actions",
        "user": {"id": "U1", "username": "ada"},
        "actions": [{"type": "button", "action_id": ACTIONS["acknowledge"], "value": incident_id, "action_ts": "1.5"}],
        "trigger_id": "1",
    }
    body = urlencode({"payload": json.dumps(press)}).encode()

    def headers(secret: str, at: float) -> dict[str, str]:
        signed = hmac.new(secret.encode(), b"v0:%d:" % at + body, hashlib.sha256).hexdigest()
        return {
            "X-Slack-Signature": f"v0={signed}",
            "X-Slack-Request-Timestamp": str(int(at)),
            "Content-Type": "application/x-www-form-urlencoded",
        }

    class View(Unserved):
        def anomalies(self) -> Anomalies:
            return anomalies

    server.start(create_app(View(found.warehouse, settings), access=Access(token="a page's token")))
    with httpx.Client(base_url=server.url) as slack:

        def post(secret: str, at: float) -> int:
            return slack.post("/slack/actions", content=body, headers=headers(secret, at)).status_code

        now = time.time()
        assert post("forged" * 6, now) == 401
        assert post(SECRET, now - 600) == 401
        assert anomalies.one(incident_id)["status"] == "open"
        assert post(SECRET, now) == 200
        assert post(SECRET, now) == 401, "the same request again"
    assert anomalies.one(incident_id)["status"] == "acknowledged"
    assert anomalies.one(incident_id)["acted_by"] == "ada"


def test_stitchlines_own_troubles_go_the_same_road(stream: Stream) -> None:
    anomalies = Anomalies(stream.warehouse, settings_of(stream))
    state = FlowState("running", lag=timedelta(hours=2))
    observer = Observer(stream.warehouse, lambda: state, refreshes=True)
    changed = anomalies.check_health(observer())
    assert [(one.kind, one.team, one.status) for one in changed] == [("health", "platform", "open")]
    (told,) = anomalies.listed()
    assert told["metrics"] == [{"metric": "stitchline_lag", "segment": "all"}]
    state = FlowState("running")
    observed = observer()
    later = datetime.now(UTC) + timedelta(minutes=20)
    for at in (observed.at, later):
        anomalies.check_health(
            type(observed)(**{name: getattr(observed, name) for name in observed.__slots__} | {"at": at})
        )
    assert anomalies.listed() == []
