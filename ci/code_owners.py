"""Writes .github/CODEOWNERS from the owners of metrics, exposures and teams; --check says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import yaml

from batch_marts.anomalies.owners import load_owners
from batch_marts.catalogue import load_catalogue, reads_of
from batch_marts.consumers import load_consumers
from batch_marts.dbt import PROJECT
from batch_marts.impact.code_owners import code_owners
from batch_marts.impact.rules import owning
from batch_marts.metrics import METRICS

FILE = Path(__file__).parents[1] / ".github" / "CODEOWNERS"


def current() -> str:
    """What the file has to say."""
    catalogue = load_catalogue(PROJECT, METRICS)
    metrics = catalogue.metrics
    reads = {name: reads_of(one, metrics) for name, one in metrics.items()}
    owned = owning(metrics.values(), load_consumers(PROJECT), reads, _named_owners())
    return code_owners(PurePosixPath("batch_marts"), catalogue.marts, owned, load_owners())


def _named_owners() -> dict[str, str | None]:
    """By mart, the owner that its `meta` names."""
    models = yaml.safe_load((PROJECT / "models" / "marts" / "marts.yml").read_text(encoding="utf-8"))["models"]
    return {one["name"]: ((one.get("config") or {}).get("meta") or {}).get("owner") for one in models}


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != current():
            sys.exit("Who owns what has changed: write .github/CODEOWNERS anew with .venv/bin/python ci/code_owners.py")
    else:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(current(), encoding="utf-8")
