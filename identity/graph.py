"""The fast shared copy of the identity state, in Redis: each claimed device's changes of owner.

Keys, W being the warehouse's id, so that two warehouses can share a Redis
  stitchline:W:meta           hash: generation, offsets (JSON, next offset by "topic/partition")
  stitchline:W:device:<id>    JSON: the facts that changed who has the device, and the last fact of all

The warehouse is the record. What Redis holds is written after the warehouse's commit, together with the offsets that
it covers; on start, whatever lies between is made up from the warehouse, and a copy of another generation is dropped.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from identity.claims import Fact
from stitchline.errors import IdentityStoreError

CACHED_DEVICES: Final = 200_000
"""Claimed devices kept in this process, the last used ones: about 100 MB at most."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries while Redis is away
_PROBE: Final = 1.0  # seconds that Redis may take to say that it is there

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What is known about a claimed device."""

    facts: tuple[Fact, ...] = ()
    """Those that changed who has it, in order."""
    last: tuple[int, str] = (-(2**62), "")
    """Key of the latest fact of all, those that changed nothing included: an earlier one needs a second look."""

    def dump(self) -> str:
        return json.dumps([self.facts, self.last])

    @classmethod
    def load(cls, text: str | bytes) -> DeviceState:
        facts, last = json.loads(text)
        return cls(tuple(Fact(*fact) for fact in facts), (last[0], last[1]))


class Graph:
    """The devices' states. `waiting` is told while Redis is away, and None when it is back; nothing is lost meanwhile.

    Raises IdentityStoreError only when `stopping` is set while Redis is away.
    """

    def __init__(
        self,
        url: str,
        warehouse_id: str,
        generation: str,
        stopping: threading.Event,
        waiting: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self.url = url
        self._generation = generation
        self._prefix = f"stitchline:{warehouse_id}:"
        self._meta = f"{self._prefix}meta"
        self._device = f"{self._prefix}device:"
        self._redis = redis.Redis.from_url(url, decode_responses=False, health_check_interval=30, socket_timeout=30)
        self._probe = redis.Redis.from_url(
            url, socket_timeout=_PROBE, socket_connect_timeout=_PROBE, retry=Retry(NoBackoff(), 0)
        )
        self._stopping = stopping
        self._waiting = waiting
        self._cache: OrderedDict[str, DeviceState] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, "redis")
        self._written: Future[None] | None = None

    def covers(self) -> dict[str, int] | None:
        """The offsets up to which Redis holds this warehouse's facts; None if it holds none of this generation."""
        meta = self._patiently(lambda: self._redis.hgetall(self._meta))
        if meta.get(b"generation") != self._generation.encode():
            return None
        return {str(k): int(v) for k, v in json.loads(meta.get(b"offsets", b"{}")).items()}

    def why_silent(self) -> str | None:
        """Why Redis does not answer within a second; None if it does. Apart from the flow's own connections."""
        try:
            self._probe.ping()
        except redis.RedisError as error:
            return f"Redis at {_without_secret(self.url)} does not answer ({error}); trying again"
        return None

    def clear(self) -> None:
        """Drops every key of this warehouse and starts an empty copy of this generation."""
        self._cache.clear()

        def drop() -> None:
            for keys in _batches(self._redis.scan_iter(match=f"{self._prefix}*", count=10_000), 10_000):
                self._redis.unlink(*keys)
            self._redis.hset(self._meta, mapping={"generation": self._generation, "offsets": "{}"})

        self._patiently(drop)

    def load(self, devices: Iterable[str]) -> dict[str, DeviceState]:
        """The states of those of `devices` that have one: one round trip for all that are not cached."""
        found: dict[str, DeviceState] = {}
        missing: list[str] = []
        for device in devices:
            state = self._cache.get(device)
            if state is None:
                missing.append(device)
            else:
                self._cache.move_to_end(device)
                found[device] = state
        if missing:
            self.flush()
        for some in _batches(iter(missing), 10_000):
            values = self._patiently(partial(self._redis.mget, [self._device + device for device in some]))
            for device, value in zip(some, values, strict=True):
                if value is not None:
                    found[device] = self._remember(device, DeviceState.load(value))
        return found

    def save(self, states: Mapping[str, DeviceState], offsets: Mapping[str, int]) -> None:
        """Stores `states` and says that `offsets` are covered, all or nothing. Called after the warehouse's commit.

        Returns before that is done, once the save before is: what raised there is raised here.
        """
        self.flush()
        for device, state in states.items():
            self._remember(device, state)
        self._written = self._writer.submit(self._patiently, partial(self._write, states, offsets))

    def flush(self) -> None:
        """Returns once all is saved."""
        if self._written is not None:
            written, self._written = self._written, None
            written.result()

    def _write(self, states: Mapping[str, DeviceState], offsets: Mapping[str, int]) -> None:
        pipe = self._redis.pipeline(transaction=True)
        for some in _batches(iter(states.items()), 5_000):
            pipe.mset({self._device + device: state.dump() for device, state in some})
        pipe.hset(self._meta, "offsets", json.dumps(dict(offsets)))
        pipe.execute()

    def close(self) -> None:
        self._writer.shutdown()
        self._redis.close()
        self._probe.close()

    def _remember(self, device: str, state: DeviceState) -> DeviceState:
        self._cache[device] = state
        self._cache.move_to_end(device)
        if len(self._cache) > CACHED_DEVICES:
            self._cache.popitem(last=False)
        return state

    def _patiently(self, action: Callable[[], T]) -> T:
        pause, waited = _FIRST_PAUSE, False
        while True:
            try:
                result = action()
            except (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.BusyLoadingError) as error:
                waited = True
                self._waiting(f"Redis at {_without_secret(self.url)} does not answer ({error}); trying again")
                if self._stopping.wait(pause):
                    raise IdentityStoreError(
                        f"Redis at {_without_secret(self.url)} did not answer before the stop ({error}). Nothing is "
                        "lost: the flow goes on from the warehouse when both are back.",
                        url=_without_secret(self.url),
                    ) from error
                pause = min(2 * pause, _LONGEST_PAUSE)
            except redis.RedisError as error:
                raise IdentityStoreError(
                    f"Redis at {_without_secret(self.url)} refused: {error}. Check its version and access rights.",
                    url=_without_secret(self.url),
                ) from error
            else:
                if waited:
                    self._waiting(None)
                return result


def _batches(items: Iterable[T], size: int) -> Iterable[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _without_secret(url: str) -> str:
    return url.rsplit("@", 1)[-1] if "@" in url else url
