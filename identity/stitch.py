"""The stitching of one batch: the facts in it → who owns its devices now → the person of every row.

DESIGN: identity rules 1 to 8. One round trip to Redis for a batch; devices that nobody ever claimed need none.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import duckdb
import polars as pl
import pyarrow as pa

from identity import ledger
from identity.claims import (
    BEGINNING,
    DEFAULT,
    END,
    Fact,
    LinkRules,
    Stretch,
    changes,
    compact,
    first_change,
    goes_on,
    of_one_user,
    parts,
    timeline,
)
from identity.graph import DeviceState, Graph
from identity.ids import LegalIds
from identity.owners import Owners
from identity.verdicts import (
    CLAIMS,
    as_frame,
    first_claims_of,
    held_links,
    in_range,
    override,
    shared_device,
    users_by_device,
    verdict_frame,
)
from sinks.warehouse import Warehouse
from stitchline.bloom import BloomFilter, Flags, Hashes
from stitchline.counts import CountSketch
from stitchline.hashing import hash_texts

log = logging.getLogger(__name__)

CLAIMED_DEVICES: Final = 5_000_000
"""Size of the filter that tells devices never claimed: 8 MB, and still useful at five times as many."""

USERS: Final = 1_000_000
"""Size of the sketch that tells users with few devices: 4 MB, and still useful at five times as many."""

_SAVED_AT_ONCE: Final = 10_000
"""Devices in one transaction of Redis while it is filled again, so that it answers others in between."""


@dataclass(slots=True)
class Stitching:
    """What a batch says about identity, ready to be committed. Frames by the schemas of identity.ledger."""

    facts: pl.DataFrame
    verdicts: pl.DataFrame
    gone: pl.DataFrame
    """Verdicts that no longer hold."""
    overrides: pl.DataFrame
    cuts: pl.DataFrame
    """From when on the overrides that devices have already give way to these: CUTS."""
    states: dict[str, DeviceState]
    """Of the devices of which something changed."""
    owners: Owners
    """Of every claimed device in the batch."""
    turned: set[str]
    """Anonymous ids with aliases that are refused from now on: they turned out to be users."""
    links: pl.DataFrame
    """user_id, and how many devices it claimed for the first time."""


_NOTHING: Final = DeviceState()
_OWN: Final = [Stretch(BEGINNING, END, None)]


class Stitcher:
    """Stitches batches, one at a time, in the order in which they are committed."""

    def __init__(
        self,
        graph: Graph,
        legal: LegalIds,
        logout_events: Collection[str],
        rules: LinkRules = DEFAULT,
    ) -> None:
        self._graph = graph
        self._legal = legal
        self._logout_events = logout_events
        self._rules = rules
        self._claimed = BloomFilter(CLAIMED_DEVICES)
        self._aliased: set[str] = set()
        """Anonymous ids that an alias links: as long as no user has the same id."""
        self._devices_of_user = CountSketch(USERS)

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
            claimed = con.execute(
                "select distinct anonymous_id from stream.identity_facts where anonymous_id is not null"
            ).to_arrow_table()
            self._claimed.add(hash_texts(claimed["anonymous_id"]))
            users, devices = ledger.devices_of_users(con)
            self._devices_of_user.add(hash_texts(users), devices)
            self._aliased = ledger.aliased(con)

    def _rebuild(self, con: duckdb.DuckDBPyConnection, committed: dict[str, int]) -> None:
        self._graph.clear()
        self._fill(con, None, committed)

    def _fill(self, con: duckdb.DuckDBPyConnection, devices: pl.Series | None, committed: dict[str, int]) -> None:
        """Saves what the ledger tells of `devices` (all, if None), and that all up to `committed` is covered."""
        states: dict[str, DeviceState] = {}
        covered = self._graph.offsets
        with _without_collector():
            for device, state in self._told(con, devices):
                states[device] = state
                if len(states) == _SAVED_AT_ONCE:
                    self._graph.save(states, covered, are_needed=False)
                    states = {}
        self._graph.save(states, committed, are_needed=False)

    def _told(self, con: duckdb.DuckDBPyConnection, devices: pl.Series | None) -> Iterator[tuple[str, DeviceState]]:
        """The states of `devices` (all, if None) by what is stored. First, those that an alias linked until they turned
        out to be users: others may come of them, but what is laid over their events has to be known to lie there."""
        for turned in ledger.refused_aliases(con, devices):
            yield turned, _NOTHING
        held = users_by_device(ledger.held(con, devices=devices))
        for device, facts in ledger.facts_of(con, self._legal, self._logout_events, devices):
            users = held.get(device)
            yield device, DeviceState(compact(facts), tuple(sorted(users)) if users else ())

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
        aliases, refused = self._aliases(con, events)
        turned = self._turned_out_to_be_users(events)
        undone = _refused(ledger.aliases_of(con, turned)) if turned else pl.DataFrame(schema=ledger.VERDICTS)
        new = ledger.by_device(ledger.facts_in(said), ledger.facts_in_aliases(aliases))
        new |= {device: [] for device in turned.difference(new)}
        maybe = events["anonymous_id"].filter(
            pl.Series(self._claimed.may_contain(events["device_hash"].to_numpy()))
            & events["anonymous_id"].is_not_null()
        )
        known, revived = self._states(con, set(maybe.unique().to_list()), set(new))
        facts = self._facts_now(con, new, known, turned)
        claims = _moved_claims({device: known.get(device, _NOTHING) for device in new}, facts)
        held, released = self._held(con, claims)
        touched = {*held["anonymous_id"].to_list(), *released["anonymous_id"].to_list()}
        if elsewhere := touched.difference(new, known):
            known |= self._states(con, elsewhere, set())[0]
        states = _states_now(known, facts, held, released)
        shared, no_longer = self._shared(known, states)
        overrides, cuts = self._overrides(known, states, may_be_stored)
        return Stitching(
            facts=as_frame(
                [
                    row
                    for device, told in new.items()
                    for row in _new_rows(device, known.get(device, _NOTHING).facts, states[device].facts, told)
                ],
                ledger.FACTS,
            ),
            verdicts=pl.concat([self._refusals(said), refused, undone, shared, held]),
            gone=pl.concat([no_longer, released]),
            overrides=overrides,
            cuts=cuts,
            states=revived | states,
            owners=Owners(known | states, self._rules),
            turned=turned,
            links=claims.filter("is_new").group_by("user_id").agg(devices=pl.len().cast(pl.Int64)),
        )

    def committed(self, stitching: Stitching, offsets: dict[str, int]) -> None:
        """After the commit: Redis learns what the warehouse has, while the flow goes on."""
        self._aliased -= stitching.turned
        self._aliased |= set(stitching.facts.filter(pl.col("kind") == "alias")["anonymous_id"].to_list())
        self._graph.save(stitching.states, offsets)
        self._claimed.add(hash_texts(pa.array(list(stitching.states), pa.string())))
        links = stitching.links
        self._devices_of_user.add(hash_texts(links["user_id"].to_arrow()), links["devices"].to_numpy())

    def flush(self) -> None:
        """Returns once Redis has all that was committed."""
        self._graph.flush()

    def _states(
        self, con: duckdb.DuckDBPyConnection, claimed: set[str], others: set[str]
    ) -> tuple[dict[str, DeviceState], dict[str, DeviceState]]:
        """The states of these devices, as far as they have one; and of these, those that Redis had dropped, for devices
        that may have been `claimed`."""
        known = self._known(con, claimed | others)
        missing = claimed.difference(known)
        dropped = ledger.claimed(con, missing) if missing else pl.Series([], dtype=pl.String)
        revived = dict(self._told(con, dropped)) if len(dropped) else {}
        return known | revived, revived

    def _facts_now(
        self,
        con: duckdb.DuckDBPyConnection,
        new: Mapping[str, list[Fact]],
        known: Mapping[str, DeviceState],
        turned: set[str],
    ) -> dict[str, tuple[Fact, ...]]:
        """The compact facts of each device in `new`, those included. Where one parts two between which others were left
        out, all that is stored is read again."""
        parted = turned.union(
            device
            for device, told in new.items()
            if (state := known.get(device)) is not None and any(parts(state.facts, fact) for fact in told)
        )
        stored = self._stored_facts(con, list(parted), turned)
        return {
            device: compact(
                [*(stored.get(device, ()) if device in parted else known.get(device, _NOTHING).facts), *told]
            )
            for device, told in new.items()
        }

    def _held(self, con: duckdb.DuckDBPyConnection, claims: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The links that are held since `claims` (CLAIMS), and those that no longer are: VERDICTS."""
        nothing = pl.DataFrame(schema=ledger.VERDICTS)
        if claims.is_empty():
            return nothing, nothing
        users = claims.group_by("user_id").agg(new=pl.col("is_new").sum())
        before = pl.Series(self._devices_of_user.of(hash_texts(users["user_id"].to_arrow())), dtype=pl.Int64)
        many = users.filter(before + users["new"] > self._rules.devices_of_user)["user_id"]
        if many.is_empty():
            return nothing, nothing
        claims = claims.filter(pl.col("user_id").is_in(many.implode()))
        stored = ledger.first_claims(con, many).join(claims, on=["user_id", "anonymous_id"], how="anti")
        now = pl.concat([stored, claims.filter(pl.col("event_at").is_not_null()).select(stored.columns)])
        should = held_links(now, self._rules)
        was = ledger.held(con, users=many)
        same = ["user_id", "anonymous_id", "event_at", "message_id"]
        return should.join(was, on=same, how="anti"), was.join(should, on=same, how="anti")

    def _shared(
        self, known: Mapping[str, DeviceState], states: Mapping[str, DeviceState]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The devices that are shared now, and those that no longer are: VERDICTS."""
        rows: tuple[list[tuple[object, ...]], list[tuple[object, ...]]] = ([], [])
        for device, state in states.items():
            before = known.get(device, _NOTHING)
            if max(len(before.facts), len(state.facts)) <= self._rules.users_of_device:
                continue  # there are no more users than facts
            if before.facts == state.facts:
                continue
            was, now = (shared_device(device, facts, self._rules) for facts in (before.facts, state.facts))
            if was != now:
                rows[0].extend(now)
                rows[1].extend(was)
        return verdict_frame(rows[0]), verdict_frame(rows[1])

    def _overrides(
        self,
        known: Mapping[str, DeviceState],
        states: Mapping[str, DeviceState],
        may_be_stored: Callable[[Hashes], Flags],
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What has to be laid over stored events since `states`, and from where on what lies there gives way.

        What a device's stored events were told is true up to where its timeline changes.
        """
        devices = list(states)
        stored = may_be_stored(hash_texts(pa.array(devices, pa.string())))
        rows: list[tuple[object, ...]] = []
        cuts: list[tuple[object, ...]] = []
        for device, is_stored in zip(devices, stored, strict=True):
            before, state = known.get(device), states[device]
            if (before is None and not is_stored) or before == state:
                continue
            if before is not None and before.held == state.held and goes_on(before.facts, state.facts):
                continue
            told = timeline(before.facts, self._rules, before.held) if before is not None else _OWN
            now = timeline(state.facts, self._rules, state.held)
            since = first_change(told, now)
            if since is None:
                continue
            if before is not None:
                cuts.append((device, *in_range(since)))
            rows += [override(device, Stretch(max(s.start, since), s.end, s.user)) for s in now if s.end > since]
        return as_frame(rows, ledger.OVERRIDES, "from_at", "to_at"), as_frame(cuts, ledger.CUTS, "from_at")

    def _stored_facts(self, con: duckdb.DuckDBPyConnection, late: list[str], turned: set[str]) -> dict[str, list[Fact]]:
        """Every stored fact of the devices for which the batch has one that is not later than all known ones; without
        the aliases of those that `turned` out to be users."""
        if not late:
            return {}
        stored = ledger.facts_of(con, self._legal, self._logout_events, pl.Series(late, dtype=pl.String))
        return {d: [fact for fact in facts if d not in turned or fact.kind != "alias"] for d, facts in stored}

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


@contextmanager
def _without_collector() -> Iterator[None]:
    """Facts hold no cycles, and to look for some among so many takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _moved_claims(before: Mapping[str, DeviceState], facts: Mapping[str, tuple[Fact, ...]]) -> pl.DataFrame:
    """The first claims of a device by a user that are others than before, or are gone (event_at and message_id are null
    then): CLAIMS."""
    rows: list[tuple[object, ...]] = []
    for device, now in facts.items():
        told = before[device].facts
        if goes_on(told, now):
            continue
        if not told and of_one_user(now):
            rows.append((now[0].user, device, *now[0].key, True))
            continue
        was, is_now = first_claims_of(told), first_claims_of(now)
        rows += [(user, device, *key, user not in was) for user, key in is_now.items() if was.get(user) != key]
        rows += [(user, device, None, None, False) for user in was.keys() - is_now.keys()]
    return as_frame(rows, CLAIMS)


def _states_now(
    known: Mapping[str, DeviceState],
    facts: Mapping[str, tuple[Fact, ...]],
    held: pl.DataFrame,
    released: pl.DataFrame,
) -> dict[str, DeviceState]:
    """The states of the devices with `facts`, and of those that are `held` or `released` now."""
    states = {d: DeviceState(told, known[d].held if d in known else ()) for d, told in facts.items()}
    freed, bound = users_by_device(released), users_by_device(held)
    for device in freed.keys() | bound.keys():
        state = states.get(device, known.get(device, _NOTHING))
        users = set(state.held).difference(freed.get(device, ())).union(bound.get(device, ()))
        states[device] = DeviceState(state.facts, tuple(sorted(users)))
    return states


def _new_rows(
    device: str, before: tuple[Fact, ...], now: tuple[Fact, ...], told: list[Fact]
) -> list[tuple[object, ...]]:
    """What the ledger has to keep of what was `told`, by the device's compact facts. Stored events do not tell what an
    alias said: it has each; of the others what changed something."""
    if not before and len(told) == 1:
        return [_row(device, told[0])]
    rows = [_row(device, fact) for fact in told if fact.kind == "alias"]
    if goes_on(before, now):
        return rows
    known = set(changes(before))
    rows += [_row(device, fact) for fact in changes(now) if fact.kind not in ledger.UNTOLD and fact not in known]
    return rows


def _refused(aliases: pl.DataFrame) -> pl.DataFrame:
    """The verdicts on `aliases` that were taken for links until their anonymous id turned out to be a user."""
    return aliases.with_columns(verdict=pl.lit("refused"), reason=pl.lit(_TWO_USERS)).select(ledger.VERDICTS.names())


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
        select anonymous_id from stream.identity_facts where kind in ('alias', 'forgotten')
        """
    ).pl()
    con.unregister("least")
    return rows["id"]


def _row(device: str, fact: Fact) -> tuple[object, ...]:
    return fact.kind, device, fact.user, fact.at, fact.message_id, _WHY[fact.kind]
