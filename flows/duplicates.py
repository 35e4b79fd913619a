"""Which messages have been seen before, in bounded memory. DESIGN: session rule 8.

A message is known by 128 bits of hash of (anonymous_id, message_id); a chance collision is as likely as one of two
session ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


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

    def where(self, rows: Flags | Ints) -> Messages:
        return Messages(*(column[rows] for column in self._columns()))

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.hash_1, self.hash_2, self.device, self.at, self.source

    @classmethod
    def together(cls, parts: list[Messages]) -> Messages:
        return cls(*(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts), strict=True)))

    @classmethod
    def none(cls) -> Messages:
        return cls(*(np.empty(0, np.uint64),) * 3, *(np.empty(0, np.int64),) * 2)


class SeenMessages:
    """The messages of open sessions, and those above their source's watermark.

    Kept as a few sorted runs: a look-up is a binary search in each, and a run is merged into the next when it has
    grown to half its size, so that adding is cheap as well.
    """

    def __init__(self) -> None:
        self._runs: list[Messages] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @property
    def nbytes(self) -> int:
        return 40 * len(self)

    def contains(self, messages: Messages) -> Flags:
        """Which of `messages` are remembered."""
        found = np.zeros(len(messages), np.bool_)
        for run in self._runs:
            position = np.searchsorted(run.hash_1, messages.hash_1)
            inside = position < len(run)
            position[~inside] = 0
            found |= inside & (run.hash_1[position] == messages.hash_1) & (run.hash_2[position] == messages.hash_2)
        return found

    def add(self, messages: Messages) -> None:
        """Remembers `messages`, none of which may be remembered yet."""
        if not len(messages):
            return
        parts = [messages]
        while self._runs and len(self._runs[-1]) < 2 * sum(map(len, parts)):
            parts.append(self._runs.pop())
        self._runs.append(_sorted(Messages.together(parts)))

    def forget(self, open_devices: Hashes, watermarks: Ints) -> None:
        """Keeps what belongs to an open session or lies above its source's watermark (µs, by source index)."""
        kept = [run.where(np.isin(run.device, open_devices) | (run.at > watermarks[run.source])) for run in self._runs]
        rest = Messages.together(kept) if kept else Messages.none()
        self._runs = [_sorted(rest)] if len(rest) else []


def first_of_each(messages: Messages) -> Flags:
    """Marks the first of each set of equal messages, in the order given."""
    first = np.ones(len(messages), np.bool_)
    order = np.argsort(messages.hash_1, kind="stable")
    hash_1 = messages.hash_1[order]
    if not (hash_1[1:] == hash_1[:-1]).any():
        return first
    order = np.lexsort((np.arange(len(messages)), messages.hash_2, messages.hash_1))
    same = (messages.hash_1[order][1:] == messages.hash_1[order][:-1]) & (
        messages.hash_2[order][1:] == messages.hash_2[order][:-1]
    )
    first[order[1:][same]] = False
    return first


def _sorted(messages: Messages) -> Messages:
    return messages.where(np.argsort(messages.hash_1))
