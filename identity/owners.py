"""Who had the device of each of many rows when that happened, by the timelines of their devices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from identity.claims import LinkRules, timeline
from identity.graph import DeviceState


class Owners:
    """Owners of the devices in `states`."""

    def __init__(self, states: Mapping[str, DeviceState], rules: LinkRules) -> None:
        self._states = states
        self._rules = rules
        self._since: pl.DataFrame | None = None
        self._stretches: pl.DataFrame | None = None

    def of(self, rows: pl.DataFrame) -> pl.Series:
        """The user whose each row (anonymous_id, at as Int64 microseconds, message_id) was by its device, or null."""
        if not self._states:
            return pl.repeat(None, rows.height, dtype=pl.String, eager=True)
        if self._since is None or self._stretches is None:
            self._since, self._stretches = self._tables()
        owned = rows.select("anonymous_id", "at").join(
            self._since, on="anonymous_id", how="left", maintain_order="left"
        )
        owners = owned.select(pl.when(pl.col("at") >= pl.col("since")).then("user").alias("owner"))["owner"]
        return owners if self._stretches.is_empty() else _placed(rows, self._stretches, owners)

    def _tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Of the devices that have one user, from some time on, who and since when, whatever the message ids are; of
        the others, which are few, each stretch."""
        reach = self._rules.look_back // timedelta(microseconds=1)
        of_one = {
            device: state.facts[0]
            for device, state in self._states.items()
            if state.facts and not state.held and state.facts[0].user == state.facts[-1].user and len(state.facts) <= 2
        }
        of_one = {device: fact for device, fact in of_one.items() if fact.user is not None}
        since = pl.DataFrame(
            {
                "anonymous_id": list(of_one),
                "since": [fact.at - reach for fact in of_one.values()],
                "user": [fact.user for fact in of_one.values()],
            },
            schema={"anonymous_id": pl.String, "since": pl.Int64, "user": pl.String},
        )
        stretches = pl.DataFrame(
            [
                (device, *stretch.start, stretch.user)
                for device, state in self._states.items()
                if device not in of_one
                for stretch in timeline(state.facts, self._rules, state.held)
            ],
            schema={"anonymous_id": pl.String, "at": pl.Int64, "message_id": pl.String, "user": pl.String},
            orient="row",
        )
        return since, stretches


def _placed(rows: pl.DataFrame, stretches: pl.DataFrame, owners: pl.Series) -> pl.Series:
    """`owners` of `rows`, and those that `stretches` tell for rows of their devices."""
    starts = stretches.with_columns(start=pl.int_range(pl.len(), dtype=pl.Int64), row=pl.lit(None, pl.Int64))
    asked = (
        rows.select("anonymous_id", "at", "message_id")
        .with_columns(
            user=pl.lit(None, pl.String), start=pl.lit(None, pl.Int64), row=pl.int_range(pl.len(), dtype=pl.Int64)
        )
        .join(starts.select(pl.col("anonymous_id").unique()), on="anonymous_id", how="semi")
    )
    placed = (
        pl.concat([starts, asked])
        .sort("anonymous_id", "at", "message_id", "row", nulls_last=False)
        .with_columns(pl.col("start").forward_fill())
        .filter(pl.col("row").is_not_null())
    )
    return owners.scatter(placed["row"], starts["user"].gather(placed["start"]))
