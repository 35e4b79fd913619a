"""One partition of a topic, read by librdkafka into columns.

confluent_kafka makes a Python object of each record, under the interpreter's lock: as much work as decoding it. Here
its librdkafka is asked by the documented C interface, and compiled code copies the records into Arrow's buffers.
Errors are confluent_kafka's.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_ssize_t, c_void_p
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import llvmlite.binding
import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, cimpl
from numba import types

from stitchline.compiled import compiled
from stitchline.words import pointer_to

Addresses = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_CONSUMER: Final = 1  # rd_kafka_type_t
_NO_CONSUMER_CLOSE: Final = 8  # of RD_KAFKA_DESTROY_F_*
_WORDS: Final = 9  # of eight octets, in a rd_kafka_message_t
_PAYLOAD, _LENGTH, _KEY, _KEY_LENGTH, _OFFSET = 3, 4, 5, 6, 7  # which of them; the error is the half of the first

_NO_OFFSET: Final = -1
_TROUBLES: Final = 100
"""Errors between two reads: a broker that is away gives a few in a second."""

_ErrorCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_void_p)
_INTERFACE: Final[dict[str, tuple[Any, list[Any]]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_conf_set_error_cb": (None, [c_void_p, _ErrorCallback]),
    "rd_kafka_conf_destroy": (None, [c_void_p]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_poll_set_consumer": (c_int, [c_void_p]),
    "rd_kafka_queue_get_consumer": (c_void_p, [c_void_p]),
    "rd_kafka_queue_destroy": (None, [c_void_p]),
    "rd_kafka_topic_partition_list_new": (c_void_p, [c_int]),
    "rd_kafka_topic_partition_list_add": (c_void_p, [c_void_p, c_char_p, c_int32]),
    "rd_kafka_topic_partition_list_set_offset": (c_int, [c_void_p, c_char_p, c_int32, c_int64]),
    "rd_kafka_topic_partition_list_destroy": (None, [c_void_p]),
    "rd_kafka_assign": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_consume_batch_queue": (c_ssize_t, [c_void_p, c_int, c_void_p, c_size_t]),
    "rd_kafka_query_watermark_offsets": (
        c_int,
        [c_void_p, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int],
    ),
    "rd_kafka_message_errstr": (c_char_p, [c_void_p]),
    "rd_kafka_message_timestamp": (c_int64, [c_void_p, c_void_p]),
    "rd_kafka_message_destroy": (None, [c_void_p]),
    "rd_kafka_err2str": (c_char_p, [c_int]),
    "rd_kafka_destroy_flags": (None, [c_void_p, c_int]),
}


def _librdkafka() -> ctypes.CDLL:
    """The library that confluent_kafka is linked with."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _INTERFACE.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    for name in ("rd_kafka_message_timestamp", "rd_kafka_message_destroy"):  # for compiled code, by their names
        llvmlite.binding.add_symbol(name, ctypes.cast(getattr(library, name), c_void_p).value)
    return library


_lib: Final = _librdkafka()
_timestamp: Any = types.ExternalFunction("rd_kafka_message_timestamp", types.int64(types.uint64, types.uint64))
_memcpy: Any = types.ExternalFunction("memcpy", types.uint64(types.uint64, types.uint64, types.uint64))
_destroy: Any = types.ExternalFunction("rd_kafka_message_destroy", types.void(types.uint64))


@dataclass(frozen=True, slots=True)
class Read:
    """Records in offset order, and what was told of the partition behind them."""

    values: pa.LargeBinaryArray
    keys: pa.LargeBinaryArray
    offsets: Ints
    kafka_at: Ints | None
    """Microseconds UTC; None where the topic keeps no times."""
    told: list[tuple[KafkaError, int]]
    """Errors, the partition's end among them, each with its offset, −1 where it is of none."""


class PartitionConsumer:
    """Reads the partition from `offset` on. `config` is librdkafka's. Raises KafkaException for settings that it does
    not take."""

    def __init__(self, config: Mapping[str, str], topic: str, partition: int, offset: int) -> None:
        self._topic, self._partition = topic.encode(), partition
        self._troubles: deque[KafkaError] = deque(maxlen=_TROUBLES)
        on_error = _on_error(self._troubles)
        self._client = _client(config, on_error)
        self._queue = _lib.rd_kafka_queue_get_consumer(self._client)
        self._addresses: Addresses = np.empty(0, np.uint64)
        # Also where nobody closes it: its threads must not outlive the interpreter. The callback has to.
        self._closed = weakref.finalize(self, _close, self._client, self._queue, on_error)
        self.assign(offset)

    def assign(self, offset: int) -> None:
        """Goes on at `offset`, or at one of Kafka's names for an offset."""
        place = _lib.rd_kafka_topic_partition_list_new(1)
        try:
            _lib.rd_kafka_topic_partition_list_add(place, self._topic, self._partition)
            _lib.rd_kafka_topic_partition_list_set_offset(place, self._topic, self._partition, offset)
            _check(_lib.rd_kafka_assign(self._client, place))
        finally:
            _lib.rd_kafka_topic_partition_list_destroy(place)

    def read(self, most: int, seconds: float) -> Read:
        """What is there, `most` records at most; waits so long for more."""
        if len(self._addresses) < most:
            self._addresses = np.empty(most, np.uint64)
        count = _lib.rd_kafka_consume_batch_queue(self._queue, round(seconds * 1000), self._addresses.ctypes.data, most)
        if count < 0:
            raise KafkaException(_error(KafkaError._STATE, None))
        found = self._addresses[:count]
        codes = _codes(found)
        told = [(self._troubles.popleft(), _NO_OFFSET) for _ in range(len(self._troubles))]
        for address, code in zip(found[codes != 0].tolist(), codes[codes != 0].tolist(), strict=True):
            told.append((_error(code, _lib.rd_kafka_message_errstr(address)), _offset(address)))
            _lib.rd_kafka_message_destroy(address)
        columns = _columns(found[codes == 0] if told else found)
        return Read(
            _binary(columns.values),
            _binary(columns.keys),
            columns.offsets,
            None if columns.without_time else columns.kafka_at,
            told,
        )

    def ends(self, seconds: float) -> tuple[int, int]:
        """The first offset that is there, and the one behind the last. Raises KafkaException if no broker says so."""
        first, end = c_int64(), c_int64()
        _check(
            _lib.rd_kafka_query_watermark_offsets(
                self._client, self._topic, self._partition, byref(first), byref(end), round(seconds * 1000)
            )
        )
        return first.value, end.value

    def close(self) -> None:
        self._closed()


def _on_error(troubles: deque[KafkaError]) -> Any:
    """What librdkafka calls, while a read waits, for what goes wrong between it and the brokers."""
    return _ErrorCallback(lambda _client, code, text, _: troubles.append(_error(code, text)))


def _client(config: Mapping[str, str], on_error: Any) -> Any:
    said = ctypes.create_string_buffer(512)
    conf = _lib.rd_kafka_conf_new()
    _lib.rd_kafka_conf_set_error_cb(conf, on_error)
    for name, value in config.items():
        if _lib.rd_kafka_conf_set(conf, name.encode(), str(value).encode(), said, len(said)) != 0:
            _lib.rd_kafka_conf_destroy(conf)
            raise KafkaException(_error(KafkaError._INVALID_ARG, said.value))
    client = _lib.rd_kafka_new(_CONSUMER, conf, said, len(said))
    if client is None:
        _lib.rd_kafka_conf_destroy(conf)
        raise KafkaException(_error(KafkaError._INVALID_ARG, said.value))
    _lib.rd_kafka_poll_set_consumer(client)
    return client


def _close(client: Any, queue: Any, _on_error: Any) -> None:
    """Without a farewell to the group, of which a consumer that was assigned its partition is no member: it would wait
    for the brokers, for ever if they are gone."""
    _lib.rd_kafka_queue_destroy(queue)
    _lib.rd_kafka_destroy_flags(client, _NO_CONSUMER_CLOSE)


def _check(code: int) -> None:
    if code != 0:
        raise KafkaException(_error(code, None))


def _error(code: int, text: bytes | None) -> KafkaError:
    return KafkaError(code, (text or _lib.rd_kafka_err2str(code)).decode("utf-8", "replace"))


def _offset(address: int) -> int:
    return c_int64.from_address(address + 8 * _OFFSET).value


# Compiled


class _Column(NamedTuple):
    offsets: Ints
    octets: Bytes
    validity: Bytes
    nulls: int


class _Columns(NamedTuple):
    values: _Column
    keys: _Column
    offsets: Ints
    kafka_at: Ints
    without_time: bool


@compiled
def _codes(addresses: Addresses) -> npt.NDArray[np.int32]:
    """The error of each message, 0 for a record."""
    codes = np.empty(len(addresses), np.int32)
    for i in range(len(addresses)):
        codes[i] = numba.carray(pointer_to(addresses[i]), (1,), np.int32)[0]
    return codes


@compiled
def _column(addresses: Addresses, place: int, length: int) -> _Column:
    """The texts to which the word `place` of each message points, and of which the word `length` tells how long."""
    count = len(addresses)
    offsets, validity, nulls = np.zeros(count + 1, np.int64), np.zeros((count + 7) // 8, np.uint8), 0
    for i in range(count):
        words = numba.carray(pointer_to(addresses[i]), (_WORDS,), np.int64)
        if words[place] == 0:
            nulls += 1
            offsets[i + 1] = offsets[i]
        else:
            validity[i >> 3] |= np.uint8(1 << (i & 7))
            offsets[i + 1] = offsets[i] + words[length]
    octets = np.empty(offsets[count], np.uint8)
    begin = np.uint64(octets.ctypes.data)
    for i in range(count):
        if offsets[i + 1] != offsets[i]:
            words = numba.carray(pointer_to(addresses[i]), (_WORDS,), np.int64)
            _memcpy(begin + np.uint64(offsets[i]), np.uint64(words[place]), np.uint64(offsets[i + 1] - offsets[i]))
    return _Column(offsets, octets, validity, nulls)


@compiled
def _columns(addresses: Addresses) -> _Columns:
    """Copies what the messages say and gives them back to librdkafka."""
    count = len(addresses)
    values, keys = _column(addresses, _PAYLOAD, _LENGTH), _column(addresses, _KEY, _KEY_LENGTH)
    offsets, kafka_at = np.empty(count, np.int64), np.empty(count, np.int64)
    without_time, kind = False, np.zeros(1, np.int32)
    for i in range(count):
        offsets[i] = numba.carray(pointer_to(addresses[i]), (_WORDS,), np.int64)[_OFFSET]
        kafka_at[i] = 1000 * _timestamp(addresses[i], np.uint64(kind.ctypes.data))
        without_time |= kind[0] == 0
        _destroy(addresses[i])
    return _Columns(values, keys, offsets, kafka_at, without_time)


def _binary(column: _Column) -> pa.LargeBinaryArray:
    buffers = [pa.py_buffer(column.validity) if column.nulls else None, *map(pa.py_buffer, column[:2])]
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(column.offsets) - 1, buffers, null_count=column.nulls
    )
