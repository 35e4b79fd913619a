"""What the shop promises: the same bytes from the same seed, every oddity present, the planted drop and lift there."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise, takewhile
from typing import Any

import pytest

from demo import FUNNELS, Record, Shop, catalog

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
TYPES = {"track", "page", "screen", "identify", "alias", "group"}

Event = dict[str, Any]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(NOW, days=60)


@pytest.fixture(scope="module")
def records(shop: Shop) -> list[Record]:
    return list(shop.history())


@pytest.fixture(scope="module")
def events(records: list[Record]) -> list[tuple[Record, Event]]:
    """The records that the event contract accepts, as far as this test's own reading of it goes."""
    return [(record, event) for record in records if (event := acceptable(record.value)) is not None]


@pytest.fixture(scope="module")
def stored(events: list[tuple[Record, Event]]) -> list[Event]:
    """Each event once."""
    return list({event["messageId"]: event for _, event in reversed(events)}.values())


def acceptable(value: bytes) -> Event | None:
    try:
        event = json.loads(value)
        if isinstance(event, dict) and event["messageId"] and (event.get("anonymousId") or event.get("userId")):
            event["event_at"] = _event_at(event)
            return event
    except (ValueError, KeyError):
        pass
    return None


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def event_at(event: Event) -> datetime:
    moment: datetime = event["event_at"]
    return moment


def _event_at(event: Event) -> datetime:
    """Corrected for the device's clock where the payload tells it."""
    if "sentAt" in event and "receivedAt" in event:
        return at(event["receivedAt"]) - (at(event["sentAt"]) - at(event["timestamp"]))
    return at(event["timestamp"])


def tracks(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event.get("event") == name]


def triples(those: list[str]) -> Iterator[tuple[str, str, str]]:
    return zip(those, those[1:], those[2:], strict=False)


def digest(records: Iterator[Record]) -> str:
    sha = hashlib.sha256()
    for record in records:
        sha.update(repr(record).encode())
    return sha.hexdigest()


def test_same_seed_same_bytes_and_another_seed_other_bytes() -> None:
    small = {"days": 3, "visits_per_day": 60}
    first, again, other = (digest(Shop(NOW, seed=seed, **small).history()) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_size_span_and_order(shop: Shop, records: list[Record]) -> None:
    assert 300_000 <= len(records) <= 400_000
    assert all(earlier.kafka_at <= later.kafka_at for earlier, later in pairwise(records))
    assert records[0].kafka_at.date() == shop.first_day == date(2026, 9, 25)
    assert NOW - timedelta(minutes=10) < records[-1].kafka_at < NOW


def test_expected_totals_are_those_of_the_records(
    shop: Shop, records: list[Record], events: list[tuple[Record, Event]]
) -> None:
    expected = shop.expected()
    distinct = {(event.get("anonymousId"), event["messageId"]) for _, event in events}
    assert expected.records == len(records)
    assert expected.dead == len(records) - len(events) > 100
    assert expected.duplicates == len(events) - len(distinct) > 1_000
    assert expected.stored == len(distinct) == len({message_id for _, message_id in distinct})


def test_events_keep_the_contract(events: list[tuple[Record, Event]]) -> None:
    foreign = 0
    for record, event in events:
        assert event["type"] in TYPES
        assert ("event" in event) == (event["type"] == "track")
        assert ("name" in event) == (event["type"] in {"page", "screen"})
        if event["type"] == "page":
            page = event["context"]["page"]
            assert page["url"] == catalog.ORIGIN + page["path"] + page["search"]
            assert event["properties"]["path"] == page["path"]
            assert event["context"]["userAgent"].startswith("Mozilla/5.0")
        campaign = event["context"].get("campaign") if "context" in event else None
        if campaign:
            assert f"utm_source={campaign['source']}&" in event["context"]["page"]["search"]
        if event["type"] == "alias":
            assert event["previousId"]
            assert event["userId"]
        if "receivedAt" in event:
            assert at(event["receivedAt"]) <= record.kafka_at
        key = event.get("anonymousId") or (event.get("previousId") if event["type"] == "alias" else None)
        foreign += record.key != (key.encode() if key else None)
    assert 20 < foreign < 200


def test_arrival_is_out_of_order_and_some_is_late(records: list[Record], events: list[tuple[Record, Event]]) -> None:
    greatest = datetime.min.replace(tzinfo=UTC)
    behind = []
    for record, event in events:
        moment = min(event_at(event), record.kafka_at)
        behind.append(greatest - moment)
        greatest = max(greatest, moment)
    within = sum(timedelta(0) < gap <= timedelta(seconds=60) for gap in behind)
    late = sum(gap > timedelta(seconds=60) for gap in behind)
    assert within > 5_000
    assert 500 < late < 0.02 * len(events)
    assert sum(gap > timedelta(days=1) for gap in behind) > 50


def test_every_kind_of_clock(events: list[tuple[Record, Event]]) -> None:
    kinds: Counter[str] = Counter()
    for record, event in events:
        if "sentAt" in event:
            off = at(event["sentAt"]) - at(event["receivedAt"])
            kinds["wrong, corrected"] += abs(off) > timedelta(minutes=5)
        else:
            kinds["ahead, not corrected"] += at(event["timestamp"]) > record.kafka_at + timedelta(minutes=5)
    assert kinds["wrong, corrected"] > 1_000
    assert kinds["ahead, not corrected"] > 50


def test_main_page_falls_by_two_fifths_on_the_drop_day_alone(shop: Shop, stored: list[Event]) -> None:
    assert shop.drop_day == NOW.date() - timedelta(days=9)
    views: dict[str, Counter[date]] = {"/": Counter(), "else": Counter()}
    for event in stored:
        if event["type"] == "page":
            views["/" if event["context"]["page"]["path"] == "/" else "else"][event_at(event).date()] += 1

    def against_other_weeks(page: str, day: date) -> float:
        usual = [views[page][day + timedelta(weeks=week)] for week in (-3, -2, -1, 1) if day != shop.drop_day]
        usual = usual or [views[page][day + timedelta(weeks=week)] for week in (-3, -2, -1)]
        return views[page][day] / (sum(usual) / len(usual))

    assert 0.52 < against_other_weeks("/", shop.drop_day) < 0.68
    assert against_other_weeks("else", shop.drop_day) > 0.9
    quiet = [shop.first_day + timedelta(days=n) for n in range(22, 50)]
    assert min(against_other_weeks("/", day) for day in quiet) > 0.85


def test_weekends_and_evenings_are_busier(shop: Shop, stored: list[Event]) -> None:
    full = [event_at(event) for event in stored if event_at(event).date() < NOW.date()]
    weekdays = Counter(moment.weekday() for moment in full)
    days = Counter((shop.first_day + timedelta(days=n)).weekday() for n in range(shop.days))
    busy = [weekdays[day] / days[day] for day in range(7)]
    assert min(busy[5:]) > max(busy[:5])
    hours = Counter(moment.hour for moment in full)
    assert hours[20] > 5 * hours[3]


def test_the_experiment_has_one_better_arm(stored: list[Event]) -> None:
    exposures = sorted(tracks(stored, "Experiment Viewed"), key=event_at)
    assert {event["properties"]["experiment_id"] for event in exposures} == {catalog.EXPERIMENT_ID}
    assert event_at(exposures[0]) >= NOW - timedelta(days=29)
    bought = {event["anonymousId"] for event in tracks(stored, "Order Completed")}
    arm_of = {event["anonymousId"]: event["properties"]["variation_id"] for event in exposures}
    seen = Counter(arm_of.values())
    rate = {arm: sum(arm_of[device] == arm for device in bought & arm_of.keys()) / seen[arm] for arm in catalog.ARMS}
    assert abs(seen["control"] - seen["one-page"]) < 4 * sum(seen.values()) ** 0.5
    assert rate["one-page"] - rate["control"] > 0.04


def test_every_ad_platform_brings_visits_and_some_unpaid_ones_come(stored: list[Event]) -> None:
    landings = [event for event in stored if event["type"] == "page" and event["context"]["page"]["search"]]
    sources = Counter(event["context"]["campaign"]["source"] for event in landings)
    assert set(sources) == {*catalog.AD_PLATFORMS, "newsletter"}
    assert min(sources.values()) > 200
    referrers = {event["context"]["page"]["referrer"] for event in stored if event["type"] == "page"}
    assert {"", "https://duckduckgo.com/"} <= referrers


def test_orders_add_up(stored: list[Event]) -> None:
    orders = [event["properties"] for event in tracks(stored, "Order Completed")]
    assert len(orders) > 1_000
    assert len({order["order_id"] for order in orders}) == len(orders)
    for order in json.loads(json.dumps(orders), parse_float=Decimal):
        goods = sum(line["price"] * line["quantity"] for line in order["products"])
        assert order["revenue"] == goods - order["discount"] > 0
        assert order["total"] == order["revenue"] + order["shipping"] + order["tax"]
        assert order["currency"] == catalog.CURRENCY
    refunds = {event["properties"]["order_id"]: event["properties"] for event in tracks(stored, "Order Refunded")}
    paid = {order["order_id"]: order["revenue"] for order in orders}
    assert refunds
    assert all(paid[order_id] == refund["revenue"] for order_id, refund in refunds.items())


def test_people_sign_up_come_back_on_second_devices_and_share_browsers(stored: list[Event]) -> None:
    devices_of: defaultdict[str, set[str]] = defaultdict(set)
    users_of: defaultdict[str, list[tuple[datetime, str]]] = defaultdict(list)
    anonymous_before: set[str] = set()
    for event in sorted(stored, key=event_at):
        device, user = event.get("anonymousId"), event.get("userId")
        if device and event.get("event") == "Signed Out":
            users_of[device].append((event_at(event), ""))
        elif device and user and user != "undefined" and not event.get("event", "").startswith("Email"):
            devices_of[user].add(device)
            if not users_of[device] or users_of[device][-1][1] != user:
                users_of[device].append((event_at(event), user))
        elif device and not user and device not in users_of:
            anonymous_before.add(device)
    signed_up = tracks(stored, "Signed Up")
    assert len({event["userId"] for event in signed_up}) == len(signed_up) > 2_000
    assert sum(event["anonymousId"] in anonymous_before for event in signed_up) > 1_000
    assert sum(len(devices) > 1 for devices in devices_of.values()) > 300
    turns = [[user for _, user in stretches] for stretches in users_of.values()]
    without_logout = [users for users in turns if any(a and b for a, b in pairwise(users))]
    with_logout = [users for users in turns if any(b == "" and a != c for a, b, c in triples(users))]
    assert len(without_logout) > 20
    assert len(with_logout) > 20
    assert sum(len({user for user in users if user}) > 3 for users in turns) >= 2  # the tablets in the stores
    assert sum(event.get("userId") == "undefined" for event in stored) > 100
    assert sum(event["type"] == "alias" for event in stored) > 50
    assert sum("anonymousId" not in event and event["type"] == "track" for event in stored) > 500


def test_machines_visit_known_and_unknown(stored: list[Event]) -> None:
    by_agent = Counter(event["context"].get("userAgent") for event in stored if "context" in event)
    assert all(by_agent[agent] > 100 for agent in catalog.BOTS)
    minutes = Counter(
        (event["anonymousId"], event_at(event).replace(second=0, microsecond=0))
        for event in stored
        if event["type"] == "page"
    )
    assert max(minutes.values()) > 300
    hours: defaultdict[tuple[str, date], set[int]] = defaultdict(set)
    for event in stored:
        if event["type"] == "page":
            hours[event["anonymousId"], event_at(event).date()].add(event_at(event).hour)
    assert max(map(len, hours.values())) > 20


def test_live_traffic_keeps_its_rate_and_knows_the_customers_of_history(shop: Shop, stored: list[Event]) -> None:
    minutes = 6
    live = list(takewhile(lambda record: record.kafka_at < NOW + timedelta(minutes=minutes), shop.live(NOW)))
    assert all(earlier.kafka_at <= later.kafka_at for earlier, later in pairwise(live))
    seconds = Counter(int((record.kafka_at - NOW).total_seconds()) for record in live)
    assert 195 < len(live) / (60 * minutes) < 210
    assert all(150 <= seconds[second] <= 260 for second in range(2, 60 * minutes))

    lively = [event for record in live if (event := acceptable(record.value)) is not None]
    assert min(event_at(event) for event in lively) >= NOW - timedelta(minutes=1)
    assert not {event["messageId"] for event in lively} & {event["messageId"] for event in stored}
    newly = {event["userId"] for event in tracks(lively, "Signed Up")}
    returning = {event["userId"] for event in tracks(lively, "Signed In")}
    customers = {event["userId"] for event in tracks(stored, "Signed Up")}
    assert newly
    assert not newly & customers
    assert returning & customers
    assert returning <= customers | newly
    assert tracks(lively, "Order Completed")


def test_live_traffic_that_begins_at_the_end_of_a_second_keeps_its_rate(shop: Shop) -> None:
    late = NOW + timedelta(milliseconds=999)
    records = list(islice(shop.live(late), 1_000))
    assert late < records[0].kafka_at < late + timedelta(seconds=1.1)
    assert timedelta(seconds=3) < records[-1].kafka_at - late < timedelta(seconds=7)


def test_two_live_runs_share_no_message(shop: Shop) -> None:
    runs = [
        {
            json.loads(record.value)["messageId"]
            for record in islice(shop.live(start), 150)
            if b'"messageId"' in record.value
        }
        for start in (NOW, NOW + timedelta(milliseconds=1))
    ]
    assert not runs[0] & runs[1]


def test_funnels_ask_for_events_that_happen(stored: list[Event]) -> None:
    names = {event["event"] for event in stored if "event" in event} | {"Page Viewed"}
    definitions = [json.loads(path.read_text()) for path in sorted(FUNNELS.glob("*.json"))]
    assert [definition["name"] for definition in definitions] == ["purchase", "signup"]
    assert all(step["event"] in names for definition in definitions for step in definition["steps"])
