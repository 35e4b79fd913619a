"""What the process does that tests' commands are forked from: it imports what commands import, early or late, loads
the scanner, with which numba loads what any compiled function needs, and lets dbt read the marts, for which dbt makes
what it needs at any reading. Without it a refresh takes four seconds more, and the start of a flow one.

No thread is started here, nor anything opened: neither would be there in a fork.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from batch_marts.dbt import PROJECT, copied
from batch_marts.metrics import load_metrics
from flows.decode import Decoder

for module in (
    *("service.cli", "service.replay", "service.runtime", "service.unserved"),
    *("dbt.cli.main", "dbt.adapters.duckdb.connections", "batch_marts.experiments.results"),
):
    import_module(module)
Decoder(timedelta())


def read_the_marts() -> None:
    from dbt.cli.main import dbtRunner

    profile = {"target": "w", "outputs": {"w": {"type": "duckdb", "path": "w.duckdb", "schema": "build"}}}
    with TemporaryDirectory() as folder:
        copied(PROJECT, Path(folder), load_metrics())
        (Path(folder) / "profiles.yml").write_text(json.dumps({"stitchline": profile}), encoding="utf-8")
        quietly = ("--no-send-anonymous-usage-stats", "--quiet", "--log-level=none", "--log-level-file=none")
        places = ("--project-dir", folder, "--profiles-dir", folder)
        # What reads models by itself has threads: the first fork would wait for them forever.
        read = dbtRunner().invoke([*quietly, "--no-static-parser", "parse", *places])
        assert read.success, read.exception


read_the_marts()
logging.getLogger().handlers.clear()  # dbt puts one there as it is imported; a command sets up its log first
