"""Experiments: who saw which variation, what they did then, and how sure one can be that it made the difference.

`definition` is what people write, `subjects` the SQL from events to moments, `formulas` and `statistics` the
mathematics, `results` the table of it all, and `verdicts` what it comes to in words. Importing SciPy takes half a
second, so `results` is imported by whoever needs it.
"""

from batch_marts.experiments.definition import Experiment, Metric, load_experiments
from batch_marts.experiments.subjects import (
    events_of,
    moments_sql,
    settings_table,
    subjects_sql,
)

__all__ = [
    "Experiment",
    "Metric",
    "events_of",
    "load_experiments",
    "moments_sql",
    "settings_table",
    "subjects_sql",
]
