"""How the last closed session of each device ended: what its next one has to know, without looking it up in the store.

25 bytes a device, 8 to 16 for its place, and room to grow. Devices and users are known by 64-bit hashes.
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
        self._kept = _room(0)
        self._slots = slots_for(self._kept[0], 0, 0)

    def put(self, sessions: pl.DataFrame) -> None:
        """`sessions` (anonymous_id, user_id, ended_at, end_reason), at most one a device, are the last ones now."""
        self._put(sessions, later_alone=False)

    def put_latest(self, sessions: pl.DataFrame) -> pl.Series:
        """Of `sessions` (as in `put`), any number a device in any order, and what is known already, the one of each
        device that ended last. Returns the devices with two that ended at once, of which any is taken."""
        return sessions["anonymous_id"].filter(pl.Series(self._put(sessions, later_alone=True)))

    def _put(self, sessions: pl.DataFrame, *, later_alone: bool) -> Flags:
        ties = np.zeros(sessions.height, np.bool_)
        if sessions.is_empty():
            return ties
        most = self._count + sessions.height
        if most > len(self._kept[0]):
            wider = _room(max(most, 3 * self._count // 2))
            for column, values in zip(wider, self._kept, strict=True):
                column[: self._count] = values[: self._count]
            self._kept = wider
        if 2 * most > len(self._slots):
            self._slots = slots_for(self._kept[0], self._count, most)
        self._count = _put(
            self._slots,
            self._kept,
            self._count,
            (
                hash_texts(sessions["anonymous_id"].to_arrow()),
                sessions["ended_at"].to_physical().to_numpy(),
                hashes_of_users(sessions["user_id"]),
                (sessions["end_reason"] == "logout").fill_null(value=False).to_numpy(),
            ),
            later_alone,
            ties,
        )
        return ties

    def of(self, devices: Hashes) -> Tail:
        device, ended_at, user, by_logout = self._kept
        row = _find(self._slots, device, devices)
        found = row >= 0
        if not self._count:
            return Tail(found, row, devices, found)
        return Tail(found, ended_at[row], user[row], by_logout[row])


def _room(devices: int) -> tuple[Hashes, Ints, Hashes, Flags]:
    """Columns of a device's hash, ended_at (microseconds UTC), the user's hash, and whether a logout ended it. What is
    not written to yet takes no memory."""
    return (
        np.empty(devices, np.uint64),
        np.empty(devices, np.int64),
        np.empty(devices, np.uint64),
        np.empty(devices, np.bool_),
    )


def hashes_of_users(users: pl.Series) -> Hashes:
    """NOBODY for null."""
    return np.where(users.is_null().to_numpy(), NOBODY, hash_texts(users.to_arrow()) | np.uint64(1))


@compiled
def _put(
    slots: Slots,
    kept: tuple[Hashes, Ints, Hashes, Flags],
    count: int,
    put: tuple[Hashes, Ints, Hashes, Flags],
    later_alone: bool,
    ties: Flags,
) -> int:
    """Returns how many devices there are now. With `later_alone` it keeps what ended later, and marks `ties`."""
    mask = np.uint64(len(slots) - 1)
    kept_device, kept_ended_at, kept_user, kept_by_logout = kept
    device, ended_at, user, by_logout = put
    for i in range(len(device)):
        slot = device[i] & mask
        while slots[slot] >= 0 and kept_device[slots[slot]] != device[i]:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            slots[slot] = count
            count += 1
        elif later_alone and kept_ended_at[slots[slot]] >= ended_at[i]:
            ties[i] = kept_ended_at[slots[slot]] == ended_at[i]
            continue
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
