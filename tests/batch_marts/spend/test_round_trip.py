"""What the demo's generator writes is read back equal, in all the ways of a platform; spoilt, it is refused.

50 files of each platform, 1,000 in the long form.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_marts.spend.forms import PLATFORMS
from batch_marts.spend.reader import read_export
from demo import exports
from demo.exports import any_export
from stitchline.errors import FileRefused
from tests.batch_marts.spend.made import SPOILS, TOTALLED, given_for, read_rows, that_count, true_rows
from tests.crowds import PROVE

FILES = min(1000, settings().max_examples) if PROVE else 50
SEEDS = st.integers(0, 2**32 - 1)


def test_generator_and_reader_name_the_same_platforms() -> None:
    assert exports.PLATFORMS == PLATFORMS


@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=FILES)
@given(seed=SEEDS)
def test_what_is_written_is_read_back(platform: str, seed: int) -> None:
    made = any_export(platform, seed)
    export = read_export(made.data, made.file_name, given_for(made))
    assert read_rows(made.data, made) == true_rows(made)
    assert (export.platform, export.currency, export.lines) == (platform, made.currency, made.lines)
    assert export.account == (made.account or "default")
    assert export.spend == sum(row.spend for row in made.rows)
    assert (export.total is not None) == made.has_total
    assert export.total in (None, export.spend)


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=FILES)
@given(seed=SEEDS)
def test_a_spoilt_file_is_never_misread(platform: str, spoil: str, seed: int) -> None:
    """It is refused, or still says what is true. Where a file has no total, nothing in it tells a digit that was
    changed or, but for Microsoft's number of rows, a line that is gone: those are not asked of it. Nor is a cut
    after a whole line, where the platform's files may be without a total."""
    made = any_export(platform, seed)
    held_to_rows = platform == "microsoft" and spoil in ("drop_a_line", "repeat_a_line")
    if not made.has_total and not held_to_rows and spoil not in ("cut", "encode_otherwise"):
        return
    spoilt = SPOILS[spoil](made, random.Random(seed))
    try:
        found = read_rows(spoilt, made)
    except FileRefused:
        return
    assert that_count(found) == that_count(true_rows(made))


@pytest.mark.parametrize("platform", TOTALLED)
def test_spoilt_files_are_refused_and_not_only_read_right(platform: str) -> None:
    """Of the files with totals: all with a changed digit or a missing line, if it counted."""
    told: Counter[str] = Counter()
    for seed in range(40):
        made = any_export(platform, seed)
        if not made.has_total:
            continue
        for spoil in ("change_a_digit", "drop_a_line", "repeat_a_line"):
            try:
                read_rows(SPOILS[spoil](made, random.Random(seed)), made)
            except FileRefused:
                told[f"{spoil} refused"] += 1
            else:
                told[f"{spoil} taken"] += 1
    assert told["change_a_digit refused"] >= 10
    assert told["change_a_digit taken"] == 0
    assert told["drop_a_line refused"] >= 3 * told["drop_a_line taken"]
    assert told["repeat_a_line refused"] >= 3 * told["repeat_a_line taken"]
