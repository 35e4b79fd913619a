"""Events as they lie on the topic: records, time stamps, ids, and the JSON fragments that never change.

Times in here are integer milliseconds since the epoch, UTC (`_ms` in the name): the generator counts in them, and
they become aware datetimes where a record leaves the package. JSON is put together from ready fragments, because
encoding a dict for every event would cost more than all the rest.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import NamedTuple

from demo import catalog
from demo.catalog import Agent, Campaign, Page, Product

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: multiplying by an odd number never maps two to one

_SECONDS = [f"{second:02}." for second in range(60)]
_MILLIS = [f"{milli:03}Z" for milli in range(1000)]
_minutes: dict[int, str] = {}  # a hundred bytes for every minute that was named: 150 kB a day


class Record(NamedTuple):
    """One Kafka message: `kafka_at` is when it reached the topic, aware UTC."""

    key: bytes | None
    value: bytes
    kafka_at: datetime


class Fate(Enum):
    """What becomes of a record."""

    STORED = auto()
    DUPLICATE = auto()
    DEAD = auto()


class Arrival(NamedTuple):
    """A record on its way: sorts by when it arrives, then by `serial`, which is unique."""

    at_ms: int
    serial: int
    key: bytes | None
    value: bytes
    fate: Fate = Fate.STORED

    def record(self) -> Record:
        return Record(self.key, self.value, moment(self.at_ms))


def moment(ms: int) -> datetime:
    """The aware datetime of `ms`.

    >>> moment(1_700_000_000_123).isoformat()
    '2023-11-14T22:13:20.123000+00:00'
    """
    return _EPOCH + timedelta(milliseconds=ms)


def millis(at: datetime) -> int:
    """The inverse of `moment`; `at` is aware."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def stamp(ms: int) -> str:
    """ISO 8601 as JavaScript's toISOString writes it.

    >>> stamp(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    minute, rest = divmod(ms, MINUTE_MS)
    name = _minutes.get(minute)
    if name is None:
        name = _minutes[minute] = moment(minute * MINUTE_MS).isoformat()[:17]
    return name + _SECONDS[rest // 1000] + _MILLIS[rest % 1000]


def scramble(number: int, seed: int) -> int:
    """A 64-bit number that looks random; for one seed no two numbers below 2^64 give the same.

    >>> len({scramble(number, 7) for number in range(10_000)})
    10000
    """
    mixed = ((number ^ seed) * _ODD) & _MASK
    return ((mixed ^ (mixed >> 29)) * _ODD) & _MASK


def quoted(value: object) -> str:
    """`value` as JSON text, letters beyond ASCII left as they are, which is what browsers send."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def cents(amount: int) -> str:
    """An amount in cents as a JSON number.

    >>> cents(123_405)
    '1234.05'
    """
    return f"{amount // 100}.{amount % 100:02}"


def track_kind(event: str) -> str:
    return f'"type":"track","event":{quoted(event)}'


def campaign_context(campaign: Campaign) -> str:
    """`context.campaign`, with a comma behind it; nothing for unpaid traffic."""
    if campaign.source is None:
        return ""
    fields = {"source": campaign.source, "medium": campaign.medium, "name": campaign.name}
    return f'"campaign":{quoted(fields)},'


def query_string(campaign: Campaign) -> str:
    if campaign.source is None:
        return ""
    return f"?utm_source={campaign.source}&utm_medium={campaign.medium}&utm_campaign={campaign.name}"


def browser_context(agent: Agent, locale: str, timezone: str, ip: str) -> str:
    return (
        f'"library":{{"name":"analytics.js","version":"next-1.74.0"}},"userAgent":{quoted(agent.user_agent)},'
        f'"locale":"{locale}","timezone":"{timezone}","ip":"{ip}"'
    )


def product_properties(product: Product) -> str:
    """The fields of one product, without braces: a list item and a track event's properties share them."""
    fields = {
        "product_id": product.sku.removeprefix("LH-"),
        "sku": product.sku,
        "name": product.name,
        "category": product.category,
    }
    return quoted(fields)[1:-1] + f',"price":{cents(product.price)}'


class View:
    """A page or an app's screen, its fragments ready: what a visit shows."""

    __slots__ = ("page", "page_kind", "page_properties", "screen_kind", "screen_properties", "title", "url")

    def __init__(self, page: Page) -> None:
        self.page = page
        self.url = catalog.ORIGIN + page.path
        self.title = quoted(page.title)
        self.page_kind = f'"type":"page","name":{quoted(page.name)}'
        self.page_properties = '"properties":' + quoted({"name": page.name, "path": page.path, "title": page.title})
        self.screen_kind = f'"type":"screen","name":{quoted(page.name)}'
        self.screen_properties = '"properties":' + quoted({"name": page.name})

    def context(self, referrer: str, search: str) -> str:
        """`context.page` when the page was reached from `referrer` with the query string `search` ("" or "?…")."""
        return (
            f'"page":{{"path":"{self.page.path}","referrer":"{referrer}","search":"{search}",'
            f'"title":{self.title},"url":"{self.url}{search}"}}'
        )


HOME = View(catalog.HOME)
SEARCH = View(catalog.SEARCH)
CART = View(catalog.CART)
CHECKOUT = View(catalog.CHECKOUT)
THANKS = View(catalog.THANKS)
SIGN_UP = View(catalog.SIGN_UP)
SIGN_IN = View(catalog.SIGN_IN)
ACCOUNT = View(catalog.ACCOUNT)
ARTICLES = [View(page) for page in catalog.ARTICLES]
CATEGORIES = [View(page) for page in catalog.CATEGORIES.values()]
PRODUCTS = [View(product.page) for product in catalog.PRODUCTS]
PRODUCT_FIELDS = [product_properties(product) for product in catalog.PRODUCTS]
