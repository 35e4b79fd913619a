"""The page of a person in a real browser: whose each device was, in a drawing and in words."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.service.web.conftest import PHONE, Opener
from tests.service.web.shop import Shop, at

HOSTILE = '<img src=x onerror="document.title=1">/../"\u202e'


@pytest.fixture
def kiosk(shop: Shop) -> Shop:
    """d9 is of ann, who signs out, then of bob; ann has a phone, too."""
    shop.event("k1", "Page Viewed", "d9", at(0), type="page")
    shop.event("k2", "Logged In", "d9", at(10), user_id="ann", person_id="ann")
    shop.event("k3", "Signed Out", "d9", at(20), person_id="ann")
    shop.event("k4", "Logged In", "d9", at(40), user_id="bob", person_id="bob")
    shop.event("k5", "Page Viewed", "d9", at(50), person_id="bob")
    shop.event("p1", "Logged In", "phone", at(60), user_id="ann", person_id="ann")
    shop.event("h1", "Logged In", "d9", at(70), user_id=HOSTILE, person_id=HOSTILE)
    for device, user, message_id, minute in (
        ("d9", "ann", "k2", 10), ("d9", "bob", "k4", 40), ("phone", "ann", "p1", 60), ("d9", HOSTILE, "h1", 70)
    ):  # fmt: skip
        shop.claim(device, user, message_id, at(minute))
    shop.override("d9", "ann", at(10))
    shop.session(
        "5e551091" * 4, "d9", at(0), at(20), user_id="ann", person_id="ann", utm_source="news", utm_campaign="spring",
        first_message_id="k1", last_message_id="k3", event_count=3,
    )  # fmt: skip
    shop.session(
        "5e551092" * 4,
        "d9",
        at(40),
        at(50),
        user_id="bob",
        person_id="bob",
        first_message_id="k4",
        last_message_id="k5",
    )
    shop.session(
        "5e551093" * 4, "phone", at(60), at(60), user_id="ann", person_id="ann", referrer="https://search.example/",
        first_message_id="p1", last_message_id="p1", event_count=1,
    )  # fmt: skip
    return shop


def test_from_the_overview_to_a_person(kiosk: Shop, open_page: Opener) -> None:
    page = open_page(kiosk)
    page.locator("#sessions a.person", has_text="ann").first.click()
    expect(page).to_have_url(f"{page.url.partition('/identity')[0]}/identity/ann")
    expect(page.locator("h1")).to_have_text("ann")
    expect(page.locator("main > .sub")).to_contain_text("4 events, 2 sessions, 2 devices")


def test_whose_each_device_was(kiosk: Shop, open_page: Opener) -> None:
    """Without scripts."""
    page = open_page(kiosk, scripts=False, visit=False)
    page.goto("/identity/ann")
    lanes = page.locator(".lane")
    expect(lanes).to_have_count(2)
    shared = lanes.first
    expect(shared.locator("h3")).to_contain_text("d9")
    stretches = [" ".join(text.split()) for text in shared.locator(".story").first.locator("li").all_inner_texts()]
    assert stretches == [
        "from the beginning until 2026-01-01 12:10:00 UTC: nobody known",
        "from 2026-01-01 12:10:00 UTC until 2026-01-31 12:20:00 UTC: ann",
        "from 2026-01-31 12:20:00 UTC until 2026-01-31 13:10:00 UTC: bob",
        f"from 2026-01-31 13:10:00 UTC until now: {HOSTILE}",
    ]
    said = [" ".join(text.split()) for text in shared.locator(".story").nth(1).locator("li").all_inner_texts()]
    assert said == [
        "2026-01-31 12:10:00 UTC: ann signed in (message k2)",
        "2026-01-31 12:20:00 UTC: Somebody signed out (message k3)",
        "2026-01-31 12:40:00 UTC: bob signed in (message k4)",
        f"2026-01-31 13:10:00 UTC: {HOSTILE} signed in (message h1)",
    ]
    kinds = [(rect.get_attribute("class") or "").split()[1] for rect in shared.locator("rect.stretch").all()]
    assert kinds == ["nobody", "own", "other", "other"]
    expect(shared.locator("rect.block")).to_have_count(1)
    expect(shared.locator("line.mark.out")).to_have_count(1)
    sources = page.locator("table.sessions tbody td.source").all_inner_texts()
    assert [text.strip() for text in sources] == ["https://search.example/", "news · spring"]


def test_whoever_is_looked_for(kiosk: Shop, open_page: Opener) -> None:
    """A device leads to all who had it; an id with anything in it is a text; nobody is told as nobody."""
    page = open_page(kiosk)
    page.get_by_label("Who is").fill("d9")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("h1")).to_have_text([HOSTILE, "bob", "ann"])
    page.get_by_label("Who is").fill(HOSTILE)
    page.get_by_role("button", name="Show").click()
    expect(page.locator("h1")).to_have_text(HOSTILE)
    expect(page).to_have_title(f"{HOSTILE} – Stitchline")
    page.get_by_label("Who is").fill("no such id")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".notice")).to_contain_text("nobody has the id 'no such id'")
    assert [text for text in open_page.complaints if "404" not in text] == []
    open_page.complaints.clear()  # that it was not found


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_telephone(kiosk: Shop, open_page: Opener, dark: bool) -> None:
    page = open_page(kiosk, size=PHONE, dark=dark, visit=False)
    page.goto("/identity/ann")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE[0]


def test_a_user_of_whom_only_servers_tell(shop: Shop, open_page: Opener) -> None:
    shop.event("s1", "Paid", "ignored", at(0), anonymous_id=None, user_id="srv", person_id="srv", is_background=True)
    page = open_page(shop, visit=False)
    page.goto("/identity/srv")
    expect(page.locator("h1")).to_have_text("srv")
    expect(page.locator("main")).to_contain_text("No device: only events that carry the user id alone")
