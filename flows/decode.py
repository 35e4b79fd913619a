"""Raw records → Arrow columns, in bulk; what the contract does not accept → dead letters, with reasons.

DuckDB parses a whole block in one statement and releases the interpreter lock meanwhile. It is more lenient
than the contract in a few ways, so the statement also says which rows are `plain`: certain to mean the same to
both. Every other row is judged by `contract.parse`, one by one, and those it accepts are written out again in
plain form and decoded by the very same statement.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.contract import MAX_DEPTH, MAX_RECORD_BYTES, Event, Rejected, may_be_too_deep, parse
from flows.records import RawBatch

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
        ("properties", _TEXT),  # JSON text
        ("context", _TEXT),  # JSON text
        ("foreign_key", pa.bool_()),  # the message key is not the anonymousId
        ("hash_1", pa.uint64()),  # with hash_2, 128 bits of (anonymous_id, message_id)
        ("hash_2", pa.uint64()),
        ("device_hash", pa.uint64()),  # of anonymous_id
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


_IDS = ("messageId", "anonymousId", "userId", "previousId")
_TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
_ENVELOPE = dict.fromkeys((*_TIMES, "type", "event", "name"), "VARCHAR") | dict.fromkeys(
    (*_IDS, "context", "properties", "traits"), "JSON"
)
_CONTEXT = json.dumps(
    {
        "page": {"path": "VARCHAR", "referrer": "VARCHAR"},
        "campaign": {"source": "VARCHAR", "medium": "VARCHAR", "name": "VARCHAR"},
        "userAgent": "VARCHAR",
        "device": "JSON",
        "os": "JSON",
        "library": {"name": "VARCHAR"},
    }
)


def _id(field: str) -> str:
    """The text of an id that came as JSON; right wherever `_plain_id` holds."""
    return f"""case when starts_with(e."{field}", '"') then substr(e."{field}", 2, length(e."{field}") - 2)
        else e."{field}"::varchar end"""


def _plain_id(field: str) -> str:
    """True where the id is text without escapes, neither empty nor led by white space, or a short whole number."""
    return f"""(e."{field}" is null or case when starts_with(e."{field}", '"')
        then e."{field}"::varchar >= '"!' and e."{field}"::varchar <> '""' and not contains(e."{field}", '\\')
        else regexp_full_match(e."{field}"::varchar, '0|-?[1-9][0-9]{{0,17}}') end)"""


def _time(field: str) -> str:
    return f'try_cast(e."{field}" as timestamptz)'


def _plain_time(field: str) -> str:
    """True where the text is a time, with a zone, in the one form that every reader takes for the same."""
    return f"""(e."{field}" is null or ({_time(field)} is not null and regexp_full_match(e."{field}",
        '[12]\\d\\d\\d-\\d\\d-\\d\\dT([01]\\d|2[0-3]):\\d\\d:\\d\\d(\\.\\d{{1,6}})?(Z|[+-]0\\d:[0-5]\\d)')))"""


def _object(expression: str) -> str:
    return f"case when left({expression}, 1) = '{{' then {expression} end"


_NAMED: Final = """'{"name":' || to_json(e.name)
            || case when left(e.properties, 2) = '{"' then ',' || substr(e.properties, 2) else '}' end"""
"""The properties with the page's own name among them: text put before text, for a merge patch would drop nulls."""


def _decode(envelope: dict[str, str], id_of: Callable[[str], str], plain: str) -> str:
    return f"""
with parsed as (
    select row, json, key, kafka_at, from_json(json, '{json.dumps(envelope)}') as e from block
),
read as (
    select *,
        {id_of("messageId")} as message_id,
        {id_of("anonymousId")} as anonymous_id,
        {id_of("userId")} as user_id,
        from_json(e.context, '{_CONTEXT}') as c
    from parsed
)
select
    row,
    message_id,
    coalesce(nullif(e.type, ''), 'track') as type,
    case e.type when 'page' then 'Page Viewed' when 'screen' then 'Screen Viewed'
        when 'identify' then e.type when 'alias' then e.type when 'group' then e.type
        else coalesce(nullif(e.event, ''), nullif(e.name, ''), nullif(e.type, ''), 'track') end as name,
    anonymous_id,
    user_id,
    case when e.type = 'alias' then {id_of("previousId")} end as previous_id,
    {", ".join(f'{_time(field)} as "{field}"' for field in _TIMES)},
    c.page.path as path,
    c.page.referrer as referrer,
    c.campaign.source as utm_source,
    c.campaign.medium as utm_medium,
    c.campaign.name as utm_campaign,
    c.userAgent as user_agent,
    case left(c.device, 1) when '"' then c.device->>'$' when '{{' then c.device->>'$.type' end as device_type,
    case left(c.os, 1) when '"' then c.os->>'$' when '{{' then c.os->>'$.name' end as os,
    c.library.name as library,
    (case when e.type in ('page', 'screen') and e.name is not null and json_exists(e.properties, '$.name') is not true
            then {_NAMED}
          when e.type in ('identify', 'group') then coalesce({_object("e.properties")}, {_object("e.traits")})
          else {_object("e.properties")} end)::varchar as properties,
    ({_object("e.context")})::varchar as context,
    coalesce(anonymous_id is not null and key is distinct from encode(anonymous_id), false) as foreign_key,
    hash(anonymous_id, message_id) as hash_1,
    hash(message_id, anonymous_id, 1) as hash_2,
    hash(anonymous_id) as device_hash,
    coalesce({plain}, false) as plain
from read
"""


_DECODE: Final = _decode(
    _ENVELOPE,
    _id,
    f"""e.messageId is not null and (e.anonymousId is not null or e.userId is not null)
        and {" and ".join([*map(_plain_id, _IDS), *map(_plain_time, _TIMES)])}""",
)
_DECODE_REWRITTEN: Final = _decode(_ENVELOPE | dict.fromkeys(_IDS, "VARCHAR"), '"e"."{}"'.format, "true")
"""The same for records that `_plain_form` wrote: their ids are text, with whatever escapes that takes."""

_LENIENT: Final = (
    r",[ \t\r\n]*([}\]]|-?(?i:nan|inf))",
    r":[ \t\r\n]*-?(?i:nan|inf)",
    r"\[[ \t\r\n]*-?(?i:nan|inf)",
)
"""Where DuckDB's reader of JSON is more lenient than the contract: a comma before a closing bracket, and NaN and
infinity in any spelling. One pattern for each first character: a fixed one is searched for several times faster.
"""


_NEVER: Final = np.iinfo(np.int64).min // 4
"""No time: far enough below all others that differences do not overflow."""
_YEAR_1, _YEAR_10000 = -62_135_596_800_000_000, 253_402_300_800_000_000  # microseconds since the epoch


class Decoder:
    """Decodes batches; one may be shared by threads, each gets a connection of its own.

    `future_skew` is how far an event_at may lie above its received_at, and a payload's receivedAt above Kafka's
    time, before it is not believed (DESIGN: event time).
    """

    def __init__(self, future_skew: timedelta) -> None:
        self._skew = future_skew // timedelta(microseconds=1)
        self._mine = threading.local()

    def decode(self, batch: RawBatch) -> DecodedBatch:
        """`batch` in columns. Never raises for what is in a record."""
        bad: dict[int, Rejected] = {}
        good: dict[int, bytes] = {}
        if not len(batch):
            return _decoded(batch, DECODED.empty_table(), DEAD.empty_table())
        raw = pa.array(batch.values, pa.binary())
        text = self._utf8(raw, batch.values, bad, good)
        kafka_at = pa.array(
            batch.kafka_at if batch.kafka_at is not None else np.zeros(len(batch), np.int64),
            _TIME,
            mask=None if batch.kafka_at is not None else np.ones(len(batch), np.bool_),
        )
        block = pa.table(
            {
                "row": pa.array(np.arange(len(batch), dtype=np.int64)),
                "json": text,
                "key": pa.nulls(len(batch), pa.binary()) if batch.keys is None else pa.array(batch.keys, pa.binary()),
                "kafka_at": kafka_at,
            }
        )
        events = self._columns(block, batch.values, bad, good, keyed=batch.keys is not None)
        rows = events["row"].to_numpy()
        events = events.drop_columns(["row"])
        events = events.append_column("partition", pa.array(np.full(len(rows), batch.partition, np.int32)))
        events = events.append_column("offset", pa.array(batch.offsets[rows]))
        return _decoded(batch, events.select(DECODED.names).cast(DECODED), _dead_letters(batch, kafka_at, bad))

    def _utf8(
        self, raw: pa.Array, values: list[bytes | None], bad: dict[int, Rejected], good: dict[int, bytes]
    ) -> pa.Array:
        """`raw` as text, with nulls where a record can be judged without parsing it in bulk."""
        length = pc.binary_length(raw).fill_null(MAX_RECORD_BYTES + 1)
        doubtful = {
            i
            for i in _where(pc.greater(length, 2 * MAX_DEPTH))
            if (value := values[i]) is None or len(value) > MAX_RECORD_BYTES or may_be_too_deep(value)
        }
        try:
            text = raw.cast(_TEXT)
        except pa.ArrowInvalid:
            doubtful |= {i for i, value in enumerate(values) if value is not None and not _is_utf8(value)}
            text = _without(raw, doubtful).cast(_TEXT)
        for pattern in _LENIENT:
            doubtful |= _where(pc.match_substring_regex(text, pattern))
        if doubtful:
            for i in sorted(doubtful):
                _judge(i, values[i], bad, good)
            text = _without(text, doubtful)
        return text

    def _columns(
        self,
        block: pa.Table,
        values: list[bytes | None],
        bad: dict[int, Rejected],
        good: dict[int, bytes],
        *,
        keyed: bool,
    ) -> pa.Table:
        """The acceptable rows of `block` in columns, in row order."""
        pending = block.filter(pc.is_valid(block["json"])) if bad or good else block
        try:
            events = self._run(pending)
        except (duckdb.Error, UnicodeDecodeError):
            # Some row is no JSON at all: find which, and keep the others on the fast road. DuckDB quotes it in its
            # message, cut off at a byte, which need not be the end of a character.
            valid = self._connection().execute("select json_valid(json) from block").to_arrow_table().column(0)
            for i in pending.filter(pc.invert(valid))["row"].to_pylist():
                _judge(i, values[i], bad, good)
            events = self._run(pending.filter(valid))
        plain = events["plain"]
        if not pc.all(plain, min_count=0).as_py():
            for i in events.filter(pc.invert(plain))["row"].to_pylist():
                _judge(i, values[i], bad, good)
            events = events.filter(plain)
        if good:
            rows = sorted(good)
            again = block.take(pa.array(rows)).set_column(1, "json", pa.array([good[i].decode() for i in rows], _TEXT))
            events = pa.concat_tables([events, self._run(again, "decode_rewritten")]).sort_by("row")
        if not keyed:
            position = events.schema.get_field_index("foreign_key")
            events = events.set_column(position, "foreign_key", pa.array(np.zeros(events.num_rows, np.bool_)))
        return events.drop_columns(["plain"])

    def _run(self, block: pa.Table, statement: str = "decode") -> pa.Table:
        """What the prepared `statement` makes of `block`, its times by the rules of event time."""
        connection = self._connection()
        connection.execute("truncate block")
        connection.register("rows", block)
        connection.execute("insert into block from rows")
        connection.unregister("rows")
        return self._placed(connection.execute(f"execute {statement}").to_arrow_table(), block)

    def _placed(self, columns: pa.Table, block: pa.Table) -> pa.Table:
        """`columns` with event_at, received_at and clock_skewed in the place of the four times that were told.

        Microseconds since the epoch throughout; DESIGN: event time.
        """
        stamp, original, sent, collected = (_microseconds(columns[field]) for field in _TIMES)
        kafka_at = _microseconds(block["kafka_at"])
        said = np.where(stamp == _NEVER, original, stamp)
        by_device = np.where(original == _NEVER, stamp, original)
        collected = np.where((kafka_at != _NEVER) & (collected > kafka_at + self._skew), _NEVER, collected)
        corrected = collected - (sent - by_device)
        can_correct = (collected != _NEVER) & (sent != _NEVER) & (corrected >= _YEAR_1) & (corrected < _YEAR_10000)
        happened = np.where(can_correct, corrected, said)
        received = np.where(collected != _NEVER, collected, np.where(kafka_at != _NEVER, kafka_at, happened))
        skewed = happened > received + self._skew
        plain = columns["plain"].to_numpy() & (said != _NEVER)
        told = columns.drop_columns([*_TIMES, "plain"])
        for name, values in (
            ("event_at", pa.array(np.where(skewed, received, happened), _TIME, mask=~plain)),
            ("received_at", pa.array(received, _TIME, mask=~plain)),
            ("clock_skewed", pa.array(skewed)),
            ("plain", pa.array(plain)),
        ):
            told = told.append_column(name, values)
        return told

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """This thread's own. The statements are planned once, on a table of its own that each block is copied into:
        planning one costs several times what it takes to run it on a small batch."""
        if not hasattr(self._mine, "connection"):
            connection = duckdb.connect(config={"threads": 1})
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("create temp table block (row bigint, json varchar, key blob, kafka_at timestamptz)")
            connection.execute(f"prepare decode as {_DECODE}")
            connection.execute(f"prepare decode_rewritten as {_DECODE_REWRITTEN}")
            self._mine.connection = connection
        return self._mine.connection


def _microseconds(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Since the epoch; _NEVER for null and for what lies outside the years 1 to 9999, infinities included."""
    times = column.cast(pa.int64()).fill_null(_NEVER).to_numpy()
    return np.where((times >= _YEAR_1) & (times < _YEAR_10000), times, _NEVER)


def _decoded(batch: RawBatch, events: pa.Table, dead: pa.Table) -> DecodedBatch:
    return DecodedBatch(
        topic=batch.topic,
        partition=batch.partition,
        next_offset=batch.next_offset,
        events=events,
        dead=dead,
        at_end=batch.at_end,
        closed=batch.closed,
        read_at=batch.read_at,
        last_kafka_at=int(batch.kafka_at[-1]) if batch.kafka_at is not None and len(batch) else None,
    )


def _judge(row: int, raw: bytes | None, bad: dict[int, Rejected], good: dict[int, bytes]) -> None:
    try:
        good[row] = _plain_form(parse(raw))
    except Rejected as rejected:
        bad[row] = rejected


def _plain_form(event: Event) -> bytes:
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in event if value is not None
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _where(column: pa.Array) -> set[int]:
    """The rows in which `column` is true."""
    return set(np.flatnonzero(column.fill_null(False).to_numpy(zero_copy_only=False)).tolist())


def _without(column: pa.Array, rows: set[int]) -> pa.Array:
    """`column` with nulls at `rows`."""
    keep = np.ones(len(column), np.bool_)
    keep[list(rows)] = False
    return pc.if_else(pa.array(keep), column, pa.scalar(None, column.type))


def _dead_letters(batch: RawBatch, kafka_at: pa.Array, bad: dict[int, Rejected]) -> pa.Table:
    rows = sorted(bad)
    return pa.table(
        {
            "topic": [batch.topic] * len(rows),
            "partition": [batch.partition] * len(rows),
            "offset": [int(batch.offsets[i]) for i in rows],
            "reason": [bad[i].reason for i in rows],
            "detail": [bad[i].detail for i in rows],
            "key": [batch.keys[i] if batch.keys is not None else None for i in rows],
            "raw": [batch.values[i] for i in rows],
            "kafka_at": kafka_at.take(pa.array(rows, pa.int64())),
        },
        schema=DEAD,
    )
