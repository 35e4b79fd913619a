"""A compiled scanner of JSON records: one pass finds where the needed fields stand, the next makes columns of them.

It takes plain records only and says which are anything else: MALFORMED is what is no JSON object by RFC 8259, ODD what
another reader might take otherwise (a field of another type, a key that stands twice, a time in another form).
`contract.parse` judges those. A string stays JSON text until a column is made of it: then its escapes are resolved.

Everything here works on records laid end to end and followed by CONSTANTS: bytes, less than 2 GiB of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from flows.contract import MAX_DEPTH
from stitchline.compiled import compiled, inlined
from stitchline.words import copy_word, octets_before, word_at

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]

PLAIN: Final = 0
ODD: Final = 1
MALFORMED: Final = 2

NEVER: Final = -(2**61)
"""No time: far enough below all others that differences do not overflow."""
YEAR_1: Final = -62_135_596_800_000_000
YEAR_10000: Final = 253_402_300_800_000_000  # both in microseconds since the epoch

# The rows of `Scanned.start` and `Scanned.length`.
MESSAGE_ID, ANONYMOUS_ID, USER_ID, PREVIOUS_ID, TYPE, EVENT, NAME, CONTEXT, PROPERTIES, TRAITS = range(10)
PATH, REFERRER, UTM_SOURCE, UTM_MEDIUM, UTM_CAMPAIGN, USER_AGENT, DEVICE_TYPE, OS, LIBRARY = range(10, 19)
# Behind them the four times, and what is only noted: that the properties have a name of their own.
_TIMES: Final = 19
_OWN_NAME: Final = 23
_NOTHING: Final = -1

_ROOT, _IN_CONTEXT, _IN_PAGE, _IN_CAMPAIGN, _IN_DEVICE, _IN_OS, _IN_LIBRARY, _IN_PROPERTIES, _ELSEWHERE = range(9)
_KEYS: Final = (  # where a key stands, what it says, which field that is, and where the keys of its object stand
    (_ROOT, b"messageId", MESSAGE_ID, _ELSEWHERE),
    (_ROOT, b"anonymousId", ANONYMOUS_ID, _ELSEWHERE),
    (_ROOT, b"userId", USER_ID, _ELSEWHERE),
    (_ROOT, b"previousId", PREVIOUS_ID, _ELSEWHERE),
    (_ROOT, b"type", TYPE, _ELSEWHERE),
    (_ROOT, b"event", EVENT, _ELSEWHERE),
    (_ROOT, b"name", NAME, _ELSEWHERE),
    (_ROOT, b"context", CONTEXT, _IN_CONTEXT),
    (_ROOT, b"properties", PROPERTIES, _IN_PROPERTIES),
    (_ROOT, b"traits", TRAITS, _ELSEWHERE),
    (_ROOT, b"timestamp", _TIMES, _ELSEWHERE),
    (_ROOT, b"originalTimestamp", _TIMES + 1, _ELSEWHERE),
    (_ROOT, b"sentAt", _TIMES + 2, _ELSEWHERE),
    (_ROOT, b"receivedAt", _TIMES + 3, _ELSEWHERE),
    (_IN_CONTEXT, b"page", _NOTHING, _IN_PAGE),
    (_IN_CONTEXT, b"campaign", _NOTHING, _IN_CAMPAIGN),
    (_IN_CONTEXT, b"userAgent", USER_AGENT, _ELSEWHERE),
    (_IN_CONTEXT, b"device", DEVICE_TYPE, _IN_DEVICE),
    (_IN_CONTEXT, b"os", OS, _IN_OS),
    (_IN_CONTEXT, b"library", _NOTHING, _IN_LIBRARY),
    (_IN_PAGE, b"path", PATH, _ELSEWHERE),
    (_IN_PAGE, b"referrer", REFERRER, _ELSEWHERE),
    (_IN_CAMPAIGN, b"source", UTM_SOURCE, _ELSEWHERE),
    (_IN_CAMPAIGN, b"medium", UTM_MEDIUM, _ELSEWHERE),
    (_IN_CAMPAIGN, b"name", UTM_CAMPAIGN, _ELSEWHERE),
    (_IN_DEVICE, b"type", DEVICE_TYPE, _ELSEWHERE),
    (_IN_OS, b"name", OS, _ELSEWHERE),
    (_IN_LIBRARY, b"name", LIBRARY, _ELSEWHERE),
    (_IN_PROPERTIES, b"name", _OWN_NAME, _ELSEWHERE),
)
_LENGTHS: Final = 32  # more than the longest has
_BY_LENGTH: Final = sorted(_KEYS, key=lambda key: (key[0], len(key[1])))
_KEYS_FROM: Final = np.searchsorted(
    [scope * _LENGTHS + len(text) for scope, text, _, _ in _BY_LENGTH], np.arange((_ELSEWHERE + 1) * _LENGTHS)
)
_KEY_WORDS: Final = np.array([np.frombuffer(text.ljust(24, b"\0"), np.uint64) for _, text, _, _ in _BY_LENGTH])
_KEY_LENGTH: Final = np.array([len(text) for _, text, _, _ in _BY_LENGTH])
_KEY_FIELD: Final = np.array([field for _, _, field, _ in _BY_LENGTH])
_KEY_SCOPE: Final = np.array([inside for _, _, _, inside in _BY_LENGTH])

TRACK, PAGE, SCREEN, IDENTIFY, ALIAS, GROUP, _PAGE_VIEWED, _SCREEN_VIEWED = range(8)
_TYPES: Final = 6
_WORDS: Final = (b"track", b"page", b"screen", b"identify", b"alias", b"group", b"Page Viewed", b"Screen Viewed")
CONSTANTS: Final = b"".join(_WORDS) + bytes(8)  # what copies eight octets at a time goes beyond the last of them
_WORD_LENGTH: Final = np.array([len(word) for word in _WORDS])
_WORD_START: Final = np.cumsum(_WORD_LENGTH) - _WORD_LENGTH

_SPACE, _TAB, _LINE_FEED, _RETURN, _BACKSPACE, _FORM_FEED = 0x20, 0x09, 0x0A, 0x0D, 0x08, 0x0C
_QUOTE, _BACKSLASH, _SLASH, _COMMA, _COLON, _MINUS, _PLUS, _POINT, _0, _9 = (ord(c) for c in '"\\/,:-+.09')
_ONES: Final = np.uint64(0x0101010101010101)
_HIGH: Final = _ONES << np.uint64(7)
_QUOTES, _BACKSLASHES, _SPACES = (_ONES * np.uint64(c) for c in b'"\\ ')
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = (ord(c) for c in "{}[]")
_A, _F, _E, _T, _Z, _a, _b, _e, _f, _l, _n, _r, _s, _t, _u = (ord(c) for c in "AFETZabeflnrstu")


class Scanned(NamedTuple):
    """What became of each record (column) and where its fields stand (rows)."""

    verdicts: Bytes
    start: Places
    """−1 where the field is absent or of a type that counts as absent."""
    length: Places
    """In bytes; negative where the text has escapes."""
    times: Ints
    """timestamp, originalTimestamp, sentAt and receivedAt in microseconds since the epoch, or NEVER."""
    own_name: Flags
    """The properties have a key "name"."""


class Named(NamedTuple):
    """Of each record the code of its type, −1 for none of the six, and where its type and name stand."""

    kind: Codes
    type_start: Places
    type_length: Places
    name_start: Places
    name_length: Places


class Column(NamedTuple):
    """A column of text as Arrow lays it out."""

    offsets: npt.NDArray[np.int32]
    octets: Bytes
    validity: Bytes
    nulls: int


@inlined
def _after_space(data: Bytes, i: int, end: int) -> int:
    """The first byte from `i` on that is no white space, or `end`."""
    while i < end and (data[i] == _SPACE or data[i] == _LINE_FEED or data[i] == _RETURN or data[i] == _TAB):
        i += 1
    return i


@inlined
def _hexadecimal(data: Bytes, i: int, end: int) -> int:
    """The number that four hexadecimal digits say, −1 if there are none."""
    if i + 4 > end:
        return -1
    number = 0
    for j in range(i, i + 4):
        c = data[j]
        if _0 <= c <= _9:
            digit = c - _0
        elif _A <= c <= _F:
            digit = c - _A + 10
        elif _a <= c <= _f:
            digit = c - _a + 10
        else:
            return -1
        number = number * 16 + digit
    return number


@inlined
def _escape(data: Bytes, i: int, end: int) -> int:
    """The last byte of the escape whose backslash is at `i`, −1 if it is none, or half a surrogate pair."""
    i += 1
    if i >= end:
        return -1
    c = data[i]
    if c == _u:
        code = _hexadecimal(data, i + 1, end)
        if code < 0 or 0xDC00 <= code < 0xE000:
            return -1
        i += 4
        if 0xD800 <= code < 0xDC00:
            if i + 2 >= end or data[i + 1] != _BACKSLASH or data[i + 2] != _u:
                return -1
            low = _hexadecimal(data, i + 3, end)
            if low < 0xDC00 or low >= 0xE000:
                return -1
            i += 6
        return i
    if c == _QUOTE or c == _BACKSLASH or c == _SLASH or c == _b or c == _f or c == _n or c == _r or c == _t:
        return i
    return -1


@inlined
def _of_note(word: np.uint64) -> np.uint64:
    """The highest bit of the first octet of `word` that is a quote, a backslash or below a space, 0 if none is; bits of
    octets behind the first have no meaning."""
    quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
    found = (quote - _ONES) & ~quote | (backslash - _ONES) & ~backslash | (word - _SPACES) & ~word
    return found & _HIGH


@inlined
def _string(data: Bytes, i: int, end: int) -> tuple[int, bool]:
    """Where the string that begins at `i` has its closing quote, −1 if it is malformed; and whether it has escapes."""
    escaped = False
    while i < end:
        ends = _of_note(word_at(data, i))
        if ends == 0:
            i += 8
            continue
        i += octets_before(ends)
        if i >= end:
            break
        c = data[i]
        if c == _QUOTE:
            return i, escaped
        if c < _SPACE:
            return -1, escaped
        if c == _BACKSLASH:
            escaped = True
            i = _escape(data, i, end)
            if i < 0:
                return -1, escaped
            i += 1
    return -1, escaped


@inlined
def _digits(data: Bytes, i: int, end: int) -> int:
    """The end of the digits at `i`."""
    while i < end and _0 <= data[i] <= _9:
        i += 1
    return i


@inlined
def _number(data: Bytes, i: int, end: int) -> tuple[int, bool]:
    """The end of the number at `i`, −1 if it is malformed; and whether it is whole, of at most 18 digits, not −0."""
    first = i + 1 if data[i] == _MINUS else i
    last = _digits(data, first, end)
    if last == first or (data[first] == _0 and last > first + 1):
        return -1, False
    whole = last - first <= 18 and not (first > i and data[first] == _0)
    i = last
    if i < end and data[i] == _POINT:
        whole = False
        last = _digits(data, i + 1, end)
        if last == i + 1:
            return -1, False
        i = last
    if i < end and (data[i] == _e or data[i] == _E):
        whole = False
        i += 1
        if i < end and (data[i] == _PLUS or data[i] == _MINUS):
            i += 1
        last = _digits(data, i, end)
        if last == i:
            return -1, False
        i = last
    return i, whole


@inlined
def _word(data: Bytes, i: int, end: int) -> int:
    """The end of true, false or null at `i`, −1 if it is none of them."""
    left = end - i
    if left >= 4 and data[i] == _t and data[i + 1] == _r and data[i + 2] == _u and data[i + 3] == _e:
        return i + 4
    if left >= 4 and data[i] == _n and data[i + 1] == _u and data[i + 2] == _l and data[i + 3] == _l:
        return i + 4
    if left >= 5 and data[i] == _f and data[i + 1] == _a and data[i + 2] == _l:
        return i + 5 if data[i + 3] == _s and data[i + 4] == _e else -1
    return -1


@inlined
def _two(data: Bytes, i: int) -> int:
    """The number that two digits say, −1 if there are none."""
    tens, ones = data[i] - _0, data[i + 1] - _0
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1


@inlined
def _days(year: int, month: int, day: int) -> int:
    """Days from the epoch to a date of the Gregorian calendar, by years that begin in March."""
    if month <= 2:
        year -= 1
        month += 12
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month - 3) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@inlined
def _length_of_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@inlined
def _time(data: Bytes, i: int, end: int) -> int:
    """Microseconds since the epoch of a time by RFC 3339 with T, a zone and at most six decimals; NEVER for another."""
    if end - i < 20:
        return NEVER
    if (
        data[i + 4] != _MINUS
        or data[i + 7] != _MINUS
        or data[i + 10] != _T
        or data[i + 13] != _COLON
        or data[i + 16] != _COLON
    ):
        return NEVER
    century, year, month, day = _two(data, i), _two(data, i + 2), _two(data, i + 5), _two(data, i + 8)
    hour, minute, second = _two(data, i + 11), _two(data, i + 14), _two(data, i + 17)
    if century < 0 or year < 0 or month < 1 or month > 12 or day < 1:
        return NEVER
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return NEVER
    year += 100 * century
    if year < 1 or day > _length_of_month(year, month):
        return NEVER
    i += 19
    micros = 0
    if data[i] == _POINT:
        last = _digits(data, i + 1, end)
        if last == i + 1 or last > i + 7:
            return NEVER
        for j in range(i + 1, i + 7):
            micros = 10 * micros + (data[j] - _0 if j < last else 0)
        i = last
    east = 0  # minutes
    if end - i == 6 and (data[i] == _PLUS or data[i] == _MINUS) and data[i + 3] == _COLON:
        hours, minutes = _two(data, i + 1), _two(data, i + 4)
        if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return NEVER
        east = hours * 60 + minutes if data[i] == _PLUS else -hours * 60 - minutes
    elif end - i != 1 or data[i] != _Z:
        return NEVER
    at = (((_days(year, month, day) * 24 + hour) * 60 + minute - east) * 60 + second) * 1_000_000 + micros
    return at if YEAR_1 <= at < YEAR_10000 else NEVER


@inlined
def _same(data: Bytes, i: int, text: Bytes, j: int, length: int) -> bool:
    for k in range(length):
        if data[i + k] != text[j + k]:
            return False
    return True


@inlined
def _key(data: Bytes, i: int, end: int, scope: int) -> int:
    """Which of the keys of `scope` stands from `i` to `end`, −1 for another one."""
    length = end - i
    if length >= _LENGTHS:
        return -1
    of_length = scope * _LENGTHS + length
    for k in range(_KEYS_FROM[of_length], _KEYS_FROM[of_length + 1]):
        differ = np.uint64(0)
        for j in range(0, length, 8):
            unasked = np.uint64(8 * max(0, j + 8 - length))
            differ |= (word_at(data, i + j) ^ _KEY_WORDS[k, j >> 3]) << unasked
        if differ == 0:
            return k
    return -1


@inlined
def _record(
    data: Bytes,
    i: int,
    end: int,
    r: int,
    start: Places,
    length: Places,
    times: Ints,
    own_name: Flags,
    is_object: Flags,
    scopes: Ints,
    fields: Ints,
    opened: Ints,
) -> int:
    """Scans record `r`, which stands from `i` to `end`. The last four are the stack: of each level that is open what it
    is, where its keys stand, which field it is the value of, and where it began."""
    verdict = PLAIN
    depth = 0
    field, scope = _NOTHING, _ROOT  # of the value that comes next
    seen = np.uint64(0)
    value, first_value, key, first_key, after = range(5)
    expected = value
    while True:
        i = _after_space(data, i, end)
        if i >= end:
            return verdict if expected == after and depth == 0 else MALFORMED
        c = data[i]
        if c == _QUOTE and (expected == key or expected == first_key):
            last, escaped = _string(data, i + 1, end)
            if last < 0:
                return MALFORMED
            field, scope, here = _NOTHING, _ELSEWHERE, scopes[depth]
            if here != _ELSEWHERE:
                if escaped:
                    verdict = ODD
                k = _key(data, i + 1, last, here)
                if k >= 0:
                    bit = np.uint64(1) << np.uint64(k)
                    if seen & bit:
                        verdict = ODD
                    seen |= bit
                    field, scope = _KEY_FIELD[k], _KEY_SCOPE[k]
                    if field == _OWN_NAME:
                        own_name[r] = True
                        field = _NOTHING
            i = _after_space(data, last + 1, end)
            if i >= end or data[i] != _COLON:
                return MALFORMED
            i += 1
            expected = value
        elif c == _CLOSE_OBJECT or c == _CLOSE_ARRAY:
            if depth == 0 or is_object[depth] != (c == _CLOSE_OBJECT) or expected == value or expected == key:
                return MALFORMED
            i += 1
            if fields[depth] >= 0:
                start[fields[depth], r] = opened[depth]
                length[fields[depth], r] = i - opened[depth]
            depth -= 1
            expected = after
        elif expected == after:
            if c != _COMMA or depth == 0:
                return MALFORMED
            i += 1
            field, scope = _NOTHING, _ELSEWHERE
            expected = key if is_object[depth] else value
        elif expected == key or expected == first_key:
            return MALFORMED
        elif c == _OPEN_OBJECT or c == _OPEN_ARRAY:
            if depth == MAX_DEPTH or (depth == 0 and c == _OPEN_ARRAY):
                return MALFORMED
            if field >= 0 and (field < CONTEXT or field >= _TIMES):
                verdict = ODD
            depth += 1
            is_object[depth] = c == _OPEN_OBJECT
            scopes[depth] = scope if c == _OPEN_OBJECT else _ELSEWHERE
            fields[depth] = field if c == _OPEN_OBJECT and CONTEXT <= field <= TRAITS else _NOTHING
            opened[depth] = i
            i += 1
            field, scope = _NOTHING, _ELSEWHERE
            expected = first_key if c == _OPEN_OBJECT else first_value
        elif depth == 0:
            return MALFORMED
        elif c == _QUOTE:
            i += 1
            last, escaped = _string(data, i, end)
            if last < 0:
                return MALFORMED
            if field >= _TIMES:
                times[field - _TIMES, r] = _time(data, i, last)
                if times[field - _TIMES, r] == NEVER:
                    verdict = ODD
            elif field >= 0 and not CONTEXT <= field <= TRAITS:
                start[field, r] = i
                length[field, r] = i - last if escaped else last - i
                if (field <= TYPE and escaped) or (field <= PREVIOUS_ID and (last == i or data[i] <= _SPACE)):
                    verdict = ODD
            i = last + 1
            expected = after
        else:
            whole = False
            last = _word(data, i, end)
            if last < 0:
                last, whole = _number(data, i, end)
                if last < 0:
                    return MALFORMED
            if field >= 0 and field <= PREVIOUS_ID and whole:
                start[field, r] = i
                length[field, r] = last - i
            elif field >= 0 and (field < CONTEXT or field >= _TIMES) and c != _n:
                verdict = ODD
            i = last
            expected = after


@compiled
def scan(data: Bytes, offsets: Ints, count: int) -> Scanned:
    """Scans `count` records of `data`, of which `offsets` say where each begins and ends."""
    start = np.full((_TIMES, count), -1, np.int32)
    length = np.zeros((_TIMES, count), np.int32)
    times = np.full((4, count), NEVER, np.int64)
    own_name = np.zeros(count, np.bool_)
    verdicts = np.zeros(count, np.uint8)
    is_object = np.zeros(MAX_DEPTH + 1, np.bool_)
    scopes = np.zeros(MAX_DEPTH + 1, np.int64)
    fields = np.zeros(MAX_DEPTH + 1, np.int64)
    opened = np.zeros(MAX_DEPTH + 1, np.int64)
    for r in range(count):
        verdicts[r] = _record(
            data,
            offsets[r],
            offsets[r + 1],
            r,
            start,
            length,
            times,
            own_name,
            is_object,
            scopes,
            fields,
            opened,
        )
        if verdicts[r] == PLAIN and (
            start[MESSAGE_ID, r] < 0
            or (start[ANONYMOUS_ID, r] < 0 and start[USER_ID, r] < 0)
            or (times[0, r] == NEVER and times[1, r] == NEVER)
        ):
            verdicts[r] = ODD
    return Scanned(verdicts, start, length, times, own_name)


@compiled
def names(data: Bytes, constants: int, start: Places, length: Places) -> Named:
    """What the scanned records are called. `constants` is where CONSTANTS stand in `data`."""
    count = start.shape[1]
    kinds = np.full(count, -1, np.int8)
    type_start, type_length = np.empty(count, np.int32), np.empty(count, np.int32)
    name_start, name_length = np.empty(count, np.int32), np.empty(count, np.int32)
    for r in range(count):
        kind = -1
        type_start[r], type_length[r] = start[TYPE, r], length[TYPE, r]
        if start[TYPE, r] < 0 or length[TYPE, r] == 0:
            type_start[r], type_length[r] = constants + _WORD_START[TRACK], _WORD_LENGTH[TRACK]
        else:
            for k in range(_TYPES):
                if _WORD_LENGTH[k] == length[TYPE, r] and _same(
                    data, start[TYPE, r], data, constants + _WORD_START[k], _WORD_LENGTH[k]
                ):
                    kind = k
        name_start[r], name_length[r] = type_start[r], type_length[r]
        if kind == PAGE or kind == SCREEN:
            word = _PAGE_VIEWED if kind == PAGE else _SCREEN_VIEWED
            name_start[r], name_length[r] = constants + _WORD_START[word], _WORD_LENGTH[word]
        elif kind < IDENTIFY:
            for field in (EVENT, NAME):
                if start[field, r] >= 0 and length[field, r] != 0:
                    name_start[r], name_length[r] = start[field, r], length[field, r]
                    break
        kinds[r] = kind
    return Named(kinds, type_start, type_length, name_start, name_length)


@inlined
def _copy(data: Bytes, i: int, length: int, out: Bytes, o: int) -> int:
    """Copies bytes to `out` from `o` on, where eight more have room. Returns where they end."""
    for k in range(0, length, 8):
        copy_word(data, i + k, out, o + k)
    return o + length


@inlined
def _resolve(data: Bytes, i: int, end: int, out: Bytes, o: int) -> int:
    """Copies text to `out` from `o` on, escapes resolved. Returns where it ends."""
    while i < end:
        c = data[i]
        i += 1
        if c == _BACKSLASH:
            c = data[i]
            i += 1
            if c == _u:
                c = _hexadecimal(data, i, end)
                i += 4
                if 0xD800 <= c < 0xDC00:
                    c = 0x10000 + ((c - 0xD800) << 10) + _hexadecimal(data, i + 2, end) - 0xDC00
                    i += 6
                if c >= 0x80:
                    if c < 0x800:
                        out[o] = 0xC0 | (c >> 6)
                    else:
                        if c < 0x10000:
                            out[o] = 0xE0 | (c >> 12)
                        else:
                            out[o] = 0xF0 | (c >> 18)
                            o += 1
                            out[o] = 0x80 | ((c >> 12) & 0x3F)
                        o += 1
                        out[o] = 0x80 | ((c >> 6) & 0x3F)
                    o += 1
                    c = 0x80 | (c & 0x3F)
            elif c == _b:
                c = _BACKSPACE
            elif c == _f:
                c = _FORM_FEED
            elif c == _n:
                c = _LINE_FEED
            elif c == _r:
                c = _RETURN
            elif c == _t:
                c = _TAB
        out[o] = c
        o += 1
    return o


@compiled
def texts(data: Bytes, start: Places, length: Places) -> Column:
    """A column of the texts that stand there: null where `start` is −1, with escapes where `length` is negative."""
    count = len(start)
    out = np.empty(np.abs(length).sum() + 8, np.uint8)
    offsets = np.zeros(count + 1, np.int32)
    validity = np.zeros((count + 7) // 8, np.uint8)
    nulls, o = 0, 0
    for r in range(count):
        if start[r] < 0:
            nulls += 1
        else:
            validity[r >> 3] |= np.uint8(1 << (r & 7))
            if length[r] >= 0:
                o = _copy(data, np.int64(start[r]), np.int64(length[r]), out, o)
            else:
                o = _resolve(data, np.int64(start[r]), np.int64(start[r]) - length[r], out, o)
        offsets[r + 1] = o
    return Column(offsets, out[:o], validity, nulls)


_NAME_KEY: Final = np.frombuffer(b'{"name":', np.uint8)


@compiled
def properties(data: Bytes, kinds: Codes, start: Places, length: Places, own_name: Flags) -> Column:
    """The column of properties, as JSON text: with a page's name among them unless they have one of their own, and the
    traits where an identify or group has none."""
    count = len(kinds)
    most = length[PROPERTIES].sum() + length[TRAITS].sum() + np.abs(length[NAME]).sum() + 12 * count + 8
    out = np.empty(most, np.uint8)
    offsets = np.zeros(count + 1, np.int32)
    validity = np.zeros((count + 7) // 8, np.uint8)
    nulls, o = 0, 0
    for r in range(count):
        field = PROPERTIES
        if start[PROPERTIES, r] < 0 and (kinds[r] == IDENTIFY or kinds[r] == GROUP):
            field = TRAITS
        i, size = start[field, r], length[field, r]
        is_named = (kinds[r] == PAGE or kinds[r] == SCREEN) and start[NAME, r] >= 0 and not own_name[r]
        if is_named:
            o = _copy(_NAME_KEY, 0, len(_NAME_KEY), out, o)
            o = _copy(data, start[NAME, r] - 1, abs(length[NAME, r]) + 2, out, o)
            if i < 0:
                out[o] = _CLOSE_OBJECT
                o += 1
            else:
                inside = _after_space(data, i + 1, i + size)
                size -= inside - i
                i = inside
                if data[i] != _CLOSE_OBJECT:
                    out[o] = _COMMA
                    o += 1
        if i >= 0:
            o = _copy(data, i, size, out, o)
        if i >= 0 or is_named:
            validity[r >> 3] |= np.uint8(1 << (r & 7))
        else:
            nulls += 1
        offsets[r + 1] = o
    return Column(offsets, out[:o], validity, nulls)
