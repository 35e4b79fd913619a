"""The live stream, as a client of the HTTP API sees it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import duckdb
import httpx
import pytest

from service.web.app import create_app
from tests.service.web.shop import Server, Shop, at


class Stream:
    """Reads server-sent events one by one."""

    def __init__(self, client: httpx.Client, path: str = "/api/live") -> None:
        self._context = client.stream("GET", path)
        self.answer = self._context.__enter__()
        self._lines = self.answer.iter_lines()

    def next(self) -> tuple[str, dict[str, Any]]:
        event = data = ""
        for line in self._lines:
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")
            elif not line and event:
                return event, json.loads(data)
        raise EOFError

    def until(self, event: str, **texts: str) -> dict[str, Any]:
        """The first reading of that part which shows these texts."""
        for _ in range(300):
            kind, reading = self.next()
            if kind == event and texts.items() <= reading.get("texts", {}).items():
                return reading
        raise AssertionError(f"no {event} with {texts} came in 300 events")

    def close(self) -> None:
        self._context.__exit__(None, None, None)


@pytest.fixture
def stream(api: httpx.Client) -> Iterator[Stream]:
    stream = Stream(api)
    yield stream
    stream.close()


def test_the_parts_arrive(stream: Stream) -> None:
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert stream.next()[0] == "history"
    flow = stream.until("flow")
    assert (flow["texts"]["rate"], flow["texts"]["lag_records"], flow["status"]) == ("1,234", "42", "running")
    assert flow["point"][1] == 1234.5
    assert stream.until("totals")["texts"]["stored"] == "1,206"


def test_the_funnel_arrives_in_words(stream: Stream) -> None:
    funnel = stream.until("funnel")
    assert [funnel["texts"][f"{step}.count"] for step in range(3)] == ["3", "2", "1"]
    assert funnel["texts"]["1.conversion"] == "66.7\u202f%"
    assert funnel["texts"]["1.median"] == "1\u202fmin 30\u202fs"
    assert funnel["times"]["as_of"] == "2026-01-31T13:30:00.000000Z"
    assert funnel["bars"] == [
        {"went_on": 66.67, "open": 0.0, "dropped": 33.33},
        {"went_on": 33.33, "open": 0.0, "dropped": 33.33},
        {"went_on": 33.33, "open": 0.0, "dropped": 0.0},
    ]


def test_what_is_written_arrives(stream: Stream, shop: Shop) -> None:
    stream.until("totals", stored="1,206")
    shop.progress(2, consumed=1000, stored=1000)
    assert stream.until("totals", stored="2,206")
    shop.event("d9-1", "Page Viewed", "d9", at(20))
    assert stream.until("funnel", **{"0.count": "4"})
    shop.session("9" * 32, "d9", at(20), at(21), topic="events", partition=0)
    assert stream.until("sessions")["rows"]


def test_a_part_that_does_not_change_is_not_sent_again(stream: Stream) -> None:
    kinds = [stream.next()[0] for _ in range(30)]
    assert kinds.count("flow") > 10
    assert kinds.count("totals") == kinds.count("funnel") == kinds.count("sessions") == 1


def test_viewers_share_what_is_computed(api: httpx.Client, shop: Shop) -> None:
    streams = [Stream(api) for _ in range(10)]
    for stream in streams:
        stream.until("funnel")
    before, began = shop.reads, time.monotonic()
    for _ in range(20):
        streams[0].until("flow")
    reads, ticks = shop.reads - before, (time.monotonic() - began) / 0.1
    for stream in streams:
        stream.close()
    assert reads <= 4 * ticks + 10  # totals, people, sessions and the funnel once a tick at most, for all ten


def test_without_viewers_nothing_is_read(api: httpx.Client, shop: Shop) -> None:
    stream = Stream(api)
    stream.until("totals")
    stream.close()
    ended = threading.Event()
    for _ in range(100):  # the server notices within a tick or two that the viewer has gone
        before = shop.reads
        ended.wait(0.4)
        if shop.reads == before:
            return
    raise AssertionError("the warehouse is still read though nobody looks")


def test_a_viewer_gets_the_past_of_the_chart(api: httpx.Client) -> None:
    first = Stream(api)
    for _ in range(5):
        first.until("flow")
    first.close()
    second = Stream(api)
    kind, reading = second.next()
    second.close()
    assert kind == "history"
    assert len(reading["points"]) >= 5
    assert [point[0] for point in reading["points"]] == sorted(point[0] for point in reading["points"])


def test_a_funnel_is_chosen_by_name(api: httpx.Client) -> None:
    named = Stream(api, "/api/live?funnel=purchase")
    assert named.until("funnel")
    named.close()
    assert api.get("/api/live?funnel=other").status_code == 404


def test_a_warehouse_that_cannot_be_read_is_told_and_forgotten(shop: Shop, server: Server) -> None:
    broken = threading.Event()

    class Breaking(Shop):
        def reader(self) -> duckdb.DuckDBPyConnection:
            if broken.is_set():
                raise duckdb.IOException("IO Error: the disk is gone")
            return shop.reader()

    view = Breaking.__new__(Breaking)
    view.state, view.definitions = shop.state, shop.definitions
    server.start(create_app(view, tick=timedelta(milliseconds=50)))
    with httpx.Client(base_url=server.url, timeout=20) as api:
        stream = Stream(api)
        stream.until("totals")
        broken.set()
        while "the disk is gone" not in stream.until("problem")["texts"]["problem"]:
            pass
        broken.clear()
        assert stream.until("problem", problem="")
        stream.close()


def test_closing_the_feed_ends_the_streams(api: httpx.Client, server: Server) -> None:
    stream = Stream(api)
    stream.until("flow")
    server.stop()  # fails if the server waits for the stream
    while True:
        try:
            stream.next()
        except EOFError:
            return
