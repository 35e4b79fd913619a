"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from stitchline.durations import Duration, format_duration, parse_duration

WRITTEN = {
    "500 ms": timedelta(milliseconds=500),
    "1 millisecond": timedelta(milliseconds=1),
    "0 s": timedelta(0),
    "90s": timedelta(seconds=90),
    "1 sec": timedelta(seconds=1),
    "30 minutes": timedelta(minutes=30),
    "30 MIN": timedelta(minutes=30),
    "5m": timedelta(minutes=5),
    "1.5h": timedelta(minutes=90),
    "24 hours": timedelta(days=1),
    "14 days": timedelta(days=14),
    "2 weeks": timedelta(days=14),
    "  1   day  ": timedelta(days=1),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_what_is_understood(text: str) -> None:
    assert parse_duration(text) == WRITTEN[text]


@pytest.mark.parametrize(
    "value",
    ["", "30", "minutes", "-5 minutes", "5 fortnights", "1,5 h", "1 h 30 m", "1e3 s", "∞ s", "5 months", 30, 1.5, None],
)
def test_what_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no duration: write a number and a unit"):
        parse_duration(value)


def test_more_than_can_be_counted() -> None:
    with pytest.raises(ValueError, match="is too long a duration"):
        parse_duration("9999999999999 weeks")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "0 ms"),
        (timedelta(milliseconds=1), "1 ms"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(minutes=30), "30 minutes"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=14), "14 days"),
    ],
)
def test_how_it_is_written(value: timedelta, text: str) -> None:
    assert format_duration(value) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_525)))
def test_what_is_written_is_understood(value: timedelta) -> None:
    """To the millisecond exactly; microseconds as well as a float of milliseconds can tell them."""
    whole = timedelta(milliseconds=value // timedelta(milliseconds=1))
    assert parse_duration(format_duration(whole)) == whole
    assert abs(parse_duration(format_duration(value)) - value) <= timedelta(microseconds=1)


def test_as_a_field() -> None:
    class Model(BaseModel):
        window: Duration

    assert Model.model_validate({"window": "14 days"}).window == timedelta(days=14)
    assert Model(window=timedelta(hours=1)).model_dump(mode="json") == {"window": "1 hour"}
    with pytest.raises(ValidationError, match="'14' is no duration"):
        Model.model_validate({"window": "14"})
