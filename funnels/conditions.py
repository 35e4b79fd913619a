"""What a definition may ask of a field: equality, or tests by name. What each means where a value is missing or of
another type is in docs/decisions/0022-what-a-funnel-counts.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from funnels.fields import EventField, parse_field

Value = str | int | float | bool | None
"""What a condition compares with. Text, number, truth and null are told apart, as in JSON."""

Operator = Literal["equals", "not", "in", "not_in", "contains", "greater", "at_least", "less", "at_most", "exists"]
_OPERATORS: Final = get_args(Operator)
COMPARISONS: Final = ("greater", "at_least", "less", "at_most")
LISTS: Final = ("in", "not_in")

_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?")


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field. `values` are those of `in` and `not_in`, else one."""

    field: EventField
    operator: Operator
    values: tuple[Value, ...]

    @property
    def value(self) -> Value:
        return self.values[0]


def iso_time(text: object) -> datetime | None:
    """The time that `text` says in ISO 8601, aware: a date alone is its first instant, and without an offset it is UTC.
    None if it says none.

    >>> iso_time("2025-06-30")
    datetime.datetime(2025, 6, 30, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if not isinstance(text, str) or not _ISO.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def conditions(where: Mapping[str, object]) -> tuple[Condition, ...]:
    """Each test in `where`, which is as `Where` has it."""
    found = []
    for name, asked in where.items():
        field = parse_field(name)
        tests = asked if isinstance(asked, Mapping) else {"equals": asked}
        for operator, value in tests.items():
            found.append(Condition(field, operator, tuple(value) if operator in LISTS else (value,)))
    return tuple(found)


def _field_name(text: str) -> str:
    parse_field(text)
    return text


def _tests(where: object) -> object:
    """Refuses what is no condition, in words that say what can be written; unions of types would tell of each."""
    if isinstance(where, Mapping):
        for name, asked in where.items():
            if isinstance(asked, Mapping):
                for operator, value in asked.items():
                    _check_shape(name, operator, value)
                if not asked:
                    raise ValueError(f"{name}: an empty object asks nothing: write {_or(_OPERATORS)} in it")
            elif not _is_value(asked):
                raise ValueError(f'{name}: write a value, or a test like {{"in": ["a", "b"]}} or {{"at_least": 5}}')
    return where


def _check_shape(name: object, operator: object, value: object) -> None:
    if operator not in _OPERATORS:
        raise ValueError(f"{name}: {operator!r} is no test: write {_or(_OPERATORS)}")
    if operator in LISTS:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value or not all(map(_is_value, value)):
            raise ValueError(f"{name}: {operator} takes a list of one or more values")
    elif not _is_value(value):
        raise ValueError(f"{name}: {operator} takes one value")


def _is_value(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _answerable(where: dict[str, object]) -> dict[str, object]:
    for condition in conditions(where):
        for value in condition.values:
            if refusal := _refusal(condition, value):
                raise ValueError(refusal)
    return where


def _refusal(condition: Condition, value: Value) -> str | None:
    """Why `value` cannot be asked of the field, or None if it can."""
    name, kind, operator = condition.field.name, condition.field.kind, condition.operator
    if operator == "exists":
        return None if isinstance(value, bool) else f"{name}: exists takes true or false"
    if operator == "contains":
        if kind not in ("text", "json"):
            return f"{name} is no text, and only text contains something: compare it otherwise"
        return None if isinstance(value, str) else f"{name}: contains takes text, in double quotes"
    if operator in COMPARISONS:
        return _cannot_compare(condition, value)
    if value is None or kind == "json":
        return None
    if kind == "text" and not isinstance(value, str):
        return f"{name} is text: put the value in double quotes"
    if kind == "truth" and not isinstance(value, bool):
        return f"{name} is true or false: write one of these, without quotes"
    if kind == "number" and not _is_number(value):
        return f"{name} is a number: write one, without quotes"
    if kind == "time" and iso_time(value) is None:
        return f"{name} is a time: write one like 2025-06-30T12:00:00Z"
    return None


def _cannot_compare(condition: Condition, value: Value) -> str | None:
    name, kind, operator = condition.field.name, condition.field.kind, condition.operator
    if kind in ("text", "truth"):
        return f"{name} is {'text' if kind == 'text' else 'true or false'}, and {operator} compares numbers and times"
    if kind != "time" and _is_number(value):
        return None
    if kind != "number" and iso_time(value) is not None:
        return None
    wanted = {"number": "a number", "time": "a time like 2025-06-30T12:00:00Z"}
    return f"{name}: {operator} takes {wanted.get(kind, 'a number, or a time like 2025-06-30T12:00:00Z')}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


Scalar = StrictStr | StrictBool | StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)] | None
FieldName = Annotated[str, AfterValidator(_field_name)]
"""A field of an event: see funnels/fields.py for what can be written."""

Where = Annotated[
    dict[FieldName, Scalar | dict[Operator, Scalar | tuple[Scalar, ...]]],
    BeforeValidator(_tests),
    AfterValidator(_answerable),
]
"""What an event's fields must be: a value by field, or tests by field, all of which must hold."""
