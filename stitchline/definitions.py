"""What definitions written by people share: strict models, times that bound something, and problems in plain words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stitchline.durations import Duration

MAX_WINDOW: Final = timedelta(days=36_525)
"""A hundred years; keeps sums of times within a 64-bit count of microseconds."""


class Part(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _day(text: object) -> date | None:
    """The plain date that `text` is, or None if it is something else."""
    if isinstance(text, date) and not isinstance(text, datetime):
        return text
    try:
        return date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(time, datetime):
            raise ValueError
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{value!r} is no time: write a date like 2025-06-30 or a time like 2025-06-30T12:00:00Z"
        ) from None


def _since(value: object) -> datetime | None:
    """The first instant that counts: a plain date is its first, a time without an offset is UTC."""
    day = _day(value)
    if day is not None:
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return None if value is None else _time(value)


def _until(value: object) -> datetime | None:
    """The first instant that no longer counts: for a plain date the day after it, a time without an offset is UTC."""
    day = _day(value)
    if day is None:
        return None if value is None else _time(value)
    if day == date.max:
        raise ValueError(f"{value!r} has no day after it: leave until out")
    return _since(day + timedelta(days=1))


def in_zone(value: object, zone: tzinfo, *, is_end: bool) -> object:
    """What `value` bounds, as an aware time, if it is a plain date or a time without an offset, read in `zone`; else as
    it is. A plain date is its first instant, or with `is_end` the day's after it."""
    day = _day(value)
    try:
        if day is not None:
            return datetime.combine(day + timedelta(days=is_end), datetime.min.time(), zone).astimezone(UTC)
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.replace(tzinfo=zone).astimezone(UTC) if isinstance(at, datetime) and at.tzinfo is None else value
    except (ValueError, OverflowError):
        return value


def _reasonable(window: timedelta) -> timedelta:
    if window > MAX_WINDOW:
        raise ValueError("is longer than a hundred years: write a shorter one")
    return window


Name = Annotated[str, Field(min_length=1)]
Since = Annotated[datetime | None, BeforeValidator(_since)]
"""The first instant that counts, aware UTC: a plain date is its first, a time without an offset is UTC."""
Until = Annotated[datetime | None, BeforeValidator(_until)]
"""The first instant that no longer counts, aware UTC: for a plain date the day after it."""
Window = Annotated[Duration, AfterValidator(_reasonable)]


def problems(error: ValidationError, fields: Iterable[str], shape: str) -> list[tuple[str, str]]:
    """Where each problem is, as a path like steps[0].event, and what to do about it.

    `fields` are the names that may be meant by one that is not known; `shape` says what stands where an object should
    be, like "a JSON object: write one in braces".
    """
    names = sorted(set(fields))
    return [_explain(problem, names, shape) for problem in error.errors(include_url=False)]


def _explain(problem: Any, names: list[str], shape: str) -> tuple[str, str]:
    path = ""
    for place in problem["loc"]:
        path += f"[{place}]" if isinstance(place, int) else f".{place}" if path else str(place)
    match problem["type"]:
        case "model_type":
            return path, f"is not {shape}"
        case "missing":
            return path, "is missing: add it"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), names, 1)
            return path, "is not a field of a definition: " + (f"did you mean {near[0]}?" if near else "remove it")
        case "value_error":
            return path, str(problem["ctx"]["error"])
        case _:
            return path, f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"
