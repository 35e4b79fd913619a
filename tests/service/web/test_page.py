"""The page in a real browser: what it shows, how it keeps up, and that hostile events stay text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, Request, expect

from funnels import FunnelDefinition
from service.web.access import Access
from service.web.app import create_app
from service.web.view import FlowState, PartitionState
from tests.service.web.conftest import DESK, PHONE, TICK, Opener
from tests.service.web.shop import PURCHASE, Server, Shop, at


def step(page: Page, number: int) -> str:
    """The text of a funnel's step, its spaces made plain; how it reads depends on the style sheet."""
    page.wait_for_load_state()
    return " ".join(page.locator(".step").nth(number).inner_text().replace("\u202f", " ").split())


def test_the_first_paint_has_the_numbers(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop, scripts=False)
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,206")
    expect(page.locator("[data-text='totals.sessions']")).to_have_text("3")
    expect(page.locator("[data-text='totals.open_sessions']")).to_have_text("1")
    expect(page.locator("[data-text='flow.status']")).to_have_text("Running")
    expect(page.locator("[data-text='flow.detail']")).to_have_text("all partitions assigned")
    expect(page.locator("[data-text='flow.rate']")).to_have_text("1,234")
    expect(page.locator("[data-text='flow.lag_records']")).to_have_text("42")
    expect(page.locator("[data-text='flow.lag_time']")).to_have_text("3.5\u202fs")
    expect(page.locator("[data-text='totals.dead']")).to_have_text("1")
    expect(page.locator("[data-text='totals.duplicates']")).to_have_text("2")
    assert step(page, 0) == "1 Page Viewed 3 began here Went on 2 Still open 0 Dropped 1"
    assert step(page, 1) == (
        "2 Viewed Product 2 66.7 % of step 1 66.7 % of the start median 1 min 30 s 90 % within 1 min 54 s "
        "Went on 1 Still open 0 Dropped 1"
    )
    assert step(page, 2) == "3 Signed Up 1 50.0 % of step 2 33.3 % of the start median 4 min 90 % within 4 min"
    expect(page.locator("[data-time='funnel.as_of']")).to_have_attribute("title", "2026-01-31 13:30:00 UTC")


def test_the_newest_sessions(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    rows = page.locator("#sessions tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0).locator("[data-cell=person]")).to_have_text("Anonymous")
    expect(rows.nth(0).locator("[data-cell=device]")).to_have_text("d3")
    expect(rows.nth(0).locator("[data-cell=exit]")).to_have_text("/hat")
    expect(rows.nth(0).locator(".badge.open")).to_be_visible()
    expect(rows.nth(2).locator("[data-cell=person]")).to_have_text("u1")
    expect(rows.nth(2).locator("[data-cell=source]")).to_have_text("google · spring")
    expect(rows.nth(2).locator("[data-cell=events]")).to_have_text("3")
    expect(rows.nth(2).locator("[data-cell=lasted]")).to_have_text("5\u202fmin")
    expect(rows.nth(2).locator(".badge.open")).to_be_hidden()
    expect(rows.nth(2).locator(".id a")).to_have_attribute("href", "/sessions/" + "5e551011" * 4)
    expect(rows.nth(2).locator("a.person")).to_have_attribute("href", "/identity/u1")


def test_what_is_written_shows_by_itself(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,206")
    now = datetime.now(UTC)
    shop.event("d9-1", "Page Viewed", "d9", at(20))
    shop.event("d9-2", "Viewed Product", "d9", at(21))
    shop.session(
        "9" * 32, "d9", now - timedelta(minutes=90), now, user_id="u9", person_id="u9", topic="events", partition=0
    )
    shop.progress(2, consumed=1_000_000, stored=1_000_000)
    shop.state = FlowState("catching up", "back from a pause", 98_765, 1, timedelta(minutes=2))
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,001,206")
    expect(page.locator("[data-text='funnel.0.count']")).to_have_text("4")
    expect(page.locator("[data-text='funnel.1.conversion']")).to_have_text("75.0\u202f%")
    expect(page.locator("[data-step='1'] rect.went_on")).to_have_attribute("height", "25")
    expect(page.locator("[data-text='people.people']")).to_have_text("1")
    expect(page.locator("#sessions tbody tr").nth(0).locator("[data-cell=person]")).to_have_text("u9")
    expect(page.locator("#sessions tbody tr").nth(0).locator("time")).to_have_text("1\u202fh ago")
    expect(page.locator("#flow")).to_have_attribute("data-status", "catching up")
    expect(page.locator("[data-text='flow.rate']")).to_have_text("98,765")
    expect(page.locator("[data-text='flow.lag_unit']")).to_have_text("record")
    expect(page.locator("[data-rows=partitions] tr")).to_have_count(0)


def test_whether_sessions_are_what_the_batch_definition_says(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    line, warning = page.locator(".compared"), page.locator(".notice.drift")
    expect(line).to_have_text("Sessions were not compared with the batch definition yet.", use_inner_text=True)
    expect(warning).to_be_hidden()
    now = datetime.now(UTC)
    compared = "insert into stream.reconciliations values (?, 2.5, 3605, ?, ?)"
    shop.write(compared, now - timedelta(hours=3, minutes=1), 0, False)
    expect(line).to_have_text("Sessions equal the batch definition, checked 3\u202fh ago.")
    shop.write(compared, now - timedelta(hours=2), 1200, False)
    expect(warning).to_be_visible()
    expect(warning).to_contain_text("1,200 of 3,605 sessions differ from what the batch definition makes of")
    expect(warning).to_contain_text("found 2\u202fh ago")
    expect(line).to_be_hidden()
    page.reload()
    expect(warning).to_be_visible()
    expect(line).to_be_hidden()
    shop.write(compared, now - timedelta(minutes=5), 1200, True)
    expect(line).to_contain_text(
        "1,200 of 3,605 sessions were repaired: they differed from the batch definition, checked"
    )
    expect(warning).to_be_hidden()


def test_the_chart_is_drawn_and_moves(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    canvas = page.locator("#chart canvas")
    expect(canvas).to_be_visible()
    ink = (
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; "
        "for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"
    )
    assert canvas.evaluate(ink) > 100
    before = page.screenshot()
    page.wait_for_timeout(1500)
    assert page.screenshot() != before


def test_partitions_unfold(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    table = page.locator(".partitions")
    expect(table).to_be_hidden()
    page.get_by_text("Each partition").click()
    expect(table).to_be_visible()
    cells = table.locator("tbody tr").nth(0).locator("td")
    assert [cells.nth(i).inner_text() for i in range(4)] == ["events0", "9", "51", "42"]
    expect(table.locator("tbody tr").nth(1).locator("td").nth(4)).to_have_text("–")


def test_a_funnel_is_chosen(shop: Shop, open_page: Opener) -> None:
    other = FunnelDefinition.model_validate(
        {"name": "by device & co", "steps": [{"event": "Viewed Product", "where": {"path": "/hat"}}], "by": "device"}
    )
    shop.definitions = (PURCHASE, other)
    page = open_page(shop)
    page.get_by_label("Show", exact=True).select_option("by device & co")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".funnel .name")).to_have_text("by device & co")
    expect(page.locator(".step")).to_have_count(1)
    assert step(page, 0) == "1 Viewed Product, path = /hat 1 began here"
    shop.event("d9-2", "Viewed Product", "d9", at(21), path="/hat")
    expect(page.locator("[data-text='funnel.0.count']")).to_have_text("2")


def test_several_funnels_are_watched_on_cards(shop: Shop, open_page: Opener) -> None:
    def named(name: str, *events: str) -> FunnelDefinition:
        steps = [{"event": event} for event in events]
        return FunnelDefinition.model_validate({"name": name, "steps": steps, "window": "1 hour"})

    shop.definitions = (PURCHASE, named("looks & more", "Page Viewed", "Viewed Product"), named("joins", "Signed Up"))
    page = open_page(shop, size=PHONE)
    cards = page.locator(".watched > li")
    expect(cards).to_have_count(2)
    looks = cards.nth(0)
    expect(looks.locator("h3")).to_have_text("looks & more")
    expect(looks.locator("li b")).to_have_text(["3", "2"])
    expect(looks.locator(".overall strong")).to_have_text("66.7\u202f%")
    expect(looks.locator("rect").nth(1)).to_have_attribute("height", re.compile(r"66\.67?"))
    shop.event("d9-1", "Page Viewed", "d9", at(20))
    shop.event("d9-2", "Signed Up", "d9", at(21))
    expect(looks.locator("li b")).to_have_text(["4", "2"])
    expect(looks.locator(".overall strong")).to_have_text("50.0\u202f%")
    expect(cards.nth(1).locator("li b")).to_have_text("2")
    expect(page.locator("[data-text='funnel.0.count']")).to_have_text("4")
    page.get_by_text("Choose").click()
    page.get_by_role("checkbox", name="joins").uncheck()
    page.get_by_role("checkbox", name="purchase").check()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator(".watched h3")).to_have_text(["purchase", "looks & more"])
    page.get_by_role("link", name="looks & more").click()
    expect(page.locator(".funnel .name")).to_have_text("looks & more")
    expect(page.locator(".watched h3")).to_have_text(["purchase", "looks & more"])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_text("Choose").click()
    for name in ("purchase", "looks & more"):
        page.get_by_role("checkbox", name=name).uncheck()
    page.get_by_role("button", name="Show these").click()
    expect(page.get_by_role("region", name="Watched funnels")).to_contain_text("None is chosen")
    page.goto("/?watch=gone&watch=joins")
    expect(page.locator(".watched h3")).to_have_text(["joins"])


def test_an_empty_service_says_what_to_do(empty_shop: Shop, open_page: Opener) -> None:
    empty_shop.state = FlowState("waiting", "no records yet", partitions=(PartitionState("clicks", 0, 0, 0, None, 0),))
    page = open_page(empty_shop)
    notice = page.locator(".notice", has_text="No events yet")
    expect(notice).to_be_visible()
    expect(notice).to_contain_text("topic clicks and it shows here")
    expect(page.get_by_text("Nobody has taken the first step yet")).to_be_visible()
    expect(page.get_by_text("No sessions yet")).to_be_visible()
    empty_shop.fill()
    expect(notice).to_be_hidden()
    expect(page.get_by_text("Nobody has taken the first step yet")).to_be_hidden()
    expect(page.locator("#sessions tbody tr")).to_have_count(3)


def test_without_definitions_the_page_says_where_they_go(shop: Shop, open_page: Opener) -> None:
    shop.definitions = ()
    page = open_page(shop)
    expect(page.get_by_text("No funnel is defined yet")).to_be_visible()
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,206")


def test_a_lost_connection_is_told_and_mended(shop: Shop, open_page: Opener, server: Server) -> None:
    page = open_page(shop)
    expect(page.locator("[data-text='flow.peak']")).to_have_text("1,234")
    expect(page.locator("#connection")).to_be_hidden()
    server.stop()
    expect(page.locator("#connection")).to_contain_text("Connection lost, retrying. The numbers are from")
    shop.progress(2, consumed=10, stored=10)
    server.start(create_app(shop, tick=TICK))
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,216", timeout=15_000)
    expect(page.locator("#connection")).to_be_hidden()
    assert all("ERR_" in complaint for complaint in open_page.complaints), "the browser alone speaks of the network"
    open_page.complaints.clear()


def test_pausing_holds_every_number(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    pause = page.get_by_role("button", name="Pause")
    expect(page.locator("[data-text='flow.peak']")).to_have_text("1,234")
    pause.click()
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#pause")).to_contain_text("Paused at")
    shop.progress(2, consumed=10, stored=10)
    page.wait_for_timeout(1500)
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,206")
    page.locator("#pause").click()
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,216")


def test_the_list_of_sessions_keeps_still_under_the_pointer(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    page.locator("#sessions").hover()
    expect(page.locator("#held")).to_be_visible()
    shop.session("9" * 32, "d9", at(30), at(31), topic="events", partition=0)
    page.wait_for_timeout(1500)
    expect(page.locator("#sessions tbody tr")).to_have_count(3)
    page.mouse.move(1, 1)
    expect(page.locator("#sessions tbody tr")).to_have_count(4)


def test_the_keyboard_reaches_everything(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    reached = []
    for _ in range(27):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(e => (e.textContent.trim() || e.id).slice(0, 20))(document.activeElement)"))
    ways = [
        "Overview",
        "Funnels",
        "Sessions",
        "Metrics",
        "Marts",
        "Trust",
        "Experiments",
        "Spend",
        "Anomalies",
        "Health",
    ]
    assert reached[:14] == ["Skip to the numbers", "Stitchline", *ways, "id", "Show"]
    assert reached[14:18] == ["Pause", "Which they are", "Take it apart", "Dead letters"]
    assert "Anonymous" in reached
    assert "5e551033" in reached


def test_screen_readers_find_their_way(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert [text.split()[0] for text in headings] == ["Funnel", "Events", "Behind", "Open", "Marts", "Newest"]
    for name in ("Funnel purchase", "Events per second", "Behind", "Open anomalies", "Marts", "Newest sessions"):
        expect(page.get_by_role("region", name=name)).to_have_count(1)
    expect(page.get_by_role("img", name="Line of events per second")).to_have_count(1)
    expect(page.get_by_role("columnheader", name="Person, device")).to_have_count(1)
    assert page.locator("html").get_attribute("lang") == "en"
    assert (
        page.evaluate(
            "[...document.querySelectorAll('[id]')].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i)"
        )
        == []
    )


HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">\u202e'\"&{{7*7}}"
    + "W" * 430
)


@pytest.mark.parametrize(("size", "dark"), [(PHONE, False), (DESK, True)])
def test_hostile_strings_stay_text(shop: Shop, open_page: Opener, size: tuple[int, int], dark: bool) -> None:
    shop.definitions = (
        FunnelDefinition.model_validate({"name": HOSTILE, "steps": [{"event": HOSTILE}, {"event": HOSTILE}]}),
        PURCHASE,
    )
    shop.event("h", HOSTILE, HOSTILE, at(30))
    hostile = dict.fromkeys(("entry_path", "exit_path", "referrer", "utm_source", "utm_campaign"), HOSTILE)
    shop.session("a" * 32, HOSTILE, at(30), at(31), user_id=HOSTILE, person_id=HOSTILE, **hostile)
    shop.state = FlowState(
        "running",
        HOSTILE,
        1e9,
        10**12,
        timedelta(days=4000),
        (PartitionState(HOSTILE, 0, 10**15, 10**15, at(0), 10**15),),
    )
    page = open_page(shop, size=size, dark=dark)
    page.get_by_text("Each partition").click()
    shop.session(
        "b" * 32, HOSTILE + "b", at(32), at(33), user_id=HOSTILE, person_id=HOSTILE, **hostile
    )  # through the script, too
    person = page.locator("#sessions tbody tr").nth(1).locator("[data-cell=person]")
    expect(person).to_contain_text("<script>document.title")
    expect(page.locator(".funnel .name")).to_contain_text("<script>")
    expect(page.locator(".step bdi").nth(0)).to_contain_text("<img src=x")
    expect(page.locator("[data-text='funnel.0.count']")).to_have_text("1")
    assert page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    assert "49" not in page.locator(".funnel .name").inner_text()
    assert page.title().endswith("– Stitchline")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_no_width_scrolls_sideways(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    page.get_by_text("Each partition").click()
    for width in (320, 375, 600, 735, 768, 928, 1024, 1120, 1440, 2200):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_jumps_when_numbers_change(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop)
    expect(page.locator("[data-text='flow.peak']")).to_have_text("1,234")
    boxes = "[...document.querySelectorAll('section, .step, .figures > div')]"
    place = boxes + ".map(e => JSON.stringify(e.getBoundingClientRect()))"
    before = page.evaluate(place)
    shop.event("d9-1", "Page Viewed", "d9", at(20))
    shop.progress(2, consumed=1_000_000, stored=1_000_000, duplicates=123_456, dead=9_999_999)
    shop.state = FlowState("catching up", "x" * 300, 1_234_567, 123_456_789, timedelta(days=3), shop.state.partitions)
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,001,206")
    expect(page.locator("[data-text='funnel.0.count']")).to_have_text("4")
    assert page.evaluate(place) == before


def test_the_page_is_light(shop: Shop, open_page: Opener) -> None:
    page = open_page(shop, visit=False, new=True)
    sizes: dict[str, int] = {}

    def count(request: Request) -> None:
        sizes[request.url] = request.sizes()["responseBodySize"]

    page.on("requestfinished", count)
    page.goto("/", wait_until="load")
    expect(page.locator("#chart canvas")).to_be_visible()
    assert len(sizes) >= 6
    assert sum(sizes.values()) < 200_000, sizes


def test_logging_in(shop: Shop, open_page: Opener, server: Server) -> None:
    server.start(create_app(shop, tick=TICK, access=Access("0.0.0.0", token="correct horse")))
    page = open_page(shop)
    page.get_by_label("Access token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("That token is not the one")
    page.get_by_label("Access token").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("[data-text='flow.peak']")).to_have_text("1,234")
    shop.progress(2, consumed=10, stored=10)
    expect(page.locator("[data-text='totals.stored']")).to_have_text("1,216")
    assert all("401" in complaint for complaint in open_page.complaints)  # the browser tells of the refused form
    open_page.complaints.clear()
