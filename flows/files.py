"""Files as a source: JSONL, plain or compressed with gzip or Zstandard, and standard input; one record a line."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import select
import sys
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Final

import numpy as np
import zstandard
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from flows.contract import MAX_RECORD_BYTES
from flows.records import BATCH, RawBatch, octets
from stitchline.errors import SourceError

STDIN: Final = "-"

_BLOCK: Final = 4 * 2**20  # bytes read at once

_FINGERPRINT: Final = 4096  # bytes that tell one file from another of the same name


def topic_of(file: str) -> str:
    """The name under which a file's progress is kept: its own name and a fingerprint of how it begins, so that
    a file that has grown resumes and another one of the same name does not.

    Raises SourceError if the file cannot be read.
    """
    if file == STDIN:
        return "stdin"
    try:
        with Path(file).open("rb") as stream:
            begins = stream.read(_FINGERPRINT)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}. Check the path.", file=file) from error
    return f"file:{Path(file).name}#{hashlib.sha256(begins).hexdigest()[:12]}"


class FileSource(FixedPartitionedSource[RawBatch, None]):
    """One partition for each file; an offset is a line number, from 0.

    `next_offset` tells for a topic the line to resume at. A batch has at most `batch` records. `read` is told
    how many bytes of which file were read.
    """

    def __init__(
        self,
        files: list[str],
        next_offset: Callable[[str], int],
        stopping: threading.Event,
        batch: int = BATCH,
        read: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        self.stopping = stopping
        self.next_offset = next_offset
        self.batch = batch
        self.read = read
        self._files = {f"{i:05d}": (file, topic_of(file)) for i, file in enumerate(files)}

    def list_parts(self) -> list[str]:
        return list(self._files)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> FilePartition:
        return FilePartition(self, *self._files[for_part])


class FilePartition(StatefulSourcePartition[RawBatch, None]):
    """Reads one file in blocks of lines."""

    def __init__(self, source: FileSource, file: str, topic: str) -> None:
        self._source = source
        self._file = file
        self._topic = topic
        self._skip = 0 if file == STDIN else source.next_offset(topic)
        self._line = 0  # of the next line to come out of _rest
        self._rest = b""
        self._pending: list[bytes] = []
        self._raw: IO[bytes] | None = None if file == STDIN else Path(file).open("rb")  # noqa: SIM115 `close` closes it
        self._stream = self._opened()
        self._ended = False
        self._damage: SourceError | None = None

    def next_batch(self) -> Iterable[RawBatch]:
        if self._source.stopping.is_set() or (self._ended and not self._pending):
            raise StopIteration
        lines = self._lines()
        done = self._ended and not self._pending
        first = self._line
        self._line += len(lines)
        numbered = [
            (number, line.rstrip(b"\r"))
            for number, line in enumerate(lines, first)
            if number >= self._skip and line.strip()
        ]
        return [
            RawBatch(
                topic=self._topic,
                partition=0,
                next_offset=max(self._line, self._skip),
                values=octets([line for _, line in numbered]),
                offsets=np.array([number for number, _ in numbered], np.int64),
                at_end=done,
                closed=done,
            )
        ]

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()

    def _lines(self) -> list[bytes]:
        """The next lines, without their ends. Raises SourceError once all before the damage were handed out."""
        while len(self._pending) < self._source.batch and not self._ended and self._damage is None:
            try:
                block = self._block()
            except SourceError as damage:
                self._damage = damage
                break
            if block is None:
                break
            self._ended = not block
            *whole, rest = block.split(b"\n")
            if whole:
                whole[0] = self._rest + whole[0]
                self._rest = b""
                self._pending += whole
            # What is too large for a record is told by its first bytes; the rest of an endless line is not kept.
            self._rest = (self._rest + rest)[: MAX_RECORD_BYTES + 2]
            if self._ended and self._rest:
                self._pending.append(self._rest)
        if self._damage is not None and not self._pending:
            raise self._damage
        lines, self._pending = self._pending[: self._source.batch], self._pending[self._source.batch :]
        return lines

    def _block(self) -> bytes | None:
        """The next bytes, empty at the end, or None if none are there yet."""
        try:
            if self._file == STDIN:
                if not select.select([sys.stdin.buffer], [], [], 0.2)[0]:
                    return None
                block = os.read(sys.stdin.fileno(), _BLOCK)
            else:
                block = self._stream.read(_BLOCK)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise SourceError(
                f"{self._file} cannot be read beyond line {self._line + len(self._pending):,}: {error}. What was read "
                "before is stored; mend the file and replay it again.",
                file=self._file,
                line=self._line + len(self._pending),
            ) from error
        if self._raw is not None:
            self._source.read(self._file, self._raw.tell())
        return block

    def _opened(self) -> IO[bytes]:
        if self._raw is None:
            return io.BytesIO()
        magic = self._raw.read(4)
        self._raw.seek(0)
        if magic[:2] == b"\x1f\x8b":
            return gzip.GzipFile(fileobj=self._raw, mode="rb")  # type: ignore[return-value]
        if magic == b"\x28\xb5\x2f\xfd":
            return zstandard.ZstdDecompressor().stream_reader(self._raw, read_across_frames=True)
        return self._raw
