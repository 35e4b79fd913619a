"""Sessions between the warehouse and a checkpoint: what each device's last one was, and how those that were made of new
events take its place."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import duckdb
import numpy as np
import polars as pl

from flows.recut import Kept, recut
from flows.rules import FlowRules
from flows.sessions import Cut, InOrder
from flows.tails import NOBODY, Tails, hashes_of_users
from identity.ids import PERSON_PREFIX
from identity.owners import Owners
from sinks import tables
from stitchline.bloom import BloomFilter

_NOT_LOOKED_UP: Final = ""
"""The id of a previous session that the device's new events leave as it is."""


def devices_of(events: pl.DataFrame, activity: InOrder) -> pl.DataFrame:
    """The devices of `activity`, which are `events` in order: anonymous_id, device_hash, the source of the last event
    to arrive, when the first happened (first_at), a known user if there is one, and whether there is no other
    (has_one_user)."""
    firsts = np.flatnonzero(activity.opens)
    with_user = np.flatnonzero(activity.present("user_id"))
    device = np.cumsum(activity.opens)[with_user] - 1
    users = pl.DataFrame({"device": device, "user": activity.at("user_id", with_user)})
    users = users.group_by("device").agg(pl.col("user").first(), has_one_user=pl.col("user").n_unique() == 1)
    return (
        pl.DataFrame(
            {
                "anonymous_id": activity.at("anonymous_id", firsts),
                "device_hash": events["device_hash"].gather(activity.order[firsts]),
                "source": events["source"].gather(np.maximum.reduceat(activity.order, firsts)),
                "first_at": activity.at("event_at", firsts),
                "device": np.arange(len(firsts)),
            }
        )
        .join(users, on="device", how="left", maintain_order="left")
        .with_columns(pl.col("has_one_user").fill_null(value=True))
        .drop("device")
    )


def previous_sessions(
    con: duckdb.DuckDBPyConnection, devices: pl.DataFrame, known: BloomFilter, tails: Tails, longest_gap: timedelta
) -> pl.DataFrame:
    """The session that each of `devices` had last, if any: SESSION_COLUMNS and is_stored_closed.

    Of a closed one that the device's new events leave as it is, only what the next one has to know: its id is
    _NOT_LOOKED_UP.
    """
    hashes = devices["device_hash"].to_numpy()
    opened = tables.open_sessions(con, devices["anonymous_id"].filter(pl.Series(known.may_contain(hashes))))
    ended = tails.of(hashes)
    rest = devices.with_columns(ended_at=ended.ended_at, by_logout=ended.by_logout, ended_user=ended.user).filter(
        pl.Series(ended.found)
    )
    rest = rest.with_columns(pl.col("ended_at").cast(pl.Datetime("us", "UTC"))).join(
        opened, on="anonymous_id", how="anti"
    )
    same_user = pl.col("user").is_null() | (
        pl.col("has_one_user") & pl.Series(hashes_of_users(rest["user"])).eq(rest["ended_user"])
    )
    stays = (pl.col("first_at") - pl.col("ended_at") > longest_gap) & (same_user | (pl.col("ended_user") == NOBODY))
    rest = rest.with_columns(stays=stays)
    found = [opened.with_columns(is_stored_closed=pl.lit(value=False))]
    asked = rest.filter(~pl.col("stays"))
    if not asked.is_empty():
        closed = tables.last_closed_sessions(con, asked["anonymous_id"])
        found.append(closed.with_columns(is_stored_closed=pl.lit(value=True)))
    found.append(
        rest.filter("stays").select(
            "anonymous_id",
            "ended_at",
            session_id=pl.lit(_NOT_LOOKED_UP),
            started_at="ended_at",
            end_reason=pl.when("by_logout").then(pl.lit("logout")).otherwise(pl.lit("gap")),
            is_stored_closed=pl.lit(value=True),
        )
    )
    return pl.concat(found, how="diagonal")


def write_sessions(
    con: duckdb.DuckDBPyConnection,
    devices: pl.DataFrame,
    previous: pl.DataFrame,
    activity: InOrder,
    made: Cut,
    kept: Kept | None,
    owners: Owners,
    places: pl.DataFrame,
    rules: FlowRules,
) -> pl.DataFrame:
    """Puts what was made of `activity` in the place of the `previous` sessions of the same `devices`; of unsettled
    ones, in the place of what is `kept`. `places` tells each source's topic, partition and watermark now. Returns, for
    `Tails`, those that are their devices' last and closed."""
    sessions = made.sessions.filter(pl.col("session_id") != _NOT_LOOKED_UP).join(
        previous.select("session_id", "revision", "is_stored_closed", old_count="event_count", old_reason="end_reason"),
        on="session_id",
        how="left",
        maintain_order="left",
    )
    untouched = (
        pl.col("is_stored_closed")
        & (pl.col("event_count") == pl.col("old_count"))
        & (pl.col("end_reason").eq_missing(pl.col("old_reason")))
    )
    sessions = sessions.filter(~untouched.fill_null(value=False)).drop("old_count", "old_reason")
    replaced = previous.select("session_id", "is_stored_closed").join(
        sessions.select("session_id"), on="session_id", how="semi"
    )
    if kept is not None:
        again = recut(kept, made.unsettled, activity.events, rules)
        tables.note_changes(con, again.replaced, again.sessions)
        known = pl.concat(
            [again.replaced.select("session_id", "revision"), tables.superseded(con, again.sessions["session_id"])]
        ).with_columns(is_stored_closed=pl.lit(value=True))
        sessions = pl.concat(
            [sessions, again.sessions.join(known, on="session_id", how="left", maintain_order="left")]
        ).sort("anonymous_id", "started_at", "first_message_id")
        replaced = pl.concat([replaced, again.replaced.select("session_id", "is_stored_closed")])
    # A closed session that changes is a rewrite; an open one just goes on.
    sessions = sessions.with_columns(
        revision=pl.col("revision").fill_null(1) + pl.col("is_stored_closed").fill_null(value=False).cast(pl.Int32)
    )
    users = owners.of(
        sessions.select("anonymous_id", at=pl.col("started_at").to_physical(), message_id="first_message_id")
    )
    sessions = sessions.with_columns(
        person_id=pl.coalesce("user_id", users, PERSON_PREFIX + pl.col("anonymous_id"))
    ).join(devices.select("anonymous_id", "source"), on="anonymous_id", how="left", maintain_order="left")
    is_last = (pl.col("anonymous_id") != pl.col("anonymous_id").shift(-1)).fill_null(value=True)
    passed = pl.col("ended_at") + rules.sessions.longest_gap < pl.col("watermark")
    sessions = (
        sessions.join(places, on="source", how="left", maintain_order="left")
        .with_columns(is_last=is_last)
        .with_columns(stays_open=pl.col("is_last") & ~passed.fill_null(value=False))
        .with_columns(
            end_reason=pl.when("stays_open").then("end_reason").otherwise(pl.col("end_reason").fill_null("gap"))
        )
    )
    tables.replace_sessions(con, replaced, sessions)
    return sessions.filter(pl.col("is_last") & ~pl.col("stays_open")).select(
        "anonymous_id", "user_id", "ended_at", "end_reason"
    )
