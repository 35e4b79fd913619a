"""The demo's web shop: two months of history, then live traffic, all from one seed and without any I/O.

What is planted in it, so that a demo has something to find and a test something to assert:

- On `Shop.drop_day`, nine days before the last, 40 % fewer views of the main page "/": a release lost the page's tag
  on phones' browsers. Nothing else falls.
- In the last 28 days an experiment, "one-page-checkout", whose arm "one-page" completes 66 % of its checkouts
  instead of 56 %.
- Campaigns on eight ad platforms, whose visitors differ in how readily they buy.
- A week with its weekends, days with their evenings, a slow growth.
- Sign-ups, log-ins on second devices, family devices with and without logging out, two in-store tablets that many
  customers use, user ids "undefined", an app that was offline for days, clocks that are wrong.
- Crawlers, a scraper, copies, records out of order, late or under a foreign key, and records that are no events.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, count
from typing import NamedTuple

from demo import catalog, oddities, wire
from demo.people import Crowd, Customer, Device
from demo.visits import Town, Visit
from demo.wire import DAY_MS, HOUR_MS, MINUTE_MS, Arrival, Fate, Record

DROP_DAYS_BEFORE_END = 9
DROP_SHARE = 0.40
EXPERIMENT_DAYS = 28
HELD_SHARE = 0.05  # of the app's visits: made without a network, sent hours to days later

_WEEKDAYS = (1.0, 0.98, 0.97, 1.0, 0.96, 1.09, 1.14)  # Monday first
_GROWTH_PER_DAY = 0.0015
_HOURS = (2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 12, 11, 10, 10, 11, 12, 14, 16, 17, 15, 10, 5)
_HOUR_WEIGHTS = list(accumulate(_HOURS))
_CAMPAIGN_WEIGHTS = list(accumulate(campaign.weight for campaign in catalog.CAMPAIGNS))
_DIRECT = catalog.CAMPAIGNS[-1]
_KIOSKS = 2
_CRAWLS = 0.02  # by known crawlers, per visit of people
_EMAIL_SENT = wire.track_kind("Email Sent")
_EMAIL_OPENED = wire.track_kind("Email Opened")
_REFUNDED = wire.track_kind("Order Refunded")
_SERVER_CONTEXT = '"context":{"library":{"name":"analytics-python","version":"2.4.0"}}'
_LIVE_NUMBERS = 1 << 39  # customers of live runs are numbered from here, 64 a second: apart from history's


class Totals(NamedTuple):
    """What the flow must have counted after the whole history: stored + duplicates + dead = records."""

    records: int
    duplicates: int
    dead: int

    @property
    def stored(self) -> int:
        return self.records - self.duplicates - self.dead


class Shop:
    """A shop whose history ends at `now` (aware) and begins at midnight UTC, `days` days before `now`'s day.

    The same arguments give the same records, byte for byte. `visits_per_day` is the size of the shop; the default
    makes about 350,000 events of 60 days.
    """

    def __init__(self, now: datetime, days: int = 60, seed: int = 7, visits_per_day: int = 800) -> None:
        self.now = now
        self.days = days
        self.seed = seed
        self.visits_per_day = visits_per_day
        self.first_day: date = wire.moment(wire.millis(now)).date() - timedelta(days=days)
        self.drop_day: date = self.first_day + timedelta(days=days - DROP_DAYS_BEFORE_END)
        self._now_ms = wire.millis(now)
        self._start_ms = self._now_ms // DAY_MS * DAY_MS - days * DAY_MS

    def history(self) -> Iterator[Record]:
        """Every record that reached the topic before `now`, in the order of arrival."""
        return (arrival.record() for arrival in self._arrivals())

    def expected(self) -> Totals:
        """What the flow must count after the whole history; generates it once to tell (some seconds)."""
        fates = Counter(arrival.fate for arrival in self._arrivals())
        return Totals(fates.total(), fates[Fate.DUPLICATE], fates[Fate.DEAD])

    def live(self, now: datetime, rate: float = 200.0) -> Iterator[Record]:
        """Traffic from the second after `now` (aware) on, without an end: about `rate` records a second of `kafka_at`.

        In the order of arrival; whoever iterates waits until each record's `kafka_at`. Customers of the history come
        back, on devices new to the shop. Two runs share no message, unless they began in the same millisecond.
        """
        second_ms = wire.millis(now)
        rng = random.Random(f"{self.seed} live {second_ms}")
        crowd = Crowd(rng, self.seed, first_number=_LIVE_NUMBERS + second_ms // 1000 * 64)
        crowd.customers.extend(Customer(self.seed, number) for number in range(self._customers_at_least()))
        town = self._town(rng, crowd, first_serial=second_ms << 20)
        due: defaultdict[int, list[Arrival]] = defaultdict(list)  # by the second in which they arrive
        for second in count(second_ms // 1000 + 1):  # what is left of this one may be too short to hold any
            while len(due[second]) < rate:
                start_ms = second * 1000 + rng.randrange(1000)
                if rng.random() < _CRAWLS:
                    oddities.crawl(town, start_ms)
                else:
                    self._visit(town, start_ms)
                _spoil(town)
                for arrival in town.out:
                    due[arrival.at_ms // 1000].append(arrival)
                town.out.clear()
                town.orders.clear()  # which nobody will give back
            yield from (arrival.record() for arrival in sorted(due.pop(second)))

    def _arrivals(self) -> Iterator[Arrival]:
        rng = random.Random(f"{self.seed} history")
        crowd = Crowd(rng, self.seed)
        town = self._town(rng, crowd, first_serial=0)
        kiosks = [_kiosk(crowd) for _ in range(_KIOSKS)]
        waiting: list[Arrival] = []
        for day_ms in range(self._start_ms, self._now_ms, DAY_MS):
            self._people(town, day_ms, kiosks)
            self._machines(town, day_ms)
            _letters(town, day_ms)
            _refunds(town)
            _spoil(town)
            waiting += town.out
            town.out.clear()
            waiting.sort()
            arrived = bisect_left(waiting, min(day_ms + DAY_MS, self._now_ms), key=lambda arrival: arrival.at_ms)
            yield from waiting[:arrived]
            del waiting[:arrived]

    def _town(self, rng: random.Random, crowd: Crowd, first_serial: int) -> Town:
        mixing = wire.scramble(self.seed, 0)
        drop_ms = wire.millis(datetime.combine(self.drop_day, time(), UTC))
        lost_share = DROP_SHARE / catalog.MOBILE_SHARE

        def tag_missing(at_ms: int, device: Device) -> bool:
            return drop_ms <= at_ms < drop_ms + DAY_MS and device.mobile and rng.random() < lost_share

        return Town(
            rng=rng,
            crowd=crowd,
            out=[],
            orders=[],
            message_id=lambda serial: f"ajs-next-{wire.scramble(serial, mixing):016x}",
            serials=count(first_serial).__next__,
            experiment_from_ms=self._now_ms - EXPERIMENT_DAYS * DAY_MS,
            tag_missing=tag_missing,
        )

    def _people(self, town: Town, day_ms: int, kiosks: list[Device]) -> None:
        """The visits that begin on the day, in the order in which they begin."""
        rng, crowd = town.rng, town.crowd
        age = (day_ms - self._start_ms) // DAY_MS
        weekday = wire.moment(day_ms).weekday()
        visits = self.visits_per_day * _WEEKDAYS[weekday] * (1 + _GROWTH_PER_DAY * age) * rng.uniform(0.985, 1.015)
        starts = [
            hour * HOUR_MS + rng.randrange(HOUR_MS)
            for hour in rng.choices(range(24), cum_weights=_HOUR_WEIGHTS, k=int(visits))
        ]
        kiosk_every = max(len(starts) // 14, 1)
        for number, start in enumerate(sorted(starts)):
            if day_ms + start >= self._now_ms:
                break
            self._visit(town, day_ms + start)
            if number % kiosk_every == 0 and crowd.customers:
                kiosk = rng.choice(kiosks)
                if kiosk.busy_until_ms < day_ms + start:
                    kiosk.owner = rng.choice(crowd.customers)
                    Visit(town, kiosk, _DIRECT, day_ms + start).walk()

    def _visit(self, town: Town, start_ms: int) -> None:
        rng = town.rng
        device = town.crowd.visitor(start_ms)
        if not device.app:
            campaign = rng.choices(catalog.CAMPAIGNS, cum_weights=_CAMPAIGN_WEIGHTS)[0]
            Visit(town, device, campaign, start_ms).walk()
        elif rng.random() < HELD_SHARE:
            Visit(town, device, _DIRECT, start_ms, held_ms=int(rng.uniform(0.2, 70) * HOUR_MS)).walk()
        else:
            Visit(town, device, _DIRECT, start_ms).walk()

    def _machines(self, town: Town, day_ms: int) -> None:
        rng = town.rng
        for _ in range(int(self.visits_per_day * _CRAWLS)):
            oddities.crawl(town, day_ms + rng.randrange(DAY_MS))
        age = (day_ms - self._start_ms) // DAY_MS
        if age % 20 == 11:
            oddities.scrape(town, day_ms + rng.randrange(DAY_MS - MINUTE_MS))
        if age % 20 == 14:
            oddities.watch_prices(town, day_ms)

    def _customers_at_least(self) -> int:
        """So many customers the history has for certain: half of what it has on average."""
        return int(self.days * self.visits_per_day * 0.02)


def _spoil(town: Town) -> None:
    """Adds copies and bad records to what is about to go out, and mixes up some keys."""
    rng = town.rng
    oddities.misdirected(rng, town.out)
    town.out.extend(oddities.copies(rng, town.out, town.serials))
    for arrival in rng.choices(town.out, k=int(len(town.out) * oddities.BAD_SHARE + rng.random())):
        town.out.append(oddities.bad_record(town, arrival.at_ms))


def _letters(town: Town, day_ms: int) -> None:
    """The weekly letter's share of the day: sent by a server that knows customers, opened on their devices."""
    rng = town.rng
    for customer in rng.sample(town.crowd.customers, len(town.crowd.customers) // 40):
        sent_ms = day_ms + 9 * HOUR_MS + rng.randrange(20 * MINUTE_MS)
        letter = f'"properties":{{"campaign":"weekly-letter","email_id":"{wire.stamp(day_ms)[:10]}"}}'
        _from_server(town, sent_ms, _EMAIL_SENT, customer, letter)
        if rng.random() < 0.35:
            opened_ms = sent_ms + int(rng.random() ** 2 * 10 * HOUR_MS)
            _from_server(town, opened_ms, _EMAIL_OPENED, customer, letter, customer.anonymous_id)


def _refunds(town: Town) -> None:
    """Some of the day's orders are given back after some days; the server says so."""
    rng = town.rng
    for order in town.orders:
        if order.customer is not None and rng.random() < 0.04:
            refund = (
                f'"properties":{{"order_id":"{order.order_id}","revenue":{wire.cents(order.revenue)},'
                f'"currency":"{catalog.CURRENCY}"}}'
            )
            _from_server(town, order.at_ms + int(rng.uniform(1, 12) * DAY_MS), _REFUNDED, order.customer, refund)
    town.orders.clear()


def _from_server(
    town: Town, at_ms: int, kind: str, customer: Customer, body: str, anonymous_id: str | None = None
) -> None:
    serial = town.serials()
    device = f'"anonymousId":"{anonymous_id}",' if anonymous_id else ""
    value = (
        f'{{"messageId":"{town.message_id(serial)}",{kind},{device}"userId":"{customer.user_id}",'
        f'"timestamp":"{wire.stamp(at_ms)}",{_SERVER_CONTEXT},{body}}}'
    )
    key = anonymous_id.encode() if anonymous_id else None
    town.out.append(Arrival(at_ms + 40 + town.rng.getrandbits(8), serial, key, value.encode()))


def _kiosk(crowd: Crowd) -> Device:
    """A tablet in a store: whoever stands before it logs in, and is logged out behind them."""
    kiosk = crowd.stranger(catalog.KIOSK)
    kiosk.tidy = True
    return kiosk
