"""The whole of it: the marts of another commit and those of the working tree, compared and judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path

from batch_marts.anomalies.owners import Owners
from batch_marts.consumers import Consumer, check_consumers
from batch_marts.impact.differences import differences
from batch_marts.impact.facts import Revision
from batch_marts.impact.report import Impact, Values
from batch_marts.impact.revisions import (
    HERE,
    Places,
    Prepared,
    checked_out,
    commit_of,
    read,
    repository_of,
    trailers_since,
)
from batch_marts.impact.rules import breaches, owning, same_meanings, with_corrections
from batch_marts.metrics import DAILY, Metric

Built = Callable[[Prepared, Prepared, Path], Values]
"""Builds two revisions, in a folder, and says how their figures differ."""


def impact_since(
    base: str,
    places: Places,
    owners: Owners,
    *,
    today: date,
    approved_by: Collection[str] = (),
    built: Built | None = None,
) -> Impact:
    """What the working tree at `places` does to the marts of the revision `base`. `built` adds values.

    Raises UsageError if there is no such revision, DefinitionError and StitchlineError for what cannot be read.
    """
    repository = repository_of(places.project)
    commit = commit_of(repository, base)
    trailers = trailers_since(repository, commit)
    label = f"{base} ({commit[:10]})"
    with checked_out(repository, commit) as tree, tempfile.TemporaryDirectory(prefix="stitchline-") as folder:
        work = Path(folder).resolve()
        was = read(label, places.moved(repository, tree), work / "dbt")
        now = read(HERE, places, work / "dbt")  # in the same folder: dbt reads again only what differs
        check_consumers(now.revision.consumers, now.revision.marts, now.revision.metrics, owners)
        changes = with_corrections(differences(was.revision, now.revision), same_meanings(trailers))
        values = built(was, now, work) if built is not None and changes else None
    owned = _owned(was.revision, list(was.metrics)) | _owned(now.revision, list(now.metrics))
    return Impact(
        base=label,
        head=HERE,
        changes=changes,
        breaches=breaches(was.revision, now.revision, changes, owned, owners, approved_by, today),
        consumers=_both(was.revision, now.revision),
        owned=owned,
        owners=owners,
        not_understood=now.revision.not_understood,
        values=values,
    )


def _owned(revision: Revision, metrics: list[Metric]) -> dict[str, list[str]]:
    reads = {
        name: {model for model, _ in facts.meaning.reads if model != DAILY} for name, facts in revision.metrics.items()
    }
    return owning(metrics, revision.consumers, reads, {name: mart.owner for name, mart in revision.marts.items()})


def _both(was: Revision, now: Revision) -> list[Consumer]:
    """The consumers of both: who is taken off the list with a change is told of it as well."""
    found = {(one.name, one.owner): one for one in (*was.consumers, *now.consumers)}
    return [found[key] for key in sorted(found)]
