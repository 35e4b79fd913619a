"""Records for the tests of the contract and of decoding: good, odd and bad ones, with what has to become of them."""

from __future__ import annotations

from flows.contract import MAX_DEPTH, MAX_RECORD_BYTES

TIME = '"timestamp": "2024-05-06T12:00:00Z"'
IDS = '"messageId": "m", "anonymousId": "d"'


def record(*fields: str) -> bytes:
    """The JSON object with these fields, given as text."""
    return ("{" + ", ".join(fields) + "}").encode()


def nested(levels: int, fields: str = f"{IDS}, {TIME}") -> bytes:
    """An object so many levels deep, counting itself."""
    return record(fields, '"properties": {"deep": ' + "[" * (levels - 2) + "]" * (levels - 2) + "}")


def padded(size: int) -> bytes:
    """An acceptable record of exactly `size` bytes."""
    start, end = record(IDS, TIME)[:-1] + b', "properties": {"padding": "', b'"}}'
    return start + b"x" * (size - len(start) - len(end)) + end


GOOD = record(IDS, TIME)

REJECTED: dict[str, tuple[bytes | None, str]] = {
    "null value": (None, "null_value"),
    # Not JSON.
    "empty value": (b"", "not_json"),
    "white space alone": (b" \n", "not_json"),
    "prose": (b"hello", "not_json"),
    "single quotes": (b"{'messageId': 'm'}", "not_json"),
    "cut off": (GOOD[:-1], "not_json"),
    "cut off inside text": (GOOD[:-3], "not_json"),
    "something after the end": (GOOD + b"}", "not_json"),
    "two objects": (GOOD + GOOD, "not_json"),
    "two objects on two lines": (GOOD + b"\n" + GOOD, "not_json"),
    "trailing comma": (GOOD[:-1] + b",}", "not_json"),
    "trailing comma and white space": (GOOD[:-1] + b" , \n}", "not_json"),
    "trailing comma in an array": (record(IDS, TIME, '"properties": {"list": [1, ]}'), "not_json"),
    "comma in front": (record("", IDS, TIME), "not_json"),
    "comment": (record(IDS, TIME + " /* noon */"), "not_json"),
    "key without quotes": (record(IDS, TIME, "properties: {}"), "not_json"),
    "leading zero": (record(IDS, TIME, '"properties": {"n": 007}'), "not_json"),
    "leading plus": (record(IDS, TIME, '"properties": {"n": +7}'), "not_json"),
    "bare point": (record(IDS, TIME, '"properties": {"n": 7.}'), "not_json"),
    "hexadecimal": (record(IDS, TIME, '"properties": {"n": 0x7}'), "not_json"),
    "lower-case nan": (record(IDS, TIME, '"properties": {"n": nan}'), "not_json"),
    "upper-case TRUE": (record(IDS, TIME, '"properties": {"n": TRUE}'), "not_json"),
    "raw newline inside text": (record('"messageId": "m\nm", "anonymousId": "d"', TIME), "not_json"),
    "raw tab inside text": (record('"messageId": "m", "anonymousId": "d\t"', TIME), "not_json"),
    "raw NUL inside text": (record('"messageId": "m\0", "anonymousId": "d"', TIME), "not_json"),
    "NUL at the end": (GOOD + b"\0", "not_json"),
    "NUL at the start": (b"\0" + GOOD, "not_json"),
    "no-break space between fields": (record(IDS, "\u00a0" + TIME), "not_json"),
    "form feed between fields": (record(IDS, "\f" + TIME), "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "not_json"),
    "unknown escape": (record('"messageId": "\\x6d", "anonymousId": "d"', TIME), "not_json"),
    "half an escape": (record('"messageId": "\\u00", "anonymousId": "d"', TIME), "not_json"),
    "lone high surrogate in an id": (record('"messageId": "\\ud83d", "anonymousId": "d"', TIME), "not_json"),
    "lone low surrogate in an id": (record('"messageId": "\\ude00", "anonymousId": "d"', TIME), "not_json"),
    "surrogates the wrong way round": (record(IDS, TIME, '"properties": {"t": "\\ude00\\ud83d"}'), "not_json"),
    "lone surrogate in properties": (record(IDS, TIME, '"properties": {"t": "\\ud83d"}'), "not_json"),
    "lone surrogate in a key": (record(IDS, TIME, '"properties": {"\\ud83d": 1}'), "not_json"),
    "lone surrogate in an unknown field": (record(IDS, TIME, '"extra": "\\ud83d"'), "not_json"),
    # Not UTF-8.
    "lone continuation byte": (GOOD.replace(b'"m"', b'"m\x80"'), "not_utf8"),
    "cut off character": (GOOD.replace(b'"m"', b'"m\xe2\x82"'), "not_utf8"),
    "overlong character": (GOOD.replace(b'"m"', b'"\xc0\xad"'), "not_utf8"),
    "surrogate in UTF-8": (GOOD.replace(b'"m"', b'"\xed\xa0\xbd"'), "not_utf8"),
    "beyond Unicode": (GOOD.replace(b'"m"', b'"\xf4\x90\x80\x80"'), "not_utf8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not_utf8"),
    "Latin-1": (record('"messageId": "é"', TIME).decode().encode("latin-1"), "not_utf8"),
    "0xFF": (b"\xff", "not_utf8"),
    # JSON, but no object.
    "array": (b"[" + GOOD + b"]", "not_an_object"),
    "text": (b'"event"', "not_an_object"),
    "number": (b"12", "not_an_object"),
    "true": (b"true", "not_an_object"),
    "JSON null": (b"null", "not_an_object"),
    "NaN alone": (b"NaN", "not_an_object"),
    # Too large, too deep.
    "1 MiB and 1 byte": (padded(MAX_RECORD_BYTES + 1), "too_large"),
    "1 MiB and 1 byte of nothing": (b" " * (MAX_RECORD_BYTES + 1), "too_large"),
    "one level too deep": (nested(MAX_DEPTH + 1), "too_deep"),
    "10,000 levels": (nested(10_000), "too_deep"),
    "10,000 arrays": (b"[" * 10_000 + b"]" * 10_000, "too_deep"),
    "10,000 arrays that never close": (b"[" * 10_000, "too_deep"),
    # No messageId.
    "empty object": (b"{}", "no_message_id"),
    "no messageId": (record('"anonymousId": "d"', TIME), "no_message_id"),
    "null messageId": (record('"messageId": null, "anonymousId": "d"', TIME), "no_message_id"),
    "empty messageId": (record('"messageId": "", "anonymousId": "d"', TIME), "no_message_id"),
    "blank messageId": (record('"messageId": " \\t\\u0020\\n", "anonymousId": "d"', TIME), "no_message_id"),
    "fractional messageId": (record('"messageId": 1.5, "anonymousId": "d"', TIME), "no_message_id"),
    "whole messageId written as a fraction": (record('"messageId": 1.0, "anonymousId": "d"', TIME), "no_message_id"),
    "messageId with an exponent": (record('"messageId": 1e3, "anonymousId": "d"', TIME), "no_message_id"),
    "true messageId": (record('"messageId": true, "anonymousId": "d"', TIME), "no_message_id"),
    "NaN messageId": (record('"messageId": NaN, "anonymousId": "d"', TIME), "no_message_id"),
    "object messageId": (record('"messageId": {"id": "m"}, "anonymousId": "d"', TIME), "no_message_id"),
    "array messageId": (record('"messageId": ["m"], "anonymousId": "d"', TIME), "no_message_id"),
    "last messageId empty": (record('"messageId": "m", "messageId": "", "anonymousId": "d"', TIME), "no_message_id"),
    "messageId in another case": (record('"messageid": "m", "anonymousId": "d"', TIME), "no_message_id"),
    "nothing right at all": (record('"messageId": 1.5'), "no_message_id"),
    # Neither anonymousId nor userId.
    "no id": (record('"messageId": "m"', TIME), "no_id"),
    "null ids": (record('"messageId": "m", "anonymousId": null, "userId": null', TIME), "no_id"),
    "empty ids": (record('"messageId": "m", "anonymousId": "", "userId": " "', TIME), "no_id"),
    "ids of other types": (record('"messageId": "m", "anonymousId": [], "userId": false', TIME), "no_id"),
    "no id and no time": (record('"messageId": "m"'), "no_id"),
    # No time.
    "no time": (record(IDS), "no_time"),
    "null time": (record(IDS, '"timestamp": null'), "no_time"),
    "empty time": (record(IDS, '"timestamp": ""'), "no_time"),
    "prose time": (record(IDS, '"timestamp": "yesterday"'), "no_time"),
    "time without a day": (record(IDS, '"timestamp": "12:00:00"'), "no_time"),
    "30 February": (record(IDS, '"timestamp": "2024-02-30T00:00:00Z"'), "no_time"),
    "29 February in a year without": (record(IDS, '"timestamp": "2023-02-29T00:00:00Z"'), "no_time"),
    "hour 24": (record(IDS, '"timestamp": "2024-05-06T24:00:00Z"'), "no_time"),
    "second 60": (record(IDS, '"timestamp": "2016-12-31T23:59:60Z"'), "no_time"),
    "year 0": (record(IDS, '"timestamp": "0000-01-01T00:00:00Z"'), "no_time"),
    "year 10,000": (record(IDS, '"timestamp": "10000-01-01T00:00:00Z"'), "no_time"),
    "before year 1 in UTC": (record(IDS, '"timestamp": "0001-01-01T00:00:00+01:00"'), "no_time"),
    "after year 9999 in UTC": (record(IDS, '"timestamp": "9999-12-31T23:59:59-01:00"'), "no_time"),
    "infinite time": (record(IDS, '"timestamp": Infinity'), "no_time"),
    "text infinity": (record(IDS, '"timestamp": "infinity"'), "no_time"),
    "text epoch": (record(IDS, '"timestamp": "epoch"'), "no_time"),
    "overflowing time": (record(IDS, '"timestamp": 1e400'), "no_time"),
    "epoch far away": (record(IDS, '"timestamp": 1e30'), "no_time"),
    "true time": (record(IDS, '"timestamp": true'), "no_time"),
    "object time": (record(IDS, '"timestamp": {"at": 0}'), "no_time"),
    "array time": (record(IDS, '"timestamp": ["2024-05-06T12:00:00Z"]'), "no_time"),
    "only other times": (
        record(IDS, '"sentAt": "2024-05-06T12:00:00Z", "receivedAt": "2024-05-06T12:00:00Z"'),
        "no_time",
    ),
    "last timestamp empty": (record(IDS, TIME, '"timestamp": ""'), "no_time"),
}
"""What is dead, by what is wrong with it: the record's value and the reason."""

Expected = tuple[str, str | None, str | None, str]

ACCEPTED: dict[str, tuple[bytes, Expected]] = {
    "plain": (GOOD, ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "white space around": (b" \t\r\n" + GOOD + b"\n", ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "newlines between fields": (
        GOOD.replace(b", ", b",\r\n  ").replace(b": ", b"\n:\n"),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "newline inside text": (
        record('"messageId": "m\\nm", "anonymousId": "d"', TIME),
        ("m\nm", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "NUL inside text": (
        record('"messageId": "m\\u0000m", "anonymousId": "\\u0000"', TIME),
        ("m\0m", "\0", None, "2024-05-06T12:00:00+00:00"),
    ),
    "escapes": (
        record('"messageId": "\\u006d\\/\\"", "anonymousId": "\\ud83d\\ude00"', TIME),
        ('m/"', "\U0001f600", None, "2024-05-06T12:00:00+00:00"),
    ),
    "escapes in keys": (
        record('"message\\u0049d": "m", "\\u0061nonymousId": "d"', '"time\\u0073tamp": "2024-05-06T12:00:00Z"'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "text of every plane": (
        record('"messageId": "é\uffff\U0001f600", "anonymousId": "\u00a0"', TIME),
        ("é\uffff\U0001f600", "\u00a0", None, "2024-05-06T12:00:00+00:00"),
    ),
    "ids with white space around": (
        record('"messageId": " m ", "anonymousId": "\\td"', TIME),
        (" m ", "\td", None, "2024-05-06T12:00:00+00:00"),
    ),
    "whole numbers as ids": (
        record('"messageId": 12, "anonymousId": -7, "userId": 0', TIME),
        ("12", "-7", "0", "2024-05-06T12:00:00+00:00"),
    ),
    "huge whole numbers as ids": (
        record(f'"messageId": {"9" * 30}, "anonymousId": {2**63}, "userId": -{2**63}', TIME),
        ("9" * 30, str(2**63), str(-(2**63)), "2024-05-06T12:00:00+00:00"),
    ),
    "minus zero as an id": (
        record('"messageId": -0, "anonymousId": "d"', TIME),
        ("0", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "huge ids": (
        record(f'"messageId": "{"m" * 100_000}", "anonymousId": "{"é" * 100_000}"', TIME),
        ("m" * 100_000, "é" * 100_000, None, "2024-05-06T12:00:00+00:00"),
    ),
    "userId alone": (record('"messageId": "m", "userId": "u"', TIME), ("m", None, "u", "2024-05-06T12:00:00+00:00")),
    "a blank id beside a good one": (
        record('"messageId": "m", "anonymousId": "", "userId": "u"', TIME),
        ("m", None, "u", "2024-05-06T12:00:00+00:00"),
    ),
    "an id of another type beside a good one": (
        record('"messageId": "m", "anonymousId": "d", "userId": {"id": "u"}', TIME),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "text that looks like JSON as an id": (
        record('"messageId": "null", "anonymousId": "{}", "userId": "12"', TIME),
        ("null", "{}", "12", "2024-05-06T12:00:00+00:00"),
    ),
    "duplicate keys: the last counts": (
        record('"messageId": "n", "anonymousId": "e"', IDS, '"timestamp": "2025-01-01T00:00:00Z"', TIME),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "duplicate keys, one escaped: the last counts": (
        record(IDS, '"message\\u0049d": "n"', TIME),
        ("n", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "NaN in properties": (
        record(IDS, TIME, '"properties": {"a": NaN, "b": Infinity, "c": -Infinity}'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "NaN in an unknown field": (record(IDS, TIME, '"x": NaN'), ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "numbers beyond a double": (
        record(IDS, TIME, '"properties": {"a": 1e400, "b": -1e400, "c": 1e-400}'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "a whole number of 5,000 digits": (
        record(IDS, TIME, '"properties": {"n": ' + "9" * 5000 + "}"),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "the deepest that is acceptable": (nested(MAX_DEPTH), ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "brackets inside text": (
        record(IDS, TIME, '"properties": {"t": "' + "[" * 10_000 + '"}'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "many arrays side by side": (
        record(IDS, TIME, '"properties": {"list": [' + ", ".join(["[]"] * 5_000) + "]}"),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "a comma before a bracket inside text": (
        record(IDS, TIME, '"properties": {"t": "a, }"}'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "exactly 1 MiB": (padded(MAX_RECORD_BYTES), ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "context and properties of other types": (
        record(IDS, TIME, '"context": "web", "properties": [1], "traits": 7'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "parts of context of other types": (
        record(IDS, TIME, '"context": {"page": "home", "campaign": [], "userAgent": {}, "device": 1, "library": null}'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    # Times.
    "no zone means UTC": (
        record(IDS, '"timestamp": "2024-05-06T12:00:00"'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "another zone": (
        record(IDS, '"timestamp": "2024-05-06T12:00:00.5+05:30"'),
        ("m", "d", None, "2024-05-06T06:30:00.500000+00:00"),
    ),
    "a zone far from UTC": (
        record(IDS, '"timestamp": "2024-05-06T12:00:00-14:00"'),
        ("m", "d", None, "2024-05-07T02:00:00+00:00"),
    ),
    "space for T": (record(IDS, '"timestamp": "2024-05-06 12:00:00Z"'), ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "lower case": (record(IDS, '"timestamp": "2024-05-06t12:00:00z"'), ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "minutes are enough": (
        record(IDS, '"timestamp": "2024-05-06T12:00Z"'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "a day is its midnight": (record(IDS, '"timestamp": "2024-05-06"'), ("m", "d", None, "2024-05-06T00:00:00+00:00")),
    "white space around a time": (
        record(IDS, '"timestamp": " 2024-05-06T12:00:00Z\\n"'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "nanoseconds are cut off": (
        record(IDS, '"timestamp": "2024-05-06T12:00:00.123456789Z"'),
        ("m", "d", None, "2024-05-06T12:00:00.123456+00:00"),
    ),
    "Unix seconds": (record(IDS, '"timestamp": 1714996800'), ("m", "d", None, "2024-05-06T12:00:00+00:00")),
    "Unix milliseconds": (
        record(IDS, '"timestamp": 1714996800123'),
        ("m", "d", None, "2024-05-06T12:00:00.123000+00:00"),
    ),
    "Unix seconds with a fraction": (
        record(IDS, '"timestamp": 1714996800.5'),
        ("m", "d", None, "2024-05-06T12:00:00.500000+00:00"),
    ),
    "Unix milliseconds as text": (
        record(IDS, '"timestamp": "1714996800123"'),
        ("m", "d", None, "2024-05-06T12:00:00.123000+00:00"),
    ),
    "Unix zero": (record(IDS, '"timestamp": 0'), ("m", "d", None, "1970-01-01T00:00:00+00:00")),
    "before 1970": (record(IDS, '"timestamp": -1'), ("m", "d", None, "1969-12-31T23:59:59+00:00")),
    "year 1": (record(IDS, '"timestamp": "0001-01-01T00:00:00Z"'), ("m", "d", None, "0001-01-01T00:00:00+00:00")),
    "year 1500": (record(IDS, '"timestamp": "1500-02-28T00:00:00Z"'), ("m", "d", None, "1500-02-28T00:00:00+00:00")),
    "year 9999": (
        record(IDS, '"timestamp": "9999-12-31T23:59:59.999999Z"'),
        ("m", "d", None, "9999-12-31T23:59:59.999999+00:00"),
    ),
    "29 February": (record(IDS, '"timestamp": "2024-02-29T23:59:59Z"'), ("m", "d", None, "2024-02-29T23:59:59+00:00")),
    "originalTimestamp serves": (
        record(IDS, '"originalTimestamp": "2024-05-06T12:00:00Z"'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "originalTimestamp serves for a bad timestamp": (
        record(IDS, '"timestamp": "yesterday", "originalTimestamp": "2024-05-06T12:00:00Z"'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
    "bad other times are no times": (
        record(IDS, TIME, '"sentAt": "soon", "receivedAt": []'),
        ("m", "d", None, "2024-05-06T12:00:00+00:00"),
    ),
}
"""What is stored: the record's value, then message_id, anonymous_id, user_id, event_at in a file's block."""
