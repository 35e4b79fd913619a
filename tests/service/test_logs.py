"""The log as JSON: an object a line, whatever the line is about."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from service.logs import JsonFormatter


def told(message: str, *values: object, **more: Any) -> dict[str, Any]:
    extra, error = more.pop("extra", {}), more.pop("error", None)
    record = logging.LogRecord("service.flow", logging.WARNING, "flow.py", 1, message, values, error)
    vars(record).update(extra)
    record.created = 1769860800.25  # 2026-01-31 12:00:00.250 UTC
    line = JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_with_its_fields() -> None:
    place = {"topic": "events", "partition": 3, "offset": 120}
    assert told("topic %s partition %d is at its end, offset %d", *place.values(), extra=place) == {
        "at": "2026-01-31T12:00:00.250Z",
        "level": "warning",
        "logger": "service.flow",
        "message": "topic events partition 3 is at its end, offset 120",
        "topic": "events",
        "partition": 3,
        "offset": 120,
    }


def test_hostile_text_stays_in_its_field() -> None:
    text = 'a\n{"level": "error"}\u2028\x1b[31m'
    assert told("%s", text, extra={"service": text}) == told("x") | {"message": text, "service": text}


def test_a_field_cannot_take_the_place_of_the_lines_own() -> None:
    assert told("x", extra={"level": "fine", "at": "noon"}) == told("x")


def test_an_error_is_a_field() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        found = told("x", error=sys.exc_info())
    assert found["error"].startswith("Traceback")
    assert found["error"].endswith("ValueError: two\nlines")
