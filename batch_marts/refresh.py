"""The refresh of the marts: build apart, audit, publish. Whatever fails leaves what is published as it was.

1. `pins` holds the moment still that the build sees.
2. The policy is checked: no mart without a contract, descriptions and a business test.
3. dbt makes every model in the build's own schema and runs every test there.
4. The build is compared with what is published. What would be gone waits until its readers were told in time.
5. Views over the build take the place of the views over the last one, in one transaction.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from batch_marts import builds
from batch_marts.builds import Build
from batch_marts.dbt import PROJECT, Finding, Project, Stopped, go_on
from batch_marts.experiments import Experiment, events_of, load_experiments, settings_table
from batch_marts.metrics import METRICS, load_metrics
from batch_marts.pins import pin
from batch_marts.policy import breaches
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError, UsageError

log = logging.getLogger(__name__)

KEPT: Final = 7
"""Builds that can be gone back to, the published one included."""


_NAMED: Final = 8
"""Findings that the message of a failed refresh names."""


class RefreshFailed(StitchlineError):
    """A build was not published; facts: build_id."""

    def __init__(self, build: Build, findings: Sequence[Finding]) -> None:
        super().__init__(_why(build, findings), build_id=build.build_id)
        self.findings = findings


@dataclass(frozen=True, slots=True)
class MartRules:
    """What a refresh needs to know besides the data."""

    folder: Path
    """Where dbt works, and the documentation is written."""
    metrics: Path = METRICS
    project: Path = PROJECT
    """The dbt project, a folder as this one."""
    experiments: Path | None = None
    """A YAML file, or a folder of them; see batch_marts.experiments."""
    own_hosts: tuple[str, ...] = ()
    """The site's own hosts: a visit that comes from them is direct."""
    kept: int = KEPT
    variables: Mapping[str, Any] = field(default_factory=dict)
    """More of dbt's variables: what a shop calls its events, and so on; see dbt_project.yml."""

    def variables_with(self, experiments: Sequence[Experiment]) -> dict[str, Any]:
        """dbt's variables of any build that judges these `experiments`."""
        return {"own_hosts": list(self.own_hosts), "experiment_events": events_of(experiments), **self.variables}


FunnelDays = Callable[[duckdb.DuckDBPyConnection, str, datetime | None], str]
"""Fills a temporary table with the days of every funnel from a time on, and returns its name. Rows of stream.events
whose numbers are in the named table do not count: they repeat others."""


@dataclass(frozen=True, slots=True)
class Funnels:
    """What the marts have to know of the funnels, which they do not work out themselves."""

    days: FunnelDays
    window: timedelta
    """The longest: an entry so long before a change may have gone further."""
    definitions: str
    """The text of all of them: with another one no day can be carried over."""


Promises = Callable[[duckdb.DuckDBPyConnection, Build], Sequence[Finding]]
"""What a finished build breaks of what its readers were promised (batch_marts.promises)."""

Told = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and how much there is."""


def refresh(
    warehouse: Warehouse,
    rules: MartRules,
    funnels: Funnels,
    *,
    full: bool = False,
    told: Told = lambda what, done, of: None,
    stopping: threading.Event | None = None,
    promises: Promises = lambda con, build: (),
) -> Build:
    """Builds the marts, and publishes them if every test passes. One at a time; whoever reads the marts meanwhile sees
    the last ones. Days that nothing happened to since are carried over, unless it is to be `full`.

    `promises` says what keeps a build from being published although its tests passed.

    Raises RefreshFailed if a test fails or a model cannot be made, with what and why, Stopped when `stopping` was set,
    and DefinitionError if the metrics or the experiments cannot be read.
    """
    stopping = stopping or threading.Event()
    metrics = load_metrics(rules.metrics)
    experiments = load_experiments(rules.experiments)
    in_experiments = settings_table(experiments)
    digest = _digest(rules, funnels, in_experiments)
    began = datetime.now(UTC)
    with warehouse.transaction() as con:
        before = None if full else _to_carry_over(con, digest)
        build = builds.begin(con, "full" if before is None else "incremental", began)
    with _recorded(warehouse, build) as record:
        with warehouse.transaction() as con:
            builds.drop_failed(con)
        told("pin", 0, 1)
        with ThreadPoolExecutor(1, thread_name_prefix="dbt") as beside, warehouse.reader() as reader:
            # dbt takes seconds to read its project, and DuckDB to hold the moment still.
            reading = beside.submit(Project, warehouse, rules.folder, build.build_schema, metrics, rules.project)
            earlier = None if before is None or before.pin is None else (before.build_schema, before.pin)
            pinned, changed_days = pin(
                reader, build.build_schema, earlier, funnels.window, funnels.days, in_experiments
            )
        kind: builds.Kind = "full" if changed_days is None else "incremental"
        build = record(replace(build, kind=kind, pin=pinned, settings=digest))
        project = reading.result()
        go_on(stopping)
        variables = rules.variables_with(experiments)
        with warehouse.reader() as reader:
            variables |= {"build_id": build.build_id, "rows_schema": builds.rows_schema(reader, build)}
        if changed_days is not None and before is not None and before.pin is not None:
            since = min(changed_days, default=pinned.as_of.date())
            variables |= {"previous_build": before.build_schema, "changed_since": since.isoformat()}
            variables["first_row"] = before.pin.last_row + 1
        found = breaches(project.folder)
        go_on(stopping)
        if found := found or project.build(variables, told, stopping):
            raise RefreshFailed(build, found)
        marts = project.marts()
        with warehouse.reader() as reader:
            build = replace(build, row_counts=_rows(reader, build.build_schema, marts), changes=_compare(reader, build))
            broken = promises(reader, build)
        if broken:
            raise RefreshFailed(build, broken)
        with warehouse.transaction() as con:
            now = datetime.now(UTC)
            build = replace(build, status="published", finished_at=now, published_at=now)
            builds.publish(con, build)
    # It is published: what fails from here on does not take that back.
    with warehouse.transaction() as con:
        builds.tidy(con, build, rules.kept)
    try:
        project.document(variables)
    except StitchlineError as error:
        log.warning("%s", error)
    return build


def rollback(warehouse: Warehouse, build_id: int | None = None) -> Build:
    """Publishes an earlier build again: the one of that number, else the last one that was published before.

    Raises UsageError if there is none such.
    """
    with warehouse.transaction() as con:
        there = builds.schemas(con)
        candidates = [b for b in builds.builds(con) if b.status == "replaced" and b.build_schema in there]
        now = builds.published(con)
        if build_id is None:
            earlier = [b for b in candidates if now is None or b.build_id < now.build_id]
        else:
            earlier = [b for b in candidates if b.build_id == build_id]
        if not earlier:
            known = ", ".join(str(b.build_id) for b in candidates) or "none"
            which = "no earlier build" if build_id is None else f"no build {build_id}"
            raise UsageError(
                f"There is {which} to go back to. Kept are: {known}. `stitchline marts history` lists all."
            )
        build = replace(earlier[0], status="published", published_at=datetime.now(UTC))
        builds.publish(con, build)
    return build


@contextmanager
def _recorded(warehouse: Warehouse, build: Build) -> Iterator[Callable[[Build], Build]]:
    """Puts on record what the build came to, whatever happens."""
    latest = build

    def record(now: Build) -> Build:
        nonlocal latest
        latest = now
        with warehouse.transaction() as con:
            builds.save(con, now)
        return now

    try:
        yield record
    except BaseException as error:
        findings = error.findings if isinstance(error, RefreshFailed) else ()
        failed = replace(latest, status="failed", finished_at=datetime.now(UTC), message=str(error))
        with warehouse.transaction() as con:
            builds.save(con, failed, findings)
        raise


def _digest(rules: MartRules, funnels: Funnels, experiments: pa.Table) -> str:
    """Of all that a build depends on besides the data."""
    told = hashlib.sha256()
    files = [path for part in ("models", "macros", "seeds") for path in (rules.project / part).rglob("*.*")]
    for file in [*sorted(files), rules.project / "dbt_project.yml", rules.metrics]:
        told.update(file.read_bytes())
    others = [rules.own_hosts, dict(rules.variables), funnels.definitions, experiments.to_pylist()]
    told.update(json.dumps(others, sort_keys=True, default=str).encode())
    return told.hexdigest()


def _to_carry_over(con: duckdb.DuckDBPyConnection, digest: str) -> Build | None:
    """The build to carry over from: the published one, if it was made in the same way, and no other came after it."""
    last = builds.published(con)
    if last is None or last.settings != digest or last.build_schema not in builds.schemas(con):
        return None
    later = [each for each in builds.builds(con) if each.build_id > last.build_id and each.status == "replaced"]
    return None if later else last


def _rows(con: duckdb.DuckDBPyConnection, schema: str, marts: Sequence[str]) -> dict[str, int]:
    counts = {}
    for mart in marts:
        row = con.execute(f'select count(*) from {schema}."{mart}"').fetchone()
        assert row is not None
        counts[mart] = int(row[0])
    return counts


_COMPARED: Final = """
select now.metric_date::varchar as day, now.metric_name as metric,
    before.metric_value as before, now.metric_value as now
from {now}.mart_daily_metrics as now
join {before}.mart_daily_metrics as before using (metric_date, metric_name, dimension)
where dimension = 'all' and before.is_complete
  and abs(now.metric_value - before.metric_value) > 1e-9 * abs(before.metric_value)
order by abs(now.metric_value - before.metric_value) / greatest(abs(before.metric_value), 1e-9) desc, day, metric
limit 1000
"""


def _compare(con: duckdb.DuckDBPyConnection, build: Build) -> list[dict[str, Any]]:
    """Which metrics of days that were published as complete differ now, the greatest relative change first."""
    last = builds.published(con)
    if last is None or "mart_daily_metrics" not in last.row_counts:
        return []
    rows = con.execute(_COMPARED.format(now=build.build_schema, before=last.build_schema)).fetchall()
    return [dict(zip(("day", "metric", "before", "now"), row, strict=True)) for row in rows]


def _why(build: Build, found: Sequence[Finding]) -> str:
    first = "; ".join(
        f"{finding.about}: {finding.says}"
        + (f" ({finding.failures:,} rows, kept in {finding.relation})" if finding.failures else "")
        + f" [{finding.what}]"
        for finding in found[:_NAMED]
    )
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return (
        f"Build {build.build_id} is not published, what was published stays. {first}{more}. "
        f"`stitchline marts history` lists what failed; the rows are kept until the next refresh."
    )


__all__ = ["Build", "Funnels", "MartRules", "RefreshFailed", "Stopped", "refresh", "rollback"]
