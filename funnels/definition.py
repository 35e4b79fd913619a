"""What a funnel is: the model of a definition, and how one is read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
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
from stitchline.definitions import Name, Part, Since, Until, Window, problems
from stitchline.errors import DefinitionError

MAX_STEPS: Final = 20
"""More steps than people follow; each is one more pass over the events."""

MAX_ALIKE_STEPS: Final = 8
"""Steps that one and the same event could fill. Deciding which of several simultaneous events fills which step looks
at every set of such steps: 2^8 sets are quick, 2^20 are not."""


def _field_name(text: str) -> str:
    parse_field(text)
    return text


FieldName = Annotated[str, AfterValidator(_field_name)]
"""A field of an event: see funnels/fields.py for what can be written."""

Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Step(Part):
    """An event by name, and what its fields must equal."""

    event: Name
    where: dict[FieldName, StrictStr | StrictBool | StrictInt | Finite | None] = Field(default_factory=dict)

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


class Exclusion(Part):
    """An event that voids an entry when it lies between two steps, counted from 0."""

    event: Name
    from_step: int = Field(ge=0)
    to_step: int = Field(ge=1)


class FunnelDefinition(Part):
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
        names = {*FunnelDefinition.model_fields, *Step.model_fields, *Exclusion.model_fields}
        found = problems(error, names, "a JSON object: write one in braces")
        raise DefinitionError(
            f"{where}: " + "; ".join(f"{field}: {what}" if field else what for field, what in found),
            field=found[0][0],
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


def _differ(one: Value, other: Value) -> bool:
    """Whether two values are different in JSON's eyes: 1 and 1.0 are one number, 1 and true are two values."""
    return isinstance(one, bool) is not isinstance(other, bool) or one != other


def definitions(folder: Path | None) -> list[FunnelDefinition]:
    """The definitions in `folder`, by file name; none without a folder. Raises DefinitionError for a wrong one."""
    return [load_definition(path) for path in sorted(folder.glob("*.json"))] if folder is not None else []
