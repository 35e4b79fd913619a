"""Which devices a transaction told other persons of than before, for whoever keeps a copy of that in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

_MOST: Final = 250_000
"""Devices that are kept for who has not asked yet; beyond, that one has to read all anew."""


class Moved:
    """Devices whose rows in stream.person_overrides are others than before, in the order of the transactions.

    A writer notes them before it commits, and says afterwards that it did. Who reads takes the `committed` position
    first, then looks at the tables, and then asks what was noted since its last time: what it sees of the tables was
    noted by then. What is noted and not visible yet lies behind that position, and comes again the next time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: list[str] = []
        self._dropped = 0
        self._committed = 0

    def note(self, devices: Iterable[str]) -> None:
        """Part of the transaction that changes them."""
        with self._lock:
            self._noted.extend(devices)
            if len(self._noted) > _MOST:
                self._dropped += len(self._noted)
                self._noted.clear()

    def commit(self) -> None:
        """What was noted so far is committed, or will never be."""
        with self._lock:
            self._committed = self._dropped + len(self._noted)

    @property
    def committed(self) -> int:
        """How many were noted by transactions that are over."""
        with self._lock:
            return self._committed

    def since(self, position: int) -> list[str] | None:
        """Those noted from `position` on; None if not all of them are known any more. Those before are dropped."""
        with self._lock:
            if position < self._dropped:
                return None
            del self._noted[: position - self._dropped]
            self._dropped = position
            return list(dict.fromkeys(self._noted))
