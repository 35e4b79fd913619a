"""What counts as an example of a property whose examples are dear because of what they pass through, not of themselves.

Such a property takes a crowd of cases, which were drawn each by itself and are told apart by their ids, through one
warehouse or one call, and checks them all. In `make test` most crowds are a pair, in the long form 35, 25 or 4 cases;
500 examples, or 100,000, are so many cases, in so many fewer crowds.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

PROVE: Final = settings.get_current_profile_name() == "prove"
PAIR: Final = 2
CROWD: Final = 25
"""Cases, unless a property says otherwise. Hypothesis gives up on an example that takes more than 8 KiB to draw."""

T = TypeVar("T")


def of_crowds(most: int = CROWD, short: int = PAIR) -> settings:
    """For a property that takes `crowds`: as many examples as make the profile's number of cases."""
    sizes = _sizes(most, short)
    return settings(max_examples=math.ceil(settings().max_examples * len(sizes) / sum(sizes)))


def crowds(cases: st.SearchStrategy[T], most: int = CROWD, short: int = PAIR) -> st.SearchStrategy[list[T]]:
    """So many cases, in the long form, and `short` in the short one; drawn each by itself."""
    return st.sampled_from(_sizes(most, short)).flatmap(lambda size: st.lists(cases, min_size=size, max_size=size))


def _sizes(most: int, short: int) -> list[int]:
    """Now and then a crowd is of one, so that what fails with one alone is told with one alone."""
    return [1, *[most if PROVE else short] * 31]
