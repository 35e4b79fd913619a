"""The catalogue for others: pushed to Atlan, or as files for OpenMetadata and DataHub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batch_marts.artifacts import write_artifacts
from batch_marts.catalogue import load_catalogue
from batch_marts.dbt import PROJECT, PUBLISHED_ARTIFACTS
from batch_marts.metrics import METRICS
from service.marts import folder_of
from service.settings import Settings
from stitchline.errors import UsageError


def push_to_atlan(settings: Settings, trust: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """Makes Atlan say what the catalogue says, and what became of that. `trust` is what the API says at /api/trust.

    Raises UsageError if the settings do not name a tenant, and CatalogError if Atlan was not told of everything.
    """
    atlan = settings.atlan
    if atlan.url is None or atlan.api_key is None:
        raise UsageError(
            "Atlan is not known: put the tenant's address into atlan.url (STITCHLINE_ATLAN__URL) and an API token into "
            "atlan.api_key (STITCHLINE_ATLAN__API_KEY)."
        )
    from batch_marts.atlan.client import Atlan, Place  # it takes seconds to import
    from batch_marts.atlan.wanted import wanted

    catalogue = load_catalogue(settings.marts.project or PROJECT, settings.marts.metrics or METRICS)
    entries = wanted(catalogue, trust, settings.warehouse.path.stem, atlan.groups)
    place = Place(atlan.url, atlan.api_key.get_secret_value(), atlan.connection, atlan.glossary)
    pushed = Atlan(place).push(entries, dry_run=dry_run)
    return {
        "url": atlan.url,
        "connection": pushed.connection,
        "dry_run": dry_run,
        "writes": [
            {"deed": one.deed, "kind": one.entry.kind, "key": one.entry.key, "changes": one.changes}
            for one in pushed.plan.writes
        ],
        "archives": [{"kind": one.kind, "key": one.key} for one in pushed.plan.archives],
        "left_alone": list(pushed.plan.left_alone),
        "written": pushed.written,
        "archived": pushed.archived,
    }


def write_files(settings: Settings, folder: Path) -> dict[str, Any]:
    """What the ingestion of OpenMetadata and of DataHub reads: dbt's artifacts of the published build, and a recipe
    for each.

    Raises UsageError if there are no artifacts yet.
    """
    return {"folder": str(folder), "files": write_artifacts(folder_of(settings) / PUBLISHED_ARTIFACTS, folder)}
