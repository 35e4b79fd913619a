"""Who is in an experiment, with what: the SQL of it, for the marts' build and for a question to the stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from batch_marts.experiments.definition import Experiment

EXPOSURE_EVENT: Final = "Experiment Viewed"
"""Its properties experiment_id and variation_id say who saw what, as in the Segment spec."""

_SUBJECTS: Final = Path(__file__).with_name("subjects.sql").read_text(encoding="utf-8")
_MOMENTS: Final = Path(__file__).with_name("moments.sql").read_text(encoding="utf-8")

SETTINGS: Final = pa.schema(
    [
        ("experiment_id", pa.string()),
        ("start_at", pa.timestamp("us", tz="UTC")),
        ("end_at", pa.timestamp("us", tz="UTC")),
        ("metric_name", pa.string()),
        ("event_name", pa.string()),
        ("sum_path", pa.string()),
        ("once_path", pa.string()),
        ("definition", pa.string()),
    ]
)
"""Of `experiment_settings`, a row for each metric, with the JSON paths of its properties and the whole experiment."""


def settings_table(experiments: Sequence[Experiment]) -> pa.Table:
    """What the SQL has to know of `experiments` (SETTINGS)."""
    rows = [
        {
            "experiment_id": experiment.id,
            "start_at": experiment.start,
            "end_at": experiment.end,
            "metric_name": metric.name,
            "event_name": metric.event,
            "sum_path": _path(metric.sum),
            "once_path": _path(metric.once_per),
            "definition": experiment.model_dump_json(),
        }
        for experiment in experiments
        for metric in experiment.measured
    ]
    return pa.Table.from_pylist(rows, schema=SETTINGS)


def events_of(experiments: Sequence[Experiment]) -> list[str]:
    """The names of the events that exposures and the metrics of `experiments` are made of; none without experiments."""
    if not experiments:
        return []
    return sorted({EXPOSURE_EVENT, *(metric.event for one in experiments for metric in one.measured)})


def subjects_sql(settings: str, events: str) -> str:
    """The SQL of a row for each experiment, person and metric: experiment_id, person_id, variation_id (null if in
    several), exposed_at, metric_name, value, earlier_value (of the 14 days before exposed_at).

    `settings` is a query of SETTINGS, `events` one of person_id, name, event_at and properties (JSON).
    """
    return f"""\
with experiment_settings as (
{settings}
),

metric_events as (
{events}
),

exposures as (
    select
        json_extract_string(properties, '$.experiment_id') as experiment_id,
        json_extract_string(properties, '$.variation_id') as variation_id,
        person_id,
        event_at
    from metric_events
    where name = '{EXPOSURE_EVENT}'
)

from (
{_SUBJECTS})
"""


def moments_sql(subjects: str) -> str:
    """The SQL of a row for each experiment, variation and metric, of a query of rows of subjects_sql."""
    return f"with subjects as (\n{subjects}\n)\n\nfrom (\n{_MOMENTS})\n"


def _path(name: str | None) -> str | None:
    """The JSON path of a property, or of one inside another: `a.b`."""
    return None if name is None else "$" + "".join(f'."{part}"' for part in name.split("."))
