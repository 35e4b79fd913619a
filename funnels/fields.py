"""The names of an event's fields as definitions write them, and what may stand under each.

    properties.plan             a key of the event's properties
    context.campaign.source     a key inside an object (a number counts into a list)
    properties."cart.total"     a key with a dot in it goes in double quotes; a double quote in it is doubled
    utm_source                  a column of stream.events

Only what this grammar reads reaches a query: a column is one of those listed here, and the keys of a path are bound
as one value, never written into the SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Value = str | int | float | bool | None
"""What a condition compares with. Text, number, truth and null are told apart, as in JSON."""

TEXT_COLUMNS: Final = (
    "anonymous_id",
    "user_id",
    "type",
    "path",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
)
TRUTH_COLUMNS: Final = ("clock_skewed", "is_background")
JSON_COLUMNS: Final = ("properties", "context")

_KEY = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^."]+)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class EventField:
    """A column of stream.events and, where it holds JSON, the keys that lead into it."""

    column: str
    keys: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["text", "truth", "json"]:
        """What the field holds."""
        if self.column in TEXT_COLUMNS:
            return "text"
        return "truth" if self.column in TRUTH_COLUMNS else "json"

    @property
    def pointer(self) -> str:
        """The keys as a JSON Pointer (RFC 6901), in which every character of a key stands for itself.

        >>> parse_field('properties."a/b".c').pointer
        '/a~1b/c'
        """
        return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in self.keys)

    def refuses(self, value: Value) -> str | None:
        """Why no event can have `value` in this field, or None if one can."""
        if value is None or self.kind == "json":
            return None
        if self.kind == "text" and not isinstance(value, str):
            return f"{self.column} is text: put the value in double quotes"
        if self.kind == "truth" and not isinstance(value, bool):
            return f"{self.column} is true or false: write one of these, without quotes"
        return None


def parse_field(text: str) -> EventField:
    """The field that `text` names. Raises ValueError, which says what can be written, if it names none.

    >>> parse_field("context.campaign.source")
    EventField(column='context', keys=('campaign', 'source'))
    >>> parse_field('properties."cart.total"').keys
    ('cart.total',)
    """
    column, dot, rest = text.partition(".")
    if not dot and column in (*TEXT_COLUMNS, *TRUTH_COLUMNS):
        return EventField(column)
    if dot and column in JSON_COLUMNS:
        return EventField(column, _keys(text, rest))
    raise ValueError(
        f"{text!r} is no field of an event: write properties.KEY, context.KEY or one of "
        + ", ".join((*TEXT_COLUMNS, *TRUTH_COLUMNS))
    )


def _keys(field: str, path: str) -> tuple[str, ...]:
    keys: list[str] = []
    place = 0
    while match := _KEY.match(path, place):
        quoted = match["quoted"]
        keys.append(match["bare"] if quoted is None else quoted.replace('""', '"'))
        place = match.end()
        if place == len(path):
            return tuple(keys)
        if path[place] != ".":
            break
        place += 1
    raise ValueError(
        f"{field!r} is no path of keys: put one dot between two keys, and a key that holds a dot or a double quote "
        'in double quotes, the quote doubled: properties."cart.total"'
    )
