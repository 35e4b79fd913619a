"""Writes .github/CODEOWNERS from the owners of metrics, exposures and teams; --check says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

from batch_marts.anomalies.owners import load_owners
from batch_marts.catalogue import load_catalogue
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
    reads = {name: catalogue.read_for(one) for name, one in metrics.items()}
    named = {name: mart.owner for name, mart in catalogue.marts.items()}
    owned = owning(metrics.values(), load_consumers(PROJECT), reads, named)
    return code_owners(PurePosixPath("batch_marts"), catalogue.marts, owned, load_owners())


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != current():
            sys.exit("Who owns what has changed: write .github/CODEOWNERS anew with .venv/bin/python ci/code_owners.py")
    else:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(current(), encoding="utf-8")
