"""The warehouse: one native DuckDB file, owned by this process. Opens it, migrates its schema, hands out connections.

There is one writer; readers are cursors of the same database and see whole checkpoints only.

What DuckDB says about the file becomes one of three errors: WarehouseHeld, WarehouseUnwritable (no room, no right to
write: the state before the transaction stands, and it can be tried again), WarehouseError (it cannot be used).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import duckdb
import psutil

from sinks.moved import Moved
from stitchline.errors import StitchlineError, WarehouseError, WarehouseHeld, WarehouseTooNew, WarehouseUnwritable

SCHEMA_VERSION: Final = 8
"""What schema.sql makes, and `_MIGRATIONS` lead to."""

_MIGRATIONS: Final = {version: f"to_version_{version}.sql" for version in range(2, SCHEMA_VERSION + 1)}
"""By version: the script that leads there from the version before."""

_HELD: Final = "Could not set lock on file"  # how DuckDB says it
_NOT_WRITTEN: Final = ("Could not write", "Could not fsync", "fsync failed", "Could not truncate", "Cannot open file")
_FILE_ERRORS: Final = (duckdb.IOException, duckdb.FatalException, duckdb.SerializationException)

WAY_OUT: Final = (
    "If it is damaged, put a backup in its place with `stitchline restore DIR --replace`, or move it away and let the "
    "flow read the topic again from its beginning."
)

WAL_LIMIT: Final = "64MB"
"""DuckDB checkpoints its file when the write-ahead log is this large. Nothing is committed meanwhile: at 5,000 events/s
over 20M stored ones that is 1.3 s every 20 s; with 256 MB it was 2.4 s, and with two cores that others use too, 5 s."""


ROW_GROUP: Final = 122_880
"""Rows that DuckDB stores together."""

_MERGES: Final = 1
"""How often one checkpoint of the file may put row groups together: a third of a second each. A refresh of the marts
over 20M events leaves some hundred such merges behind, which wait for their turn."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one partition stands, as committed. stored + duplicates + dead = consumed. Times are aware UTC."""

    topic: str
    partition: int
    next_offset: int = 0
    watermark: datetime | None = None
    greatest_event_at: datetime | None = None
    consumed: int = 0
    stored: int = 0
    duplicates: int = 0
    dead: int = 0
    last_kafka_at: datetime | None = None
    late: int = 0
    foreign_keys: int = 0
    committed_at: datetime | None = None


_PROGRESS: Final = (
    'topic, "partition", next_offset, watermark, greatest_event_at, consumed, stored, duplicates, dead, '
    "last_kafka_at, late, foreign_keys, committed_at"
)


class Warehouse:
    """An open warehouse. Threads may share it; each reads through a `reader` of its own."""

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        connect: Callable[[], duckdb.DuckDBPyConnection],
        config: Mapping[str, str | bool | int | float | list[str]],
    ) -> None:
        """`connect` opens the file again, should that be needed."""
        self.path = path
        self.config = config
        """What DuckDB was opened with: another connection of this process has to say the same."""
        self._connect = connect
        self._connection = connection
        self._writing = threading.RLock()
        self._bulk = self._was_bulk = False
        self._broken = False
        self._writer = self.reader()
        self.repairs = 0
        """How often sessions were rewritten by other than the flow."""
        self.moved = Moved()
        """Devices that transactions told other persons of."""
        self.openings = 1
        """How often the file was opened; another one may have taken its place."""
        self.commits = 0
        """How many transactions of the writer were committed."""
        row = self._writer.execute("select warehouse_id, generation from stream.warehouse").fetchone()
        assert row is not None
        self.warehouse_id, self.generation = row

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        memory_limit: str | None = None,
        threads: int | None = None,
        patience: timedelta = timedelta(),
    ) -> Warehouse:
        """The warehouse at `path`, made if it is not there, migrated to SCHEMA_VERSION. If another process has it, as a
        question on the command line does for a moment, it is waited for as long as `patience`.

        Raises WarehouseHeld if another process has it, WarehouseTooNew if a later version of Stitchline wrote it,
        WarehouseUnwritable if it cannot be written to, and WarehouseError if the file cannot be used.
        """
        config: dict[str, str | bool | int | float | list[str]] = {
            "checkpoint_threshold": WAL_LIMIT,
            "preserve_insertion_order": "false",
            "max_vacuum_tasks": _MERGES,
            "write_buffer_row_group_count": 1,  # rows are compressed as they are appended, not all at the commit
            "storage_compatibility_version": "latest",  # its encodings of text cost a third less to write
            "autoinstall_known_extensions": "false",  # nothing is fetched because a question names it
        }
        if memory_limit is not None:
            config["memory_limit"] = memory_limit
        if threads is not None:
            config["threads"] = threads

        def connect() -> duckdb.DuckDBPyConnection:
            return duckdb.connect(str(path), config=config)

        deadline = time.monotonic() + patience.total_seconds()
        if path.is_dir():
            raise WarehouseError(f"The warehouse {path} is a directory. Name a file, in it or elsewhere.", path=path)
        made = [file for file in (path, wal_of(path)) if not file.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    connection = connect()
                    break
                except duckdb.IOException as error:
                    if _HELD not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            try:
                _migrate(connection, path)
                return cls(path, connection, connect, config)
            except BaseException:
                connection.close()
                raise
        except (duckdb.Error, OSError) as error:
            if _HELD in str(error):
                raise WarehouseHeld(
                    f"The warehouse {path} is held by another process. Stop that process, or ask it: a running "
                    "`stitchline up` answers the same commands.",
                    path=path,
                ) from error
            if path in made:  # what was begun is no database yet, and would be taken for a damaged one
                _remove(made)
            raise _explained(error, path, "opened") from error

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A connection for one thread to read with; times come back in UTC. The caller closes it."""
        if self._broken:
            with self._writing:
                self._open_again()
        try:
            reader = self._connection.cursor()
        except duckdb.ConnectionException:  # closed just now
            if not self._broken:
                raise
            return self.reader()
        reader.execute("set TimeZone = 'UTC'")
        return reader

    def begin_together(self, readers: Sequence[duckdb.DuckDBPyConnection]) -> None:
        """Begins a transaction on each of `readers`; they see the same, as nothing is committed in between."""
        with self._writing:
            for reader in readers:
                reader.execute("begin transaction")
                reader.execute("select warehouse_id from stream.warehouse")  # what it sees is decided at its first look

    @contextmanager
    def transaction(self, *, bulk: bool = False, keep: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """The writer inside a transaction: committed at the end of the block, rolled back by any exception, and also if
        it is not to be kept.

        Raises WarehouseUnwritable if it could not be written. As a rule nothing of it is there then; only where the
        system failed after the last byte it may be, which stream.progress tells.

        `bulk` for one that appends whole row groups: DuckDB would write them again to fill the last one up, which costs
        as much as the append. Small transactions need that, for the rows that each replaces.
        """
        with self._writing:
            self._open_again()
            try:
                if bulk != self._bulk:
                    self._writer.execute(f"set max_vacuum_tasks = {0 if bulk else _MERGES}")
                    self._bulk = bulk
                    self._was_bulk |= bulk
                self._writer.execute("begin transaction")
                try:
                    yield self._writer
                except BaseException:
                    with suppress(duckdb.FatalException):  # then there is nothing to roll back any more
                        self._writer.execute("rollback")
                    raise
                self._writer.execute("commit" if keep else "rollback")
                self.moved.commit()
                self.commits += keep
            except _FILE_ERRORS as error:
                self._broken = self._broken or isinstance(error, duckdb.FatalException)
                raise _explained(error, self.path, "used") from error
            except duckdb.TransactionException as error:
                if not _is_unwritten(error):
                    raise
                raise _explained(error, self.path, "used") from error

    def _open_again(self) -> None:
        """Opens the file anew, if DuckDB gave its database up: it does when it could not write the log into the file.

        Raises WarehouseUnwritable while that cannot be done, as long as others still read, too.
        """
        if not self._broken:
            return
        self._writer.close()
        self._connection.close()
        # Closed later, it would take along the lock that this process has on the file.
        if self._is_read():
            raise WarehouseUnwritable(
                f"The warehouse {self.path} could not be written, and has to be opened again, once the questions that "
                "still read it are answered. What was committed is kept.",
                path=self.path,
            )
        try:
            connection = self._connect()
        except duckdb.Error as error:
            raise WarehouseUnwritable(
                f"The warehouse {self.path} could not be written, and cannot be opened again yet: "
                f"{_first_line(error)}. What was committed is kept.",
                path=self.path,
            ) from error
        self._connection, self._broken, self._bulk = connection, False, False
        self.openings += 1
        self._writer = self.reader()

    def _is_read(self) -> bool:
        """Whether a connection of this process still has the file."""
        return str(self.path.resolve()) in {file.path for file in psutil.Process().open_files()}

    @contextmanager
    def allowed(self, memory_limit: str, threads: int) -> Iterator[None]:
        """Lets DuckDB use so much as long as the block lasts, whoever asks it."""
        self._set(memory_limit=memory_limit, threads=threads)
        try:
            yield
        finally:  # if more is in use just now, the next block's end does it
            with suppress(duckdb.OutOfMemoryException):
                self._set(**{name: self.config.get(name) for name in ("threads", "memory_limit")})

    def _set(self, **settings: Any) -> None:
        """None is DuckDB's own value."""
        with self.reader() as con:
            for name, value in settings.items():
                if value is None:
                    con.execute(f"reset global {name}")
                else:
                    con.execute(f"set global {name} = ?", [value])

    def replace_file(
        self,
        make: Callable[[duckdb.DuckDBPyConnection, Path], object],
        patience: timedelta = timedelta(minutes=1),
    ) -> None:
        """Puts the file that `make` writes, of what it reads on a connection, in the place of this one. Nobody writes
        meanwhile; who reads has `patience` to end, and whoever comes later reads from the new file.

        Raises WarehouseUnwritable if it could not be done. Then the file is as it was.
        """
        new = self.path.with_name(f"{self.path.name}.rewriting")
        with self._writing:
            self._open_again()
            try:
                _remove([new, wal_of(new)])
                with self.reader() as con:
                    make(con, new)
                self._broken = True  # who comes now waits, and opens the new one
                self._writer.close()
                self._connection.close()
                self._change_places(new, time.monotonic() + patience.total_seconds())
            except (duckdb.Error, OSError) as error:
                raise WarehouseUnwritable(
                    f"The warehouse {self.path} could not be written anew: {_first_line(error)}. Make room on its disk "
                    "for a second copy of it, and try again; it is as it was.",
                    path=self.path,
                ) from error
            finally:
                _remove([new, wal_of(new)])
            self._open_again()

    def _change_places(self, new: Path, deadline: float) -> None:
        while self._is_read():
            if time.monotonic() > deadline:
                raise WarehouseUnwritable(
                    f"The warehouse {self.path} could not be written anew, as questions still read it. Try again when "
                    "they are answered; it is as it was.",
                    path=self.path,
                )
            time.sleep(0.05)
        if wal_of(self.path).exists():
            raise OSError("its log could not be written into it")
        with self.path.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or another process has opened it just now
            new.replace(self.path)
            sync(self.path.parent)

    def begin_generation(self) -> str:
        """Makes this another one than it was before, for Redis, and returns its generation."""
        generation = str(uuid.uuid4())
        with self.transaction() as con:
            con.execute("update stream.warehouse set generation = ?", [generation])
        self.generation = generation
        return generation

    def progress(self) -> dict[tuple[str, int], Progress]:
        """Where every partition stands, by (topic, partition)."""
        with self.reader() as reader:
            return stored_progress(reader)

    def close(self) -> None:
        """Writes the log into the file and lets go of it."""
        with self._writing:
            if self._was_bulk and not self._broken:  # nobody waits for what one of the next checkpoints does as well
                self._writer.execute("set max_vacuum_tasks = 0")
            self._writer.close()
            self._connection.close()

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stored_progress(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, int], Progress]:
    """Where every partition stands, by (topic, partition), as `con` sees it."""
    rows = con.execute(f"select {_PROGRESS} from stream.progress").fetchall()
    return {(row[0], row[1]): Progress(*row) for row in rows}


def save_progress(writer: duckdb.DuckDBPyConnection, rows: list[Progress]) -> None:
    """Replaces the rows of these partitions. Part of the checkpoint's transaction."""
    if not rows:
        return
    these = " or ".join(['(topic = ? and "partition" = ?)'] * len(rows))
    places = [value for r in rows for value in (r.topic, r.partition)]
    writer.execute(f"delete from stream.progress where {these}", places)
    columns = _PROGRESS.replace('"', "").split(", ")
    marks = ", ".join("?" * len(columns))
    writer.execute(
        f"insert into stream.progress ({_PROGRESS}) values {', '.join([f'({marks})'] * len(rows))}",
        [getattr(r, column) for r in rows for column in columns],
    )


def _is_unwritten(error: Exception) -> bool:
    """Whether it says that something could not be written, and not that something is wrong with what is there."""
    return isinstance(error, OSError) or any(words in str(error) for words in _NOT_WRITTEN)


def _explained(error: Exception, path: Path, what: str) -> StitchlineError:
    """`what` could not be done with the warehouse, in words that say the way out."""
    if _is_unwritten(error):
        return WarehouseUnwritable(
            f"The warehouse {path} cannot be written: {_first_line(error)}. Make room on its disk, or give the right "
            "to write to the file and its folder; what was committed before is kept.",
            path=path,
        )
    return WarehouseError(f"The warehouse {path} cannot be {what}: {_first_line(error)}. {WAY_OUT}", path=path)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".!")


def unreadable(error: duckdb.Error) -> str:
    """What to say of an error that a reader of the warehouse met."""
    return f"The warehouse cannot be read: {_first_line(error)}. {WAY_OUT}"


def wal_of(path: Path) -> Path:
    """DuckDB's log beside the file at `path`: what was committed since it was last written into the file."""
    return path.with_name(path.name + ".wal")


def sync(path: Path) -> None:
    """Returns when what is written there, or the names in a folder, would survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(files: list[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    found = _version(connection)
    if found > SCHEMA_VERSION:
        raise WarehouseTooNew(
            f"The warehouse {path} has schema version {found}; this Stitchline knows up to {SCHEMA_VERSION}. "
            "Install the version that wrote it, or a later one.",
            path=path,
            found=found,
            known=SCHEMA_VERSION,
        )
    if found == SCHEMA_VERSION:
        return
    connection.execute("begin transaction")
    scripts = ["schema.sql"] if found == 0 else [_MIGRATIONS[v] for v in range(found + 1, SCHEMA_VERSION + 1)]
    for script in scripts:
        connection.execute(files("sinks").joinpath(script).read_text())
    if found == 0:
        connection.execute(
            "insert into stream.warehouse values (?, ?, ?, ?, ?)",
            [str(uuid.uuid4()), str(uuid.uuid4()), SCHEMA_VERSION, datetime.now(UTC), secrets.token_hex(16)],
        )
    else:
        connection.execute("update stream.warehouse set schema_version = ?", [SCHEMA_VERSION])
    connection.execute("commit")


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    """0 for an empty database."""
    there = connection.execute(
        "select 1 from information_schema.tables where table_schema = 'stream' and table_name = 'warehouse'"
    ).fetchone()
    row = connection.execute("select schema_version from stream.warehouse").fetchone() if there else None
    return int(row[0]) if row else 0
