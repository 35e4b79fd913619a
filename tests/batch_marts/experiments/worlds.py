"""Experiments and events to test with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from batch_marts.experiments import Experiment, moments_sql, settings_table, subjects_sql
from tests.batch_marts.experiments.reference import Told

START = datetime(2026, 3, 1, tzinfo=UTC)
EVENTS = pa.schema(
    [
        ("person_id", pa.string()),
        ("name", pa.string()),
        ("event_at", pa.timestamp("us", tz="UTC")),
        ("properties", pa.string()),
    ]
)
SUBJECTS = subjects_sql("from settings", "select * replace (properties::json as properties) from events")


def experiment(**fields: Any) -> Experiment:
    """One on checkout, with what the test needs different."""
    told = {
        "id": "checkout",
        "variations": {"control": 1, "new": 1},
        "minimum_effect": 0.1,
        "metrics": [{"name": "orders", "event": "Ordered"}],
    }
    return Experiment.model_validate(told | fields)


def exposure(person: str, variation: str | None, at: datetime, of: str = "checkout") -> Told:
    said = {"experiment_id": of} | ({} if variation is None else {"variation_id": variation})
    return Told(person, "Experiment Viewed", at, said)


def ask(query: str, experiments: Sequence[Experiment], events: Sequence[Told]) -> pa.Table:
    """What `query` says of tables `settings` and `events`."""
    rows = [
        {"person_id": e.person, "name": e.name, "event_at": e.at, "properties": json.dumps(e.properties)}
        for e in events
    ]
    con = _database()
    con.register("settings", settings_table(experiments))
    con.register("events", pa.Table.from_pylist(rows, schema=EVENTS))
    return con.execute(query).to_arrow_table()


def moments(experiments: Sequence[Experiment], events: Sequence[Told]) -> pa.Table:
    return ask(moments_sql(SUBJECTS), experiments, events)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'; set threads = 1")
    return con
