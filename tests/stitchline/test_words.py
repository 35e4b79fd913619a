"""Octets by eights, against loops over single ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stitchline.compiled import compiled
from stitchline.words import copy_word, word_at


@compiled
def _word(octets, i):
    return word_at(octets, i)


@compiled
def _copy(octets, i, out, o):
    copy_word(octets, i, out, o)


@given(octets=st.binary(min_size=8, max_size=40), data=st.data())
def test_a_word_is_eight_octets_from_any_place(octets: bytes, data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(octets) - 8))
    assert int(_word(np.frombuffer(octets, np.uint8), i)) == int.from_bytes(octets[i : i + 8], "little")


@given(octets=st.binary(min_size=8, max_size=40), data=st.data())
def test_copying_a_word_touches_nothing_else(octets: bytes, data: st.DataObject) -> None:
    i, o = data.draw(st.integers(0, len(octets) - 8)), data.draw(st.integers(0, 32))
    out = np.zeros(40, np.uint8)
    _copy(np.frombuffer(octets, np.uint8), i, out, o)
    assert out.tobytes() == bytes(o) + octets[i : i + 8] + bytes(32 - o)
