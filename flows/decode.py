"""Raw records → Arrow columns, in bulk; what the contract does not accept → dead letters, with reasons.

flows/scan.py reads what is plain: certain to mean the same to it and to the contract. `contract.parse` judges every
other record; what it accepts is written out again in plain form, takes the record's place, and the block is read anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows import scan
from flows.contract import MAX_RECORD_BYTES, Event, Rejected, parse
from flows.records import RawBatch, octets
from flows.scan import NEVER, YEAR_1, YEAR_10000, Scanned

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_TEXT = pa.string()
_TIME = pa.timestamp("us", tz="UTC")

DECODED: Final = pa.schema(
    [
        ("message_id", _TEXT),
        ("type", _TEXT),
        ("name", _TEXT),
        ("anonymous_id", _TEXT),  # null where the event has none
        ("user_id", _TEXT),  # as sent, legal or not
        ("previous_id", _TEXT),  # alias only
        ("event_at", _TIME),
        ("received_at", _TIME),
        ("clock_skewed", pa.bool_()),
        ("path", _TEXT),
        ("referrer", _TEXT),
        ("utm_source", _TEXT),
        ("utm_medium", _TEXT),
        ("utm_campaign", _TEXT),
        ("user_agent", _TEXT),
        ("device_type", _TEXT),  # as the event says; else flows/agents.py tells by the user agent
        ("os", _TEXT),
        ("library", _TEXT),
        ("properties", _TEXT),  # JSON text, as it came
        ("context", _TEXT),  # JSON text
        ("foreign_key", pa.bool_()),  # the message key is not the anonymousId
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)
"""Columns of a decoded batch, times in microseconds UTC."""

DEAD: Final = pa.schema(
    [
        ("topic", _TEXT),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("reason", _TEXT),
        ("detail", _TEXT),
        ("key", pa.binary()),
        ("raw", pa.binary()),
        ("kafka_at", _TIME),
    ]
)
"""Columns of the dead letters of a batch."""


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """One RawBatch decoded: `events` by DECODED in offset order, `dead` by DEAD, and how the partition stands."""

    topic: str
    partition: int
    next_offset: int
    events: pa.Table
    dead: pa.Table
    at_end: bool
    closed: bool
    read_at: datetime | None
    last_kafka_at: int | None
    """Kafka's time of the last record, microseconds UTC."""

    @property
    def consumed(self) -> int:
        return self.events.num_rows + self.dead.num_rows


_CONSTANTS: Final = octets([scan.CONSTANTS])
BLOCK_BYTES: Final = 64 * 2**20
"""Records scanned at a time, in bytes: the positions in a column have 31 bits."""


class Decoder:
    """Decodes batches; threads may share one.

    `future_skew` is how far an event_at may lie above its received_at, and a payload's receivedAt above Kafka's
    time, before it is not believed (DESIGN: event time).
    """

    def __init__(self, future_skew: timedelta) -> None:
        self._skew = future_skew // timedelta(microseconds=1)
        self._block(RawBatch("", 0, 0), 0, 0, {})  # compiles the scanner, where that was not done before

    def decode(self, batch: RawBatch) -> DecodedBatch:
        """`batch` in columns. Never raises for what is in a record."""
        bad: dict[int, Rejected] = {}
        blocks = [self._block(batch, first, last, bad) for first, last in _blocks(batch)]
        return DecodedBatch(
            topic=batch.topic,
            partition=batch.partition,
            next_offset=batch.next_offset,
            events=pa.Table.from_batches(blocks, DECODED),
            dead=_dead_letters(batch, bad),
            at_end=batch.at_end,
            closed=batch.closed,
            read_at=batch.read_at,
            last_kafka_at=int(batch.kafka_at[-1]) if batch.kafka_at is not None and len(batch) else None,
        )

    def _block(self, batch: RawBatch, first: int, last: int, bad: dict[int, Rejected]) -> pa.RecordBatch:
        """Rows `first` to `last` of `batch` in columns. What is not acceptable goes into `bad`, by its row."""
        values = batch.values[first:last]
        rows = np.arange(first, last)
        judged = np.zeros(len(values), np.bool_)
        while True:
            raw = pa.concat_arrays([values, _CONSTANTS])
            offsets, data = (np.frombuffer(raw.buffers()[1 + i], dtype) for i, dtype in enumerate((np.int64, np.uint8)))
            found = scan.scan(data, offsets, len(values))
            doubtful = (found.verdicts != scan.PLAIN) | _beyond_the_scanner(raw, offsets)
            odd = np.flatnonzero((doubtful & ~judged) | (found.verdicts == scan.MALFORMED))
            if not len(odd):
                return self._columns(batch, rows, data, int(offsets[-2]), found)
            plain = values.to_pylist()
            for i in odd.tolist():
                try:
                    if judged[i]:  # not seen, but a record must not be judged for ever
                        raise Rejected("not_json", "what the contract accepts of it cannot be read again")
                    plain[i] = _plain_form(parse(plain[i]))
                except Rejected as rejected:
                    bad[int(rows[i])] = rejected
            judged[odd] = True
            acceptable = np.array([row not in bad for row in rows.tolist()], np.bool_)
            values = octets([value for value, keep in zip(plain, acceptable, strict=True) if keep])
            rows, judged = rows[acceptable], judged[acceptable]

    def _columns(self, batch: RawBatch, rows: Ints, data: scan.Bytes, constants: int, found: Scanned) -> pa.RecordBatch:
        """`rows` of `batch`, as they were found in `data`, by DECODED."""

        def text(field: int) -> pa.Array:
            return _texts(scan.texts(data, found.start[field], found.length[field]))

        named = scan.names(data, constants, found.start, found.length)
        found.start[scan.PREVIOUS_ID, named.kind != scan.ALIAS] = -1
        event_at, received_at, skewed = self._placed(found.times, _kafka_at(batch, rows))
        anonymous_id = text(scan.ANONYMOUS_ID)
        columns = {
            "message_id": text(scan.MESSAGE_ID),
            "type": _texts(scan.texts(data, named.type_start, named.type_length)),
            "name": _texts(scan.texts(data, named.name_start, named.name_length)),
            "anonymous_id": anonymous_id,
            "user_id": text(scan.USER_ID),
            "previous_id": text(scan.PREVIOUS_ID),
            "event_at": pa.array(event_at, _TIME),
            "received_at": pa.array(received_at, _TIME),
            "clock_skewed": pa.array(skewed),
            "path": text(scan.PATH),
            "referrer": text(scan.REFERRER),
            "utm_source": text(scan.UTM_SOURCE),
            "utm_medium": text(scan.UTM_MEDIUM),
            "utm_campaign": text(scan.UTM_CAMPAIGN),
            "user_agent": text(scan.USER_AGENT),
            "device_type": text(scan.DEVICE_TYPE),
            "os": text(scan.OS),
            "library": text(scan.LIBRARY),
            "properties": _texts(scan.properties(data, named.kind, found.start, found.length, found.own_name)),
            "context": text(scan.CONTEXT),
            "foreign_key": _is_foreign(batch, rows, anonymous_id),
            "partition": pa.array(np.full(len(rows), batch.partition, np.int32)),
            "offset": pa.array(batch.offsets[rows]),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in DECODED.names], schema=DECODED)

    def _placed(self, told: Ints, kafka_at: Ints) -> tuple[Ints, Ints, Flags]:
        """event_at, received_at and clock_skewed, from the four times that were told (rows). DESIGN: event time.

        Microseconds since the epoch, NEVER for none.
        """
        stamp, original, sent, collected = told
        said = np.where(stamp == NEVER, original, stamp)
        by_device = np.where(original == NEVER, stamp, original)
        collected = np.where((kafka_at != NEVER) & (collected > kafka_at + self._skew), NEVER, collected)
        corrected = collected - (sent - by_device)
        can_correct = (collected != NEVER) & (sent != NEVER) & (corrected >= YEAR_1) & (corrected < YEAR_10000)
        happened = np.where(can_correct, corrected, said)
        received = np.where(collected != NEVER, collected, np.where(kafka_at != NEVER, kafka_at, happened))
        skewed = happened > received + self._skew
        return np.where(skewed, received, happened), received, skewed


def _blocks(batch: RawBatch) -> Iterator[tuple[int, int]]:
    """First and last rows of the blocks of `batch`; a record of more than BLOCK_BYTES has one of its own."""
    ends = np.frombuffer(batch.values.buffers()[1], np.int64)[batch.values.offset :][: len(batch) + 1]
    first = 0
    while True:
        last = int(np.searchsorted(ends, ends[first] + BLOCK_BYTES, "right")) - 1 if len(batch) else 0
        last = min(max(last, first + 1), len(batch))
        yield first, last
        if last == len(batch):
            return
        first = last


def _beyond_the_scanner(raw: pa.Array, offsets: Ints) -> Flags:
    """Which records (all of `raw` but its last entry) the contract may refuse though the scanner took them: those that
    are too large, or not UTF-8."""
    beyond: Flags = np.diff(offsets)[:-1] > MAX_RECORD_BYTES
    try:
        raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        beyond |= np.array([not _is_utf8(value.as_py()) for value in raw[:-1]], np.bool_)
    return beyond


def _is_utf8(raw: bytes | None) -> bool:
    try:
        (raw or b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _plain_form(event: Event) -> bytes:
    """A record that says the same without doubt. What should be text and is not is left out."""
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in event
        if value is not None and (name not in ("type", "event", "name") or isinstance(value, str))
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def _texts(column: scan.Column) -> pa.Array:
    validity = pa.py_buffer(column.validity) if column.nulls else None
    return pa.StringArray.from_buffers(
        len(column.offsets) - 1, pa.py_buffer(column.offsets), pa.py_buffer(column.octets), validity, column.nulls
    )


def _kafka_at(batch: RawBatch, rows: Ints) -> Ints:
    return np.full(len(rows), NEVER, np.int64) if batch.kafka_at is None else batch.kafka_at[rows]


def _is_foreign(batch: RawBatch, rows: Ints, anonymous_id: pa.Array) -> pa.Array:
    """Where the record's key is not its anonymousId; nowhere if the source has no keys."""
    if batch.keys is None:
        return pa.array(np.zeros(len(rows), np.bool_))
    keys = batch.keys if len(rows) == len(batch) else batch.keys.take(pa.array(rows))
    differs = pc.not_equal(anonymous_id.cast(pa.large_binary()), keys)
    return pc.and_(pc.fill_null(differs, True), anonymous_id.is_valid())


def _dead_letters(batch: RawBatch, bad: dict[int, Rejected]) -> pa.Table:
    rows = sorted(bad)
    return pa.table(
        {
            "topic": [batch.topic] * len(rows),
            "partition": [batch.partition] * len(rows),
            "offset": [int(batch.offsets[i]) for i in rows],
            "reason": [bad[i].reason for i in rows],
            "detail": [bad[i].detail for i in rows],
            "key": [batch.keys[i].as_py() if batch.keys is not None else None for i in rows],
            "raw": [batch.values[i].as_py() for i in rows],
            "kafka_at": [None if batch.kafka_at is None else int(batch.kafka_at[i]) for i in rows],
        },
        schema=DEAD,
    )
