"""What there is to say of one revision of the marts, out of dbt's manifest and the metrics' file. Pure."""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from batch_marts.consumers import Consumer
from batch_marts.impact.meaning import (
    ROWS,
    Input,
    Meaning,
    NotUnderstood,
    Relation,
    as_read,
    canonical,
    digest_of,
    opaque,
    parts,
    source,
    understood,
)
from batch_marts.metrics import DAILY, Metric

_MARTS: Final = "marts"
_TOLD: Final = "__told"
"""How the part of mart_daily_metrics ends that is a metric's own."""
_BUILT: Final = "build."
"""The schema of all that a build makes, in what dbt compiled."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a mart, by its contract."""

    data_type: str
    description: str


@dataclass(frozen=True, slots=True)
class Mart:
    """A mart, by the name under which it is shown."""

    name: str
    model: str
    """Its own name as the graph of meanings has it."""
    version: int
    file: str
    description: str
    columns: Mapping[str, Column]
    is_contracted: bool
    grain: frozenset[frozenset[str]]
    """Sets of columns of which a test says that no two rows share them."""
    tests: Mapping[str, str]
    """What has to hold of it, in words, with a digest of how that is told."""
    deprecated_on: date | None = None
    owner: str | None = None
    """The team that its `meta` names."""


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """A version of a metric, and what it means by its SQL."""

    metric: Metric
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class Revision:
    """All of it, of one revision."""

    label: str
    marts: Mapping[str, Mart]
    metrics: Mapping[str, MetricFacts]
    """By the name under which they are shown; those that are retired are not shown any more."""
    relations: Mapping[str, Relation]
    """By model, what its columns and rows mean and read."""
    queries: Mapping[str, str]
    """By model, how that is written, in one form."""
    files: Mapping[str, str]
    """By model."""
    consumers: Sequence[Consumer] = ()
    not_understood: Mapping[str, str] = field(default_factory=dict)
    """Models that are compared as a whole, and why."""

    def meaning(self, model: str, column: str) -> Meaning | None:
        """What a column of a model, or its ROWS, means."""
        relation = self.relations.get(model)
        if relation is None:
            return None
        return relation.rows if column == ROWS else relation.column(column)


def facts(
    label: str,
    manifest: Mapping[str, Any],
    metrics: Sequence[Metric],
    consumers: Sequence[Consumer] = (),
    read: Callable[[str], str] = lambda path: "",
    library: str = "",
    frame: str = "",
) -> Revision:
    """The revision that dbt's manifest, with its SQL compiled, is of.

    `read` gives a file of the project by its path, `library` is a digest of the code that models in Python call, and
    `frame` is the SQL that all metrics are put into, whatever they are.
    """
    nodes: dict[str, Mapping[str, Any]] = {
        node["alias"].lower(): node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed")
    }
    tests = _tests(manifest)
    keys = {name: tuple(tests.keys.get(node["unique_id"], ())) for name, node in nodes.items()}
    graph = _Graph(nodes, keys, read, library)
    for name in nodes:
        graph.made(name)
    marts = [_mart(node, tests) for node in nodes.values() if _is_mart(node)]
    return Revision(
        label=label,
        marts={mart.name: mart for mart in marts},
        metrics=_metrics(metrics, nodes, graph, canonical(frame)),
        relations=graph.relations,
        queries={name: canonical(node["compiled_code"]) for name, node in nodes.items() if _is_query(node)},
        files={name: node["original_file_path"] for name, node in nodes.items()},
        consumers=tuple(consumers),
        not_understood=graph.not_understood,
    )


class _Graph:
    """The meaning of every model, worked out when it is asked for."""

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, Any]],
        keys: Mapping[str, Iterable[frozenset[str]]],
        read: Callable[[str], str],
        library: str,
    ) -> None:
        self.relations: dict[str, Relation] = {}
        self.not_understood: dict[str, str] = {}
        self._nodes = nodes
        self._keys = keys
        self._read = read
        self._library = library

    def table(self, name: str) -> Relation:
        """What a query in a model reads under that name."""
        bare = name.removeprefix(_BUILT)
        if bare in self._nodes:
            return as_read(bare, self.made(bare), self._keys[bare])
        return source(name)

    def made(self, name: str) -> Relation:
        """What a model means."""
        if name not in self.relations:
            self.relations[name] = self._made(name)
        return self.relations[name]

    def _made(self, name: str) -> Relation:
        node = self._nodes[name]
        if node["resource_type"] == "seed":
            text = self._read(node["original_file_path"])
            types = json.dumps(node["config"].get("column_types") or {}, sort_keys=True)
            return opaque(digest_of("seed", repr(list(csv.reader(io.StringIO(text)))), types), ())
        reads = [self._name(each) for each in node["depends_on"]["nodes"]]
        if node["language"] != "sql":
            return self._whole(_code(node["raw_code"]) + self._library, reads)
        try:
            return understood(node["compiled_code"], self.table)
        except NotUnderstood as why:
            self.not_understood[name] = str(why)
            return self._whole(canonical(node["compiled_code"]), reads)

    def _whole(self, told: str, reads: Sequence[str]) -> Relation:
        """What cannot be followed by columns: all that it says, and all that it reads."""
        below = [self.made(name).whole for name in reads if name in self._nodes]
        return opaque(digest_of(told, *below), reads)

    def below(self, name: str) -> list[str]:
        """Digests of all that a model reads."""
        reads = (self._name(each) for each in self._nodes[name]["depends_on"]["nodes"])
        return sorted(self.made(each).whole for each in reads if each in self._nodes)

    def _name(self, unique_id: str) -> str:
        for name, node in self._nodes.items():
            if node["unique_id"] == unique_id:
                return name
        return ".".join(unique_id.split(".")[-2:])


def _code(text: str) -> str:
    """A program in Python without what does not matter: comments, docstrings, how it is laid out."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def library_digest(programs: Mapping[str, str]) -> str:
    """A digest of programs and queries, by their name: the same however they are laid out."""
    told = (f"{name}\x1f{_code(text) if name.endswith('.py') else canonical(text)}" for name, text in programs.items())
    return digest_of(*sorted(told))


def _is_query(node: Mapping[str, Any]) -> bool:
    return node.get("language") == "sql" and bool(node.get("compiled_code"))


def _is_mart(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] == "model" and _MARTS in node["fqn"][1:-1]


def _mart(node: Mapping[str, Any], tests: _Tests) -> Mart:
    name, description = node["alias"].lower(), node.get("description") or ""
    if name == DAILY:  # what each metric means follows, and the metrics are compared themselves
        description = description.partition("**")[0]
    return Mart(
        name=name,
        model=name,
        version=int(node.get("version") or 1),
        file=node["original_file_path"],
        description=_flat(description),
        columns={
            str(column["name"]).lower(): Column(
                str(column.get("data_type") or "").lower(), _flat(column.get("description") or "")
            )
            for column in node["columns"].values()
        },
        is_contracted=bool((node["config"].get("contract") or {}).get("enforced")),
        grain=frozenset(tests.keys.get(node["unique_id"], ())),
        tests=tests.told.get(node["unique_id"], {}),
        deprecated_on=_day(node.get("deprecation_date")),
        owner=(node["config"].get("meta") or {}).get("owner"),
    )


@dataclass(frozen=True, slots=True)
class _Tests:
    keys: Mapping[str, set[frozenset[str]]]
    """By model, what is unique."""
    told: Mapping[str, Mapping[str, str]]


def _tests(manifest: Mapping[str, Any]) -> _Tests:
    keys: dict[str, set[frozenset[str]]] = {}
    told: dict[str, dict[str, str]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] != "test":
            continue
        config = {name: node["config"].get(name) for name in ("severity", "where", "warn_if", "error_if", "limit")}
        how = json.dumps(config, sort_keys=True, default=str)
        metadata = node.get("test_metadata")
        if metadata is None:
            digest = digest_of(how, canonical(node.get("compiled_code") or node["raw_code"]))
            for model in node["depends_on"]["nodes"]:
                told.setdefault(model, {})[node["name"].replace("_", " ")] = digest
            continue
        kwargs = metadata.get("kwargs") or {}
        arguments = {name: value for name, value in kwargs.items() if name not in ("model", "column_name")}
        column = node.get("column_name")
        about = f"{column}: " if column else ""
        words = f"{about}{metadata['name'].replace('_', ' ')}{_in_words(arguments)}"
        model = node.get("attached_node") or ""
        told.setdefault(model, {})[words] = digest_of(how)
        if metadata["name"] == "unique" and column:
            keys.setdefault(model, set()).add(frozenset({str(column).lower()}))
        elif metadata["name"] == "one_row_per":
            keys.setdefault(model, set()).add(frozenset(str(each).lower() for each in arguments.get("columns", ())))
    return _Tests(keys, told)


def _in_words(arguments: Mapping[str, Any]) -> str:
    shown = [
        ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in arguments.items()
        if name not in ("key", "touched", "ended_in", "appended")
    ]
    return f" ({'; '.join(shown)})" if shown else ""


def _metrics(
    metrics: Sequence[Metric], nodes: Mapping[str, Mapping[str, Any]], graph: _Graph, frame: str
) -> dict[str, MetricFacts]:
    told: dict[str, Relation] = {}
    below: list[str] = []
    if DAILY in nodes:
        below = graph.below(DAILY)
        try:
            told, not_understood = parts(nodes[DAILY]["compiled_code"], graph.table)
            of_metrics = {name: why for name, why in not_understood.items() if name.endswith(_TOLD)}
            graph.not_understood |= {f"metric {name.removesuffix(_TOLD)}": why for name, why in of_metrics.items()}
        except NotUnderstood as why:
            graph.not_understood[DAILY] = str(why)
    found: dict[str, MetricFacts] = {}
    for metric in metrics:
        facts = [str(metric.dimension), str(metric.top), metric.unit, frame]
        if metric.ratio is not None:
            of, by = (found[part].meaning for part in metric.ratio)
            meaning = Meaning(digest_of("ratio", of.digest, by.digest, metric.unit, frame), of.reads | by.reads)
        else:
            one = told.get(f"{metric.shown_as}{_TOLD}")
            if one is None:  # compared as a whole, with all that any metric reads
                meaning = Meaning(digest_of(canonical(metric.value or ""), *facts, *below))
            else:
                reads = one.rows.reads.union(*(each.reads for each in one.columns.values()))
                meaning = Meaning(digest_of(one.whole, *facts), reads)
        found[metric.shown_as] = MetricFacts(metric, meaning)
    return found


def reads_of(revision: Revision, mart: str, column: str | None, metric: str | None) -> frozenset[Input]:
    """What a column, the rows of a mart, or a metric reads, one step back."""
    if metric is not None:
        return revision.metrics[metric].meaning.reads if metric in revision.metrics else frozenset()
    found = revision.meaning(revision.marts[mart].model, column or ROWS) if mart in revision.marts else None
    return found.reads if found is not None else frozenset()


def _flat(text: str) -> str:
    return " ".join(text.split())


def _day(told: Any) -> date | None:
    if told is None:
        return None
    return datetime.fromisoformat(str(told).replace("Z", "+00:00")).date()


__all__ = ["Column", "Mart", "MetricFacts", "Revision", "facts", "library_digest", "reads_of"]
