"""Events as they arrive, made ready for a checkpoint: what the rules need to know of each, without its bulk."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from flows.agents import with_agents
from flows.rules import FlowRules
from flows.sessions import ACTIVITY
from stitchline.hashing import hash_pairs

_TAKEN = [
    "message_id",
    "type",
    "name",
    "anonymous_id",
    "user_id",
    "previous_id",
    "event_at",
    "path",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "user_agent",
    "device_type",
    "os",
    "library",
    "foreign_key",
]


def arrivals(decoded: pa.Table, rules: FlowRules) -> pl.DataFrame:
    """`decoded` (flows.decode.DECODED) with what `told` and the user agent say, is_background, and the hashes of its
    device (device_hash) and message (hash_1, hash_2)."""
    events = pl.from_arrow(decoded.select(_TAKEN))
    assert isinstance(events, pl.DataFrame)
    background = list(rules.sessions.background_events)
    hash_1, hash_2, device_hash = hash_pairs(decoded["anonymous_id"], decoded["message_id"])
    return (
        told(with_agents(events), rules)
        .with_columns(
            is_background=pl.col("anonymous_id").is_null() | pl.col("name").is_in(background),
            hash_1=hash_1,
            hash_2=hash_2,
            device_hash=device_hash,
        )
        .drop("type", "name", "user_agent")
    )


def told(events: pl.DataFrame, rules: FlowRules) -> pl.DataFrame:
    """`events` (name, type, user_id, anonymous_id) with the legal user (known_user), is_logout and is_page."""
    return events.with_columns(
        known_user=rules.legal.legal(events["user_id"]),
        is_logout=pl.col("name").is_in(list(rules.sessions.logout_events)) & pl.col("anonymous_id").is_not_null(),
        is_page=pl.col("type") == "page",
    )


def activity_of(events: pl.DataFrame) -> pl.DataFrame:
    """`events`, as `told` made them, by ACTIVITY; background events are left out by the caller."""
    return events.with_columns(user_id="known_user").select(ACTIVITY.names())
