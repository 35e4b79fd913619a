"""The results of the experiments that the settings name; without any, a table without rows."""

from __future__ import annotations

from typing import Any

from batch_marts.experiments import Experiment
from batch_marts.experiments.results import analyse


def model(dbt: Any, session: Any) -> Any:
    """RESULTS_SCHEMA, as of the build's moment."""
    dbt.config(materialized="table")
    told = dbt.source("pinned", "pinned_experiments").select("experiment_id, definition").distinct()
    experiments = [Experiment.model_validate_json(text) for _, text in told.order("experiment_id").fetchall()]
    ((as_of,),) = dbt.source("pinned", "pinned_moment").select("as_of").fetchall()
    return analyse(experiments, dbt.ref("int_experiment_moments").to_arrow_table(), as_of)
