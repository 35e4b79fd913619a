"""The standard load: events of exactly 391 bytes of devices that come back, from a seed, vectorised.

Devices make sessions of seven events on average, or as few as is asked, spread over two days so that two sessions of
a device lie more than an hour apart and two events of a session two minutes at most: how many sessions there are is
known beforehand, and `Workload.sessions` says it. Events arrive in the order of time but for a jitter within the
reorder window. One session in ten is that of somebody who logs in half-way: some 5 % of the events carry both ids.
There are no copies, and none is late unless that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

EVENT_BYTES = 391
EVENTS_PER_SESSION = 7
LONGEST_SESSION = 40  # events
LONGEST_GAP_MS = 120_000  # between two events of a session: far below the 30 minutes that would split it
JITTER_MS = 10_000  # far below the reorder window of 60 s
SPAN = timedelta(days=2)
END = datetime(2024, 3, 1, tzinfo=UTC)  # of the first span; long past, so that no clock takes the events for skewed
LATE_HOURS = (1, 30 * 24)
LOGIN_SHARE = 0.1  # of the sessions
DEVICES_PER_USER = 2
CHUNK = 100_000  # events that are rendered at a time: 39 MB

_Rows = npt.NDArray[np.uint8]
_Longs = npt.NDArray[np.int64]

_KINDS = ("page", "Viewed Product", "Product Added", "Checkout Started", "Order Completed")
_KIND_ODDS = (0.46, 0.38, 0.09, 0.045, 0.025)
_SOURCES = (None, "google", "facebook", "tiktok", "email")
_AGENTS = (
    "Mozilla/5.0 (iPhone) Safari/604.1",
    "Mozilla/5.0 (Android 14) Chrome/130",
    "Mozilla/5.0 (Windows NT 10.0) Edg/130",
    "Mozilla/5.0 (X11; Linux) Firefox/132",
)
_ARTICLES = 20
_MESSAGE = "m-000000000000"
_MOMENT = "2024-01-01T00:00:00.000Z"
_DEVICE = "device-00000000"
_USER = "user-0000000"
_VIEW = "00000000"  # differs in every event: properties that repeat would cost the warehouse next to nothing


def _event(kind: str, article: int, source: str | None, agent: str, with_user: bool) -> bytes:
    """A template: ids and time come first and the view last, so that they lie at the same places in every one."""
    event: dict[str, object] = {"messageId": _MESSAGE, "timestamp": _MOMENT, "anonymousId": _DEVICE}
    event["userId"] = _USER if with_user else None
    path = f"/p/{article + 100}"
    if kind == "page":
        event |= {"type": "page", "name": "Product"}
        properties: dict[str, object] = {"title": ""}
    else:
        event |= {"type": "track", "event": kind}
        properties = {"sku": f"p-{article:04}", "price": round(10.49 + article, 2), "note": ""}
    properties["view"] = _VIEW
    context: dict[str, object] = {"page": {"path": path, "referrer": "https://t.co/"}}
    if source:
        context["campaign"] = {"source": source}
    context["userAgent"] = agent
    event |= {"context": context, "properties": properties}
    missing = EVENT_BYTES - len(_json(event))
    assert missing >= 0, kind
    properties["title" if kind == "page" else "note"] = ("shoes for bad weather, and for worse " * 5)[:missing]
    template = _json(event)
    assert len(template) == EVENT_BYTES, template
    return template


def _json(event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


_VARIANTS = list(product(range(_ARTICLES), _SOURCES, _AGENTS))
_TEMPLATES: _Rows = np.array(
    [
        np.frombuffer(_event(kind, *variant, with_user), np.uint8)
        for with_user in (False, True)
        for kind in _KINDS
        for variant in _VARIANTS
    ]
)
_SAMPLE = _event(_KINDS[0], *_VARIANTS[0], with_user=True)
_MESSAGE_AT = _SAMPLE.index(_MESSAGE.encode()) + len("m-")
_MOMENT_AT = _SAMPLE.index(_MOMENT.encode())
_DEVICE_AT = _SAMPLE.index(_DEVICE.encode())
_USER_AT = _SAMPLE.index(_USER.encode()) + len("user-")
_VIEW_AT = _SAMPLE.rindex(_VIEW.encode())


def _put_digits(rows: _Rows, at: int, width: int, numbers: _Longs) -> None:
    """Writes `numbers`, zero-padded to `width`, into every row from column `at` on."""
    rest = numbers
    for column in range(at + width - 1, at - 1, -1):
        rest, digit = np.divmod(rest, 10)
        rows[:, column] = digit + ord("0")


def _put_moments(rows: _Rows, at: int, moments_ms: _Longs) -> None:
    """Writes ISO 8601 times with milliseconds; `moments_ms` since the epoch, UTC."""
    text = np.datetime_as_string(moments_ms.astype("datetime64[ms]"), unit="ms").astype("S23")
    rows[:, at : at + 23] = text.view(np.uint8).reshape(-1, 23)


@dataclass(frozen=True)
class Batch:
    """Some events in the order of arrival: `payloads` rows of 391 bytes, `keys` rows of the anonymousId's bytes."""

    payloads: _Rows
    keys: _Rows

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, payload) of each."""
        keys, payloads, width = self.keys.tobytes(), self.payloads.tobytes(), len(_DEVICE)
        for number in range(len(self.payloads)):
            yield (
                keys[number * width : (number + 1) * width],
                payloads[number * EVENT_BYTES : (number + 1) * EVENT_BYTES],
            )


@dataclass(frozen=True)
class Workload:
    """`events` events of `devices` devices, of which only as many come as there are sessions; the same seed gives the
    same bytes."""

    events: int
    devices: int
    seed: int = 1
    per_session: int = EVENTS_PER_SESSION  # events, on average
    number: int = 0  # how many spans, and of as many events, came before
    late_share: float = 0.0  # of the events: these arrive when they would, and happened LATE_HOURS earlier
    login_share: float = LOGIN_SHARE
    one_login: int = 0  # 1: only the login itself carries the user, not what comes after it in the session

    @cached_property
    def _lengths(self) -> _Longs:
        """Events of each session: geometric, cut, and in sum exactly `events`."""
        rng = np.random.default_rng(self.seed)
        wanted = int(self.events / self.per_session * 1.2) + 10
        lengths = np.minimum(rng.geometric(1 / self.per_session, wanted), LONGEST_SESSION).astype(np.int64)
        ends = lengths.cumsum()
        last = int(np.searchsorted(ends, self.events))
        lengths = lengths[: last + 1]
        lengths[last] -= ends[last] - self.events
        return lengths

    @property
    def sessions(self) -> int:
        """How many sessions a right answer has, where none is late."""
        return len(self._lengths)

    def batches(self) -> Iterator[Batch]:
        """All events in the order of arrival."""
        rng = np.random.default_rng(self.seed + 1)
        lengths = self._lengths
        session = np.repeat(np.arange(len(lengths)), lengths)
        first = np.repeat(lengths.cumsum() - lengths, lengths)
        nth = np.arange(self.events) - first

        gaps = rng.integers(1_000, LONGEST_GAP_MS, self.events)
        gaps[nth == 0] = 0
        since_start = gaps.cumsum()
        since_start -= since_start[first]
        at = self._starts(rng)[session] + since_start

        device = session % self.devices
        half = lengths[session] // 2
        logged_in = (rng.random(len(lengths)) < self.login_share)[session]
        logged_in &= nth == half if self.one_login else nth >= half
        order = np.argsort(at + rng.integers(0, JITTER_MS, self.events), kind="stable")
        del session, first, nth, half, gaps, since_start
        at -= self._delays(rng)
        for start in range(0, self.events, CHUNK):
            taken = order[start : start + CHUNK]
            yield render(rng, self.number * self.events + start, at[taken], device[taken], logged_in[taken])

    def _delays(self, rng: np.random.Generator) -> _Longs:
        """How late each event is, in milliseconds: 0 but for the late ones, of which each doubling has as many."""
        if not self.late_share:
            return np.zeros(1, np.int64)
        least, most = np.log(LATE_HOURS)
        hours = np.exp(rng.uniform(least, most, self.events))
        return np.where(rng.random(self.events) < self.late_share, hours * 3_600_000, 0).astype(np.int64)

    def _starts(self, rng: np.random.Generator) -> _Longs:
        """When each session begins: the nth of a device in the nth slot of the span, so that none touch."""
        number = np.arange(self.sessions)
        slots = -(-self.sessions // self.devices)
        slot_ms = SPAN // timedelta(milliseconds=1) // slots
        rest_ms = LONGEST_SESSION * LONGEST_GAP_MS + 3_600_000
        if slot_ms <= rest_ms:
            raise ValueError(f"{self.events} events are too many for {self.devices} devices in {SPAN}: take more")
        begin = int((END + (self.number - 1) * SPAN).timestamp() * 1000)
        return begin + number // self.devices * slot_ms + rng.integers(0, slot_ms - rest_ms, self.sessions)


def render(
    rng: np.random.Generator, first_number: int, at: _Longs, device: _Longs, logged_in: npt.NDArray[np.bool_]
) -> Batch:
    count = len(at)
    kind = rng.choice(len(_KINDS), count, p=_KIND_ODDS) + logged_in * len(_KINDS)
    rows = _TEMPLATES[kind * len(_VARIANTS) + rng.integers(0, len(_VARIANTS), count)]
    _put_digits(rows, _MESSAGE_AT, len(_MESSAGE) - 2, np.arange(first_number, first_number + count))
    _put_moments(rows, _MOMENT_AT, at)
    _put_digits(rows, _DEVICE_AT + len("device-"), 8, device)
    _put_digits(rows, _VIEW_AT, 8, rng.integers(0, 10**8, count))
    users = rows[logged_in]
    _put_digits(users, _USER_AT, 7, device[logged_in] // DEVICES_PER_USER)
    rows[logged_in] = users
    return Batch(rows, np.ascontiguousarray(rows[:, _DEVICE_AT : _DEVICE_AT + len(_DEVICE)]))
