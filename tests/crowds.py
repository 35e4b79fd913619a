"""What counts as an example of a property whose examples are dear because of what they pass through, not of themselves.

Such a property takes a crowd of cases, which were drawn each by itself and are told apart by their ids, through one
warehouse or one call, and checks them all. 500 examples, or 100,000, are so many cases, in so many fewer crowds. In the
long form crowds are larger.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine

PROVE: Final = settings.get_current_profile_name() == "prove"
CROWD, FEW = 25, 10
"""Cases, unless a property says otherwise, in the long form and in the short one."""
engine.BUFFER_SIZE = 16 * engine.BUFFER_SIZE  # or it gives up on an example as large as a crowd

T = TypeVar("T")


def of_crowds(most: int = CROWD, short: int = FEW) -> settings:
    """For a property that takes `crowds`: as many examples as make the profile's number of cases."""
    sizes = _sizes(most, short)
    return settings(max_examples=math.ceil(settings().max_examples * len(sizes) / sum(sizes)))


def crowds(cases: st.SearchStrategy[T], most: int = CROWD, short: int = FEW) -> st.SearchStrategy[list[T]]:
    """So many cases, in the long form, and `short` in the short one; drawn each by itself."""
    return st.sampled_from(_sizes(most, short)).flatmap(lambda size: st.lists(cases, min_size=size, max_size=size))


def _sizes(most: int, short: int) -> list[int]:
    """Now and then a crowd is of one, so that what fails with one alone is told with one alone."""
    return [1, *[most if PROVE else short] * 31]
