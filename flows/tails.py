"""How the last closed session of each device ended: what its next one has to know, without looking it up in the store.

32 bytes a device. Devices and users are known by 64-bit hashes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from stitchline.compiled import compiled
from stitchline.hashing import hash_texts
from stitchline.slots import Slots, slots_for

Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

NOBODY: Final = np.uint64(0)
"""In the place of a user's hash: the session had none."""


class Tail(NamedTuple):
    """One entry a device asked for; of no meaning where it was not found."""

    found: Flags
    ended_at: Ints  # microseconds UTC
    user: Hashes
    by_logout: Flags


class Tails:
    """A hash table by the device's hash."""

    def __init__(self) -> None:
        self._count = 0
        self._device: Hashes = np.empty(0, np.uint64)
        self._ended_at: Ints = np.empty(0, np.int64)
        self._user: Hashes = np.empty(0, np.uint64)
        self._by_logout: Flags = np.empty(0, np.bool_)
        self._slots = slots_for(self._device, 0, 0)

    def put(self, sessions: pl.DataFrame) -> None:
        """`sessions` (anonymous_id, user_id, ended_at, end_reason), at most one a device, are the last ones now."""
        if sessions.is_empty():
            return
        most = self._count + sessions.height
        if most > len(self._device):
            room = max(most, 3 * self._count // 2)
            self._device, self._ended_at = np.resize(self._device, room), np.resize(self._ended_at, room)
            self._user, self._by_logout = np.resize(self._user, room), np.resize(self._by_logout, room)
        if 2 * most > len(self._slots):
            self._slots = slots_for(self._device, self._count, 2 * most)
        self._count = _put(
            self._slots,
            (self._device, self._ended_at, self._user, self._by_logout),
            self._count,
            hash_texts(sessions["anonymous_id"].to_arrow()),
            sessions["ended_at"].to_physical().to_numpy(),
            hashes_of_users(sessions["user_id"]),
            (sessions["end_reason"] == "logout").fill_null(value=False).to_numpy(),
        )

    def of(self, devices: Hashes) -> Tail:
        row = _find(self._slots, self._device, devices)
        found = row >= 0
        if not self._count:
            return Tail(found, row, devices, found)
        return Tail(found, self._ended_at[row], self._user[row], self._by_logout[row])


def hashes_of_users(users: pl.Series) -> Hashes:
    """NOBODY for null."""
    return np.where(users.is_null().to_numpy(), NOBODY, hash_texts(users.to_arrow()) | np.uint64(1))


@compiled
def _put(
    slots: Slots,
    kept: tuple[Hashes, Ints, Hashes, Flags],
    count: int,
    device: Hashes,
    ended_at: Ints,
    user: Hashes,
    by_logout: Flags,
) -> int:
    """Returns how many devices there are now."""
    mask = np.uint64(len(slots) - 1)
    kept_device, kept_ended_at, kept_user, kept_by_logout = kept
    for i in range(len(device)):
        slot = device[i] & mask
        while slots[slot] >= 0 and kept_device[slots[slot]] != device[i]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = count
            count += 1
        row = slots[slot]
        kept_device[row], kept_ended_at[row] = device[i], ended_at[i]
        kept_user[row], kept_by_logout[row] = user[i], by_logout[i]
    return count


@compiled
def _find(slots: Slots, kept: Hashes, device: Hashes) -> Ints:
    mask = np.uint64(len(slots) - 1)
    rows = np.full(len(device), -1, np.int64)
    for i in range(len(device)):
        slot = device[i] & mask
        while slots[slot] >= 0 and kept[slots[slot]] != device[i]:
            slot = (slot + np.uint64(1)) & mask
        rows[i] = slots[slot]
    return rows
