"""What is said of devices by all their facts, as rows of the warehouse: which are shared, which links are held, whose
each stretch is. DESIGN: identity rules 2 to 6."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import duckdb
import polars as pl

from identity import ledger
from identity.claims import DEFAULT, Fact, Key, LinkRules, Stretch, held, sharing_claim, timeline
from identity.graph import DeviceState
from identity.ids import PERSON_PREFIX, LegalIds
from stitchline.durations import format_duration

_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds UTC

CLAIMS: Final = pl.Schema(
    {
        "user_id": pl.String(),
        "anonymous_id": pl.String(),
        "event_at": pl.Datetime("us", "UTC"),
        "message_id": pl.String(),
        "is_new": pl.Boolean(),
    }
)
"""First claims of devices by users; whether it is the first that is known of the two."""


def overrides_of(
    con: duckdb.DuckDBPyConnection,
    legal: LegalIds,
    logout_events: Collection[str],
    devices: pl.Series,
    rules: LinkRules = DEFAULT,
) -> pl.DataFrame:
    """The whole timelines of `devices`, by all stored facts, as what stream.person_overrides has to say of them."""
    facts = ledger.compact_facts_of(con, legal, logout_events, devices)
    return overrides_of_states(states_of(facts, ledger.held(con, devices=devices)), rules)


def overrides_of_states(states: Mapping[str, DeviceState], rules: LinkRules) -> pl.DataFrame:
    """The whole timelines of devices, as what stream.person_overrides has to say of them."""
    rows = [
        override(device, stretch)
        for device, state in states.items()
        for stretch in timeline(state.facts, rules, state.held)
    ]
    return as_frame(rows, ledger.OVERRIDES, "from_at", "to_at")


def states_of(facts: Mapping[str, tuple[Fact, ...]], held: pl.DataFrame) -> dict[str, DeviceState]:
    """The states of devices, by their compact facts and the links that are `held` (VERDICTS)."""
    users = users_by_device(held)
    return {device: DeviceState(told, tuple(sorted(users.get(device, ())))) for device, told in facts.items()}


def first_claims(facts: Mapping[str, tuple[Fact, ...]]) -> pl.DataFrame:
    """When each user first claimed each device: user_id, anonymous_id, event_at, message_id."""
    rows: list[tuple[object, ...]] = [
        (user, device, *key, True) for device, told in facts.items() for user, key in first_claims_of(told).items()
    ]
    return as_frame(rows, CLAIMS).drop("is_new")


def shared_device(device: str, facts: Sequence[Fact], rules: LinkRules) -> list[tuple[object, ...]]:
    """The verdict on a device with these compact facts, if it is shared: a row of VERDICTS, time in microseconds."""
    claim = sharing_claim(facts, rules)
    if claim is None:
        return []
    reason = f"claimed by more than {rules.users_of_device} users within {format_duration(rules.within)}"
    return [("shared", device, None, claim.at, claim.message_id, reason)]


def verdict_frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    """`rows` of verdicts, times in microseconds, as VERDICTS."""
    return as_frame(rows, ledger.VERDICTS)


def held_links(first_claims: pl.DataFrame, rules: LinkRules) -> pl.DataFrame:
    """Of every user's first claims of devices (user_id, anonymous_id, event_at, message_id), all there are, those that
    are held: VERDICTS."""
    found = [
        claims.filter(pl.Series(held(claims["event_at"].to_physical().to_numpy(), rules)))
        for claims in first_claims.sort("user_id", "event_at", "message_id", "anonymous_id").partition_by("user_id")
        if claims.height > rules.devices_of_user
    ]
    if not found:
        return pl.DataFrame(schema=ledger.VERDICTS)
    reason = f"more than {rules.devices_of_user} devices claimed by one user within {format_duration(rules.within)}"
    return pl.concat(found).with_columns(verdict=pl.lit("held"), reason=pl.lit(reason)).select(ledger.VERDICTS.names())


def users_by_device(verdicts: pl.DataFrame) -> dict[str, list[str]]:
    """The users whom `verdicts` name, by device."""
    users: dict[str, list[str]] = {}
    for device, user in zip(verdicts["anonymous_id"].to_list(), verdicts["user_id"].to_list(), strict=True):
        users.setdefault(device, []).append(user)
    return users


def first_claims_of(facts: Sequence[Fact]) -> dict[str, Key]:
    """When each user first claimed a device with these compact facts."""
    return {fact.user: fact.key for fact in reversed(facts) if fact.user is not None}


def override(device: str, stretch: Stretch) -> tuple[object, ...]:
    """What stream.person_overrides has to say of `stretch`: a row of OVERRIDES, times in microseconds."""
    (from_at, from_id), (to_at, to_id) = in_range(stretch.start), in_range(stretch.end)
    person = stretch.user if stretch.user is not None else PERSON_PREFIX + device
    return device, from_at, to_at, person, from_id, to_id


def in_range(key: Key) -> Key:
    """`key` within what a timestamp can be."""
    return min(max(key[0], _YEAR_1), _YEAR_9999), key[1]


def as_frame(rows: list[tuple[object, ...]], schema: pl.Schema, *times: str) -> pl.DataFrame:
    """`rows` with `times` (event_at, if none is named) in microseconds, by `schema`."""
    times = times or ("event_at",)
    plain = {name: pl.Int64() if name in times else kind for name, kind in schema.items()}
    return pl.DataFrame(rows, schema=plain, orient="row").cast(schema)
