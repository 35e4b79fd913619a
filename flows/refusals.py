"""What arrives of persons who were forgotten: refused, and counted as dead letters that hold nothing of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import polars as pl
import pyarrow as pa

from flows.decode import DEAD, DecodedBatch
from identity.tombstones import Tombstones

FORGOTTEN: Final = "forgotten"
"""The reason of these dead letters."""


def without_forgotten(
    batch: DecodedBatch, events: pl.DataFrame, tombstones: Tombstones
) -> tuple[DecodedBatch, pl.DataFrame]:
    """`batch` and its `events` (flows.arrivals), both without what `tombstones` refuse."""
    if not len(tombstones) or events.is_empty():
        return batch, events
    received = pl.Series("received_at", batch.events["received_at"], dtype=pl.Datetime("us", "UTC"))
    refusing = tombstones.refusing(events.with_columns(received))
    if refusing.null_count() == len(refusing):
        return batch, events
    kept = refusing.is_null()
    refused = batch.events.filter(pa.array(~kept))
    by = refusing.drop_nulls()
    letters = pa.table(
        {
            "topic": pa.repeat(batch.topic, len(by)),
            "partition": refused["partition"],
            "offset": refused["offset"],
            "reason": pa.repeat(FORGOTTEN, len(by)),
            "detail": [f"From before a person was forgotten (tombstone {name}). Nothing of it is kept." for name in by],
            "key": pa.nulls(len(by), pa.binary()),
            "raw": pa.nulls(len(by), pa.binary()),
            "kafka_at": pa.nulls(len(by), DEAD.field("kafka_at").type),
        },
        schema=DEAD,
    )
    return (
        replace(batch, events=batch.events.filter(pa.array(kept)), dead=pa.concat_tables([batch.dead, letters])),
        events.filter(kept),
    )
