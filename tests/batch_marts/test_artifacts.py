"""The files for OpenMetadata and DataHub: artifacts of dbt, the marts where everybody reads them, and the recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_marts.artifacts import DATAHUB, OPENMETADATA, write_artifacts
from batch_marts.dbt import ARTIFACTS
from stitchline.errors import UsageError

MART, BETWEEN = "model.stitchline.fct_sessions", "model.stitchline.int_sessions"
TEST = "test.stitchline.unique_fct_sessions"


def node(name: str, layer: str) -> dict[str, Any]:
    relation = f'"w"."build_0003"."{name}"'
    return {"resource_type": "model", "schema": "build_0003", "database": "w", "alias": name, "relation_name": relation,
            "fqn": ["stitchline", layer, name]}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    nodes = {MART: node("fct_sessions", "marts"), BETWEEN: node("int_sessions", "intermediate")}
    nodes[TEST] = node("unique_fct_sessions", "marts") | {"resource_type": "test"}  # it stands in the marts' folder
    built = {name: {"metadata": {"schema": "build_0003", "name": name.split(".")[-1]}} for name in nodes}
    told = {
        "manifest.json": {"metadata": {}, "nodes": nodes},
        "catalog.json": {"nodes": built},
        "run_results.json": {"results": [{"unique_id": "test.stitchline.x", "status": "pass"}]},
    }
    for name, value in told.items():
        (tmp_path / name).write_text(json.dumps(value))
    return tmp_path


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_marts_are_where_everybody_reads_them(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    assert write_artifacts(source, folder) == [*ARTIFACTS, OPENMETADATA, DATAHUB]
    nodes = read(folder / "manifest.json")["nodes"]
    assert (nodes[MART]["schema"], nodes[MART]["relation_name"]) == ("marts", '"w"."marts"."fct_sessions"')
    assert nodes[BETWEEN] == node("int_sessions", "intermediate")
    assert nodes[TEST]["schema"] == "build_0003"
    built = read(folder / "catalog.json")["nodes"]
    assert (built[MART]["metadata"]["schema"], built[BETWEEN]["metadata"]["schema"]) == ("marts", "build_0003")
    assert read(folder / "run_results.json")["results"][0]["status"] == "pass"


def test_recipes_name_the_files_and_no_secret(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    write_artifacts(source, folder)
    metadata = yaml.safe_load((folder / OPENMETADATA).read_text())
    files = metadata["source"]["sourceConfig"]["config"]["dbtConfigSource"]
    assert {value for name, value in files.items() if name.endswith("FilePath")} == {
        str(folder / name) for name in ARTIFACTS
    }
    assert metadata["workflowConfig"]["openMetadataServerConfig"]["hostPort"] == "${OPENMETADATA_URL}"
    hub = yaml.safe_load((folder / DATAHUB).read_text())
    told = hub["source"]["config"]
    assert [told["manifest_path"], told["catalog_path"], *told["run_results_paths"]] == [
        str(folder / name) for name in ARTIFACTS
    ]
    assert hub["sink"]["config"]["token"] == "${DATAHUB_TOKEN}"


def test_what_is_missing_is_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match=r"There are no artifacts of dbt at .*gone .*stitchline marts refresh"):
        write_artifacts(tmp_path / "gone", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written to"):
        write_artifacts(source, tmp_path / "file")
