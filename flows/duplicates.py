"""Which messages have come before, in bounded memory. DESIGN: session rule 8.

A message is known by 128 bits of hash of (anonymous_id, message_id); a chance collision is as likely as one of two
session ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled
from stitchline.slots import Slots, slots_for

Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_LOWEST: Final = -(2**62)


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages as columns of equal length: two hashes, their device's hash, event_at (µs), index of their source."""

    hash_1: Hashes
    hash_2: Hashes
    device: Hashes
    at: Ints
    source: Ints

    def __len__(self) -> int:
        return len(self.hash_1)

    def where(self, rows: Flags | Ints | slice) -> Messages:
        return Messages(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.hash_1, self.hash_2, self.device, self.at, self.source

    @classmethod
    def room(cls, size: int) -> Messages:
        hashes, ints = [np.empty(size, np.uint64) for _ in range(3)], [np.empty(size, np.int64) for _ in range(2)]
        return cls(hashes[0], hashes[1], hashes[2], ints[0], ints[1])


class SeenMessages:
    """A hash table of messages: 40 bytes each, and 8 to 16 for its place."""

    def __init__(self) -> None:
        self._count = 0
        self._kept = Messages.room(0)
        self._slots = slots_for(self._kept.hash_1, 0, 0)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return 40 * len(self._kept) + self._slots.nbytes

    def admit(self, messages: Messages) -> Flags:
        """Which of `messages` come for the first time, in the order given. All are remembered."""
        most = self._count + len(messages)
        if most > len(self._kept):
            self._keep(self._kept.where(slice(self._count)), max(most, 3 * self._count // 2))
        if 2 * most > len(self._slots):
            self._slots = slots_for(self._kept.hash_1, self._count, most)
        first: Flags = np.empty(len(messages), np.bool_)
        self._count = _admit(self._slots, self._kept.columns(), self._count, messages.columns(), first)
        return first

    def forget(self, open_devices: Hashes, watermarks: Ints) -> None:
        """Keeps what belongs to an open session or lies above its source's watermark (µs, by source index)."""
        devices = slots_for(open_devices, len(open_devices), len(open_devices))
        self._count = _forget(self._kept.columns(), self._count, devices, open_devices, watermarks)
        self._keep(self._kept.where(slice(self._count)), self._count)
        self._slots = slots_for(self._kept.hash_1, self._count, 2 * self._count)

    def _keep(self, messages: Messages, room: int) -> None:
        self._kept = Messages.room(room)
        for column, values in zip(self._kept.columns(), messages.columns(), strict=True):
            column[: len(values)] = values


class Duplicates:
    """Tells copies from new messages. What memory no longer holds is looked up in the store.

    Each message names its source, and sources have watermarks (µs): the store need only be asked about what is not
    above. `forget_every` is the number of messages between two sweeps of the memory, each about 50 ms a million.
    """

    def __init__(self, forget_every: int) -> None:
        self._seen = SeenMessages()
        self._forget_every = forget_every
        self._since_sweep = 0
        self._forgotten_to: Ints = np.empty(0, np.int64)

    def recover(self, messages: Messages, watermarks: Ints) -> None:
        """Begins with `messages`: all that are stored, but for those that `SeenMessages.forget` would leave out."""
        self._seen.admit(messages)
        self._forgotten_to = watermarks

    def new(
        self, messages: Messages, is_foreign: Flags, watermarks: Ints, stored_already: Callable[[Ints], Ints]
    ) -> Flags:
        """Which of `messages` are new: the first committed wins, whatever a copy's time. `stored_already` tells which
        of the rows it is asked about the store has, by their place in the question."""
        floors = self._floors(len(watermarks))
        # A copy may carry a later time than its original below the floor: up to the watermark all are asked for.
        floors = np.where(floors > _LOWEST, np.maximum(floors, watermarks), floors)
        new = self._seen.admit(messages)
        forgotten = messages.at <= floors[messages.source]
        # A record under another device's key may be a copy of one that came by another partition.
        forgotten |= is_foreign & (messages.at <= floors.max(initial=_LOWEST))
        doubtful = np.flatnonzero(new & forgotten)
        if len(doubtful):
            new[doubtful[stored_already(doubtful)]] = False
        self._since_sweep += len(messages)
        return new

    def forget(self, open_devices: Callable[[], Hashes], watermarks: Ints) -> None:
        """Forgets, if it is time to, what is neither of an open session nor above its source's watermark."""
        if self._since_sweep >= self._forget_every:
            self._since_sweep = 0
            self._forgotten_to = np.maximum(self._floors(len(watermarks)), watermarks)
            self._seen.forget(open_devices(), self._forgotten_to)

    def _floors(self, sources: int) -> Ints:
        """By source, the event time (µs) above which all its messages are remembered. A source that is new may bring
        again what came by another one, so it starts from the highest floor there is."""
        highest = self._forgotten_to.max(initial=_LOWEST)
        return np.concatenate([self._forgotten_to, np.full(sources - len(self._forgotten_to), highest, np.int64)])


@compiled
def _admit(slots: Slots, kept: tuple[Any, ...], count: int, messages: tuple[Any, ...], first: Flags) -> int:
    """Writes to `first` which messages come for the first time and appends those to `kept`. Returns how many it has."""
    mask = np.uint64(len(slots) - 1)
    kept_1, kept_2, kept_device, kept_at, kept_source = kept
    hash_1, hash_2, device, at, source = messages
    for i in range(len(first)):
        slot = hash_1[i] & mask
        while slots[slot] >= 0 and not (kept_1[slots[slot]] == hash_1[i] and kept_2[slots[slot]] == hash_2[i]):
            slot = (slot + np.uint64(1)) & mask
        first[i] = slots[slot] < 0
        if first[i]:
            slots[slot] = count
            kept_1[count], kept_2[count] = hash_1[i], hash_2[i]
            kept_device[count], kept_at[count], kept_source[count] = device[i], at[i], source[i]
            count += 1
    return count


@compiled
def _forget(kept: tuple[Any, ...], count: int, slots: Slots, open_devices: Hashes, watermarks: Ints) -> int:
    """Moves what is kept on to the front. Returns how many messages that are."""
    mask = np.uint64(len(slots) - 1)
    hash_1, hash_2, device, at, source = kept
    left = 0
    for i in range(count):
        if at[i] <= watermarks[source[i]]:
            slot = device[i] & mask
            while slots[slot] >= 0 and open_devices[slots[slot]] != device[i]:
                slot = (slot + np.uint64(1)) & mask
            if slots[slot] < 0:
                continue
        hash_1[left], hash_2[left] = hash_1[i], hash_2[i]
        device[left], at[left], source[left] = device[i], at[i], source[i]
        left += 1
    return left
