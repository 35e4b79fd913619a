"""What a funnel is: the model of a definition, and how one is read."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from funnels.fields import EventField, Value, parse_field
from stitchline.durations import Duration
from stitchline.errors import DefinitionError

MAX_STEPS: Final = 20
"""More steps than people follow; each is one more pass over the events."""

MAX_ALIKE_STEPS: Final = 8
"""Steps that one and the same event could fill. Deciding which of several simultaneous events fills which step looks
at every set of such steps: 2^8 sets are quick, 2^20 are not."""

MAX_WINDOW: Final = timedelta(days=36_525)
"""A hundred years; keeps sums of times within a 64-bit count of microseconds."""


def _field_name(text: str) -> str:
    parse_field(text)
    return text


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


def _reasonable(window: timedelta) -> timedelta:
    if window > MAX_WINDOW:
        raise ValueError("is longer than a hundred years: write a shorter one")
    return window


FieldName = Annotated[str, AfterValidator(_field_name)]
"""A field of an event: see funnels/fields.py for what can be written."""

Name = Annotated[str, Field(min_length=1)]
Window = Annotated[Duration, AfterValidator(_reasonable)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Since = Annotated[datetime | None, BeforeValidator(_since)]
Until = Annotated[datetime | None, BeforeValidator(_until)]


class _Part(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Part):
    """An event by name, and what its fields must equal."""

    event: Name
    where: dict[FieldName, StrictStr | StrictBool | StrictInt | Finite | None] = {}

    @field_validator("where", mode="before")
    @classmethod
    def _only_equality(cls, where: object) -> object:
        if isinstance(where, Mapping):
            for field, value in where.items():
                if isinstance(value, Mapping | list):
                    raise ValueError(
                        f"{field}: only equality is supported yet: write text, a number, true, false or null"
                    )
        return where

    @field_validator("where")
    @classmethod
    def _comparable(cls, where: dict[str, Value]) -> dict[str, Value]:
        for field, value in where.items():
            if refusal := parse_field(field).refuses(value):
                raise ValueError(refusal)
        return where

    @property
    def conditions(self) -> dict[EventField, Value]:
        """`where` by field."""
        return {parse_field(field): value for field, value in self.where.items()}

    def excludes(self, other: Step) -> bool:
        """Whether no event can fill both steps, by the definition alone."""
        if self.event != other.event:
            return True
        theirs = other.conditions
        return any(field in theirs and _differ(value, theirs[field]) for field, value in self.conditions.items())


class Exclusion(_Part):
    """An event that voids an entry when it lies between two steps, counted from 0."""

    event: Name
    from_step: int = Field(ge=0)
    to_step: int = Field(ge=1)


class FunnelDefinition(_Part):
    """Steps, and the rules by which subjects go through them. Times are aware UTC.

    `since` is the first instant at which an entry may begin, `until` the first at which it may not any more: both
    bound the first step alone. What no query answers yet is refused here rather than ignored.
    """

    name: Name = "funnel"
    steps: tuple[Step, ...] = Field(min_length=1, max_length=MAX_STEPS)
    order: Literal["ordered", "strict", "any"] = "ordered"
    window: Window = timedelta(days=14)
    exclude: tuple[Exclusion, ...] = ()
    by: Literal["person", "session", "device"] = "person"
    breakdown: FieldName | None = None
    attribution: Literal["first_touch"] = "first_touch"
    hold: tuple[FieldName, ...] = ()
    since: Since = None
    until: Until = None

    @field_validator("order")
    @classmethod
    def _order_supported(cls, order: str) -> str:
        if order != "ordered":
            raise ValueError(f'{order!r} is not supported yet: write "ordered"')
        return order

    @field_validator("exclude", "hold")
    @classmethod
    def _empty(cls, rules: tuple[object, ...], info: ValidationInfo) -> tuple[object, ...]:
        if rules:
            raise ValueError(f"{info.field_name} is not supported yet: leave it out")
        return rules

    @field_validator("steps")
    @classmethod
    def _tellable_apart(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        for group in alike(steps):
            if len(group) > MAX_ALIKE_STEPS:
                raise ValueError(
                    f"one {steps[group[0]].event!r} event could fill {len(group)} of these steps, and "
                    f"{MAX_ALIKE_STEPS} is the most: tell them apart with where"
                )
        return steps

    @model_validator(mode="after")
    def _some_time_between(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("until is not after since: no first step can lie between them; move one of them")
        return self


def alike(steps: Sequence[Step]) -> list[list[int]]:
    """Positions of the steps that compete for the same events: groups of two or more, each in order."""
    groups: list[list[int]] = []
    for position, step in enumerate(steps):
        joined = [group for group in groups if not all(step.excludes(steps[other]) for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append([*itertools.chain.from_iterable(joined), position])
    return sorted(sorted(group) for group in groups if len(group) > 1)


def load_definition(source: str | Path) -> FunnelDefinition:
    """The definition in `source`: a file if it is a Path, else the JSON text itself.

    Raises DefinitionError, which names the field and says what to do; facts: field, source.
    """
    where = str(source) if isinstance(source, Path) else "the funnel definition"
    try:
        text = source.read_text(encoding="utf-8-sig") if isinstance(source, Path) else source
        content = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except OSError as error:
        raise DefinitionError(f"{where}: cannot be read ({error.strerror}): check the path", source=where) from error
    except _Twins as error:
        raise DefinitionError(
            f"{where}: the key {error.args[0]!r} is there twice in one object: keep one",
            field=error.args[0],
            source=where,
        ) from None
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{where}: is not JSON ({error}): mend it there", source=where) from error
    try:
        return FunnelDefinition.model_validate(content)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors(include_url=False)]
        raise DefinitionError(
            f"{where}: " + "; ".join(f"{field}: {what}" if field else what for field, what in problems),
            field=problems[0][0],
            source=where,
        ) from error


class _Twins(ValueError):
    """An object has the same key twice."""


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise _Twins(key)
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _explain(problem: Any) -> tuple[str, str]:
    """Where a problem is, as a path like steps[0].event, and what to do about it."""
    path = ""
    for place in problem["loc"]:
        path += f"[{place}]" if isinstance(place, int) else f".{place}" if path else str(place)
    match problem["type"]:
        case "model_type":
            return path, "is not a JSON object: write one in braces"
        case "missing":
            return path, "is missing: add it"
        case "extra_forbidden":
            names = sorted({*FunnelDefinition.model_fields, *Step.model_fields, *Exclusion.model_fields})
            near = difflib.get_close_matches(str(problem["loc"][-1]), names, 1)
            return path, "is not a field of a definition: " + (f"did you mean {near[0]}?" if near else "remove it")
        case "value_error":
            return path, str(problem["ctx"]["error"])
        case _:
            return path, f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _differ(one: Value, other: Value) -> bool:
    """Whether two values are different in JSON's eyes: 1 and 1.0 are one number, 1 and true are two values."""
    return isinstance(one, bool) is not isinstance(other, bool) or one != other


def definitions(folder: Path | None) -> list[FunnelDefinition]:
    """The definitions in `folder`, by file name; none without a folder. Raises DefinitionError for a wrong one."""
    return [load_definition(path) for path in sorted(folder.glob("*.json"))] if folder is not None else []
