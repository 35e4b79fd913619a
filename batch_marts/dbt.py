"""dbt in this process, on the open warehouse: prepares the project for one build, runs it, and says what happened.

dbt works in a folder of its own, a copy of the project with what is generated: the model `mart_daily_metrics`, two of
experiments, the documentation of the metrics, and the profile. It changes the process's working directory while it
runs, which is why every path in the settings is absolute.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batch_marts.experiments import moments_sql, subjects_sql
from batch_marts.joined import join_tests
from batch_marts.metrics import Metric, daily_metrics_sql, metrics_markdown
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError

PROJECT: Final = Path(__file__).parent
FOLDERS: Final = ("models", "macros", "tests", "seeds", "checks")
FILES: Final = ("dbt_project.yml", "policy.yml")
"""What a project consists of."""
_QUIETLY: Final = [
    "--no-send-anonymous-usage-stats",
    "--quiet",
    "--log-level=none",
    "--log-level-file=none",
    "--no-use-colors",
]
_SCHEMA: Final = "build"
"""Where models are for dbt as it reads the project."""
_THREADS: Final = 2
_ROWS_KEPT: Final = 1000

ARTIFACTS: Final = ("manifest.json", "catalog.json", "run_results.json")
"""What dbt writes of a build for others."""
PUBLISHED_ARTIFACTS: Final = "artifacts"
"""The folder beside `target` that has those of the last build that was published."""

_EXPERIMENTS: Final = "from {{ source('pinned', 'pinned_experiments') }}"
_EVENTS: Final = """\
select person_id, event_name as name, event_at, properties
from {{ ref('int_events') }}
where event_name in ({% for name in var('experiment_events', []) %}{{ text(name) }}, {% endfor %}'')
{%- if not var('experiment_events', []) %} and false{% endif %}"""
_SUBJECTS: Final = "{{ config(materialized='view') }}\n" + subjects_sql(_EXPERIMENTS, _EVENTS)
_MOMENTS: Final = moments_sql("from {{ ref('int_experiment_subjects') }}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What went wrong in a build."""

    what: str
    """The test or the model."""
    about: str
    """The mart or the model that it is about."""
    says: str
    """What that means, in words."""
    failures: int | None = None
    """Rows that fail, of a test."""
    relation: str | None = None
    """Where these rows are, for a look."""


class Stopped(StitchlineError):
    """A build was told to stop."""


def go_on(stopping: threading.Event) -> None:
    """Raises Stopped if `stopping` is set."""
    if stopping.is_set():
        raise Stopped("The refresh was stopped; what is published is as it was.")


class Project:
    """The dbt project of the folder `source`, made ready in `folder` for the build that goes into `schema`, and read
    by dbt, whose manifest is there then.

    Raises StitchlineError if dbt cannot read it.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        folder: Path,
        schema: str,
        metrics: Sequence[Metric],
        source: Path = PROJECT,
        models: Mapping[str, str] | None = None,
    ) -> None:
        """`models` are those that are no files, by default as this version makes them."""
        self.folder = folder
        self._warehouse = warehouse
        self._schema = schema
        self._places = ["--project-dir", str(folder), "--profiles-dir", str(folder)]
        copied(source, folder, metrics, models)
        # dbt reads all of the project again, which takes seconds, when anything changes of what it reads it with.
        self._connect({"path": warehouse.path.name})
        self._manifest = self._read()
        self._joined = join_tests(self._manifest.nodes)
        self._connect({"path": str(warehouse.path), "config_options": dict(warehouse.config)})

    def _connect(self, to: Mapping[str, Any]) -> None:
        """Tells dbt where the warehouse is, and how it is open."""
        profile = {"type": "duckdb", "schema": _SCHEMA, "threads": _THREADS, "settings": {"TimeZone": "UTC"}, **to}
        _write_profile(self.folder, profile)

    def _read(self) -> Any:
        from dbt.cli.main import dbtRunner

        result = dbtRunner().invoke([*_QUIETLY, "parse", *self._places])
        if not result.success:
            raise StitchlineError(f"dbt cannot read the project of the marts: {result.exception}")
        return _in_schema(result.result, self._schema)

    def build(
        self, variables: Mapping[str, Any], told: Callable[[str, int, int], None], stopping: threading.Event
    ) -> list[Finding]:
        """Makes every seed and model, runs every test, and returns what went wrong. `told` hears of each that is done:
        its name, which it is of all, and how many there are.

        Raises Stopped when `stopping` was set, and StitchlineError if dbt cannot begin.
        """
        with self._warehouse.transaction() as con:  # here, as two models at once could not
            con.execute(f'create schema if not exists "{variables["rows_schema"]}"')
        asked = ["--vars", json.dumps(variables)]
        every = self._manifest.nodes
        self._manifest.nodes = self._joined.nodes
        try:
            found = self._run(["build", *asked], [_Listener(told, stopping)], stopping)
        finally:
            self._manifest.nodes = {name: self._joined.nodes.get(name, node) for name, node in every.items()}
        parts = self._joined.parts
        if names := [part.name for each in found for part in parts.get(each.node.unique_id, ())]:
            apart = self._run(["test", *asked, "--select", *names], [], stopping)
            known = {each.node.attached_node for each in apart}
            found = [one for one in found if one.node.unique_id not in parts or one.node.attached_node not in known]
            found += apart
        return [self._finding(each) for each in found]

    def _run(self, command: list[str], listeners: list[Any], stopping: threading.Event) -> list[Any]:
        """The results of what went wrong."""
        result = self._invoke(command, listeners)
        go_on(stopping)
        if result.result is None:
            raise StitchlineError(f"dbt cannot build the marts: {result.exception}")
        return [each for each in result.result.results if each.status in ("error", "fail", "runtime error")]

    def _finding(self, result: Any) -> Finding:
        node = result.node
        if node.resource_type != "test":
            return Finding(node.name, node.name, f"it cannot be built: {_sentence(result.message)}")
        attached = getattr(node, "attached_node", None) or next(reversed(node.depends_on.nodes), node.name)
        about = attached.rsplit(".", 1)[-1]
        if result.status != "fail":
            return Finding(node.name, about, f"the test cannot be run: {_sentence(result.message)}")
        table = f'{self._schema}."{node.alias}"'
        says = node.config.meta.get("says") or _in_words(node)
        with self._warehouse.reader() as con:  # for a look
            con.execute(f"create or replace table {table} as from ({node.compiled_code}) limit {_ROWS_KEPT}")
            if getattr(node, "test_metadata", None) and node.test_metadata.name == "never_null":
                which = con.execute(f"select distinct unnest(string_split(null_in, ', ')) from {table} order by all")
                says = f"{' and '.join(name for (name,) in which.fetchall())} is null"
        return Finding(node.name, about, says, result.failures, table)

    def document(self, variables: Mapping[str, Any]) -> None:
        """Writes the documentation of what was built with these `variables`, and keeps dbt's artifacts of it.

        Raises StitchlineError if that failed.
        """
        self._keep("run_results.json")  # before anything else is run
        kept = self.folder / PUBLISHED_ARTIFACTS / "run_results.json"
        told = json.loads(kept.read_text(encoding="utf-8"))
        told["results"] = [*self._joined.apart(told["results"])]
        kept.write_text(json.dumps(told), encoding="utf-8")
        # What the build compiled is read from the file, where dbt wrote the tests as they were joined.
        self._manifest.write(str(self.folder / "target" / "manifest.json"))
        command = ["docs", "generate", "--no-compile", "--static", "--vars", json.dumps(variables)]
        result = self._invoke(command, [])
        if not result.success:
            raise StitchlineError(f"The documentation of the marts cannot be written: {result.exception}")
        self._keep("manifest.json", "catalog.json")

    def _keep(self, *names: str) -> None:
        kept = self.folder / PUBLISHED_ARTIFACTS
        try:
            kept.mkdir(exist_ok=True)
            for name in names:
                shutil.copyfile(self.folder / "target" / name, kept / name)
        except OSError as error:
            raise StitchlineError(f"The artifacts of dbt cannot be kept in {kept}: {error.strerror}.") from error

    def marts(self) -> list[str]:
        """The names of the models that are shown."""
        return sorted(file.stem for file in (self.folder / "models" / "marts").glob("*.sql"))

    def _invoke(self, command: list[str], listeners: list[Any]) -> Any:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        try:
            return dbtRunner(self._manifest, callbacks=listeners).invoke([*_QUIETLY, *command, *self._places])
        finally:
            DuckDBConnectionManager.close_all_connections()


def generated(metrics: Sequence[Metric]) -> dict[str, str]:
    """The models that are no files of the project, by their place among its models."""
    return {
        "marts/mart_daily_metrics.sql": daily_metrics_sql(metrics),
        "intermediate/int_experiment_subjects.sql": _SUBJECTS,
        "intermediate/int_experiment_moments.sql": _MOMENTS,
    }


def copied(source: Path, folder: Path, metrics: Sequence[Metric], models: Mapping[str, str] | None = None) -> None:
    """Copies the project into `folder`, with what is generated: `models`, by default as this version makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
        if (source / name).exists():  # git keeps no empty folder
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
    has_experiments = (folder / "models" / "intermediate" / "int_experiment_results.py").exists()
    for place, sql in (generated(metrics) if models is None else models).items():
        if has_experiments or not place.startswith("intermediate/"):
            (folder / "models" / place).write_text(sql, encoding="utf-8")
    documented = f"{{% docs metrics %}}\n{metrics_markdown(metrics)}\n{{% enddocs %}}\n"
    (folder / "models" / "marts" / "metrics.md").write_text(documented, encoding="utf-8")


def compiled(folder: Path, variables: Mapping[str, Any]) -> dict[str, Any]:
    """dbt's manifest of the project that was copied to `folder`, with the SQL of every model, and of the tests in
    files, as a full build would run it. No warehouse is needed.

    Raises StitchlineError if dbt cannot read the project.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    profile = {"type": "duckdb", "path": ":memory:", "schema": _SCHEMA, "threads": 1, "settings": {"TimeZone": "UTC"}}
    _write_profile(folder, profile)
    told = json.dumps({"rows_schema": "rows"} | dict(variables))
    command = ["compile", "--no-populate-cache", "--vars", told, "--project-dir", str(folder)]
    command += ["--select", "resource_type:model"]
    if any((folder / "tests").rglob("*.sql")):  # dbt refuses to select what is not there
        command.append("test_type:singular")
    try:
        result = dbtRunner().invoke([*_QUIETLY, *command, "--profiles-dir", str(folder)])
    finally:
        DuckDBConnectionManager.close_all_connections()
    if not result.success:
        results: Any = getattr(result.result, "results", ())
        said = result.exception or "; ".join(_sentence(each.message) for each in results if each.message)
        raise StitchlineError(f"dbt cannot read the project of the marts: {said}")
    manifest: dict[str, Any] = json.loads((folder / "target" / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def _write_profile(folder: Path, profile: Mapping[str, Any]) -> None:
    profiles = {"stitchline": {"target": "warehouse", "outputs": {"warehouse": profile}}}
    (folder / "profiles.yml").write_text(json.dumps(profiles), encoding="utf-8")


def _in_schema(manifest: Any, schema: str) -> Any:
    """The project as dbt read it, with everything that it makes in `schema`."""
    for node in [*manifest.nodes.values(), *manifest.sources.values()]:
        if node.schema == _SCHEMA:
            node.schema = schema
            if node.relation_name is not None:
                node.relation_name = node.relation_name.replace(f'."{_SCHEMA}".', f'."{schema}".')
    return manifest


def _end_connections() -> None:
    """Lets everything that dbt has not begun yet fail at once; it has no other way to be stopped from within."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment: Any = DuckDBConnectionManager.env()
    environment.conn.close()


class _Listener:
    """Counts what dbt has done, from its events."""

    def __init__(self, told: Callable[[str, int, int], None], stopping: threading.Event) -> None:
        self._told = told
        self._stopping = stopping

    def __call__(self, event: Any) -> None:
        if event.info.name == "NodeStart" and self._stopping.is_set():
            _end_connections()
        if event.info.name in ("LogModelResult", "LogTestResult", "LogSeedResult"):
            data = event.data
            self._told(data.node_info.node_name, data.index, getattr(data, "total", 0) or data.num_models)


def _in_words(node: Any) -> str:
    """What it means that a generic test failed."""
    metadata = getattr(node, "test_metadata", None)
    column = getattr(node, "column_name", None)
    if metadata is None:
        return "a rule does not hold"
    arguments = metadata.kwargs
    match metadata.name:
        case "never_null":
            return f"one of {', '.join(arguments.get('columns', []))} is null"
        case "unique":
            return f"{column} is there more than once"
        case "relationships":
            to = str(arguments.get("to", "")).removeprefix("ref('").removesuffix("')")
            return f"{column} is not in {to}"
        case "accepted_values":
            return f"{column} is none of {', '.join(map(str, arguments.get('values', [])))}"
        case "one_row_per":
            return f"there is more than one row per {', '.join(arguments.get('columns', []))}"
    return f"{metadata.name} does not hold"


def _sentence(message: str | None) -> str:
    lines = [line.strip() for line in (message or "no reason was given").splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith("compiled code at"))
