"""A filled shop, its server, and a browser."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect, sync_playwright

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


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """Where the servers of tests are, one after the other: to a tab that is used again they are one site."""
    with socket.socket() as held:  # between two of them nobody else is given it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def server(port: int) -> Iterator[Server]:
    server = Server(port)
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


class Tab:
    """A page that is used by one test after the other: a new one takes Chromium as long as all that a test does there.

    Each finds it empty, without cookies, light, and as large as on a desk.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        self.page = browser.new_page(base_url=url, viewport={"width": DESK[0], "height": DESK[1]})

    @contextmanager
    def used(self, complaints: list[str]) -> Iterator[Page]:
        """What the page writes to its console goes to `complaints`."""

        def said(message: ConsoleMessage) -> None:
            complaints.append(message.text)

        def failed(error: Error) -> None:
            complaints.append(str(error))

        self.page.on("console", said)
        self.page.on("pageerror", failed)
        try:
            yield self.page
        finally:
            self.page.remove_listener("console", said)
            self.page.remove_listener("pageerror", failed)
            self.page.goto("about:blank")
            self.page.mouse.move(0, 0)
            self.page.emulate_media(color_scheme="light")
            self.page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
            self.page.context.clear_cookies()
            self.page.context.clear_permissions()


class Opener:
    """Opens pages of one service, and keeps what they write to their consoles."""

    def __init__(self, browser: Browser, server: Server, tab: Tab) -> None:
        self._browser, self._server, self._tab = browser, server, tab
        self.complaints: list[str] = []
        self.pages = ExitStack()

    def __call__(
        self,
        shop: Shop,
        *,
        size: tuple[int, int] = DESK,
        dark: bool = False,
        scripts: bool = True,
        visit: bool = True,
        new: bool = False,
    ) -> Page:
        """A page of `shop`, which is visited; a `new` one has nothing in its cache. One may be open that is not new."""
        if not self._server.is_running:
            self._server.start(create_app(shop, tick=TICK))
        if new or not scripts:
            page = self._new(size, dark=dark, scripts=scripts)
        else:
            page = self.pages.enter_context(self._tab.used(self.complaints))
            page.emulate_media(color_scheme="dark" if dark else "light")
            page.set_viewport_size({"width": size[0], "height": size[1]})
        if visit:
            page.goto("/")
        return page

    def _new(self, size: tuple[int, int], *, dark: bool, scripts: bool) -> Page:
        page = self._browser.new_page(
            base_url=self._server.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.pages.callback(page.close)
        return page


@pytest.fixture(scope="session")
def tab(browser: Browser, port: int) -> Iterator[Tab]:
    tab = Tab(browser, f"http://127.0.0.1:{port}")
    yield tab
    tab.page.close()


@pytest.fixture
def open_page(browser: Browser, server: Server, tab: Tab) -> Iterator[Opener]:
    """At the end no page may have written to its console."""
    opener = Opener(browser, server, tab)
    with opener.pages:
        yield opener
    assert opener.complaints == []
