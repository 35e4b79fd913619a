"""The record of who is behind an id: the warehouse's facts and verdicts, and what its events say about devices."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from identity.claims import Fact, compact
from identity.ids import LegalIds
from sinks.tables import registered

FACTS: Final = pl.Schema(
    {
        "kind": pl.String(),
        "anonymous_id": pl.String(),
        "user_id": pl.String(),
        "event_at": pl.Datetime("us", "UTC"),
        "message_id": pl.String(),
        "reason": pl.String(),
    }
)
"""What is appended to stream.identity_facts."""

VERDICTS: Final = pl.Schema({"verdict" if name == "kind" else name: kind for name, kind in FACTS.items()})
"""What is appended to stream.identity_verdicts."""

OVERRIDES: Final = pl.Schema(
    {
        "anonymous_id": pl.String(),
        "from_at": pl.Datetime("us", "UTC"),
        "to_at": pl.Datetime("us", "UTC"),
        "person_id": pl.String(),
        "from_message_id": pl.String(),
        "to_message_id": pl.String(),
    }
)
"""What is written to stream.person_overrides."""

CUTS: Final = pl.Schema({name: OVERRIDES[name] for name in ("anonymous_id", "from_at", "from_message_id")})
"""From where on what stream.person_overrides has of a device gives way."""

# An event with both ids is a claim; a logout that carries a user is that user's claim and then a logout.
_SAID_BY_EVENTS: Final = """
select anonymous_id, event_at, message_id, user_id, name in (select unnest($logout_events)) as is_logout
from stream.events
where anonymous_id is not null and (user_id is not null or name in (select unnest($logout_events)))
"""
_ALIASES: Final = """
select anonymous_id, event_at, message_id, user_id from stream.identity_facts
anti join (select anonymous_id, message_id from stream.identity_verdicts where verdict = 'refused')
    using (anonymous_id, message_id)
where kind = 'alias'
"""
# What no stored event tells: aliases, and what is kept of users who were forgotten.
_UNTOLD: Final = """
select anonymous_id, event_at, message_id, user_id, kind from stream.identity_facts
anti join (select anonymous_id, message_id from stream.identity_verdicts where verdict = 'refused')
    using (anonymous_id, message_id)
where kind in ('alias', 'forgotten')
"""
_FACTS_AT_ONCE: Final = 50_000
"""That are taken out of their columns: each is a hundred times as large outside."""

UNTOLD: Final = ("alias", "forgotten")
"""The kinds of facts that no stored event tells."""


_HELD: Final = f"select {', '.join(VERDICTS.names())} from stream.identity_verdicts where verdict = 'held'"
_FIRST_CLAIMS: Final = """
select user_id, anonymous_id, min({'at': event_at, 'message_id': message_id}) as first
from (
    select f.user_id, f.anonymous_id, f.event_at, f.message_id from stream.identity_facts f
    where f.kind = 'claim' and {of_users}
    union all
    select user_id, anonymous_id, event_at, message_id from ({untold}) f where user_id is not null and {of_users}
)
group by user_id, anonymous_id
"""


def first_claims(con: duckdb.DuckDBPyConnection, users: Collection[str] | None = None) -> pl.DataFrame:
    """When each of `users` (all, if None) first claimed each of its devices: user_id, anonymous_id, event_at,
    message_id."""
    of_users = "true" if users is None else "f.user_id in (select id from asked_users)"
    statement = _FIRST_CLAIMS.replace("{untold}", _UNTOLD).replace("{of_users}", of_users)
    with _asked(con, "asked_users", users):
        found = con.execute(statement).pl()
    return found.select(
        "user_id",
        "anonymous_id",
        pl.col("first").struct.field("at").alias("event_at"),
        pl.col("first").struct.field("message_id"),
    )


def devices_of_users(con: duckdb.DuckDBPyConnection) -> tuple[pa.ChunkedArray, npt.NDArray[np.int64]]:
    """Every user who ever claimed a device, and how many."""
    counted = con.execute(
        "select user_id, count(distinct anonymous_id) as devices from stream.identity_facts "
        "where user_id is not null and anonymous_id is not null group by user_id"
    ).to_arrow_table()
    return counted["user_id"], counted["devices"].to_numpy().astype(np.int64)


def held(
    con: duckdb.DuckDBPyConnection, *, users: Collection[str] | None = None, devices: Collection[str] | None = None
) -> pl.DataFrame:
    """The links that are held, of these users or of these devices (all, if None): VERDICTS."""
    statement = _HELD
    statement += " and user_id in (select id from asked_users)" if users is not None else ""
    statement += " and anonymous_id in (select id from asked_devices)" if devices is not None else ""
    with _asked(con, "asked_users", users), _asked(con, "asked_devices", devices):
        return con.execute(statement).pl().cast(VERDICTS)


@contextmanager
def _asked(con: duckdb.DuckDBPyConnection, name: str, ids: Collection[str] | None) -> Iterator[None]:
    """`ids` as the table `name` (id), if there are any to ask for: DuckDB takes its time over long lists of values."""
    if ids is None:
        yield
        return
    column = ids if isinstance(ids, pl.Series) else pl.Series(list(ids), dtype=pl.String)
    with registered(con, name, pl.DataFrame({"id": column}).to_arrow()):
        yield


def claimed(con: duckdb.DuckDBPyConnection, devices: Collection[str]) -> pl.Series:
    """Those of `devices` of which the ledger knows a fact."""
    with _asked(con, "asked_devices", devices):
        return con.execute(
            "select distinct anonymous_id from stream.identity_facts "
            "where anonymous_id in (select id from asked_devices)"
        ).pl()["anonymous_id"]


def aliases_of(con: duckdb.DuckDBPyConnection, ids: Collection[str]) -> pl.DataFrame:
    """The aliases that link one of `ids`, and were not refused since: anonymous_id, event_at, message_id, user_id."""
    with _asked(con, "asked_devices", ids):
        return con.execute(f"{_ALIASES} and anonymous_id in (select id from asked_devices)").pl()


def aliased(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The anonymous ids that an alias links."""
    return {row[0] for row in con.execute(f"select distinct anonymous_id from ({_ALIASES})").fetchall()}


def refused_aliases(con: duckdb.DuckDBPyConnection, devices: Collection[str] | None = None) -> list[str]:
    """Those of `devices` (of all, if None) that aliases linked, all of which were refused since."""
    narrowed = " and anonymous_id in (select id from asked_devices)" if devices is not None else ""
    with _asked(con, "asked_devices", devices):
        rows = con.execute(
            f"(select anonymous_id from stream.identity_facts where kind = 'alias'{narrowed}) "
            f"except (select anonymous_id from ({_ALIASES}{narrowed}))"
        ).fetchall()
    return [device for (device,) in rows]


def facts_of(
    con: duckdb.DuckDBPyConnection, legal: LegalIds, logout_events: Collection[str], devices: pl.Series | None = None
) -> Iterator[tuple[str, list[Fact]]]:
    """Every fact that the stored events tell about `devices` (all, if None), and those that they do not, device by
    device."""
    narrowed = " and anonymous_id in (select id from asked_devices)" if devices is not None else ""
    with _asked(con, "asked_devices", devices):
        said = con.execute(_SAID_BY_EVENTS + narrowed, {"logout_events": list(logout_events)}).pl()
        untold = con.execute(_UNTOLD + narrowed).pl()
    said = said.with_columns(known_user=legal.legal(said["user_id"]), known_device=legal.legal(said["anonymous_id"]))
    facts = pl.concat([facts_in(said), untold]).sort("anonymous_id")
    for some in _of_whole_devices(facts):
        yield from by_device(some).items()


def compact_facts_of(
    con: duckdb.DuckDBPyConnection, legal: LegalIds, logout_events: Collection[str], devices: pl.Series
) -> dict[str, tuple[Fact, ...]]:
    """The compact facts of each of `devices`; of those of which nothing is told, none."""
    facts: dict[str, tuple[Fact, ...]] = dict.fromkeys(devices.to_list(), ())
    return facts | {device: compact(told) for device, told in facts_of(con, legal, logout_events, devices)}


def _of_whole_devices(facts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """`facts`, in order of their devices, some at a time: a device's are never parted."""
    ids = facts["anonymous_id"]
    firsts = (ids != ids.shift(1)).fill_null(value=True).arg_true().to_numpy()
    wanted = np.arange(0, facts.height, _FACTS_AT_ONCE)
    cuts = np.unique(firsts[np.minimum(np.searchsorted(firsts, wanted), len(firsts) - 1)]) if len(firsts) else wanted
    for start, end in itertools.pairwise([*cuts.tolist(), facts.height]):
        yield facts[start:end]


def facts_in(events: pl.DataFrame) -> pl.DataFrame:
    """The claims and logouts in `events` (event_at, message_id, is_logout; the legal ids known_user and known_device,
    null for others)."""
    known = events.filter(pl.col("known_device").is_not_null()).with_columns(anonymous_id="known_device")
    columns = ["anonymous_id", "event_at", "message_id", "user_id", "kind"]
    return pl.concat(
        [
            known.filter(pl.col("known_user").is_not_null())
            .with_columns(kind=pl.lit("claim"), user_id="known_user")
            .select(columns),
            known.filter("is_logout")
            .with_columns(kind=pl.lit("logout"), user_id=pl.lit(None, pl.String))
            .select(columns),
        ]
    )


def facts_in_aliases(aliases: pl.DataFrame) -> pl.DataFrame:
    """Aliases as claims of the anonymous id that they name."""
    return aliases.with_columns(kind=pl.lit("alias")).select(
        "anonymous_id", "event_at", "message_id", "user_id", "kind"
    )


def by_device(*frames: pl.DataFrame) -> dict[str, list[Fact]]:
    """The facts in `frames`, grouped."""
    facts = pl.concat(frames)
    grouped: dict[str, list[Fact]] = {}
    columns = (
        facts["event_at"].to_physical().to_list(),
        facts["message_id"].to_list(),
        facts["user_id"].to_list(),
        facts["kind"].to_list(),
    )
    for device, fact in zip(facts["anonymous_id"].to_list(), map(Fact._make, zip(*columns, strict=True)), strict=True):
        grouped.setdefault(device, []).append(fact)
    return grouped
