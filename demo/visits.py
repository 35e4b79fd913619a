"""One visit to the shop: what somebody looks at, puts into the cart and buys, as records in the making."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import log
from typing import NamedTuple

from demo import catalog, wire
from demo.catalog import Campaign
from demo.people import Crowd, Customer, Device
from demo.wire import MINUTE_MS, Arrival, View

BOUNCE_SHARE = 0.34
PAUSE_SHARE = 0.02  # of the steps: the visitor is away for longer than half an hour, so that a new session begins
GUEST_SHARE = 0.15  # of the checkouts without an account: the order is placed as a guest
RETRY_SHARE = 0.015  # of the web events: sent again by the SDK after seconds, so they arrive out of order
SLEPT_SHARE = 0.0015  # of the web events: the tab was put to sleep before they were sent; they arrive late

_DELAYED_FROM = int((1 - RETRY_SHARE - SLEPT_SHARE) * 2**20)  # of 20 random bits
_DWELL_MS = [int(2_000 - 24_000 * log(1 - n / 1024)) for n in range(1024)]  # exponential: 26 s on average
_MORE_STEPS = (1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5, 6, 8, 12)  # as often as they stand here

_IDENTIFY = '"type":"identify"'
_ALIAS = '"type":"alias"'
_NOTHING = '"properties":{}'
_PRODUCT_VIEWED = wire.track_kind("Viewed Product")
_PRODUCT_ADDED = wire.track_kind("Product Added")
_PRODUCT_REMOVED = wire.track_kind("Product Removed")
_SEARCHED = wire.track_kind("Products Searched")
_CHECKOUT_STARTED = wire.track_kind("Checkout Started")
_PAYMENT_ENTERED = wire.track_kind("Payment Info Entered")
_ORDERED = wire.track_kind("Order Completed")
_SIGNED_UP = wire.track_kind("Signed Up")
_SIGNED_IN = wire.track_kind("Signed In")
_SIGNED_OUT = wire.track_kind("Signed Out")
_EXPERIMENT_VIEWED = wire.track_kind("Experiment Viewed")
_EXPOSURES = [
    '"properties":'
    + wire.quoted(
        {
            "experiment_id": catalog.EXPERIMENT_ID,
            "experiment_name": catalog.EXPERIMENT_NAME,
            "variation_id": arm,
            "variation_name": arm.replace("-", " ").capitalize(),
        }
    )
    for arm in catalog.ARMS
]
_SEARCH_QUERIES = ['"properties":' + wire.quoted({"query": query}) for query in catalog.SEARCHES]
_UTM = {campaign: wire.query_string(campaign) for campaign in catalog.CAMPAIGNS}
_CAMPAIGN_CONTEXTS = {campaign: wire.campaign_context(campaign) for campaign in catalog.CAMPAIGNS}


class Order(NamedTuple):
    """What the server still knows of an order when the visit is over."""

    at_ms: int
    order_id: str
    customer: Customer | None
    revenue: int  # cents


class Town(NamedTuple):
    """What every visit of one run shares."""

    rng: random.Random
    crowd: Crowd
    out: list[Arrival]
    orders: list[Order]
    message_id: Callable[[int], str]
    serials: Callable[[], int]
    experiment_from_ms: int
    tag_missing: Callable[[int, Device], bool]  # whether a page view of "/" at that time goes unreported


class Visit:
    """A visit of `device` from `start_ms` on; `held_ms` later the device comes online and sends everything.

    `walk` appends the visit's records to the town's `out`, in the order in which they happen, which is not that of
    their arrival.
    """

    def __init__(self, town: Town, device: Device, campaign: Campaign, start_ms: int, held_ms: int = 0) -> None:
        self._town = town
        self._rng = town.rng
        self._device = device
        self._campaign = campaign
        self._now = start_ms
        self._held = held_ms
        self._distance = 20 + (town.rng.getrandbits(7))  # milliseconds to the collector
        self._query = _UTM[campaign]
        self._referrer = campaign.referrer
        self._page = ""
        self._ids = ""
        self._as(device.user)

    def walk(self) -> None:
        rng, device = self._rng, self._device
        intent = self._campaign.intent
        if self._land() and rng.random() < BOUNCE_SHARE:
            device.busy_until_ms = self._now + self._held
            return
        self._greet()
        for _ in range(_MORE_STEPS[rng.getrandbits(4)]):
            self._think()
            draw = rng.random()
            if draw < 0.50:
                self._product(0.14 * intent)
            elif draw < 0.73:
                self._show(rng.choice(wire.CATEGORIES))
            elif draw < 0.90:
                self._show(wire.HOME)
            elif draw < 0.98:
                self._show(wire.SEARCH)
                self._send(_SEARCHED, rng.choice(_SEARCH_QUERIES))
            else:
                self._show(rng.choice(wire.ARTICLES))
        if device.cart:
            self._cart(intent)
        elif device.owner is None and rng.random() < 0.035 * intent:
            self._think()
            self._sign_up()
        if device.user and device.tidy:
            self._sign_out()
        device.busy_until_ms = self._now + self._held

    def look_at(self, view: View, pause_ms: int) -> None:
        """One page and nothing else: what machines do."""
        self._show(view)
        self._now += pause_ms

    def _land(self) -> bool:
        """The first page of the visit; True where it might be the last."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.50:
            self._show(wire.HOME)
        elif draw < 0.66:
            self._show(rng.choice(wire.CATEGORIES))
        elif draw < 0.90:
            self._product(0.07 * self._campaign.intent)
        else:
            self._show(rng.choice(wire.ARTICLES))
        self._query = ""
        return not self._device.cart

    def _greet(self) -> None:
        """Somebody with an account may sign in first; on a family's device, so may the other one."""
        rng, device = self._rng, self._device
        wanted = device.owner
        if device.family is not None and rng.random() < 0.5:
            wanted = device.family
        if wanted is not None and wanted is not device.user and rng.random() < 0.45:
            self._think()
            self._sign_in(wanted)

    def _product(self, add_odds: float) -> None:
        rng = self._rng
        article = int(rng.random() * rng.random() * len(wire.PRODUCTS))  # the first ones sell best
        self._show(wire.PRODUCTS[article])
        fields = wire.PRODUCT_FIELDS[article]
        self._send(_PRODUCT_VIEWED, f'"properties":{{{fields},"currency":"{catalog.CURRENCY}"}}')
        if rng.random() < add_odds:
            self._now += 4_000 + rng.getrandbits(15)
            self._device.cart.append(article)
            self._send(_PRODUCT_ADDED, f'"properties":{{{fields},"quantity":1,"currency":"{catalog.CURRENCY}"}}')

    def _cart(self, intent: float) -> None:
        rng, device = self._rng, self._device
        self._think()
        self._show(wire.CART)
        if len(device.cart) > 1 and rng.random() < 0.15:
            removed = device.cart.pop()
            self._now += 3_000
            self._send(_PRODUCT_REMOVED, f'"properties":{{{wire.PRODUCT_FIELDS[removed]},"quantity":1}}')
        if rng.random() > 0.6 * min(intent, 1.4):
            if rng.random() < 0.5:
                device.cart.clear()
            return
        self._think()
        if device.user is None and rng.random() > GUEST_SHARE:
            if device.owner is None:
                self._sign_up()
            else:
                self._sign_in(device.owner)
        self._check_out()

    def _check_out(self) -> None:
        rng, device, town = self._rng, self._device, self._town
        self._show(wire.CHECKOUT)
        arm = 0
        if self._now >= town.experiment_from_ms:
            arm = device.arm
            self._send(_EXPERIMENT_VIEWED, _EXPOSURES[arm])
        order_id = f"LH-{self._town.message_id(town.serials())[-12:].upper()}"
        basket, revenue = _basket(device.cart)
        self._send(
            _CHECKOUT_STARTED,
            f'"properties":{{"order_id":"{order_id}","value":{wire.cents(revenue)},'
            f'"currency":"{catalog.CURRENCY}","products":[{basket}]}}',
        )
        self._now += 15_000 + rng.getrandbits(16)
        if rng.random() > catalog.COMPLETION[arm] ** 0.5:
            return
        self._send(_PAYMENT_ENTERED, f'"properties":{{"order_id":"{order_id}","payment_method":"card"}}')
        self._now += 9_000 + rng.getrandbits(15)
        if rng.random() > catalog.COMPLETION[arm] ** 0.5:
            return
        discount = revenue // 10 if rng.random() < 0.12 else 0
        shipping = 0 if revenue >= 10_000 else 590
        tax = (revenue - discount) * 8 // 100
        coupon = ',"coupon":"AUTUMN10"' if discount else ""
        self._show(wire.THANKS)
        self._send(
            _ORDERED,
            f'"properties":{{"order_id":"{order_id}","total":{wire.cents(revenue - discount + shipping + tax)},'
            f'"revenue":{wire.cents(revenue - discount)},"shipping":{wire.cents(shipping)},"tax":{wire.cents(tax)},'
            f'"discount":{wire.cents(discount)}{coupon},"currency":"{catalog.CURRENCY}","products":[{basket}]}}',
        )
        device.cart.clear()
        town.orders.append(Order(self._now, order_id, device.user, revenue - discount))

    def _sign_up(self) -> None:
        device = self._device
        self._show(wire.SIGN_UP)
        self._now += 12_000 + self._rng.getrandbits(15)
        customer = self._town.crowd.sign_up(device, self._now + self._held)
        if device.app:
            # the app's SDK says it in the old way first
            self._ids = f'"previousId":"{device.anonymous_id}","userId":"{customer.user_id}"'
            self._send(_ALIAS, '"traits":{}')
        self._as(customer)
        self._send(_IDENTIFY, customer.traits())
        self._now += 40
        self._send(_SIGNED_UP, '"properties":{"method":"email"}')

    def _sign_in(self, customer: Customer) -> None:
        self._show(wire.SIGN_IN)
        self._now += 8_000 + self._rng.getrandbits(13)
        self._as(customer)
        self._send(_IDENTIFY, customer.traits())
        self._now += 40
        self._send(_SIGNED_IN, '"properties":{"method":"password"}')

    def _sign_out(self) -> None:
        self._think()
        self._show(wire.ACCOUNT)
        self._now += 4_000
        self._send(_SIGNED_OUT, _NOTHING)
        self._as(None)

    def _as(self, customer: Customer | None) -> None:
        device = self._device
        device.user = customer
        if customer is not None:
            self._ids = f'"anonymousId":"{device.anonymous_id}","userId":"{customer.user_id}"'
        elif device.broken_id:
            self._ids = f'"anonymousId":"{device.anonymous_id}","userId":"undefined"'
        else:
            self._ids = f'"anonymousId":"{device.anonymous_id}"'

    def _think(self) -> None:
        rng = self._rng
        if rng.random() < PAUSE_SHARE:
            self._now += 31 * MINUTE_MS + int(rng.random() ** 2 * 150 * MINUTE_MS)
        else:
            self._now += _DWELL_MS[rng.getrandbits(10)]

    def _show(self, view: View) -> None:
        device = self._device
        if device.app:
            self._send(view.screen_kind, view.screen_properties)
        else:
            self._page = view.context(self._referrer, self._query)
            if self._query:
                self._page = _CAMPAIGN_CONTEXTS[self._campaign] + self._page
            self._referrer = view.url + self._query
            if view is not wire.HOME or not self._town.tag_missing(self._now, device):
                self._send(view.page_kind, view.page_properties)
        self._now += 150

    def _send(self, kind: str, body: str) -> None:
        town, device, now = self._town, self._device, self._now
        serial = town.serials()
        bits = self._rng.getrandbits(20)
        waited = self._held + (bits & 255)  # in the SDK's queue
        if not self._held and bits > _DELAYED_FROM:
            waited += self._delay()
        received = now + waited + self._distance + ((bits >> 8) & 63)
        stamped = now + device.skew_ms
        sent = f'"sentAt":"{wire.stamp(stamped + waited)}","receivedAt":"{wire.stamp(received)}",'
        page = self._page and "," + self._page
        value = (
            f'{{"messageId":"{town.message_id(serial)}",{kind},{self._ids},"timestamp":"{wire.stamp(stamped)}",'
            f'{sent if device.sends_sent_at else ""}"context":{{{device.context}{page}}},{body}}}'
        )
        town.out.append(Arrival(received + 3 + (bits >> 16), serial, device.key, value.encode()))

    def _delay(self) -> int:
        """Of the few that are delayed: mostly seconds (out of order), sometimes minutes to hours (late)."""
        rng = self._rng
        if rng.random() < SLEPT_SHARE / (RETRY_SHARE + SLEPT_SHARE):
            return int((2 + 180 * rng.random() ** 3) * MINUTE_MS)
        return 3_000 + int(rng.random() * 40_000)


def _basket(cart: list[int]) -> tuple[str, int]:
    """The products of an order as JSON, and the sum in cents."""
    lines, revenue = [], 0
    for article in dict.fromkeys(cart):
        quantity = cart.count(article)
        lines.append(f'{{{wire.PRODUCT_FIELDS[article]},"quantity":{quantity}}}')
        revenue += catalog.PRODUCTS[article].price * quantity
    return ",".join(lines), revenue
