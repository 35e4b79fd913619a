"""Decoding in bulk: the same verdicts as the contract's, and columns worked out by hand or by a plain model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.contract import Event, Rejected, parse
from flows.decode import DEAD, DECODED, DecodedBatch, Decoder
from flows.records import RawBatch, octets
from tests.flows.inputs import ACCEPTED, GOOD, IDS, REJECTED, TIME, Expected, record

SKEW = timedelta(minutes=5)
KAFKA_AT = datetime(2024, 5, 6, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DECODER = Decoder(SKEW)
Row = dict[str, Any]


def decode(
    *values: bytes | None, kafka_at: datetime | None = None, keys: Sequence[bytes | None] | None = None
) -> DecodedBatch:
    """One block of partition 3, its offsets starting at 100; from a file unless Kafka's time is given."""
    count = len(values)
    at = None if kafka_at is None else np.full(count, _microseconds(kafka_at), np.int64)
    batch = RawBatch(
        topic="events",
        partition=3,
        next_offset=100 + count,
        values=octets(values),
        keys=None if keys is None else octets(keys),
        offsets=np.arange(100, 100 + count, dtype=np.int64),
        kafka_at=at,
    )
    decoded = DECODER.decode(batch)
    assert decoded.events.schema == DECODED
    assert decoded.dead.schema == DEAD
    assert decoded.consumed == count
    assert sorted(decoded.events["offset"].to_pylist() + decoded.dead["offset"].to_pylist()) == list(batch.offsets)
    assert decoded.events["offset"].to_pylist() == sorted(decoded.events["offset"].to_pylist())
    return decoded


def row(raw: bytes, *, kafka_at: datetime | None = None, key: bytes | None = None) -> Row:
    """The columns of one acceptable record."""
    decoded = decode(raw, kafka_at=kafka_at, keys=None if key is None else [key])
    assert decoded.dead.num_rows == 0, decoded.dead.to_pylist()
    (found,) = decoded.events.to_pylist()
    return found


# Verdicts, case by case: each alone, and all in one block.


@pytest.mark.parametrize(("raw", "reason"), REJECTED.values(), ids=REJECTED.keys())
def test_what_is_rejected_and_why(raw: bytes | None, reason: str) -> None:
    decoded = decode(raw, kafka_at=KAFKA_AT, keys=[b"d"])
    assert decoded.events.num_rows == 0
    (dead,) = decoded.dead.to_pylist()
    assert (dead["reason"], dead["detail"]) == _verdict(raw)
    assert dead == {
        "topic": "events",
        "partition": 3,
        "offset": 100,
        "reason": reason,
        "detail": dead["detail"],
        "key": b"d",
        "raw": raw,
        "kafka_at": KAFKA_AT,
    }


@pytest.mark.parametrize(("raw", "expected"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_accepted_and_as_what(raw: bytes, expected: Expected) -> None:
    found = row(raw)
    message_id, anonymous_id, user_id, event_at = expected
    assert (found["message_id"], found["anonymous_id"], found["user_id"]) == (message_id, anonymous_id, user_id)
    assert found["event_at"] == found["received_at"] == datetime.fromisoformat(event_at)
    assert found["clock_skewed"] is False


def test_every_case_in_one_block() -> None:
    accepted, rejected = [raw for raw, _ in ACCEPTED.values()], [raw for raw, _ in REJECTED.values()]
    mixed = [raw for pair in zip(accepted, rejected, strict=False) for raw in pair] + rejected[len(accepted) :]
    decoded = decode(*mixed)
    alone = [row(raw) for raw in accepted[: len(rejected)]]
    assert [{**found, "offset": 100} for found in decoded.events.to_pylist()] == alone
    assert decoded.dead["reason"].to_pylist() == [reason for _, reason in REJECTED.values()]


def test_an_empty_block() -> None:
    decoded = decode()
    assert (decoded.events.num_rows, decoded.dead.num_rows, decoded.next_offset) == (0, 0, 100)


def test_a_block_of_nothing_but_null_values() -> None:
    decoded = decode(None, None, kafka_at=KAFKA_AT, keys=[None, b"d"])
    assert decoded.dead["reason"].to_pylist() == ["null_value", "null_value"]
    assert decoded.dead["key"].to_pylist() == [None, b"d"]


def test_how_the_partition_stands_is_handed_on() -> None:
    read_at = datetime(2024, 5, 6, 12, 1, tzinfo=UTC)
    batch = RawBatch(
        topic="events",
        partition=3,
        next_offset=9,
        values=octets([GOOD]),
        offsets=np.array([8]),
        at_end=True,
        read_at=read_at,
    )
    decoded = DECODER.decode(batch)
    assert (decoded.topic, decoded.partition, decoded.next_offset) == ("events", 3, 9)
    assert (decoded.at_end, decoded.closed, decoded.read_at, decoded.last_kafka_at) == (True, False, read_at, None)
    assert decode(GOOD, kafka_at=KAFKA_AT).last_kafka_at == _microseconds(KAFKA_AT)


# Event time.


def times(kafka_at: datetime | None = None, /, **fields: Any) -> tuple[str, str, bool]:
    """event_at, received_at, clock_skewed; times of 6 May 2024 are given and returned without their date."""
    body: dict[str, object] = {"messageId": "m", "anonymousId": "d"}
    body |= {name: f"2024-05-06T{at}Z" if isinstance(at, str) and at[2:3] == ":" else at for name, at in fields.items()}
    found = row(json.dumps(body).encode(), kafka_at=kafka_at)
    assert found == row(json.dumps(body, indent=1).replace("messageId", "message\\u0049d").encode(), kafka_at=kafka_at)
    event_at, received_at = (
        found[name].isoformat().removeprefix("2024-05-06T").removesuffix("+00:00")
        for name in ("event_at", "received_at")
    )
    return event_at, received_at, found["clock_skewed"]


def test_event_at_is_the_timestamp() -> None:
    assert times(timestamp="11:00:00") == ("11:00:00", "11:00:00", False)
    assert times(KAFKA_AT, timestamp="11:00:00") == ("11:00:00", "12:00:00", False)
    assert times(KAFKA_AT, timestamp="11:00:00", originalTimestamp="10:00:00") == ("11:00:00", "12:00:00", False)


def test_received_at_is_the_payloads_before_kafkas() -> None:
    assert times(KAFKA_AT, timestamp="11:00:00", receivedAt="11:59:00") == ("11:00:00", "11:59:00", False)
    assert times(timestamp="11:00:00", receivedAt="11:59:00") == ("11:00:00", "11:59:00", False)


def test_one_of_sent_and_received_alone_corrects_nothing() -> None:
    assert times(KAFKA_AT, timestamp="11:00:00", sentAt="11:30:00") == ("11:00:00", "12:00:00", False)
    assert times(KAFKA_AT, timestamp="11:00:00", receivedAt="11:30:00") == ("11:00:00", "11:30:00", False)


def test_sent_and_received_correct_the_devices_clock() -> None:
    """Sent ten minutes after it happened, by a clock that is two hours slow."""
    slow: dict[str, Any] = {"timestamp": "09:40:00", "sentAt": "09:50:00", "receivedAt": "11:50:00"}
    assert times(KAFKA_AT, **slow) == ("11:40:00", "11:50:00", False)
    corrected_by_the_sdk = {**slow, "timestamp": "11:40:00.5", "originalTimestamp": "09:40:00.25"}
    assert times(KAFKA_AT, **corrected_by_the_sdk) == ("11:40:00.250000", "11:50:00", False)
    years_ahead = {"timestamp": "2026-05-06T09:40:00Z", "sentAt": "2026-05-06T09:50:00Z", "receivedAt": "11:50:00"}
    assert times(KAFKA_AT, **years_ahead) == ("11:40:00", "11:50:00", False)


def test_a_received_at_too_far_above_kafkas_time_is_ignored() -> None:
    believed = {"timestamp": "11:40:00", "sentAt": "11:50:00", "receivedAt": "12:05:00"}
    assert times(KAFKA_AT, **believed) == ("11:55:00", "12:05:00", False)
    ignored = {**believed, "receivedAt": "12:05:00.000001"}
    assert times(KAFKA_AT, **ignored) == ("11:40:00", "12:00:00", False)
    assert times(**ignored) == ("11:55:00.000001", "12:05:00.000001", False)


def test_an_event_too_far_above_its_reception_is_skewed() -> None:
    assert times(KAFKA_AT, timestamp="12:05:00") == ("12:05:00", "12:00:00", False)
    assert times(KAFKA_AT, timestamp="12:05:00.000001") == ("12:00:00", "12:00:00", True)
    assert times(KAFKA_AT, timestamp="2026-05-06T12:00:00Z") == ("12:00:00", "12:00:00", True)
    assert times(timestamp="12:00:00", receivedAt="11:00:00") == ("11:00:00", "11:00:00", True)


def test_a_correction_can_be_skewed_too() -> None:
    sent_before_it_happened = {"timestamp": "11:50:00", "sentAt": "11:40:00", "receivedAt": "11:30:00"}
    assert times(KAFKA_AT, **sent_before_it_happened) == ("11:30:00", "11:30:00", True)


def test_a_correction_out_of_the_calendar_is_no_correction() -> None:
    absurd = {"timestamp": "0001-01-01T00:00:00Z", "sentAt": "9999-12-31T00:00:00Z", "receivedAt": "11:30:00"}
    assert times(KAFKA_AT, **absurd) == ("0001-01-01T00:00:00", "11:30:00", False)
    absurd = {"timestamp": "9999-12-31T00:00:00Z", "sentAt": "0001-01-01T00:00:00Z", "receivedAt": "11:30:00"}
    assert times(KAFKA_AT, **absurd) == ("11:30:00", "11:30:00", True)
    last = "9999-12-31T23:59:59.999999Z"
    assert times(timestamp=last, sentAt="9999-12-31T23:59:00Z", receivedAt=last)[0] == last.removesuffix("Z")


def test_times_in_other_forms_correct_as_well() -> None:
    """Happened 11:40 (as Unix seconds), sent 11:50 by the same clock, received 11:55 (as milliseconds in text)."""
    forms = {"timestamp": 1714995600, "sentAt": "2024-05-06T13:50:00.0000009+02:00", "receivedAt": "1714996500000"}
    assert times(KAFKA_AT, **forms) == ("11:45:00", "11:55:00", False)


def test_a_time_that_is_none_corrects_nothing() -> None:
    for none in ("infinity", "-infinity", "290000-01-01T00:00:00Z", "soon"):
        assert times(KAFKA_AT, timestamp="11:40:00", sentAt=none, receivedAt="11:55:00") == (
            "11:40:00",
            "11:55:00",
            False,
        )
        assert times(KAFKA_AT, timestamp="11:40:00", sentAt="11:50:00", receivedAt=none) == (
            "11:40:00",
            "12:00:00",
            False,
        )
        assert times(KAFKA_AT, timestamp="11:40:00", originalTimestamp=none) == ("11:40:00", "12:00:00", False)


# Names, and what context and properties become.


@pytest.mark.parametrize(
    ("fields", "kind", "name"),
    [
        ('"type": "track", "event": "Order Completed", "name": "ignored"', "track", "Order Completed"),
        ('"type": "page", "name": "Home", "event": "ignored"', "page", "Page Viewed"),
        ('"type": "screen", "name": "Home"', "screen", "Screen Viewed"),
        ('"type": "identify", "event": "ignored"', "identify", "identify"),
        ('"type": "alias", "previousId": "p"', "alias", "alias"),
        ('"type": "group"', "group", "group"),
    ],
)
def test_the_name_of_each_type(fields: str, kind: str, name: str) -> None:
    found = row(record(IDS, TIME, fields))
    assert (found["type"], found["name"]) == (kind, name)
    assert found["previous_id"] == ("p" if kind == "alias" else None)


def test_a_page_keeps_its_own_name_in_its_properties() -> None:
    found = row(record(IDS, TIME, '"type": "page", "name": "Home", "properties": {"path": "/"}'))
    assert json.loads(found["properties"]) == {"name": "Home", "path": "/"}
    its_own = row(record(IDS, TIME, '"type": "screen", "name": "Home", "properties": {"name": "Start"}'))
    assert json.loads(its_own["properties"]) == {"name": "Start"}
    nulls = row(record(IDS, TIME, '"type": "page", "name": "Home", "properties": { "plan": null, "a": {"b": null}}'))
    assert json.loads(nulls["properties"]) == {"name": "Home", "plan": None, "a": {"b": None}}
    for nothing in ("{}", "{ }", "null", "[]", '"{"', "7"):
        alone = row(record(IDS, TIME, f'"type": "page", "name": "\\"H\\u0000é", "properties": {nothing}'))
        assert json.loads(alone["properties"]) == {"name": '"H\0é'}


def test_traits_serve_as_properties_of_identify_and_group() -> None:
    assert json.loads(row(record(IDS, TIME, '"type": "identify", "traits": {"plan": "pro"}'))["properties"]) == {
        "plan": "pro"
    }
    assert row(record(IDS, TIME, '"type": "track", "event": "E", "traits": {"plan": "pro"}'))["properties"] is None


CONTEXT = {
    "page": {"path": "/p", "referrer": "https://search.example/", "title": "P"},
    "campaign": {"source": "google", "medium": "cpc", "name": "spring", "term": "shoes"},
    "userAgent": "Mozilla/5.0",
    "device": {"type": "ios"},
    "os": {"name": "iOS", "version": "17"},
    "library": {"name": "analytics.js", "version": "1"},
    "unknown": {"kept": [1, None, "é"]},
}


def test_what_context_becomes() -> None:
    body = {"messageId": "m", "anonymousId": "d", "timestamp": "2024-05-06T12:00:00Z", "context": CONTEXT}
    found = row(json.dumps(body).encode())
    assert json.loads(found["context"]) == CONTEXT
    assert {name: found[name] for name in DECODED.names[9:18]} == {
        "path": "/p",
        "referrer": "https://search.example/",
        "utm_source": "google",
        "utm_medium": "cpc",
        "utm_campaign": "spring",
        "user_agent": "Mozilla/5.0",
        "device_type": "ios",
        "os": "iOS",
        "library": "analytics.js",
    }


def test_device_and_os_may_be_plain_text() -> None:
    found = row(record(IDS, TIME, '"context": {"device": "mobile", "os": "Android"}'))
    assert (found["device_type"], found["os"]) == ("mobile", "Android")


@pytest.mark.parametrize(
    ("key", "fields", "is_foreign"),
    [
        (b"d", IDS, False),
        (b"e", IDS, True),
        (None, IDS, True),
        (b"7", '"messageId": "m", "anonymousId": 7', False),
        (b"", '"messageId": "m", "userId": "u"', False),
        (b"\xff", IDS, True),
        ("é".encode(), '"messageId": "m", "anonymousId": "é"', False),
    ],
)
def test_a_message_key_that_is_not_the_device_is_foreign(key: bytes | None, fields: str, is_foreign: bool) -> None:
    assert decode(record(fields, TIME), keys=[key]).events["foreign_key"].to_pylist() == [is_foreign]


def test_without_keys_nothing_is_foreign() -> None:
    assert row(GOOD)["foreign_key"] is False


@pytest.mark.parametrize("padding", ["", "x", "xx"])
def test_a_malformed_record_beyond_ascii_costs_only_itself(padding: str) -> None:
    """DuckDB quotes what it cannot read, cut off at a byte, here inside a character of three."""
    decoded = decode(GOOD, f'{{"messageId": "{padding}{"€" * 60}" "anonymousId": "d"}}'.encode(), GOOD)
    assert decoded.events["message_id"].to_pylist() == ["m", "m"]
    assert decoded.dead["reason"].to_pylist() == ["not_json"]


# Against the contract: any block.


def _microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND


def _verdict(raw: bytes | None) -> Event | tuple[str, str]:
    """What the contract says: the event, or reason and detail."""
    try:
        return parse(raw)
    except Rejected as rejected:
        return rejected.reason, rejected.detail


YEAR_1 = _microseconds(datetime(1, 1, 1, tzinfo=UTC))
YEAR_10000 = _microseconds(datetime.max.replace(tzinfo=UTC)) + 1


def expected_times(event: Event, kafka_at: datetime | None) -> tuple[int, int, bool]:
    """event_at, received_at, clock_skewed by the design's words, in microseconds."""
    timestamp, original, sent, received = (
        None if at is None else _microseconds(at)
        for at in (event.timestamp, event.originalTimestamp, event.sentAt, event.receivedAt)
    )
    skew = SKEW // MICROSECOND
    kafka = None if kafka_at is None else _microseconds(kafka_at)
    said = timestamp if timestamp is not None else original
    assert said is not None
    if received is not None and kafka is not None and received > kafka + skew:
        received = None
    happened = said
    if sent is not None and received is not None:
        corrected = received - (sent - (original if original is not None else said))
        if YEAR_1 <= corrected < YEAR_10000:
            happened = corrected
    arrived = received if received is not None else kafka if kafka is not None else happened
    return (arrived, arrived, True) if happened > arrived + skew else (happened, arrived, False)


OWN_NAMES = {
    "page": "Page Viewed",
    "screen": "Screen Viewed",
    "identify": "identify",
    "alias": "alias",
    "group": "group",
}


def expected_row(event: Event, kafka_at: datetime | None) -> Row:
    """The columns by the design's words; without those that it leaves open, made of what should be text and is not."""
    event_at, received_at, clock_skewed = expected_times(event, kafka_at)
    open_to_choice = [part for part in (event.type, event.event, event.name) if not isinstance(part, str | None)]
    kind = event.type or "track"
    context = event.context
    expected: Row = {
        "message_id": event.messageId,
        "anonymous_id": event.anonymousId,
        "user_id": event.userId,
        "event_at": event_at,
        "received_at": received_at,
        "clock_skewed": clock_skewed,
        "context": context,
        "path": _inside(context, "page", "path"),
        "referrer": _inside(context, "page", "referrer"),
        "utm_source": _inside(context, "campaign", "source"),
        "utm_medium": _inside(context, "campaign", "medium"),
        "utm_campaign": _inside(context, "campaign", "name"),
        "user_agent": _inside(context, "userAgent"),
        "library": _inside(context, "library", "name"),
    }
    if not open_to_choice:
        properties = event.properties
        if kind in ("identify", "group") and properties is None:
            properties = event.traits
        if kind in ("page", "screen") and event.name is not None:
            properties = {"name": event.name, **(properties or {})}
        expected |= {
            "type": kind,
            "name": OWN_NAMES.get(kind) or event.event or event.name or kind,
            "previous_id": event.previousId if kind == "alias" else None,
            "properties": properties,
        }
    return {name: value for name, value in expected.items() if name in ANY_VALUE or isinstance(value, str | None)}


ANY_VALUE = ("event_at", "received_at", "clock_skewed", "context", "properties")


def found_row(columns: Row) -> Row:
    """The decoded row in the terms of the expected one: times as microseconds, JSON text as what it says."""
    said = {
        name: parse(record(IDS, TIME, f'"context": {columns[name] or "null"}')).context
        for name in ("context", "properties")
    }
    return columns | said | {name: _microseconds(columns[name]) for name in ("event_at", "received_at")}


def _inside(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


# Blocks of records near acceptable ones.

ODD_VALUES = [
    *[
        "null",
        "true",
        "false",
        "{}",
        "[]",
        '[["a"]]',
        '{"a": {"b": 1}}',
        '{"a": 1, "a": 2}',
        '{"name": "n", "type": "t"}',
    ],
    *[
        "0",
        "-0",
        "7",
        "-7",
        "1.5",
        "1.0",
        "1e3",
        "1E-7",
        "1e400",
        "-1e400",
        "9" * 17,
        "9" * 18,
        "9" * 19,
        "-" + "9" * 18,
    ],
    *["9" * 25, "-" + "9" * 19, str(2**63 - 1), str(2**63), str(-(2**63)), str(2**64), "9" * 400, "1" + "0" * 4300],
    *["NaN", "Infinity", "-Infinity", '{"a": NaN}', "[-Infinity]", '{"a": -1e999}'],
    *[
        '""',
        '" "',
        '"\\t"',
        '"\\u0020"',
        '"\\u00a0"',
        '"\u00a0"',
        '"\\u200b"',
        '"\\f"',
        '"\\u000b"',
        '"\\u0085"',
        '"\\u001f"',
    ],
    *[
        '"a"',
        '"A"',
        '" a"',
        '"a "',
        '"é"',
        '"\\u00e9"',
        '"e\u0301"',
        '"\U0001f600"',
        '"\\ud83d\\ude00"',
        '"\x7f"',
        '"\\u0000"',
    ],
    *[
        '"a\\u0000b"',
        '"\\n"',
        '"a\\nb"',
        '"\\\\"',
        '"\\""',
        '"\\/"',
        '"\\b"',
        '"null"',
        '"NaN"',
        '"{}"',
        '"[1, ]"',
        '"a, }"',
    ],
    *[
        '": nan"',
        '", inf"',
        '"$"',
        '"12"',
        '"-0"',
        '"\'"',
        '"track"',
        '"page"',
        '"alias"',
        '"identify"',
        '"group"',
        '"screen"',
    ],
    *[
        '{"": ""}',
        '{"a\\u0000": "b\\u0000"}',
        '{"path": "/", "path": "/b"}',
        '"' + "x" * 500 + '"',
        '{"page": {"path": "é"}}',
    ],
    *[
        '{"page": [], "campaign": "x", "device": [], "os": 1, "library": true, "userAgent": null}',
        '{"device": "d", "os": "o"}',
    ],
]
BEYOND_A_DOUBLE = ("1e400", "-1e400", "9" * 400, "1" + "0" * 4300)
BROKEN_VALUES = [
    *[
        "007",
        "+7",
        ".5",
        "5.",
        "1e",
        "0x1",
        "1_000",
        "-",
        "nan",
        "-nan",
        "-NaN",
        "infinity",
        "inf",
        "-inf",
        "INF",
        "+Infinity",
    ],
    *[
        "undefined",
        "None",
        "True",
        "tru",
        "nulL",
        '"\t"',
        '"\n"',
        '"\0"',
        '"\x1f"',
        '"\\ud83d"',
        '"\\ude00\\ud83d"',
        '"\\x41"',
    ],
    *[
        '"\\u00"',
        "'a'",
        '"x',
        'x"',
        "",
        ",",
        ":",
        "{",
        "}",
        "[1, ]",
        '["]',
        '{"a": 1, }',
        '{"a" 1}',
        "[1 2]",
        '{"a": nan}',
    ],
    *[
        "[inf]",
        "[1, nan]",
        '{"a": "\\ud83d"}',
        '{"\\ud83d": 1}',
        "{a: 1}",
        "/* */ 1",
        "1 // one",
        "# 1",
        "1;",
        "(1)",
        "\ufeff1",
    ],
]
ODD_TIMES = [
    *['"2024-05-06T12:00:00Z"', '"2024-05-06T11:50:00.5Z"', '"2024-05-06T12:05:00Z"', '"2024-05-06T12:05:00.000001Z"'],
    *[
        '"2024-05-06T12:00:00"',
        '"2024-05-06 12:00:00Z"',
        '"2024-05-06 12:00:00+00"',
        '"2024-05-06T12:00Z"',
        '"2024-05-06"',
    ],
    *[
        '"2024-05-06T12:00:00.123456Z"',
        '"2024-05-06T12:00:00.1234567Z"',
        '"2024-05-06T12:00:00.Z"',
        '"2024-05-06T12:00:00,5Z"',
    ],
    *[
        '"2024-05-06T12:00:00+02:00"',
        '"2024-05-06T12:00:00-09:59"',
        '"2024-05-06T12:00:00+14:00"',
        '"2024-05-06T12:00:00+0200"',
    ],
    *[
        '"2024-05-06T12:00:00+09:60"',
        '"2024-05-06T12:00:00+24:00"',
        '"2024-05-06T12:00:00-00:00"',
        '"2024-05-06T12:00:00 UTC"',
    ],
    *[
        '"2024-05-06T24:00:00Z"',
        '"2024-05-06T23:59:60Z"',
        '"2024-05-06T12:60:00Z"',
        '"2024-5-6T12:00:00Z"',
        '"24-05-06"',
    ],
    *[
        '"2024-02-30T00:00:00Z"',
        '"2023-02-29T00:00:00Z"',
        '"2024-02-29T00:00:00Z"',
        '"1900-02-29T00:00:00Z"',
        '"2000-13-01"',
    ],
    *['"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"', '"0001-01-01T00:00:00+01:00"', '"0999-12-31T00:00:00Z"'],
    *['"1000-01-01T00:00:00Z"', '"1500-02-29T00:00:00Z"', '"1582-10-10T00:00:00Z"', '"2999-12-31T23:59:59-09:59"'],
    *[
        '"9999-12-31T23:59:59.999999Z"',
        '"9999-12-31T23:59:59-01:00"',
        '"10000-01-01T00:00:00Z"',
        '"2024-05-06T12:00:00z"',
    ],
    *[
        '" 2024-05-06T12:00:00Z"',
        '"2024-05-06T12:00:00Z\\n"',
        '"\\u00322024-05-06T12:00:00Z"',
        '"2024-05-06T12\\u003a00:00Z"',
    ],
    *["1714996800", "1714996800123", "1714996800.5", '"1714996800"', '"1714996800123.5"', "20000000000", "20000000001"],
    *["-62135596800", "-62135596801", "253402300799", "253402300800", "1e9", "1e30", '"infinity"', '"epoch"', '"now"'],
    *[
        '"-infinity"',
        '"290000-01-01T00:00:00Z"',
        '"294247-01-10T04:00:54Z"',
        '"-4000-01-01T00:00:00Z"',
        '"4000-01-01 (BC)"',
    ],
    *[
        '"2024-05-06T12:00:00Z" ',
        '"2024-05-06T12:00:00ZZ"',
        '"٢٠٢٤-05-06T12:00:00Z"',
        '"2024-05-06T12:00:00\u22121:00"',
    ],
]
FIELDS = {
    "messageId": ['"m1"', '"m2"', '"m-é"', "12"],
    "anonymousId": ['"d"', '"e"', "null", "7"],
    "userId": ['"u"', "null"],
    "previousId": ['"p"'],
    "type": ['"track"', '"page"', '"identify"', '"alias"'],
    "event": ['"Order Completed"'],
    "name": ['"Home"'],
    "timestamp": ['"2024-05-06T11:50:00Z"', '"2024-05-06T11:58:00.123Z"'],
    "originalTimestamp": ['"2024-05-06T11:49:00.000001Z"'],
    "sentAt": ['"2024-05-06T11:55:00Z"'],
    "receivedAt": ['"2024-05-06T11:59:00Z"'],
    "context": ['{"page": {"path": "/p"}, "userAgent": "Mozilla"}', json.dumps(CONTEXT)],
    "properties": ['{"price": 1.5, "items": [1, 2]}'],
    "traits": ['{"plan": "pro"}'],
    "extra": ["1"],
}
TIME_FIELDS = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
KEYS = [*FIELDS, *FIELDS, "messageid", "message\\u0049d", "anonymous\\u0049d", "", 'a\\"b', "\\ud83d", 'a"b']
SPACES = [*["", " ", "\n", "\r\n\t"] * 8, "\f", "\u00a0", "/**/", "\0"]


@st.composite
def records(draw: st.DrawFn) -> bytes | None:
    """A record near an acceptable one: fields odd, missing or doubled, spaced oddly, then some bytes changed."""
    fields = {name: draw(st.sampled_from(values)) for name, values in FIELDS.items() if draw(st.integers(0, 9))}
    pairs = list(fields.items())
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3]))):
        key = draw(st.sampled_from(KEYS))
        odd = ODD_TIMES if key in TIME_FIELDS and draw(st.integers(0, 3)) else ODD_VALUES
        odd = BROKEN_VALUES if draw(st.integers(0, 9)) == 0 else odd
        value = draw(st.sampled_from(odd))
        if key in ("type", "event", "name") and value in BEYOND_A_DOUBLE:
            value = "7"  # the contract sees a null, decoding the text: neither is any better
        pair = (key, value)
        at = draw(st.integers(0, len(pairs)))
        if draw(st.booleans()):
            pairs = [other for other in pairs if other[0] != key]
        pairs.insert(at, pair)
    gaps = [draw(st.sampled_from(SPACES)) for _ in range(4)] if draw(st.integers(0, 3)) == 0 else [""] * 4
    text = f"{gaps[0]},{gaps[1]}".join(f'"{key}"{gaps[2]}:{gaps[3]}{value}' for key, value in pairs)
    wrapped = draw(
        st.sampled_from(["{%s}"] * 60 + [" {%s}\n", "{%s,}", "{%s, \n}", "[{%s}]", "{%s}{}", "\ufeff{%s}", "{%s} x"])
    )
    raw = bytearray((wrapped % text).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw) - 1))
        byte = draw(st.sampled_from(b'{}[]",:\\ \n\t\x00\x1f\x7f\x80\xc3\xe2\xed\xff0aeu-+.') | st.integers(0, 255))
        change = draw(st.sampled_from(["replace", "insert", "delete"]))
        raw[at : at + (change != "insert")] = b"" if change == "delete" else bytes([byte])
    return bytes(raw)


BLOCKS = st.lists(records() | st.sampled_from([GOOD, GOOD, None, b"", b"{}", b"null"]), max_size=6)
KAFKA_TIMES = st.sampled_from([None, KAFKA_AT])


@given(block=BLOCKS, kafka_at=KAFKA_TIMES, without=st.integers(0, 5))
def test_any_block_is_judged_as_the_contract_says(
    block: list[bytes | None], kafka_at: datetime | None, without: int
) -> None:
    verdicts = list(map(_verdict, block))
    decoded = decode(*block, kafka_at=kafka_at, keys=[b"d"] * len(block))
    assert [(dead["offset"] - 100, dead["reason"], dead["detail"]) for dead in decoded.dead.to_pylist()] == [
        (i, *verdict) for i, verdict in enumerate(verdicts) if not isinstance(verdict, Event)
    ]
    events = {found["offset"] - 100: found for found in decoded.events.to_pylist()}
    for i, verdict in enumerate(verdicts):
        if isinstance(verdict, Event):
            expected, found = expected_row(verdict, kafka_at), found_row(events[i])
            assert {name: found[name] for name in expected} == expected

    # No record changes anything about the others.
    rest = block[:without] + block[without + 1 :]
    alone = decode(*rest, kafka_at=kafka_at, keys=[b"d"] * len(rest)).events.drop_columns(["offset"])
    others = decoded.events.filter(pc.not_equal(decoded.events["offset"], 100 + without)).drop_columns(["offset"])
    assert others.equals(alone)
