"""What a source hands on: raw records of one partition as one batch, and where that partition stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BATCH: Final = 20_000
"""Records in a batch at most. Decoding costs some 5 ms a batch whatever its size; more than this only costs memory."""


def octets(values: Iterable[bytes | None]) -> pa.LargeBinaryArray:
    """The values, or keys, of a batch."""
    return pa.array(values, pa.large_binary())


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Records of one partition in offset order, or none at all: then it only says how the partition stands.

    `offsets` int64, `kafka_at` int64 microseconds UTC or None where the source has no such time (files).
    `next_offset` is where to resume once all of these are committed. `at_end` is true when nothing more was
    waiting behind these records; `read_at` is the wall clock then.
    """

    topic: str
    partition: int
    next_offset: int
    values: pa.LargeBinaryArray = field(default_factory=lambda: octets([]))
    keys: pa.LargeBinaryArray | None = None
    offsets: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    kafka_at: npt.NDArray[np.int64] | None = None
    at_end: bool = False
    closed: bool = False
    """The source has ended for good (a file was read to its end): nothing will ever come again."""
    read_at: datetime | None = None

    def __len__(self) -> int:
        return len(self.values)
