"""The stitching of one batch: the facts in it → who owns its devices now → the person of every row.

DESIGN: identity rules 1 to 5 and 8. One round trip to Redis for a batch; devices that nobody ever claimed need none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from identity import ledger
from identity.claims import BEGINNING, END, LOOK_BACK, Fact, Stretch, changes, timeline
from identity.graph import DeviceState, Graph
from identity.ids import PERSON_PREFIX, LegalIds
from identity.owners import Owners
from sinks.warehouse import Warehouse
from stitchline.bloom import BloomFilter, Flags, Hashes
from stitchline.hashing import hash_texts

log = logging.getLogger(__name__)

CLAIMED_DEVICES: Final = 2_000_000
"""Size of the filter that tells devices never claimed: 4 MB, and still useful at ten times as many."""

_SAVED_AT_ONCE: Final = 5_000
"""Devices in one transaction of Redis while it is filled again, so that it answers others in between."""

_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds UTC


@dataclass(slots=True)
class Stitching:
    """What a batch says about identity, ready to be committed. Frames by the schemas of identity.ledger."""

    facts: pl.DataFrame
    verdicts: pl.DataFrame
    overrides: pl.DataFrame
    overridden: list[str]
    """Devices that may have overrides already: these are all replaced."""
    states: dict[str, DeviceState]
    """Of the devices with facts in the batch."""
    owners: Owners
    """Of every claimed device in the batch."""
    turned: set[str]
    """Anonymous ids with aliases that are refused from now on: they turned out to be users."""


class Stitcher:
    """Stitches batches, one at a time, in the order in which they are committed."""

    def __init__(
        self,
        graph: Graph,
        legal: LegalIds,
        logout_events: Collection[str],
        look_back: timedelta = LOOK_BACK,
    ) -> None:
        self._graph = graph
        self._legal = legal
        self._logout_events = logout_events
        self._look_back = look_back
        self._claimed = BloomFilter(CLAIMED_DEVICES)
        self._aliased: set[str] = set()
        """Anonymous ids that an alias links: as long as no user has the same id."""

    def recover(self, warehouse: Warehouse) -> None:
        """Brings Redis to where the warehouse is: by what it missed; anew if it is ahead or of another generation."""
        committed = {f"{p.topic}/{p.partition}": p.next_offset for p in warehouse.progress().values()}
        covered = self._graph.covers()
        with warehouse.reader() as con:
            if covered is None or any(covered[k] > committed.get(k, 0) for k in covered):
                if committed:
                    log.warning("Redis does not hold this warehouse's identity state: rebuilding it from the ledger")
                self._rebuild(con, committed)
            elif covered != committed:
                self._fill(con, _devices_since(con, covered), committed)
            claimed = con.execute("select distinct anonymous_id from stream.identity_facts").to_arrow_table()
            self._claimed.add(hash_texts(claimed["anonymous_id"]))
            self._aliased = ledger.aliased(con)

    def _rebuild(self, con: duckdb.DuckDBPyConnection, committed: dict[str, int]) -> None:
        self._graph.clear()
        self._fill(con, None, committed)

    def _fill(self, con: duckdb.DuckDBPyConnection, devices: pl.Series | None, committed: dict[str, int]) -> None:
        """Saves what the ledger tells of `devices` (all, if None), and that all up to `committed` is covered."""
        states: dict[str, DeviceState] = {}
        covered = self._graph.offsets
        for device, facts in ledger.facts_of(con, self._legal, self._logout_events, devices):
            states[device] = self._state(facts)
            if len(states) == _SAVED_AT_ONCE:
                self._graph.save(states, covered)
                states = {}
        self._graph.save(states, committed)

    def _known(self, con: duckdb.DuckDBPyConnection, devices: set[str]) -> dict[str, DeviceState]:
        """What Redis knows of `devices`; `con` stands where the last commit left the warehouse."""
        while (known := self._graph.load(devices)) is None:
            log.warning("Redis lost this warehouse's identity state, or a part: rebuilding it from the ledger")
            self._rebuild(con, self._graph.offsets)
            log.info("Redis holds the identity state again")
        return known

    def stitch(
        self, con: duckdb.DuckDBPyConnection, events: pl.DataFrame, may_be_stored: Callable[[Hashes], Flags]
    ) -> Stitching:
        """What `events` (new, without duplicates) say. `may_be_stored` tells devices that may have stored events.

        Columns: anonymous_id, event_at, message_id, user_id, known_user (the legal user_id), previous_id,
        is_logout, device_hash.
        """
        said = events.select("anonymous_id", "event_at", "message_id", "user_id", "known_user", "is_logout").filter(
            pl.col("anonymous_id").is_not_null() & (pl.col("user_id").is_not_null() | pl.col("is_logout"))
        )
        said = said.with_columns(known_device=self._legal.legal(said["anonymous_id"]))
        verdicts = [self._refusals(said)]
        aliases, refused = self._aliases(con, events)
        turned = self._turned_out_to_be_users(events)
        undone = _refused(ledger.aliases_of(con, turned)) if turned else pl.DataFrame(schema=ledger.VERDICTS)
        verdicts += [refused, undone]
        facts = pl.concat([ledger.facts_in(said), ledger.facts_in_aliases(aliases)])
        told = facts.filter(pl.col("kind") != "alias")["anonymous_id"].unique()
        old = dict(zip(told.to_list(), may_be_stored(hash_texts(told.to_arrow())), strict=True))
        maybe = events["anonymous_id"].filter(
            pl.Series(self._claimed.may_contain(events["device_hash"].to_numpy()))
            & events["anonymous_id"].is_not_null()
        )
        known = self._known(con, {*maybe.unique().to_list(), *facts["anonymous_id"].unique().to_list(), *turned})
        changed = {device: state.facts for device, state in known.items()}
        states: dict[str, DeviceState] = {}
        overridden: list[str] = []
        new_facts: list[tuple[object, ...]] = []
        overrides: list[tuple[object, ...]] = []
        by_device = ledger.by_device(facts)
        by_device |= {device: [] for device in turned.difference(by_device)}
        again = turned.union(
            device for device, new in by_device.items() if new and not _in_order(new, known.get(device))
        )
        late = self._stored_facts(con, list(again), turned)
        claimed = self._may_be_claimed(list(by_device))
        for device, new in by_device.items():
            before = known.get(device, DeviceState())
            state = self._state([*(late.get(device, []) if device in again else before.facts), *new], before)
            states[device] = state
            # Stored events do not tell what an alias said: the ledger has each; of the others what changed something.
            new_facts += [_row(device, fact) for fact in new if fact.kind == "alias"]
            if state.facts == before.facts:
                continue
            new_facts += [
                _row(device, fact) for fact in state.facts if fact.kind != "alias" and fact not in before.facts
            ]
            changed[device] = state.facts
            if device in claimed:
                overridden.append(device)
            if old.get(device, True):
                # The whole timeline: what is stored may lie after a fact as well as before it. Until its first fact
                # all that is stored of a device is the device's own.
                stretches = timeline(state.facts, self._look_back)
                overrides += [_override(device, s) for s in stretches if device in claimed or s.user is not None]
        return Stitching(
            facts=_frame(new_facts, ledger.FACTS),
            verdicts=pl.concat(verdicts),
            overrides=_frame(overrides, ledger.OVERRIDES, "from_at", "to_at"),
            overridden=overridden,
            states=states,
            owners=Owners(changed, self._look_back),
            turned=turned,
        )

    def committed(self, stitching: Stitching, offsets: dict[str, int]) -> None:
        """After the commit: Redis learns what the warehouse has, while the flow goes on."""
        self._aliased -= stitching.turned
        self._aliased |= set(stitching.facts.filter(pl.col("kind") == "alias")["anonymous_id"].to_list())
        self._graph.save(stitching.states, offsets)
        self._claimed.add(hash_texts(pa.array(list(stitching.states), pa.string())))

    def flush(self) -> None:
        """Returns once Redis has all that was committed."""
        self._graph.flush()

    def _state(self, facts: list[Fact], before: DeviceState | None = None) -> DeviceState:
        keys = [fact.key for fact in facts] + ([before.last] if before is not None else [])
        return DeviceState(changes(facts), max(keys))

    def _stored_facts(self, con: duckdb.DuckDBPyConnection, late: list[str], turned: set[str]) -> dict[str, list[Fact]]:
        """Every stored fact of the devices for which the batch has one that is not later than all known ones; without
        the aliases of those that `turned` out to be users."""
        if not late:
            return {}
        stored = ledger.facts_of(con, self._legal, self._logout_events, pl.Series(late, dtype=pl.String))
        return {d: [fact for fact in facts if d not in turned or fact.kind != "alias"] for d, facts in stored}

    def _may_be_claimed(self, devices: list[str]) -> set[str]:
        """Of `devices`, those that ever were, and a few more: they may have overrides."""
        maybe = self._claimed.may_contain(hash_texts(pa.array(devices, pa.string())))
        return {device for device, is_claimed in zip(devices, maybe, strict=True) if is_claimed}

    def _turned_out_to_be_users(self, events: pl.DataFrame) -> set[str]:
        """Anonymous ids linked by an alias that one of `events` carries as a user id (identity rule 4)."""
        if not self._aliased:
            return set()
        users = events["known_user"]
        return set(users.filter(users.is_in(list(self._aliased))).to_list())

    def _refusals(self, said: pl.DataFrame) -> pl.DataFrame:
        """Events with both ids of which one may not link."""
        illegal = said.filter(
            pl.col("user_id").is_not_null() & (pl.col("known_user").is_null() | pl.col("known_device").is_null())
        )
        reasons = [
            f"user id {why}" if (why := self._legal.why_not(user)) else f"anonymous id {self._legal.why_not(device)}"
            for user, device in zip(illegal["user_id"].to_list(), illegal["anonymous_id"].to_list(), strict=True)
        ]
        return illegal.select(
            pl.lit("refused").alias("verdict"),
            "anonymous_id",
            "user_id",
            "event_at",
            "message_id",
            pl.Series("reason", reasons, dtype=pl.String),
        )

    def _aliases(self, con: duckdb.DuckDBPyConnection, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Aliases that link an anonymous id, as (anonymous_id, event_at, message_id, user_id), and the refused ones."""
        aliases = events.filter(pl.col("previous_id").is_not_null()).select(
            pl.col("previous_id").alias("anonymous_id"), "event_at", "message_id", pl.col("known_user").alias("user_id")
        )
        if aliases.is_empty():
            return aliases, pl.DataFrame(schema=ledger.VERDICTS)
        users = _known_users(con, aliases["anonymous_id"].unique()) | set(events["known_user"].drop_nulls().to_list())
        reasons = pl.Series(
            [
                _TWO_USERS
                if previous in users and user is not None and previous != user
                else "an alias onto itself"
                if previous == user
                else f"user id {self._legal.why_not(user)}"
                if user is None
                else f"previous id {why}"
                if (why := self._legal.why_not(previous))
                else None
                for previous, user in zip(aliases["anonymous_id"].to_list(), aliases["user_id"].to_list(), strict=True)
            ],
            dtype=pl.String,
        )
        refused = aliases.with_columns(reason=reasons, verdict=pl.lit("refused")).filter(reasons.is_not_null())
        return aliases.filter(reasons.is_null()), refused.select(ledger.VERDICTS.names())


_TWO_USERS: Final = "two users: the alias names another known user"
_WHY: Final = {
    "claim": "the event carries both ids",
    "alias": "the alias names this anonymous id",
    "logout": "the user logged out",
}


def overrides_of(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    devices: pl.Series,
    look_back: timedelta = LOOK_BACK,
) -> pl.DataFrame:
    """The whole timelines of `devices`, by all stored facts, as what stream.person_overrides has to say of them."""
    told = dict(ledger.facts_of(con, legal, logout_events, devices))
    rows = [_override(d, s) for d in devices.to_list() for s in timeline(told.get(d, ()), look_back)]
    return _frame(rows, ledger.OVERRIDES, "from_at", "to_at")


def _refused(aliases: pl.DataFrame) -> pl.DataFrame:
    """The verdicts on `aliases` that were taken for links until their anonymous id turned out to be a user."""
    return aliases.with_columns(verdict=pl.lit("refused"), reason=pl.lit(_TWO_USERS)).select(ledger.VERDICTS.names())


def _in_order(said: list[Fact], before: DeviceState | None) -> bool:
    return before is None or min(fact.key for fact in said) > before.last


def _known_users(con: duckdb.DuckDBPyConnection, ids: pl.Series) -> set[str]:
    con.register("asked", pl.DataFrame({"id": ids}).to_arrow())
    rows = con.execute("select distinct user_id from stream.events where user_id in (select id from asked)").fetchall()
    con.unregister("asked")
    return {row[0] for row in rows}


def _devices_since(con: duckdb.DuckDBPyConnection, covered: dict[str, int]) -> pl.Series:
    """Devices of which facts may have been committed above `covered` (next offset by "topic/partition")."""
    partitions = con.execute('select topic, "partition" from stream.progress').fetchall()
    least: dict[int, int] = {}
    for topic, partition in partitions:
        offset = covered.get(f"{topic}/{partition}", 0)
        least[partition] = min(offset, least.get(partition, offset))
    con.register("least", pl.DataFrame({"partition": list(least), "offset": list(least.values())}).to_arrow())
    rows = con.execute(
        """
        select distinct e.anonymous_id as id from stream.events e join least l
          on e."partition" = l."partition" and e."offset" >= l."offset"
        where e.anonymous_id is not null
        union
        select anonymous_id from stream.identity_facts where kind = 'alias'
        """
    ).pl()
    con.unregister("least")
    return rows["id"]


def _row(device: str, fact: Fact) -> tuple[object, ...]:
    return fact.kind, device, fact.user, fact.at, fact.message_id, _WHY[fact.kind]


def _override(device: str, stretch: Stretch) -> tuple[object, ...]:
    start = stretch.start if stretch.start != BEGINNING else (_YEAR_1, "")
    end = stretch.end if stretch.end != END else (_YEAR_9999, "")
    person = stretch.user if stretch.user is not None else PERSON_PREFIX + device
    return device, max(start[0], _YEAR_1), min(end[0], _YEAR_9999), person, start[1], end[1]


def _frame(rows: list[tuple[object, ...]], schema: pl.Schema, *times: str) -> pl.DataFrame:
    times = times or ("event_at",)
    plain = {name: pl.Int64() if name in times else kind for name, kind in schema.items()}
    return pl.DataFrame(rows, schema=plain, orient="row").cast(schema)
