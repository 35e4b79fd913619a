"""Each feature of funnels against the naive reference, over crowds of subjects."""

from __future__ import annotations

import random
from collections.abc import Sequence

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnels import FunnelDefinition
from tests.crowds import PROVE
from tests.funnels import reference
from tests.funnels.crowd import FEATURES, LAST, definition, subject, together
from tests.funnels.test_property import answered, expected
from tests.funnels.worlds import World, at, fill

SUBJECTS = 1000 if PROVE else 200
"""To an example."""

MANY = settings(max_examples=settings().max_examples * 10 // SUBJECTS)
"""5,000 subjects a feature, or a million in the long form."""

FEW = settings(max_examples=settings().max_examples // 20)
"""Examples of what takes longer."""


@pytest.mark.parametrize("feature", FEATURES)
@MANY
@given(seed=st.integers(0, 2**32))
def test_a_feature_is_what_the_reference_says(con: duckdb.DuckDBPyConnection, feature: str, seed: int) -> None:
    rnd = random.Random(seed)
    worlds = [subject(rnd, number) for number in range(SUBJECTS)]
    asked = definition(rnd, feature)
    if not _agree(con, worlds, asked):
        for world in worlds:  # the smallest that shows it
            fill(con, together([world]))
            assert answered(con, asked) == expected(reference.funnel(world, asked, at(LAST))), (world, asked)
        fill(con, together(worlds))
        assert answered(con, asked) == expected(reference.funnel_of_all(worlds, asked, at(LAST)))


def _agree(con: duckdb.DuckDBPyConnection, worlds: Sequence[World], asked: FunnelDefinition) -> bool:
    fill(con, together(worlds))
    return answered(con, asked) == expected(reference.funnel_of_all(worlds, asked, at(LAST)))
