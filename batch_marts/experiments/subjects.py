"""Who is in an experiment, with what: the SQL of it, for the marts' build and for a question to the stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from batch_marts.experiments.definition import Experiment

EXPOSURE_EVENT: Final = "Experiment Viewed"
"""Its properties experiment_id and variation_id say who saw what, as in the Segment spec."""

SUBJECTS_SQL: Final = Path(__file__).with_name("subjects.sql").read_text(encoding="utf-8")
MOMENTS_SQL: Final = Path(__file__).with_name("moments.sql").read_text(encoding="utf-8")

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


def _path(name: str | None) -> str | None:
    """The JSON path of a property, or of one inside another: `a.b`."""
    return None if name is None else "$" + "".join(f'."{part}"' for part in name.split("."))
