"""The fast shared copy of the identity state, in Redis: each claimed device's changes of owner.

Keys, W being the warehouse's id, so that two warehouses can share a Redis; in braces, so that a Redis Cluster keeps
those of a warehouse together, which is what lets a transaction take them
  stitchline:{W}:meta           hash: generation, offsets (JSON, next offset by "topic/partition")
  stitchline:{W}:device:<id>    JSON: the compact facts of the device, and the users for whom it is held; dropped by
                                Redis when the device had no new fact for `expire_after`

The warehouse is the record. What Redis holds is written after the warehouse's commit, together with the offsets that
it covers; on start, whatever lies between is made up from the warehouse, and a copy of another generation is dropped.
Nobody else writes these keys, so while a flow runs `meta` says what it said last, or Redis has lost something (it was
emptied, swapped, put back to an older copy): every read and write looks at it in the same transaction.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from identity.claims import Fact
from stitchline.errors import IdentityStoreError

CACHED_DEVICES: Final = 200_000
"""Claimed devices kept in this process, the last used ones: about 100 MB at most."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries while Redis is away
_PROBE: Final = 1.0  # seconds that Redis may take to say that it is there
_PATIENCE_TO_PERSIST: Final = 300.0  # seconds
_UNDER_WAY: Final = ("in_progress", "scheduled")
_PATIENCE: Final = 10.0  # seconds that an answer may take

_PASSES: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.WatchError,  # also what a connection lost in a transaction is told by
    redis.OutOfMemoryError,
    redis.ReadOnlyError,  # of a replica, until it has become the master
)
"""What is waited for: Redis is away, or takes nothing now."""
_CANNOT_SAVE: Final = "MISCONF"  # how Redis says that it takes nothing, because its own disk is full or broken

_GENERATION, _OFFSETS = "generation", "offsets"

T = TypeVar("T")


_quoted: Final = json.encoder.encode_basestring_ascii

# SET with an expiry for many keys: MSET has none, and a command for each takes three times as long.
_SET_ALL: Final = "for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end"


class DeviceState(NamedTuple):
    """What is known about a claimed device."""

    facts: tuple[Fact, ...] = ()
    """Compact, in order."""
    held: tuple[str, ...] = ()
    """The users to whom it does not link, by name."""

    def dump(self) -> str:
        """JSON, put together by hand: as `json` would write it, in a fifth of the time."""
        facts = ",".join(
            [
                f"[{at},{_quoted(message_id)},{_quoted(user) if user is not None else 'null'},{_quoted(kind)}]"
                for at, message_id, user, kind in self.facts
            ]
        )
        return f"[[{facts}],[{','.join(map(_quoted, self.held))}]]"

    @classmethod
    def load(cls, text: str | bytes) -> DeviceState:
        facts, held = json.loads(text)
        return cls(tuple(Fact(*fact) for fact in facts), tuple(held))


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
        expire_after: timedelta = timedelta(days=400),
    ) -> None:
        self.url = url
        self._generation = generation
        self._prefix = f"stitchline:{{{warehouse_id}}}:"
        self._seconds = max(1, expire_after // timedelta(seconds=1))
        self._meta = f"{self._prefix}meta"
        self._device = f"{self._prefix}device:"
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=False,
            health_check_interval=30,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            retry=Retry(NoBackoff(), 0),  # `_patiently` does that, and says so
        )
        self._probe = redis.Redis.from_url(
            url, socket_timeout=_PROBE, socket_connect_timeout=_PROBE, retry=Retry(NoBackoff(), 0)
        )
        self._stopping = stopping
        self._waiting = waiting
        self._cache: OrderedDict[str, DeviceState] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, "redis")
        self._written: Future[None] | None = None
        self._saved = ""  # the offsets in `meta`, as they were read or written last

    def begin(self, generation: str) -> None:
        """The warehouse is of this generation from now on: what Redis holds is of another one."""
        self.flush()
        self._generation = generation

    def covers(self) -> dict[str, int] | None:
        """The offsets up to which Redis holds this warehouse's facts; None if it holds none of this generation."""
        generation, offsets = self._patiently(lambda: self._meta_in(self._redis))
        if generation != self._generation.encode() or offsets is None:
            return None
        self._saved = offsets.decode()
        return self.offsets

    @property
    def offsets(self) -> dict[str, int]:
        """The next offsets by "topic/partition" that were saved last."""
        return {str(k): int(v) for k, v in json.loads(self._saved or "{}").items()}

    def why_silent(self) -> str | None:
        """Why Redis does not answer within a second; None if it does. Apart from the flow's own connections."""
        try:
            self._probe.ping()
        except redis.RedisError as error:
            return f"Redis at {_without_secret(self.url)} does not answer ({error}); trying again"
        return None

    def clear(self) -> None:
        """Drops every key of this warehouse and starts an empty copy of this generation."""
        self.flush()
        self._cache.clear()
        self._saved = "{}"

        def drop() -> None:
            for keys in _batches(self._redis.scan_iter(match=f"{self._prefix}*", count=10_000), 10_000):
                self._redis.unlink(*keys)
            self._redis.hset(self._meta, mapping={_GENERATION: self._generation, _OFFSETS: self._saved})

        self._patiently(drop)

    def load(self, devices: Iterable[str]) -> dict[str, DeviceState] | None:
        """The states of those of `devices` that have one here: one round trip for all that are not cached.

        None if Redis no longer holds what was saved: then it has to be cleared and filled again from the warehouse.
        """
        found: dict[str, DeviceState] = {}
        missing: list[str] = []
        for device in devices:
            state = self._cache.get(device)
            if state is None:
                missing.append(device)
            else:
                self._cache.move_to_end(device)
                found[device] = state
        self.flush()
        for some in _batches(iter(missing), 10_000) if missing else [[]]:
            meta, *values = self._patiently(partial(self._read, some))
            if not self._is_current(meta, self._saved):
                return None
            for device, value in zip(some, values[0] if some else [], strict=True):
                if value is not None:
                    found[device] = self._remember(device, DeviceState.load(value))
        return found

    def save(self, states: Mapping[str, DeviceState], offsets: Mapping[str, int], *, are_needed: bool = True) -> None:
        """Stores `states` and says that `offsets` are covered, all or nothing. Called after the warehouse's commit.
        Those that `are_needed` again soon are kept here, too.

        Returns before that is done, once the save before is: what raised there is raised here. A Redis that no longer
        holds what was saved is left as it is, for `load` to find out.
        """
        self.flush()
        if are_needed:
            for device, state in states.items():
                self._remember(device, state)
        before, self._saved = self._saved, json.dumps(dict(offsets))
        self._written = self._writer.submit(self._patiently, partial(self._write, states, before, self._saved))

    def drop(self, devices: Iterable[str]) -> int:
        """Drops the states of `devices`, here and in Redis; what the warehouse says of them comes back when it is
        needed. Returns how many Redis had."""
        self.flush()
        dropped = 0
        for some in _batches(iter(devices), 10_000):
            for device in some:
                self._cache.pop(device, None)
            dropped += self._patiently(partial(self._redis.unlink, *(self._device + device for device in some)))
        return dropped

    def persist_anew(self) -> str | None:
        """Has Redis write its files anew, so that nothing that was dropped is left in them, and waits for it. Returns
        why that could not be seen to be done, if it could not."""
        try:
            self._until_saved()  # what is being written now may hold them still
            self._redis.bgsave()
            told = self._until_saved()
            if told.get("aof_enabled"):
                self._redis.bgrewriteaof()
                told = self._until_saved()
        except (redis.RedisError, TimeoutError) as error:
            return str(error)
        failed = [what for what in ("rdb_last_bgsave", "aof_last_bgrewrite") if told.get(f"{what}_status") != "ok"]
        return f"{failed[0]} failed" if failed else None

    def _until_saved(self) -> dict[str, Any]:
        """Returns what Redis says of its files once it writes none."""
        until = time.monotonic() + _PATIENCE_TO_PERSIST
        while True:
            told: dict[str, Any] = self._redis.info("persistence")
            if not any(told.get(f"{what}_{how}") for what in ("rdb_bgsave", "aof_rewrite") for how in _UNDER_WAY):
                return told
            if time.monotonic() > until:
                raise TimeoutError(f"it has been writing its files for {_PATIENCE_TO_PERSIST:.0f} s")
            time.sleep(0.05)

    def flush(self) -> None:
        """Returns once all is saved."""
        if self._written is not None:
            written, self._written = self._written, None
            written.result()

    def _read(self, devices: list[str]) -> list[Any]:
        """`meta`, and the values of `devices` if there are any, as they were at one moment."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(self._meta, _GENERATION, _OFFSETS)
        if devices:
            pipe.mget([self._device + device for device in devices])
        return pipe.execute()

    def _write(self, states: Mapping[str, DeviceState], before: str, after: str) -> None:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.watch(self._meta)
            if not self._is_current(self._meta_in(pipe), before):
                return  # lost; or written, if only the answer was lost
            pipe.multi()
            for some in _batches(iter(states.items()), 5_000):
                keys = [self._device + device for device, _ in some]
                pipe.eval(_SET_ALL, len(keys), *keys, self._seconds, *(state.dump() for _, state in some))
            pipe.hset(self._meta, _OFFSETS, after)
            pipe.execute()

    def _meta_in(self, client: Any) -> list[bytes | None]:
        """generation and offsets, by a client that answers at once."""
        meta: list[bytes | None] = client.hmget(self._meta, _GENERATION, _OFFSETS)
        return meta

    def _is_current(self, meta: list[bytes | None], offsets: str) -> bool:
        return meta == [self._generation.encode(), offsets.encode()]

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
            except redis.RedisError as error:
                if not isinstance(error, _PASSES) and not str(error).startswith(_CANNOT_SAVE):
                    raise IdentityStoreError(
                        f"Redis at {_without_secret(self.url)} refused: {error}. Check its version and access rights.",
                        url=_without_secret(self.url),
                    ) from error
                waited = True
                what = "takes nothing" if isinstance(error, redis.ResponseError) else "does not answer"
                self._waiting(f"Redis at {_without_secret(self.url)} {what} ({error}); trying again")
                if self._stopping.wait(pause):
                    raise IdentityStoreError(
                        f"Redis at {_without_secret(self.url)} {what}, and the flow is to stop ({error}). Nothing is "
                        "lost: the flow goes on from the warehouse when both are back.",
                        url=_without_secret(self.url),
                    ) from error
                pause = min(2 * pause, _LONGEST_PAUSE)
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
