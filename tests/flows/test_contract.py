"""The event contract: what is accepted, as what; what is rejected, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flows.contract import MAX_RECORD_BYTES, REASONS, Rejected, json_schema, nesting, parse
from tests.flows.inputs import ACCEPTED, GOOD, IDS, REJECTED, TIME, Expected, padded, record


@pytest.mark.parametrize(("raw", "reason"), REJECTED.values(), ids=REJECTED.keys())
def test_what_is_rejected_and_why(raw: bytes | None, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parse(raw)
    assert rejected.value.reason == reason
    assert rejected.value.detail.startswith(REASONS[reason])
    assert len(rejected.value.detail) < 500
    rejected.value.detail.encode()


def test_every_reason_has_its_case() -> None:
    assert {reason for _, reason in REJECTED.values()} == set(REASONS)


@pytest.mark.parametrize(("raw", "expected"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_accepted_and_as_what(raw: bytes, expected: Expected) -> None:
    event = parse(raw)
    happened_at = event.timestamp or event.originalTimestamp
    assert happened_at is not None
    assert (event.messageId, event.anonymousId, event.userId, happened_at.isoformat()) == expected


def test_a_rejection_says_what_was_found() -> None:
    with pytest.raises(Rejected, match="1,048,577 bytes"):
        parse(padded(MAX_RECORD_BYTES + 1))
    with pytest.raises(Rejected, match="byte 15 is 0xff"):
        parse(b'{"messageId": "\xff"}')
    with pytest.raises(Rejected, match=r'"messageId": 1\.5'):
        parse(record('"messageId": 1.5', TIME))
    with pytest.raises(Rejected, match="none of the fields is there"):
        parse(b"{}")
    with pytest.raises(Rejected, match="list"):
        parse(b"[]")


def test_times_are_aware_and_utc() -> None:
    event = parse(record(IDS, '"timestamp": "2024-05-06T12:00:00+02:00", "sentAt": 0'))
    assert repr(event.timestamp) == repr(datetime(2024, 5, 6, 10, tzinfo=UTC))
    assert repr(event.sentAt) == repr(datetime(1970, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": {"b": 1, "b": 2}, "c": [{"d": 3, "d": 4}]}', {"a": {"b": 2}, "c": [{"d": 4}]}),
        ('{"a": NaN, "b": Infinity, "c": -Infinity, "d": 1e400}', {"a": None, "b": None, "c": None, "d": None}),
        ('{"unknown": {"kept": true}, "text": "é\\u0000"}', {"unknown": {"kept": True}, "text": "é\0"}),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
        ("[1]", None),
        ('"text"', None),
    ],
)
def test_what_is_kept_of_properties(text: str, value: dict[str, Any] | None) -> None:
    event = parse(record(IDS, TIME, f'"properties": {text}, "context": {text}, "traits": {text}'))
    assert event.properties == event.context == event.traits == value


def test_unknown_fields_at_the_top_are_ignored() -> None:
    assert parse(record(IDS, TIME, '"writeKey": "secret"')) == parse(GOOD)


@pytest.mark.parametrize(
    ("raw", "levels"),
    [
        (b"", 0),
        (b"1", 0),
        (b"{}", 1),
        (b"[[], {}]", 2),
        (b'{"[[[": "\\"[[["}', 1),
        (b"]]][", 0),
        (b'["\\\\", [[]]]', 3),
    ],
)
def test_nesting_counts_open_brackets_outside_text(raw: bytes, levels: int) -> None:
    assert nesting(raw) == levels


def test_the_json_schema_names_every_field_of_the_contract() -> None:
    fields = "messageId type anonymousId userId previousId event name timestamp originalTimestamp sentAt receivedAt"
    assert set(json_schema()["properties"]) == {*fields.split(), "context", "properties", "traits"}
