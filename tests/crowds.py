"""What counts as an example of a property whose examples are dear because of what they pass through, not of themselves.

Such a property takes a crowd of cases, which were drawn each by itself and are told apart by their ids, through one
warehouse or one call, and checks them all. In `make test` a crowd is one case: 500 examples are 500 cases. In the long
form it is `CROWD` cases, and the 100,000 examples are cases, too: some 4,100 crowds.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

PROVE: Final = "prove"
"""The profile of the long form."""

CROWD: Final = 25 if settings.get_current_profile_name() == PROVE else 1
"""Cases. Hypothesis gives up on an example that takes more than 8 KiB to draw: 30 to 50 of these."""

_SIZES: Final = [1, *[CROWD] * 31]
"""Now and then a crowd is of one, so that what fails with one alone is told with one alone."""

T = TypeVar("T")

of_crowds: Final = settings(max_examples=math.ceil(settings().max_examples * len(_SIZES) / sum(_SIZES)))
"""For a property that takes `crowds`: as many examples as make the profile's number of cases."""


def crowds(cases: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """`CROWD` cases, drawn each by itself."""
    return st.sampled_from(_SIZES).flatmap(lambda size: st.lists(cases, min_size=size, max_size=size))
