"""Hashes of text, 64 bits each, on whole columns. Tombstones store the lowest 20 bits: they stay what they are."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stitchline.compiled import compiled, inlined
from stitchline.words import word_at

Hashes = npt.NDArray[np.uint64]
_Octets = npt.NDArray[np.uint8]
_Offsets = npt.NDArray[np.int32]
_Flags = npt.NDArray[np.bool_]

_FACTOR: Final = np.uint64(0x9FB21C651E98DF25)
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)  # the finalizer of MurmurHash3
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SEED_1: Final = np.uint64(0x243F6A8885A308D3)
_SEED_2: Final = np.uint64(0x13198A2E03707344)


def hash_texts(texts: pa.Array | pa.ChunkedArray) -> Hashes:
    """One hash a text; null has its own."""
    hashes: Hashes = _hash(*_layout(texts), _SEED_1)
    return hashes


def hash_pairs(first: pa.Array | pa.ChunkedArray, second: pa.Array | pa.ChunkedArray) -> tuple[Hashes, Hashes, Hashes]:
    """128 bits for each pair of texts, in two halves; and behind them the hashes of `first` alone."""
    one, other = _layout(first), _layout(second)
    alone = _hash(*one, _SEED_1)
    return (
        _together(alone, _hash(*other, _SEED_1)),
        _together(_hash(*one, _SEED_2), _hash(*other, _SEED_2)),
        alone,
    )


def _layout(texts: pa.Array | pa.ChunkedArray) -> tuple[_Octets, _Offsets, _Flags]:
    array = (texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts).cast(pa.string())
    _, offsets, octets = array.buffers()
    if not len(array):
        offsets = pa.py_buffer(bytes(4))
    places = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    octets = np.frombuffer(octets if octets is not None else b"", np.uint8)
    return octets, places, array.is_null().to_numpy(zero_copy_only=False)


@inlined
def _mixed(h: np.uint64) -> np.uint64:
    h ^= h >> np.uint64(33)
    h *= _MIX_1
    h ^= h >> np.uint64(33)
    h *= _MIX_2
    return h ^ (h >> np.uint64(33))


@compiled
def _hash(octets: _Octets, offsets: _Offsets, is_null: _Flags, seed: np.uint64) -> Hashes:
    hashes = np.empty(len(is_null), np.uint64)
    for k in range(len(is_null)):
        i, end = offsets[k], offsets[k + 1]
        h = seed ^ (np.uint64(end - i + 1) * _FACTOR) if not is_null[k] else seed
        while i < end:
            if i + 8 <= end:
                word = word_at(octets, i)
            elif end >= 8:  # what lies before the text is shifted out
                word = word_at(octets, end - 8) >> np.uint64(8 * (i + 8 - end))
            else:
                word = np.uint64(0)
                for j in range(end - i):
                    word |= np.uint64(octets[i + j]) << np.uint64(8 * j)
            h = (h ^ word) * _FACTOR
            h ^= h >> np.uint64(29)
            i += 8
        hashes[k] = _mixed(h)
    return hashes


@compiled
def _together(first: Hashes, second: Hashes) -> Hashes:
    hashes = np.empty(len(first), np.uint64)
    for k in range(len(first)):
        hashes[k] = _mixed(first[k] * _FACTOR + second[k])
    return hashes
