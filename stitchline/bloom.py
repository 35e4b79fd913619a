"""A Bloom filter over 64-bit hashes, on whole columns."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stitchline.compiled import compiled

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
        _set(self._words, self._mask, hashes, self._PROBES)

    def may_contain(self, hashes: Hashes) -> Flags:
        maybe: Flags = _are_set(self._words, self._mask, hashes, self._PROBES)
        return maybe


@compiled
def _set(words: Hashes, mask: np.uint64, hashes: Hashes, probes: int) -> None:
    for h in hashes:
        step = (h >> np.uint64(32)) | np.uint64(1)
        for i in range(probes):
            bit = (h + np.uint64(i) * step) & mask
            words[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@compiled
def _are_set(words: Hashes, mask: np.uint64, hashes: Hashes, probes: int) -> Flags:
    found = np.ones(len(hashes), np.bool_)
    for k in range(len(hashes)):
        step = (hashes[k] >> np.uint64(32)) | np.uint64(1)
        for i in range(probes):
            bit = (hashes[k] + np.uint64(i) * step) & mask
            if not (words[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
                found[k] = False
                break
    return found
