"""What is left of the ids of persons who were forgotten: enough to refuse what still arrives under them, not the ids.

Refused is what happened, or was received, before the person was forgotten. What happens later under the same id is
somebody new. DESIGN: identity rule 9.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from identity.ids import PERSON_PREFIX
from stitchline.hashing import hash_texts

HINT_BITS: Final = 20
"""Of an id's other hash: one id of a million is digested for each tombstone, instead of all."""

_TOMBSTONES: Final = """
select kind, digest, hint, tombstone_id, epoch_us(from_at) as from_at, epoch_us(to_at) as to_at,
    epoch_us(forgotten_at) as forgotten_at
from stream.tombstones
"""

Kind = Literal["user", "device"]

_STORED: Final[dict[Kind, str]] = {
    "user": """
        select user_id as name from stream.events where user_id is not null
        union select user_id from stream.identity_facts where user_id is not null
    """,
    "device": """
        select anonymous_id as name from stream.events where anonymous_id is not null
        union select anonymous_id from stream.identity_facts where anonymous_id is not null
    """,
}


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Refuses what came under an id between two times, inclusive; from the beginning, if the first is None."""

    kind: Kind
    name: str
    from_at: datetime | None
    to_at: datetime


class Tombstones:
    """All there are. Threads may share it."""

    def __init__(self, salt: str, rows: pl.DataFrame) -> None:
        """`rows` by _TOMBSTONES."""
        self._salt = salt
        self._rows = rows
        self._hints = np.zeros(1 << HINT_BITS, np.bool_)
        self._hints[rows["hint"].to_numpy()] = True

    @classmethod
    def read(cls, con: duckdb.DuckDBPyConnection) -> Tombstones:
        return cls(salt_of(con), con.execute(_TOMBSTONES).pl())

    def __len__(self) -> int:
        return self._rows.height

    def refusing(self, events: pl.DataFrame) -> pl.Series:
        """By which tombstone each event (anonymous_id, user_id, known_user, previous_id, event_at, received_at) is
        refused, or null. What another user signed is that user's, whoever had the device, unless it names the user."""
        rows = events.select(
            row=pl.int_range(pl.len()),
            at=pl.col("event_at").to_physical(),
            received=pl.col("received_at").to_physical(),
        )
        unsigned = events.select(pl.when(pl.col("known_user").is_null()).then(pl.col("anonymous_id", "previous_id")))
        found = [
            self._under("user", events["user_id"], rows),
            self._under("user", events["previous_id"], rows),
            self._under("device", unsigned["anonymous_id"], rows),
            self._under("device", unsigned["previous_id"], rows),
        ]
        first = pl.concat(found).unique("row", keep="first", maintain_order=True)
        return rows.join(first, on="row", how="left", maintain_order="left")["tombstone_id"]

    def of(self, kind: Kind, name: str) -> dict[str, datetime]:
        """The tombstones of an id, and when each was set."""
        found = self._rows.filter((pl.col("kind") == kind) & (pl.col("digest") == digest(self._salt, kind, name)))
        times = found["forgotten_at"].cast(pl.Datetime("us", "UTC"))
        return dict(zip(found["tombstone_id"].to_list(), times.to_list(), strict=True))

    def persons(self, con: duckdb.DuckDBPyConnection, tombstone_id: str) -> list[str]:
        """Whom of those who are stored, perhaps from before they were forgotten, the tombstones mean: user ids, and
        anon: with devices that were forgotten whole."""
        stored = {kind: con.execute(statement).pl()["name"].cast(pl.String) for kind, statement in _STORED.items()}
        mine = pl.col("tombstone_id") == tombstone_id
        users = self._named("user", stored["user"]).filter(mine)
        devices = self._named("device", stored["device"]).filter(mine & pl.col("from_at").is_null())
        return [*users["name"].unique().sort(), *(PERSON_PREFIX + name for name in devices["name"].unique().sort())]

    def _under(self, kind: Kind, ids: pl.Series, rows: pl.DataFrame) -> pl.DataFrame:
        """The `rows` that are refused because of their id of this kind: row, tombstone_id."""
        under = rows.with_columns(name=ids).join(self._named(kind, ids), on="name")
        whole = pl.col("from_at").is_null() & (
            (pl.col("at") <= pl.col("to_at")) | (pl.col("received") <= pl.col("to_at"))
        )
        return under.filter(whole | pl.col("at").is_between("from_at", "to_at")).select("row", "tombstone_id")

    def _named(self, kind: Kind, ids: pl.Series) -> pl.DataFrame:
        """The tombstones of those of `ids` that have some, each with its name."""
        asked = ids.filter(pl.Series(self._hints[_hints_of(ids)]) & ids.is_not_null()).unique()
        digests = pl.Series([digest(self._salt, kind, name) for name in asked.to_list()], dtype=pl.Binary)
        names = pl.DataFrame({"name": asked, "digest": digests})
        return names.join(self._rows.filter(pl.col("kind") == kind), on="digest")


def _hints_of(ids: pl.Series) -> npt.NDArray[np.int64]:
    return (hash_texts(ids.to_arrow()) & np.uint64((1 << HINT_BITS) - 1)).astype(np.int64)


def digest(salt: str, kind: Kind, name: str) -> bytes:
    """SHA-256; the salt keeps digests of two warehouses from being compared."""
    return hashlib.sha256("\0".join((salt, kind, name)).encode()).digest()


def salt_of(con: duckdb.DuckDBPyConnection) -> str:
    row = con.execute("select salt from stream.warehouse").fetchone()
    assert row is not None
    return str(row[0])


def add(con: duckdb.DuckDBPyConnection, tombstone_id: str, tombstones: list[Tombstone], forgotten_at: datetime) -> None:
    """Appends to stream.tombstones, in a transaction of the writer."""
    salt = salt_of(con)
    hints = _hints_of(pl.Series([t.name for t in tombstones], dtype=pl.String)).tolist()
    con.executemany(
        "insert into stream.tombstones values (?, ?, ?, ?, ?, ?, ?)",
        [
            [tombstone_id, t.kind, digest(salt, t.kind, t.name), hint, t.from_at, t.to_at, forgotten_at]
            for t, hint in zip(tombstones, hints, strict=True)
        ],
    )
