"""Who comes to the shop: customers with accounts, the devices they hold, and devices that nobody owns yet."""

from __future__ import annotations

import random
from heapq import heappop, heappush
from itertools import accumulate, count
from typing import Any
from uuid import UUID

from demo import catalog, wire

SECOND_DEVICE_SHARE = 0.14  # of the new devices: they belong to somebody who has an account already
FAMILY_SHARE = 0.09  # of the devices of somebody with an account: another account's holder uses them too
APP_SHARE = 0.10
SKEWED_SHARE = 0.02  # of the devices: their clock is minutes to days off, their SDK's sentAt tells
DRIFTING_SHARE = 0.002  # of the devices: their clock is ahead, and an old SDK sends no sentAt
BROKEN_ID_SHARE = 0.004  # of the devices: their site build sends userId "undefined"
_REMEMBERED = 20_000  # devices, and customers: whoever came before so many others does not come back

_BROWSER_WEIGHTS = list(accumulate(agent.weight for agent in catalog.BROWSERS))
_LOCALE_WEIGHTS = list(accumulate(weight for _, _, weight in catalog.LOCALES))
_SKEWS_MS = (-26 * wire.HOUR_MS, -2 * wire.HOUR_MS, -7 * wire.MINUTE_MS, 11 * wire.MINUTE_MS, 49 * wire.HOUR_MS)


class Customer:
    """Somebody with an account. All of it follows from the seed and `number`."""

    __slots__ = ("anonymous_id", "email", "name", "user_id")

    def __init__(self, seed: int, number: int) -> None:
        mixed = wire.scramble(number, seed)
        first = catalog.FIRST_NAMES[mixed % len(catalog.FIRST_NAMES)]
        last = catalog.LAST_NAMES[(mixed >> 16) % len(catalog.LAST_NAMES)]
        self.user_id = f"cus_{number:06x}"
        self.name = f"{first} {last}"
        self.email = f"customer-{number:x}@larkhill.example"
        self.anonymous_id: str | None = None  # of the device that became theirs last

    def traits(self) -> str:
        return f'"traits":{{"name":"{self.name}","email":"{self.email}"}}'


class Device:
    """A browser or a phone: one anonymousId, and what the generator has to remember about it."""

    __slots__ = (
        "anonymous_id",
        "app",
        "arm",
        "broken_id",
        "busy_until_ms",
        "cart",
        "context",
        "family",
        "key",
        "mobile",
        "owner",
        "sends_sent_at",
        "skew_ms",
        "tidy",
        "user",
    )

    def __init__(self, anonymous_id: str, context: str) -> None:
        self.anonymous_id = anonymous_id
        self.key = anonymous_id.encode()
        self.context = context
        self.app = False
        self.mobile = False
        self.arm = 0
        self.skew_ms = 0
        self.sends_sent_at = True
        self.broken_id = False
        self.tidy = False  # logs out at the end of a visit
        self.owner: Customer | None = None
        self.family: Customer | None = None
        self.user: Customer | None = None  # who is logged in
        self.cart: list[int] = []
        self.busy_until_ms = 0


def _forget_oldest(those: list[Any]) -> None:
    """Keeps live traffic, which may go on for weeks, in bounded memory."""
    if len(those) > 2 * _REMEMBERED:
        del those[:_REMEMBERED]


class Crowd:
    """All devices and customers so far, and who comes next."""

    def __init__(self, rng: random.Random, seed: int, first_number: int = 0) -> None:
        self._rng = rng
        self._seed = seed
        self._numbers = count(first_number)
        self._signing_up: list[tuple[int, int, Customer]] = []  # a heap, by when they have an account
        self.devices: list[Device] = []
        self.customers: list[Customer] = []

    def visitor(self, start_ms: int, newcomers: float = 0.55) -> Device:
        """The device of a visit that starts at `start_ms`: one never seen, or one that is not on a visit then."""
        rng = self._rng
        while self._signing_up and self._signing_up[0][0] < start_ms:
            self.customers.append(heappop(self._signing_up)[2])
        if rng.random() > newcomers and len(self.devices) > 20:
            # the square favours those who came first lately: people come back soon or not at all
            back = int(rng.random() ** 2 * min(len(self.devices), _REMEMBERED))
            device = self.devices[-1 - back]
            if device.busy_until_ms < start_ms:
                return device
        return self.newcomer()

    def newcomer(self) -> Device:
        rng = self._rng
        locale, timezone, _ = rng.choices(catalog.LOCALES, cum_weights=_LOCALE_WEIGHTS)[0]
        if rng.random() < APP_SHARE:
            phone = catalog.PHONES[rng.getrandbits(1)]
            device = Device(self._uuid(), f'{phone},"locale":"{locale}","timezone":"{timezone}"')
            device.app = device.mobile = True
        else:
            agent = rng.choices(catalog.BROWSERS, cum_weights=_BROWSER_WEIGHTS)[0]
            device = Device(self._uuid(), wire.browser_context(agent, locale, timezone, self._ip()))
            device.mobile = agent.mobile
        device.arm = rng.getrandbits(1)
        device.tidy = rng.random() < 0.12
        self._misconfigure(device)
        if self.customers and rng.random() < SECOND_DEVICE_SHARE:
            self.give(device, rng.choice(self.customers))
        self.devices.append(device)
        _forget_oldest(self.devices)
        return device

    def stranger(self, user_agent: str) -> Device:
        """A device with a browser that `visitor` never gives: a crawler, or one that stands in a store."""
        agent = catalog.Agent(user_agent, 0.0, mobile=False)
        return Device(self._uuid(), wire.browser_context(agent, "en-US", "America/Los_Angeles", self._ip()))

    def sign_up(self, device: Device, at_ms: int) -> Customer:
        """The customer that `device`'s user becomes at `at_ms`; no visit before then will know them."""
        number = next(self._numbers)
        customer = Customer(self._seed, number)
        heappush(self._signing_up, (at_ms, number, customer))
        _forget_oldest(self.customers)
        self.give(device, customer)
        return customer

    def give(self, device: Device, owner: Customer) -> None:
        """`device` is `owner`'s from now on, and now and then somebody else's of the household as well."""
        device.owner = owner
        owner.anonymous_id = device.anonymous_id
        if len(self.customers) > 1 and self._rng.random() < FAMILY_SHARE:
            device.family = self._rng.choice(self.customers)
            device.tidy = self._rng.random() < 0.5

    def _misconfigure(self, device: Device) -> None:
        draw = self._rng.random()
        if draw < SKEWED_SHARE:
            device.skew_ms = self._rng.choice(_SKEWS_MS)
        elif draw < SKEWED_SHARE + DRIFTING_SHARE:
            device.skew_ms = 3 * wire.HOUR_MS
            device.sends_sent_at = False
        elif draw < SKEWED_SHARE + DRIFTING_SHARE + BROKEN_ID_SHARE:
            device.broken_id = not device.app

    def _uuid(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def _ip(self) -> str:
        return f"203.0.113.{self._rng.getrandbits(8)}"
