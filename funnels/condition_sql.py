"""Conditions and fields as SQL. Values are bound, never written into the statement, and so are the keys of JSON paths;
only for a statement that people copy they are written, by `Quoter`.

The aliases are those of funnels/relations.py: `e` an event, `s` its session, `p` what is known of its person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Final

from funnels.conditions import COMPARISONS, Condition, Value, iso_time
from funnels.definition import Match
from funnels.fields import EventField
from funnels.relations import PERSON, trait_column
from stitchline.errors import DefinitionError

_SIGNS: Final = {"greater": ">", "at_least": ">=", "less": "<", "at_most": "<="}
_GREATEST: Final = 1.7976931348623157e308
_TIME: Final = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?"
_WITHOUT_OFFSET: Final = r"\d{4}-\d\d-\d\d[T ][^Z+-]*"


@dataclass(slots=True)
class Binder:
    """Gives each value a name of its own in the statement."""

    values: dict[str, object] = field(default_factory=dict)

    def __call__(self, value: object) -> str:
        name = f"p{len(self.values) + 1}"
        self.values[name] = value
        return f"${name}"


class Quoter(Binder):
    """Writes each value into the statement instead, for a statement that people take elsewhere."""

    def __call__(self, value: object) -> str:
        match value:
            case bool() | int():
                return str(value).lower()
            case float():
                return f"'{value!r}'::double"  # as text: 0.1 is a decimal in SQL
            case datetime():
                return f"'{value.isoformat()}'::timestamptz"
            case str():
                return _quoted(value)
        raise TypeError(f"{type(value).__name__} is no value of a condition")


def _quoted(text: str) -> str:
    """SQL for `text`; raises DefinitionError if it is none that DuckDB could hold.

    What cannot be seen is written by its number: a statement would end at a NUL, line breaks do not survive everything
    that people paste into, and marks of direction would show another statement than is there.
    """
    if any("\ud800" <= one <= "\udfff" for one in text):
        raise DefinitionError(f"{text!a} has half a character in it, which no event can have: leave it out")
    runs = ["".join(run) for _, run in groupby(text, str.isprintable)]
    parts = [
        "'" + run.replace("'", "''") + "'" if run.isprintable() else " || ".join(f"chr({ord(one)})" for one in run)
        for run in runs
    ]
    return parts[0] if len(parts) == 1 and text.isprintable() else f"({' || '.join(parts)})"


def matches_sql(matches: Sequence[Match], bind: Binder) -> str:
    """SQL that is true of the events that any of `matches` is."""
    return " or ".join(
        f"({' and '.join([f'e.name = {bind(match.event)}', *(condition_sql(c, bind) for c in match.conditions)])})"
        for match in matches
    )


def condition_sql(condition: Condition, bind: Binder) -> str:
    """SQL that is true or false, never null: whether the condition holds."""
    place, operator, value = condition.field, condition.operator, condition.value
    match operator:
        case "equals":
            return _equals(place, value, bind)
        case "not":
            return f"not {_equals(place, value, bind)}"
        case "in" | "not_in":
            some = " or ".join(_equals(place, one, bind) for one in condition.values)
            return f"({some})" if operator == "in" else f"not ({some})"
        case "exists":
            return f"({text_sql(place, bind)} is {'not ' if value else ''}null)"
        case "contains":
            is_text = f"{_type(place, bind)} = 'VARCHAR'" if place.kind == "json" else "true"
            return f"coalesce({is_text} and contains({text_sql(place, bind)}, {bind(value)}), false)"
    assert operator in COMPARISONS
    return f"coalesce({_compares(place, _SIGNS[operator], value, bind)}, false)"


def text_sql(place: EventField, bind: Binder) -> str:
    """SQL for the field as text; null where it is missing or null."""
    column = _column(place)
    if place.kind == "json":
        return f"json_extract_string({column}, {bind(_path(place))})"
    if place.kind == "time":
        return f"strftime({column} at time zone 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    return column if place.kind == "text" else f"{column}::varchar"


def held_sql(place: EventField, bind: Binder) -> str:
    """SQL for what two values share if and only if they are equal, as JSON compares; null where there is none."""
    if place.kind != "json":
        return f"{_column(place)}::varchar"
    text, kind = text_sql(place, bind), _type(place, bind)
    double = f"{text}::double"
    whole = f"case when {double} % 1 = 0 and abs({double}) < 1e18 then {double}::hugeint::varchar end"
    return (
        f"case {kind} when 'NULL' then null when 'DOUBLE' then 'n' || coalesce({whole}, {double}::varchar) "
        f"when 'BIGINT' then 'n' || {text} when 'UBIGINT' then 'n' || {text} when 'VARCHAR' then 't' || {text} "
        f"else {kind} || {text} end"
    )


def _column(place: EventField) -> str:
    if place.source == "event":
        return f'e."{place.column}"'
    if place.source == "session":
        return f's."{place.column}"'
    match place.column:
        case "id":
            return PERSON
        case "is_known":
            return f"(not starts_with({PERSON}, 'anon:'))"
        case "first_seen":
            return "p.first_seen"
    return f'p."{trait_column(place)}"'


def _path(place: EventField) -> str:
    """The keys that lead into the column; a trait's column is its value already."""
    return "$" if place.source == "person" else place.pointer


def _type(place: EventField, bind: Binder) -> str:
    return f"json_type({_column(place)}, {bind(_path(place))})"


def _equals(place: EventField, value: Value, bind: Binder) -> str:
    """SQL that is true where the field is `value`, as JSON compares: "5" is not 5, 5.0 is, and missing is null."""
    if value is None:
        return f"({text_sql(place, bind)} is null)"
    if place.kind == "time":
        return f"coalesce({_column(place)} = {bind(iso_time(value))}, false)"
    if place.kind != "json":
        return f"coalesce({_column(place)} = {bind(value)}, false)"
    kinds: dict[str, str] = {}
    if isinstance(value, str):
        kinds["'VARCHAR'"] = f"= {bind(value)}"
    elif isinstance(value, bool):
        kinds["'BOOLEAN'"] = f"= '{str(value).lower()}'"
    else:
        # JSON's whole numbers are compared as such, since a double cannot tell large ones apart.
        if value == int(value) and -(2**63) <= value < 2**64:
            kinds["'BIGINT', 'UBIGINT'"] = f"::hugeint = {bind(int(value))}"
        if abs(value) < 2**1023 and float(value) == value:
            kinds["'DOUBLE'"] = f"::double = {bind(float(value))}::double"
    if not kinds:
        return "false"
    text, kind = text_sql(place, bind), _type(place, bind)
    whens = " ".join(f"when {kind} in ({names}) then {text}{test}" for names, test in kinds.items())
    return f"(case {whens} else false end)"


def _compares(place: EventField, sign: str, value: Value, bind: Binder) -> str:
    """SQL that is true where the field compares so with `value`; false or null where it is nothing of that kind."""
    column = _column(place)
    if place.kind == "time":
        return f"{column} {sign} {bind(iso_time(value))}"
    if isinstance(value, str):
        return (
            f"case when {_type(place, bind)} = 'VARCHAR' then {_time(text_sql(place, bind))} {sign} "
            f"{bind(iso_time(value))} end"
        )
    assert isinstance(value, int | float)
    # Whole numbers are compared as such where both are, since a double cannot tell large ones apart.
    is_whole = value == int(value) and -(2**63) <= value < 2**64
    whole = f"::hugeint {sign} {bind(int(value))}" if is_whole else ""
    if place.kind == "number" and is_whole:
        return f"{column}{whole}"
    double = f"::double {sign} {bind(max(-_GREATEST, min(_GREATEST, value)) * 1.0)}::double"
    if place.kind == "number":
        return f"{column}{double}"
    text, kind = text_sql(place, bind), _type(place, bind)
    return (
        f"case when {kind} in ('BIGINT', 'UBIGINT') then {text}{whole or double} "
        f"when {kind} = 'DOUBLE' then {text}{double} end"
    )


def _time(text: str) -> str:
    """SQL for the time that a text says, as funnels.conditions.iso_time reads it; null if it says none."""
    return (
        f"case when not regexp_full_match({text}, '{_TIME}') then null "
        f"when length({text}) = 10 then try_cast({text} || ' 00:00:00+00' as timestamptz) "
        f"when regexp_full_match({text}, '{_WITHOUT_OFFSET}') then try_cast({text} || '+00' as timestamptz) "
        f"else try_cast({text} as timestamptz) end"
    )
