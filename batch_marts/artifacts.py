"""What OpenMetadata and DataHub read of the marts with ingestion of their own: dbt's artifacts, and a recipe for each.

A build is a schema of its own, and what everybody reads are views of the same names in `marts`: the artifacts are
written with the marts there, where those who look for them find them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batch_marts.builds import PUBLISHED
from batch_marts.dbt import ARTIFACTS
from stitchline.errors import UsageError

OPENMETADATA: Final = "openmetadata.yml"
DATAHUB: Final = "datahub.yml"

_OPENMETADATA: Final = """\
# metadata ingest -c {name}
# OPENMETADATA_TOKEN is the JWT of its ingestion bot. serviceName names the database service of the warehouse there,
# whose tables were brought in before by the connector that your OpenMetadata has for it.
source:
  type: dbt
  serviceName: stitchline
  sourceConfig:
    config:
      type: DBT
      dbtConfigSource:
        dbtConfigType: local
        dbtManifestFilePath: {folder}/manifest.json
        dbtCatalogFilePath: {folder}/catalog.json
        dbtRunResultsFilePath: {folder}/run_results.json
      dbtUpdateDescriptions: true
      dbtUpdateOwners: true
      includeTags: true
sink:
  type: metadata-rest
  config: {{}}
workflowConfig:
  openMetadataServerConfig:
    hostPort: ${{OPENMETADATA_URL}}
    authProvider: openmetadata
    securityConfig:
      jwtToken: ${{OPENMETADATA_TOKEN}}
"""

_DATAHUB: Final = """\
# datahub ingest -c {name}
source:
  type: dbt
  config:
    manifest_path: {folder}/manifest.json
    catalog_path: {folder}/catalog.json
    run_results_paths: [{folder}/run_results.json]
    target_platform: duckdb
    enable_owner_extraction: false
    meta_mapping:
      owner: {{match: ".*", operation: add_owner, config: {{owner_type: group}}}}
sink:
  type: datahub-rest
  config:
    server: ${{DATAHUB_URL}}
    token: ${{DATAHUB_TOKEN}}
"""


def write_artifacts(source: Path, folder: Path) -> list[str]:
    """Writes into `folder` what the two read, out of the artifacts of the last published build in `source`; returns the
    names of the files.

    Raises UsageError if nothing was published yet, or the folder cannot be written to.
    """
    told = {name: _read(source / name) for name in ARTIFACTS}
    schema = _build_schema(told["manifest.json"])
    nodes = told["manifest.json"]["nodes"].items()
    marts = {name for name, node in nodes if node["resource_type"] == "model" and "marts" in node["fqn"]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, artifact in told.items():
            text = json.dumps(_published(artifact, schema, marts), separators=(",", ":"))
            (folder / name).write_text(text, encoding="utf-8")
        where = json.dumps(str(folder))[1:-1]
        for name, recipe in ((OPENMETADATA, _OPENMETADATA), (DATAHUB, _DATAHUB)):
            (folder / name).write_text(recipe.format(name=name, folder=where), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to: {error.strerror}. Name another folder.", path=folder
        ) from error
    return [*ARTIFACTS, OPENMETADATA, DATAHUB]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"There are no artifacts of dbt at {file.parent} ({error}): the next refresh of the marts that is "
            "published writes them. `stitchline marts refresh` makes one.",
            path=file,
        ) from error


def _build_schema(manifest: Mapping[str, Any]) -> str:
    """The schema of the build that a manifest is of."""
    found = {str(node["schema"]) for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    return next((schema for schema in sorted(found) if re.fullmatch(r"build_\d{4,}", schema)), PUBLISHED)


def _published(artifact: dict[str, Any], schema: str, marts: set[str]) -> dict[str, Any]:
    """The artifact with the `marts`, by dbt's ids, where everybody reads them; what is behind them stays as it is."""
    for name, node in artifact.get("nodes", {}).items():
        where = node.get("metadata", node)  # the former in catalog.json, the latter in manifest.json
        if name in marts and where.get("schema") == schema:
            where["schema"] = PUBLISHED
            if node.get("relation_name"):
                node["relation_name"] = f'"{node["database"]}"."{PUBLISHED}"."{node["alias"]}"'
    return artifact
