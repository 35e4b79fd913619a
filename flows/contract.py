"""The event contract: which records are acceptable, and why the others are not.

`Event` is the definition. The hot path (flows/decode.py) decodes in bulk and accepts and rejects exactly
what `parse` does; a property test holds the two together. Source of the fields: the Segment spec
(https://segment.com/docs/connections/spec/).
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

MAX_RECORD_BYTES: Final = 1_048_576
"""A record of exactly this many bytes is still acceptable."""

MAX_DEPTH: Final = 200
"""Levels of objects and arrays, the record itself being the first. Deeper nesting is an attack or a bug."""

BLANK: Final = " \t\n\r\f\v"
"""An id made of these alone is no id."""

REASONS: Final = {
    "null_value": "the record has no value (a tombstone)",
    "too_large": f"the record is larger than {MAX_RECORD_BYTES:,} bytes",
    "not_utf8": "the bytes are not UTF-8",
    "not_json": "the text is not JSON",
    "too_deep": f"the JSON is nested more than {MAX_DEPTH} levels deep",
    "not_an_object": "the JSON is not an object",
    "no_message_id": "messageId is missing, blank or neither text nor a whole number",
    "no_id": "neither anonymousId nor userId is there",
    "no_time": "neither timestamp nor originalTimestamp is a time",
}
"""Why a record becomes a dead letter: a word to count by, a sentence to mend by."""


class Rejected(ValueError):
    """The record is not acceptable; `reason` is a key of REASONS, `detail` says what was found."""

    def __init__(self, reason: str, found: str = "") -> None:
        self.reason = reason
        self.detail = REASONS[reason] + (f": {found[:300]}" if found else "")
        super().__init__(self.detail)


def _text_id(value: object) -> str | None:
    """Text as it is, a whole number as its digits; anything else, and blank text, counts as absent."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip(BLANK) else None


_ANY_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def _time(value: object) -> datetime | None:
    """An aware UTC time from ISO 8601 text (no zone means UTC) or Unix seconds or milliseconds; else None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        time = _ANY_TIME.validate_python(value.strip(BLANK) if isinstance(value, str) else value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValidationError, OverflowError):
        return None


def _object(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


Id = Annotated[str | None, BeforeValidator(_text_id)]
Time = Annotated[datetime | None, BeforeValidator(_time)]
Object = Annotated[dict[str, Any] | None, BeforeValidator(_object)]


class Event(BaseModel):
    """One product event. A field of the wrong type counts as absent; fields not named here are ignored at the
    top level and kept inside context, properties and traits. Times are aware UTC, microseconds.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, title="Stitchline event")

    messageId: Id = Field(default=None, description="Unique to the event; a copy with the same one is a duplicate.")
    type: Any = Field(default=None, description="track, page, screen, identify, alias or group.")
    anonymousId: Id = Field(default=None, description="The device. Needed unless userId is there.")
    userId: Id = Field(default=None, description="The user, once known. Needed unless anonymousId is there.")
    previousId: Id = Field(default=None, description="alias only: the id that userId was known by before.")
    event: Any = Field(default=None, description="track only: what happened.")
    name: Any = Field(default=None, description="page and screen only: its own name.")
    timestamp: Time = Field(default=None, description="When it happened. ISO 8601, or Unix seconds or milliseconds.")
    originalTimestamp: Time = Field(default=None, description="By the device's clock; serves if timestamp is absent.")
    sentAt: Time = Field(default=None, description="When the device sent it, by its own clock.")
    receivedAt: Time = Field(default=None, description="When a collector received it.")
    context: Object = Field(
        default=None, description="page, campaign, userAgent, device, os, app, locale, ip, library."
    )
    properties: Object = Field(default=None, description="Whatever describes the event.")
    traits: Object = Field(default=None, description="identify and group only: what describes the user or group.")

    @model_validator(mode="after")
    def _acceptable(self) -> Event:
        if self.messageId is None:
            raise ValueError("no_message_id")
        if self.anonymousId is None and self.userId is None:
            raise ValueError("no_id")
        if self.timestamp is None and self.originalTimestamp is None:
            raise ValueError("no_time")
        return self


def parse(raw: bytes | None) -> Event:
    """The event in the bytes of one record. Raises Rejected with the first reason that applies.

    Where a key stands twice in one object the last counts; NaN and the infinities become null.
    """
    if raw is None:
        raise Rejected("null_value")
    if len(raw) > MAX_RECORD_BYTES:
        raise Rejected("too_large", f"{len(raw):,} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("not_utf8", f"byte {error.start} is 0x{raw[error.start]:02x}") from None
    if may_be_too_deep(raw) and nesting(raw) > MAX_DEPTH:
        raise Rejected("too_deep")
    try:
        value = json.loads(
            text,
            parse_constant=lambda _: None,
            parse_int=_whole_number,
            parse_float=_finite,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be stored as UTF-8
    except UnicodeEncodeError:
        raise Rejected("not_json", "a lone surrogate") from None
    except (ValueError, RecursionError) as error:
        raise Rejected("not_json", str(error)) from None
    if not isinstance(value, dict):
        raise Rejected("not_an_object", type(value).__name__)
    try:
        return Event.model_validate(value)
    except ValidationError as error:
        raise Rejected(str(error.errors()[0]["ctx"]["error"]), _seen(value)) from None


def json_schema() -> dict[str, Any]:
    """The contract as JSON Schema, for producers."""
    return Event.model_json_schema()


def nesting(raw: bytes) -> int:
    """The greatest number of objects and arrays open at once, brackets inside strings not counted."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def may_be_too_deep(raw: bytes) -> bool:
    """False for what cannot be nested beyond MAX_DEPTH: the quick look before the real one."""
    return len(raw) > 2 * MAX_DEPTH and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole_number(digits: str) -> int | float | None:
    """Integers of any length: Python refuses beyond 4,300 digits, which is no integer anybody meant."""
    return int(digits) if len(digits) <= 300 else _finite(digits)


def _seen(value: dict[str, Any]) -> str:
    named = {key: value[key] for key in ("messageId", "anonymousId", "userId", "timestamp") if key in value}
    return json.dumps(named, ensure_ascii=False, default=str)[:200] if named else "none of the fields is there"
