"""People whom a reverse proxy logged in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.settings import Settings
from service.web.access import Access
from service.web.app import create_app
from stitchline.errors import SettingsError
from tests.service.web.shop import Server, Shop

PUBLIC = "https://stitchline.example"
OWN_NAME = {"Host": "stitchline.example"}
ANN, BEN = {"X-Forwarded-User": "ann@shop.example"}, {"X-Forwarded-User": "ben@shop.example"}


def access(login_from: tuple[str, ...] = ("127.0.0.1",), **more: Any) -> Access:
    web = {"login_header": "X-Forwarded-User", "login_from": list(login_from), "public_url": PUBLIC} | more
    return Access.by(Settings(web=web).web, key="the owner's key")


@pytest.fixture(scope="module")
def behind_proxy_url(untouched: Shop) -> Iterator[str]:
    server = Server()
    groups: dict[str, Any] = {"groups_header": "X-Forwarded-Groups", "operator_groups": ["data"]}
    server.start(create_app(untouched, access=access(operators=["ann@shop.example"], **groups)))
    yield server.url
    server.stop()


@pytest.fixture
def behind_proxy(behind_proxy_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=behind_proxy_url, headers=OWN_NAME) as client:
        yield client


def test_whom_the_proxy_names_is_in(behind_proxy: httpx.Client) -> None:
    page = behind_proxy.get("/", headers=BEN | {"Accept": "text/html"})
    assert page.status_code == 200
    assert "You are <bdi>ben@shop.example</bdi>, viewer." in page.text
    assert "<bdi>ann@shop.example</bdi>, operator." in behind_proxy.get("/", headers=ANN).text


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-User": ""}, {"Remote-User": "ann"}])
def test_whom_it_does_not_name_is_not(behind_proxy: httpx.Client, headers: dict[str, str]) -> None:
    answer = behind_proxy.get("/api/state", headers=headers)
    assert answer.status_code == 401
    assert "through the proxy" in answer.json()["error"]


def test_a_name_beside_the_proxys_own_is_not_believed(behind_proxy: httpx.Client) -> None:
    both = [("X-Forwarded-User", "ann@shop.example"), ("X-Forwarded-User", "mallory")]
    assert behind_proxy.get("/api/state", headers=both).status_code == 401


@pytest.mark.parametrize(
    ("who", "status"),
    [
        (ANN, 200),
        (BEN, 403),
        (BEN | {"X-Forwarded-Groups": "sales, data"}, 200),
        (BEN | {"X-Forwarded-Groups": "database,sales"}, 403),
        (BEN | {"X-Forwarded-Groups": ""}, 403),
    ],
)
def test_operators_are_named_or_in_a_group(behind_proxy: httpx.Client, who: dict[str, str], status: int) -> None:
    assert behind_proxy.post("/api/anomalies/check", headers=who).status_code == status


@pytest.mark.parametrize("believed", ["192.0.2.1", "10.0.0.0/8", "::1"])
@pytest.mark.parametrize("more", [{}, {"X-Forwarded-For": "192.0.2.1"}])
def test_nobody_else_may_say_who_asks(untouched: Shop, server: Server, believed: str, more: dict[str, str]) -> None:
    server.start(create_app(untouched, access=access((believed,), token="a token")))
    answer = httpx.get(f"{server.url}/api/state", headers=OWN_NAME | ANN | more)
    assert answer.status_code == 403
    assert "web.login_from" in answer.json()["error"]
    with_token = {"Authorization": "Bearer a token"}
    assert httpx.get(f"{server.url}/api/state", headers=OWN_NAME | with_token).status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "stitchline.example.evil.example"])
def test_another_sites_name_for_this_machine_is_turned_away(behind_proxy: httpx.Client, name: str) -> None:
    assert behind_proxy.get("/api/state", headers=ANN | {"Host": name}).status_code == 421


def test_changes_come_from_the_services_own_pages(behind_proxy: httpx.Client) -> None:
    def asked(**headers: str) -> int:
        sent = ANN | {name.replace("_", "-"): value for name, value in headers.items()}
        return behind_proxy.post("/api/anomalies/check", headers=sent).status_code

    assert asked(Origin=PUBLIC) == 200
    assert asked(Origin=PUBLIC, Host="127.0.0.1:8765") == 200  # as a proxy that sends another name on
    assert asked(Origin=PUBLIC, Sec_Fetch_Site="same-origin") == 200
    assert asked(Origin="https://evil.example") == 403
    assert asked(Origin="https://evil.stitchline.example", Sec_Fetch_Site="same-site") == 403
    assert asked(Sec_Fetch_Site="cross-site") == 403
    assert asked(Origin="null") == 403
    assert asked(Origin="https://[") == 403


def test_the_services_own_user_needs_no_proxy(behind_proxy: httpx.Client) -> None:
    key = {"X-Stitchline-Key": "the owner's key"}
    assert behind_proxy.post("/api/anomalies/check", headers=key).status_code == 200
    assert behind_proxy.get("/api/state", headers={"X-Stitchline-Key": ""}).status_code == 401


@pytest.mark.parametrize(
    ("web", "setting"),
    [
        ({"login_header": "X-Forwarded-User"}, "web.login_from"),
        ({"login_from": ["10.0.0.5"]}, "web.login_header"),
        ({"operators": ["ann"]}, "web.login_header"),
        ({"host": "0.0.0.0"}, "web.token"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(web: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Access.by(Settings(web=web).web)
    assert setting in str(refusal.value)


@pytest.mark.parametrize("addresses", [["proxy"], ["10.0.0.1/8"], ["10.0.0"]])
def test_the_proxys_addresses_are_addresses(addresses: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"10\.0\.0\.0/24"):
        Settings(web={"login_header": "X-Forwarded-User", "login_from": addresses})


def test_a_proxy_is_login_enough_beyond_loopback() -> None:
    assert access(host="0.0.0.0").demands_login
