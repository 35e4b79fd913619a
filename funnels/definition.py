"""What a funnel is: the model of a definition, and how one is read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from funnels.conditions import Condition, FieldName, Where, conditions
from stitchline.definitions import Name, Part, Since, Until, Window, in_zone, problems
from stitchline.errors import DefinitionError

MAX_STEPS: Final = 20
"""More steps than people follow."""

MAX_EXCLUSIONS: Final = 20
MAX_PARTS: Final = 10_000
"""Values of a breakdown that an answer tells apart; more are no answer any more."""


def _unsaid(value: object) -> bool:
    """Whether a rule is what it is without being written, so that it need not be written."""
    return not value


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: write one like Europe/Berlin or UTC") from None
    return name


TimeZone = Annotated[str, AfterValidator(_zone)]
Defined = TypeVar("Defined", bound=Part)


class Match(Part):
    """An event by name, and what its fields must be."""

    event: Name
    where: Where = Field(default_factory=dict)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return conditions(self.where)


class Step(Part):
    """An event, or any one of several, that takes a subject one step further."""

    any_of: tuple[Match, ...] = Field(default=(), max_length=MAX_STEPS, exclude_if=_unsaid)
    event: Name | None = Field(default=None, validate_default=True, exclude_if=_unsaid)
    where: Where = Field(default_factory=dict)
    name: Name | None = Field(default=None, exclude_if=_unsaid)
    optional: bool = Field(default=False, exclude_if=_unsaid)

    @field_validator("event")
    @classmethod
    def _one_or_several(cls, event: str | None, info: ValidationInfo) -> str | None:
        several = info.data.get("any_of")
        if event is None and several == ():
            raise ValueError("is missing: add it, or several as any_of")
        if event is not None and several:
            raise ValueError("stands beside any_of: write one of them")
        return event

    @field_validator("where")
    @classmethod
    def _of_one(cls, where: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        if where and info.data.get("any_of"):
            raise ValueError("stands beside any_of: write it into each of the events there")
        return where

    @property
    def matches(self) -> tuple[Match, ...]:
        """The events that fill the step, each with its conditions."""
        return self.any_of or (Match(event=self.event or "", where=self.where),)

    @property
    def label(self) -> str:
        """What people call the step."""
        return self.name or " or ".join(dict.fromkeys(match.event for match in self.matches))


class Exclusion(Match):
    """An event that voids an entry when it lies between two steps, counted from 0."""

    from_step: int = Field(ge=0)
    to_step: int = Field(ge=1)


class AtStep(Part):
    """The value on the event of one step, counted from 0."""

    step: int = Field(ge=0)


def in_time_zone(value: object, info: ValidationInfo) -> object:
    """A validator of `since` and `until`, before others: plain dates and times without an offset are of the model's
    `time_zone`, a field before them."""
    return in_zone(value, ZoneInfo(info.data.get("time_zone", "UTC")), is_end=info.field_name == "until")


def check_some_time(since: datetime | None, until: datetime | None, what: str) -> None:
    """Raises ValueError if no `what` can lie between them."""
    if since is not None and until is not None and since >= until:
        raise ValueError(f"until is not after since: no {what} can lie between them; move one of them")


class FunnelDefinition(Part):
    """Steps, and the rules by which subjects go through them. Times are aware UTC.

    `since` is the first instant at which an entry may begin, `until` the first at which it may not any more: both
    bound the first step alone. What the rules mean is in docs/decisions/0022-what-a-funnel-counts.md.
    """

    name: Name = "funnel"
    steps: tuple[Step, ...] = Field(min_length=1, max_length=MAX_STEPS)
    order: Literal["ordered", "strict", "any"] = "ordered"
    window: Window = timedelta(days=14)
    exclude: tuple[Exclusion, ...] = Field(default=(), max_length=MAX_EXCLUSIONS)
    by: Literal["person", "session", "device"] = "person"
    count: Literal["uniques", "totals"] = Field(default="uniques", exclude_if=lambda count: count == "uniques")
    breakdown: FieldName | None = None
    attribution: Literal["first_touch", "last_touch"] | AtStep = "first_touch"
    top: int = Field(default=50, ge=1, le=MAX_PARTS, exclude_if=lambda top: top == 50)
    hold: tuple[FieldName, ...] = ()
    time_zone: TimeZone = Field(default="UTC", exclude_if=lambda zone: zone == "UTC")
    since: Since = None
    until: Until = None
    compare: Literal["previous_period"] | None = Field(default=None, exclude_if=_unsaid)

    _in_time_zone = field_validator("since", "until", mode="before")(in_time_zone)

    @field_validator("attribution", mode="before")
    @classmethod
    def _attributed(cls, attribution: object) -> object:
        if isinstance(attribution, str) and attribution not in ("first_touch", "last_touch"):
            raise ValueError("write 'first_touch', 'last_touch' or {\"step\": 1}, counted from 0")
        return attribution

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_some_time(self.since, self.until, "first step")
        if self.compare and (self.since is None or self.until is None):
            raise ValueError("compare needs since and until: they say how long a period is")
        if self.steps[0].optional:
            raise ValueError("the first step cannot be optional: nothing would begin without it")
        if self.order == "any" and any(step.optional for step in self.steps):
            raise ValueError('steps in any order cannot be optional: leave them out, or write "order": "ordered"')
        if isinstance(self.attribution, AtStep) and self.attribution.step >= len(self.steps):
            raise ValueError(f"attribution: there is no step {self.attribution.step}: the first one is 0")
        for place, exclusion in enumerate(self.exclude):
            if not exclusion.from_step < exclusion.to_step < len(self.steps):
                raise ValueError(
                    f"exclude[{place}]: from_step and to_step are steps, counted from 0, the second behind the first"
                )
            if self.steps[exclusion.from_step].optional or self.steps[exclusion.to_step].optional:
                raise ValueError(f"exclude[{place}]: from_step and to_step cannot be optional steps")
        return self

    @property
    def optional(self) -> int:
        """Bit k: step k may be left out."""
        return sum(1 << place for place, step in enumerate(self.steps) if step.optional)


def load_definition(source: str | Path) -> FunnelDefinition:
    """The definition in `source`: a file if it is a Path, else the JSON text itself.

    Raises DefinitionError, which names the field and says what to do; facts: field, source.
    """
    return load_as(FunnelDefinition, source, "the funnel definition")


def load_as(model: type[Defined], source: str | Path, called: str) -> Defined:
    """What `source` defines, a file or text as above. The definition is `called` so where it is no file.

    Raises DefinitionError as load_definition does.
    """
    where = str(source) if isinstance(source, Path) else called
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
        return model.model_validate(content)
    except ValidationError as error:
        names = {*model.model_fields, *Step.model_fields, *Exclusion.model_fields}
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


def definitions(folder: Path | None) -> list[FunnelDefinition]:
    """The definitions in `folder`, by file name; none without a folder. Raises DefinitionError for a wrong one."""
    return [load_definition(path) for path in sorted(folder.glob("*.json"))] if folder is not None else []
