"""The standard load is what it says: sizes, ids, times, and as many sessions as an independent count finds."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from bench.workload import END, EVENT_BYTES, LATE_HOURS, SPAN, Workload

EVENTS, DEVICES = 140_000, 7_000


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload(EVENTS, DEVICES)


@pytest.fixture(scope="module")
def events(workload: Workload) -> list[dict[str, Any]]:
    found = []
    for batch in workload.batches():
        for key, payload in batch.records():
            assert len(payload) == EVENT_BYTES
            event = json.loads(payload)
            assert event["anonymousId"].encode() == key
            event["at"] = datetime.fromisoformat(event["timestamp"])
            found.append(event)
    return found


def test_every_event_is_there_once_and_keeps_the_contract(events: list[dict[str, Any]]) -> None:
    assert len(events) == len({event["messageId"] for event in events}) == EVENTS
    assert {event["type"] for event in events} == {"page", "track"}
    assert all(("event" in event) == (event["type"] == "track") for event in events)
    assert all(event["context"]["page"]["path"].startswith("/p/") for event in events)
    assert all(event["context"]["userAgent"].startswith("Mozilla/5.0") for event in events)
    assert 0.7 < sum("campaign" in event["context"] for event in events) / EVENTS < 0.9
    assert len({json.dumps(event["properties"]) for event in events}) > 0.99 * EVENTS


def test_a_twentieth_carries_both_ids_and_no_user_has_more_than_two_devices(events: list[dict[str, Any]]) -> None:
    devices_of = defaultdict(set)
    for event in events:
        if event["userId"] is not None:
            devices_of[event["userId"]].add(event["anonymousId"])
    assert 0.04 < sum(event["userId"] is not None for event in events) / EVENTS < 0.065
    assert max(map(len, devices_of.values())) == 2


def test_arrival_is_in_the_order_of_time_within_the_jitter(events: list[dict[str, Any]]) -> None:
    greatest, out_of_order = events[0]["at"], 0
    for event in events:
        assert greatest - event["at"] < timedelta(seconds=10)
        out_of_order += event["at"] < greatest
        greatest = max(greatest, event["at"])
    assert out_of_order > 0
    assert events[0]["at"] >= END - SPAN
    assert greatest <= END


def test_the_sessions_are_as_many_as_promised(workload: Workload, events: list[dict[str, Any]]) -> None:
    times = defaultdict(list)
    for event in events:
        times[event["anonymousId"]].append(event["at"])
    sessions = 0
    for moments in times.values():
        moments.sort()
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert not [gap for gap in gaps if timedelta(minutes=2) < gap < timedelta(minutes=60)]
        sessions += 1 + sum(gap > timedelta(minutes=30) for gap in gaps)
    assert sessions == workload.sessions
    assert 6 < EVENTS / sessions < 8
    assert len(times) == DEVICES


def test_the_seed_decides_every_byte() -> None:
    def digest(seed: int) -> str:
        sha = hashlib.sha256()
        for batch in Workload(5_000, 500, seed).batches():
            sha.update(batch.payloads.tobytes())
        return sha.hexdigest()

    assert digest(1) == digest(1) != digest(2)


def test_loads_that_follow_one_another_share_nothing_but_their_devices() -> None:
    def told(number: int) -> tuple[set[str], set[str], list[datetime]]:
        events = [json.loads(p) for b in Workload(5_000, 500, number=number).batches() for _, p in b.records()]
        times = [datetime.fromisoformat(event["timestamp"]) for event in events]
        return {e["messageId"] for e in events}, {e["anonymousId"] for e in events}, times

    messages, devices, times = told(0)
    later_messages, later_devices, later_times = told(1)
    assert not messages & later_messages
    assert devices == later_devices
    assert max(times) <= END <= min(later_times)
    assert max(later_times) <= END + SPAN


def test_late_events_arrive_in_their_place_and_happened_hours_before() -> None:
    share, hours = 0.1, timedelta(hours=1)

    def told(late_share: float) -> dict[str, datetime]:
        events = [
            json.loads(p) for b in Workload(20_000, 2_000, late_share=late_share).batches() for _, p in b.records()
        ]
        return {event["messageId"]: datetime.fromisoformat(event["timestamp"]) for event in events}

    in_time, late = told(0), told(share)
    delays = [in_time[message] - late[message] for message in in_time]
    assert list(in_time) == list(late)
    assert 0.9 * share < sum(delay > timedelta(0) for delay in delays) / len(delays) < 1.1 * share
    assert all(not delay or LATE_HOURS[0] * hours <= delay <= LATE_HOURS[1] * hours for delay in delays)
    assert max(delays) > 20 * timedelta(days=1)


def test_sessions_may_be_shorter() -> None:
    workload = Workload(EVENTS, EVENTS, per_session=3)
    assert 2.9 < EVENTS / workload.sessions < 3.1


def test_more_events_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="too many for 10 devices"):
        list(Workload(10_000, 10).batches())
