"""The names of an event's fields as definitions write them, and what each holds.

    properties.plan             a key of the event's properties
    context.campaign.source     a key inside an object (a number counts into a list)
    properties."cart.total"     a key with a dot in it goes in double quotes; a double quote in it is doubled
    utm_source                  a column of stream.events
    session.browser             a column of stream.sessions, of the session that the event is in
    person.is_known             what is known by now of the person behind the event
    person.traits.plan          a trait of that person: as the last identify that names it says

Only what this grammar reads reaches a query: a column is one of those listed here, and the keys of a path are bound
as one value, never written into the SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "truth", "number", "time", "json"]
Source = Literal["event", "session", "person"]

TEXT_COLUMNS: Final = (
    "anonymous_id",
    "user_id",
    "type",
    "name",
    "path",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "device_type",
    "browser",
    "os",
)
TRUTH_COLUMNS: Final = ("clock_skewed", "is_background")
JSON_COLUMNS: Final = ("properties", "context")

SESSION_FIELDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("session_id", "user_id", "entry_path", "exit_path", "referrer"), "text"),
    **dict.fromkeys(("utm_source", "utm_medium", "utm_campaign", "device_type", "browser", "os"), "text"),
    **dict.fromkeys(("start_reason", "end_reason"), "text"),
    **dict.fromkeys(("event_count", "page_count"), "number"),
    **dict.fromkeys(("started_at", "ended_at"), "time"),
    "is_open": "truth",
}
PERSON_FIELDS: Final[dict[str, Kind]] = {"id": "text", "is_known": "truth", "first_seen": "time"}
TRAITS: Final = "traits"

_FIELDS: Final[dict[Source, dict[str, Kind]]] = {
    "event": {**dict.fromkeys(TEXT_COLUMNS, "text"), **dict.fromkeys(TRUTH_COLUMNS, "truth")},
    "session": SESSION_FIELDS,
    "person": PERSON_FIELDS,
}

_KEY = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^."]+)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class EventField:
    """A column of an event, its session or its person and, where it holds JSON, the keys that lead into it."""

    column: str
    keys: tuple[str, ...] = ()
    source: Source = "event"

    @property
    def kind(self) -> Kind:
        """What the field holds."""
        return _FIELDS[self.source].get(self.column, "json")

    @property
    def name(self) -> str:
        """The column as definitions write it."""
        return self.column if self.source == "event" else f"{self.source}.{self.column}"

    @property
    def pointer(self) -> str:
        """The keys as a JSON Pointer (RFC 6901), in which every character of a key stands for itself.

        >>> parse_field('properties."a/b".c').pointer
        '/a~1b/c'
        """
        return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in self.keys)


def parse_field(text: str) -> EventField:
    """The field that `text` names. Raises ValueError, which says what can be written, if it names none.

    >>> parse_field("context.campaign.source")
    EventField(column='context', keys=('campaign', 'source'), source='event')
    >>> parse_field('properties."cart.total"').keys
    ('cart.total',)
    >>> parse_field("session.page_count").kind
    'number'
    """
    first, dot, rest = text.partition(".")
    if not dot and first in _FIELDS["event"]:
        return EventField(first)
    if dot and first in JSON_COLUMNS:
        return EventField(first, _keys(text, rest))
    if first == "session":
        if rest in SESSION_FIELDS:
            return EventField(rest, source="session")
        raise ValueError(f"{text!r} is no field of a session: write session. and one of {', '.join(SESSION_FIELDS)}")
    if first == "person":
        if rest in PERSON_FIELDS:
            return EventField(rest, source="person")
        if rest.startswith(f"{TRAITS}."):
            return EventField(TRAITS, _keys(text, rest.removeprefix(f"{TRAITS}.")), "person")
        raise ValueError(
            f"{text!r} is no field of a person: write person.traits.KEY, or person. and one of "
            + ", ".join(PERSON_FIELDS)
        )
    raise ValueError(
        f"{text!r} is no field of an event: write properties.KEY, context.KEY, session.FIELD, person.FIELD or one of "
        + ", ".join(_FIELDS["event"])
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
