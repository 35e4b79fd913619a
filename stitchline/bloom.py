"""A Bloom filter over 64-bit hashes, on whole columns."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


class BloomFilter:
    """A set of 64-bit hashes that may say yes for one never added, but never no for one that was.

    `expected` elements at about 1 % of wrong answers take 10 bits each; more only raise that share.
    """

    _PROBES: Final = 5

    def __init__(self, expected: int) -> None:
        self._mask = np.uint64(2 ** max(16, int(np.ceil(np.log2(10 * expected)))) - 1)
        self._words = np.zeros((int(self._mask) + 1) // 64, np.uint64)

    @property
    def nbytes(self) -> int:
        return self._words.nbytes

    def add(self, hashes: Hashes) -> None:
        for bit in self._bits(hashes):
            np.bitwise_or.at(self._words, bit >> np.uint64(6), np.uint64(1) << (bit & np.uint64(63)))

    def may_contain(self, hashes: Hashes) -> Flags:
        maybe = np.ones(len(hashes), np.bool_)
        for bit in self._bits(hashes):
            maybe &= (self._words[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1) == 1
        return maybe

    def _bits(self, hashes: Hashes) -> list[Hashes]:
        step = (hashes >> np.uint64(32)) | np.uint64(1)
        return [(hashes + np.uint64(i) * step) & self._mask for i in range(self._PROBES)]
