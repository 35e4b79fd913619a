"""Hashes of columns of text: of the text alone, wherever it stands, and different for different texts."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stitchline.hashing import hash_pairs, hash_texts

TEXTS = st.text(max_size=30) | st.none()


@given(st.lists(st.tuples(TEXTS, TEXTS), unique=True), st.integers(0, 5))
def test_different_pairs_have_different_hashes_wherever_they_stand(
    pairs: list[tuple[str | None, str | None]], shift: int
) -> None:
    first, second = (pa.array([None] * shift + [pair[i] for pair in pairs], pa.string()) for i in (0, 1))
    together = [tuple(map(int, halves)) for halves in zip(*hash_pairs(first, second)[:2], strict=True)][shift:]
    assert len(set(together)) == len(pairs)
    sliced = hash_pairs(first.slice(shift), pa.chunked_array([second.slice(shift)]))
    assert [tuple(map(int, halves)) for halves in zip(*sliced[:2], strict=True)] == together
    assert sliced[2].tolist() == hash_texts(first)[shift:].tolist()


@given(st.lists(TEXTS, unique=True))
def test_different_texts_have_different_hashes(texts: list[str | None]) -> None:
    hashes = hash_texts(pa.array(texts, pa.string())).tolist()
    assert len(set(hashes)) == len(texts)
    assert hash_texts(pa.array(texts[::-1], pa.large_string())).tolist() == hashes[::-1]
