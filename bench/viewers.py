"""Fifty people with live pages, and ten funnels a minute asked for at once, over 20 million stored events, while 5,000
events arrive every second: how fresh the answers stay, and how long a page takes.

Each viewer has the overview's live stream open all the time, and every half a minute goes to another page, as people
do; what is measured is from the request to the last byte of the page. The probes of bench/latency.py say how fresh
answers are meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import httpx
import numpy as np

from bench import latency
from bench.latency import FUNNEL_PATH, Latency

VIEWERS: Final = 50
PAGE_EVERY: Final = timedelta(seconds=30)
FUNNEL_EVERY: Final = timedelta(seconds=6)
PAGES: Final = ("/", "/funnels", "/sessions", "/metrics", "/marts", "/experiments", "/spend", "/anomalies", "/health")
LIVE: Final = "/api/live"
STEPS: Final = ("Viewed Product", "Product Added", "Checkout Started", "Order Completed")
RATE: Final = 5_000
"""Events a second."""


@dataclass
class Viewers:
    """What was measured; times in seconds."""

    events: int
    """Stored before."""
    fresh: Latency
    pages: dict[str, list[float]] = field(default_factory=dict)
    funnels: list[float] = field(default_factory=list)
    news: int = 0
    """Messages that the viewers' live streams brought."""

    def page(self, share: float) -> float:
        return float(np.percentile([seconds for every in self.pages.values() for seconds in every], share))

    def funnel(self, share: float) -> float:
        return float(np.percentile(self.funnels, share))


def measure(bootstrap: str, topic: str, partitions: int, address: str, events: int, duration: timedelta) -> Viewers:
    """Watches the service at `address` for so long, under all of that.

    Raises httpx.HTTPError if a page or a funnel cannot be had.
    """
    seen = Viewers(events, Latency([], [], 0.0))
    crowd = _Crowd(address, seen)
    crowd.start()
    seen.fresh = latency.measure(bootstrap, topic, partitions, address, RATE, lambda passed: passed >= duration)
    crowd.leave()
    return seen


class _Crowd(threading.Thread):
    """The viewers, on an event loop of their own."""

    def __init__(self, address: str, seen: Viewers) -> None:
        super().__init__(name="viewers")
        self._address = address
        self._seen = seen
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def leave(self) -> None:
        """Ends the visit. Raises what a viewer ran into."""
        self._ended.set()
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            asyncio.run(self._visit())
        except BaseException as error:  # noqa: BLE001 - told by `leave`
            self._error = error

    async def _visit(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._address, timeout=60, limits=limits) as client:
            streams = [asyncio.create_task(self._watch(client)) for _ in range(VIEWERS)]
            others = [asyncio.create_task(self._read(client, number)) for number in range(VIEWERS)]
            others.append(asyncio.create_task(self._ask(client)))
            await asyncio.gather(*others)
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    async def _watch(self, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", LIVE) as stream:
            async for line in stream.aiter_lines():
                self._seen.news += line.startswith("data:")

    async def _read(self, client: httpx.AsyncClient, number: int) -> None:
        choose = random.Random(number)
        due = time.monotonic() + choose.random() * PAGE_EVERY.total_seconds()
        while await self._is_due(due):
            page = choose.choice(PAGES)
            asked = time.perf_counter()
            (await client.get(page, headers={"accept": "text/html"})).raise_for_status()
            self._seen.pages.setdefault(page, []).append(time.perf_counter() - asked)
            due += PAGE_EVERY.total_seconds()

    async def _ask(self, client: httpx.AsyncClient) -> None:
        choose, due = random.Random(0), time.monotonic()
        while await self._is_due(due):
            asked = time.perf_counter()
            (await client.post(FUNNEL_PATH, json=_funnel(choose))).raise_for_status()
            self._seen.funnels.append(time.perf_counter() - asked)
            due += FUNNEL_EVERY.total_seconds()

    async def _is_due(self, at: float) -> bool:
        """Waits until then; false if the visit is over before."""
        while (left := at - time.monotonic()) > 0 and not self._ended.is_set():
            await asyncio.sleep(min(left, 0.2))
        return not self._ended.is_set()


def _funnel(choose: random.Random) -> dict[str, Any]:
    """Another one each time, over all that is stored; a third of them have parts."""
    steps = sorted(choose.sample(range(len(STEPS)), 3))
    asked: dict[str, Any] = {
        "steps": [{"event": STEPS[step]} for step in steps],
        "window": f"{choose.randint(1, 14)} days",
        "order": choose.choice(["ordered", "ordered", "any"]),
    }
    if choose.random() < 1 / 3:
        asked["breakdown"] = "utm_source"
    return asked


def report(seen: Viewers) -> str:
    fresh = seen.fresh
    rows = "\n".join(
        f"| `{page}` | {len(times)} | {np.percentile(times, 50) * 1e3:,.0f} | {np.percentile(times, 95) * 1e3:,.0f} |"
        for page, times in sorted(seen.pages.items())
    )
    return f"""### Viewers

{seen.events:,} stored events, {RATE:,} more every second ({fresh.events_per_second:,.0f} were sent), {VIEWERS} viewers
with a live page who go to another page every {PAGE_EVERY.seconds} s, and a funnel over all events every
{FUNNEL_EVERY.seconds} s. Their streams brought {seen.news:,} messages.

| | p50 | p95 |
|---|---:|---:|
| **from produced to visible in a funnel, seconds** | {fresh.percentile(50):.2f} | **{fresh.percentile(95):.2f}** |
| **a page, seconds** | {seen.page(50):.2f} | **{seen.page(95):.2f}** |
| a funnel over all events, seconds | {seen.funnel(50):.2f} | {seen.funnel(95):.2f} |

| page | times | p50, ms | p95, ms |
|---|---:|---:|---:|
{rows}
"""
