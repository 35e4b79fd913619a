"""How experiments stand now, out of the stream's events and the persons that are known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow as pa

from batch_marts.experiments import Experiment, events_of, moments_sql, settings_table, subjects_sql
from batch_marts.pins import AS_OF
from funnels.relations import PEOPLE, PERSON
from service.web.rows import json_rows
from sinks.tables import registered

# Copies that came long after the original are left out, as in the marts; and bots.
_EVENTS: Final = f"""\
select {PERSON} as person_id, e.name, e.event_at, e.properties
from {PEOPLE}
where list_contains($events, e.name)
  and not e.is_bot and (e.anonymous_id is null or e.anonymous_id not in (select anonymous_id from stream.bot_devices))
qualify row_number() over (
    partition by e.anonymous_id, e.message_id order by e.event_at, e."partition", e."offset"
) = 1"""
_MOMENTS: Final = moments_sql(subjects_sql("from experiments", _EVENTS))


def results(con: duckdb.DuckDBPyConnection, experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """The rows of mart_experiment_results as they would be now, as JSON values."""
    table = results_table(con, experiments)
    return json_rows(table, [""] * table.num_columns)


def results_table(con: duckdb.DuckDBPyConnection, experiments: Sequence[Experiment]) -> pa.Table:
    """The same, as the mart has them."""
    from batch_marts.experiments.results import analyse  # with SciPy, which no other command waits for

    row = con.execute(f"select {AS_OF}").fetchone()
    as_of = row[0] if row is not None and row[0] is not None else datetime.now(UTC)
    with registered(con, "experiments", settings_table(experiments)):
        moments = con.execute(_MOMENTS, {"events": events_of(experiments)}).to_arrow_table()
    return analyse(experiments, moments, as_of)
