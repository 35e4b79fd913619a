"""Reads the marts of two revisions: the folder as it is, and another commit in a git worktree, each compiled by dbt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from batch_marts import dbt
from batch_marts.consumers import Consumer, load_consumers
from batch_marts.impact.facts import Revision, facts, library_digest
from batch_marts.metrics import Metric, daily_metrics_sql, load_metrics
from stitchline.errors import UsageError

TRAILER: Final = "Same-meaning"
HERE: Final = "the working tree"

_CODE: Final = ("metrics.py", "dbt.py", "experiments")
"""What of a project, where it is Stitchline's own, makes models that are no files."""
_SAMPLE: Final = (
    {"name": "one", "label": "One", "definition": "x" * 40, "owner": "o", "unit": "u", "good": "up"}
    | {"dimension": "channel", "top": 3, "value": "select 1"},
    {"name": "two", "label": "Two", "definition": "x" * 40, "owner": "o", "unit": "u", "good": "up"}
    | {"ratio": ["one", "one"]},
)
"""Metrics of each kind: what is made of them tells whether the SQL around metrics is what it was."""
_GENERATE: Final = """\
import json, sys
from pathlib import Path
from batch_marts import dbt
from batch_marts.metrics import Metric, daily_metrics_sql, load_metrics
metrics, sample = json.load(sys.stdin)
frame = daily_metrics_sql([Metric.model_validate(one) for one in sample])
json.dump({"models": dbt.generated(load_metrics(Path(metrics))), "frame": frame}, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Places:
    """The files that say what the marts are."""

    project: Path
    metrics: Path
    exposures: Path | None = None
    """More consumers than those of the project."""
    variables: Mapping[str, Any] = field(default_factory=dict)

    def moved(self, of: Path, to: Path) -> Places:
        """The same in another tree; what is outside of `of` is what it is."""

        def other(path: Path) -> Path:
            return to / path.resolve().relative_to(of) if path.resolve().is_relative_to(of) else path

        exposures = None if self.exposures is None else other(self.exposures)
        there = exposures if exposures is None or exposures.exists() else None
        return replace(self, project=other(self.project), metrics=other(self.metrics), exposures=there)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A revision that was read, and where its project is, ready to be built."""

    revision: Revision
    places: Places
    metrics: Sequence[Metric]
    models: Mapping[str, str]
    """The models that are no files, as that revision makes them."""


def repository_of(project: Path) -> Path:
    """The root of the git repository that a project is in. Raises UsageError."""
    return Path(_git(project, "rev-parse", "--show-toplevel")).resolve()


def commit_of(repository: Path, name: str) -> str:
    """The commit that a revision's name means. Raises UsageError."""
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except UsageError:
        raise UsageError(
            f"git knows no revision {name!r} in {repository}: name a branch, a tag or a commit; what another clone has "
            "is fetched first, as with `git fetch origin main`."
        ) from None


def trailers_since(repository: Path, commit: str) -> list[str]:
    """What the commits since that one say in the trailer Same-meaning."""
    told = _git(repository, "log", f"--format=%(trailers:key={TRAILER},valueonly,unfold)", f"{commit}..HEAD")
    return [line.strip() for line in told.splitlines() if line.strip()]


@contextmanager
def checked_out(repository: Path, commit: str) -> Iterator[Path]:
    """A worktree of that commit, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stitchline-") as folder:
        tree = Path(folder).resolve() / "tree"
        _git(repository, "worktree", "add", "--detach", "--force", str(tree), commit)
        try:
            yield tree
        finally:
            _git(repository, "worktree", "remove", "--force", str(tree))


def read(label: str, places: Places, folder: Path, ours: Path = dbt.PROJECT) -> Prepared:
    """The marts of `places`; dbt works in `folder`. `ours` is the project that this version of Stitchline comes with.

    Raises DefinitionError for metrics or exposures that cannot be read, and StitchlineError if dbt cannot read the
    project.
    """
    if not (places.project / "dbt_project.yml").exists():
        raise UsageError(f"{label} has no dbt project in {places.project}: name a revision that has one.")
    metrics = load_metrics(places.metrics)
    models, frame = _generated(places, metrics, ours)
    dbt.copied(places.project, folder, metrics, models)
    manifest = dbt.compiled(folder, places.variables)
    consumers = load_consumers(places.project, places.exposures)
    return Prepared(_facts(label, manifest, metrics, consumers, places.project, folder, frame), places, metrics, models)


def _facts(
    label: str,
    manifest: Mapping[str, Any],
    metrics: Sequence[Metric],
    consumers: Sequence[Consumer],
    project: Path,
    folder: Path,
    frame: str,
) -> Revision:
    def text(path: str) -> str:
        return (folder / path).read_text(encoding="utf-8")

    return facts(label, manifest, metrics, consumers, text, library_digest(_programs(project)), frame)


def _programs(project: Path) -> dict[str, str]:
    """What models in Python call, where a project brings it along."""
    library = project / "experiments"
    files = sorted(each for each in library.glob("*") if each.suffix in (".py", ".sql"))
    return {each.name: each.read_text(encoding="utf-8") for each in files}


def _generated(places: Places, metrics: Sequence[Metric], ours: Path) -> tuple[dict[str, str], str]:
    """The models that are no files, and the SQL around metrics: by the revision's own code, where it has other code."""
    own = _code(places.project)
    as_now = dbt.generated(metrics), daily_metrics_sql([Metric.model_validate(one) for one in _SAMPLE])
    if not own or own == _code(ours):
        return as_now
    ran = subprocess.run(
        [sys.executable, "-c", _GENERATE],
        input=json.dumps([str(places.metrics), _SAMPLE]),
        cwd=places.project.parent,
        env=os.environ | {"PYTHONPATH": str(places.project.parent)},
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:  # it is from before models were made in this way
        return as_now
    told = json.loads(ran.stdout)
    return told["models"], told["frame"]


def _code(project: Path) -> dict[str, bytes]:
    """The files of a project that make models, where it is Stitchline's own package."""
    if project.name != "batch_marts":
        return {}
    found = [project / name for name in _CODE]
    files = [each for one in found for each in (sorted(one.rglob("*")) if one.is_dir() else [one])]
    made_of = [each for each in files if each.suffix in (".py", ".sql") and each.is_file()]
    return {str(each.relative_to(project)): each.read_bytes() for each in made_of}


def _git(folder: Path, *arguments: str) -> str:
    try:
        ran = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError("git is not installed, and revisions cannot be compared without it.") from None
    if ran.returncode != 0:
        said = ran.stderr.strip() or f"git {arguments[0]} ended with {ran.returncode}"
        raise UsageError(f"The marts in {folder} cannot be compared with another revision: {said}")
    return ran.stdout.strip()
