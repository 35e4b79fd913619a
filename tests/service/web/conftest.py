"""A filled shop, its server, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from service.web.app import create_app
from tests.service.web.shop import Server, Shop

expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def empty_shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "warehouse.duckdb")
    yield shop
    shop.warehouse.close()


@pytest.fixture
def shop(empty_shop: Shop) -> Shop:
    empty_shop.fill()
    return empty_shop


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def api(shop: Shop, server: Server) -> Iterator[httpx.Client]:
    """A client of the filled shop's service, for a test that writes to the shop."""
    server.start(create_app(shop, tick=timedelta(milliseconds=100), question_timeout=timedelta(seconds=2)))
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A filled shop that the tests of a module share, because they only read."""
    shop = Shop(tmp_path_factory.mktemp("untouched") / "warehouse.duckdb")
    shop.fill()
    yield shop
    shop.warehouse.close()


@pytest.fixture(scope="module")
def reading_api(untouched: Shop) -> Iterator[httpx.Client]:
    """A client of that shop's service."""
    server = Server()
    server.start(create_app(untouched, question_timeout=timedelta(seconds=2)))
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client
    server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = CHROMIUM if Path(CHROMIUM).exists() else None  # else the one that Playwright installed
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


TICK = timedelta(milliseconds=200)
PHONE, DESK = (360, 780), (1280, 900)


class Opener:
    """Opens pages of one service, and keeps what they write to their consoles."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser, self._server = browser, server
        self.complaints: list[str] = []
        self.pages: list[Page] = []

    def __call__(
        self, shop: Shop, *, size: tuple[int, int] = DESK, dark: bool = False, scripts: bool = True, visit: bool = True
    ) -> Page:
        if self._server.port == 0:
            self._server.start(create_app(shop, tick=TICK))
        page = self._browser.new_page(
            base_url=self._server.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.pages.append(page)
        if visit:
            page.goto("/")
        return page


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Opener]:
    """At the end no page may have written to its console."""
    opener = Opener(browser, server)
    yield opener
    for page in opener.pages:
        page.close()
    assert opener.complaints == []
