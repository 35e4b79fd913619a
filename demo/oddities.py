"""What no shop asks for and every shop gets: crawlers, copies, wrong keys, and records that are no events."""

from __future__ import annotations

import random
from collections.abc import Callable

from demo import catalog, wire
from demo.visits import Town, Visit
from demo.wire import DAY_MS, HOUR_MS, MINUTE_MS, Arrival, Fate

COPY_SHARE = 0.006
BAD_SHARE = 0.0005
FOREIGN_KEY_SHARE = 0.0002

_DIRECT = catalog.CAMPAIGNS[-1]
_BAD = (
    b"",
    b"null",
    b'"Order Completed"',
    b'[{"messageId":"%(id)s","type":"track","event":"Viewed Product"}]',
    b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
    b'{"messageId":"%(id)s","type":"page","anonymousId":"%(id)s","timestamp":"%(at)s","properties":{"na',
    b'{"messageId":"%(id)s","type":"track","event":"caf\xe9","anonymousId":"%(id)s","timestamp":"%(at)s"}',
    b'{"type":"track","event":"Viewed Product","anonymousId":"%(id)s","timestamp":"%(at)s","context":{}}',
    b'{"messageId":"","type":"track","event":"Viewed Product","anonymousId":"%(id)s","timestamp":"%(at)s"}',
    b'{"messageId":"%(id)s","type":"track","event":"Viewed Product","timestamp":"%(at)s","properties":{}}',
    b'{"messageId":"%(id)s","type":"track","event":"Product Added","anonymousId":"%(id)s","timestamp":"yesterday"}',
    b'{"messageId":"%(id)s","type":"track","event":"Product Added","anonymousId":"%(id)s"}',
)


def copies(rng: random.Random, arrivals: list[Arrival], serials: Callable[[], int]) -> list[Arrival]:
    """Some of `arrivals` a second time, byte for byte: most within seconds, some after minutes or days."""
    made = []
    for original in rng.sample(arrivals, int(len(arrivals) * COPY_SHARE + rng.random())):
        draw = rng.random()
        if draw < 0.90:
            after = 20 + int(draw * 30_000)
        elif draw < 0.98:
            after = int(rng.uniform(MINUTE_MS, HOUR_MS))
        else:
            after = int(rng.uniform(HOUR_MS, 2 * DAY_MS))
        made.append(Arrival(original.at_ms + after, serials(), original.key, original.value, Fate.DUPLICATE))
    return made


def misdirected(rng: random.Random, arrivals: list[Arrival]) -> None:
    """Gives some of `arrivals` another key than their anonymousId, in place: as a service with its own habits would."""
    for place in rng.sample(range(len(arrivals)), int(len(arrivals) * FOREIGN_KEY_SHARE + rng.random())):
        key = None if rng.random() < 0.5 else b"shop-frontend-%d" % rng.getrandbits(2)
        arrivals[place] = arrivals[place]._replace(key=key)


def bad_record(town: Town, at_ms: int) -> Arrival:
    """A record that the event contract refuses."""
    serial = town.serials()
    unknown = town.message_id(serial).encode()
    template = town.rng.choice(_BAD)
    value = template.replace(b"%(id)s", unknown).replace(b"%(at)s", wire.stamp(at_ms).encode())
    return Arrival(at_ms + 200, serial, unknown if town.rng.random() < 0.5 else None, value, Fate.DEAD)


def crawl(town: Town, start_ms: int) -> None:
    """A known crawler goes through the catalogue, leaf by leaf."""
    rng = town.rng
    device = town.crowd.stranger(rng.choice(catalog.BOTS))
    visit = Visit(town, device, _DIRECT, start_ms)
    for _ in range(rng.randint(3, 25)):
        visit.look_at(rng.choice(wire.PRODUCTS), pause_ms=rng.randint(1_500, 9_000))


def scrape(town: Town, start_ms: int) -> None:
    """A scraper that calls itself Chrome takes every price, again and again, within one calendar minute."""
    device = town.crowd.stranger(catalog.BROWSERS[3].user_agent)
    visit = Visit(town, device, _DIRECT, start_ms - start_ms % MINUTE_MS)
    for number in range(380):
        visit.look_at(wire.PRODUCTS[number % len(wire.PRODUCTS)], pause_ms=0)


def watch_prices(town: Town, day_ms: int) -> None:
    """A script that calls itself Firefox looks at one price every hour of the day, and of the night."""
    device = town.crowd.stranger(catalog.BROWSERS[6].user_agent)
    for hour in range(24):
        visit = Visit(town, device, _DIRECT, day_ms + hour * HOUR_MS + town.rng.randint(0, 50 * MINUTE_MS))
        visit.look_at(wire.PRODUCTS[0], pause_ms=0)
