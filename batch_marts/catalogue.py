"""What the marts and the metrics mean, for people: read from the same files that make them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from batch_marts.metrics import DAILY, Metric, load_metrics
from batch_marts.refs import REF, refs_in, shown_mart
from batch_marts.search import Document, Index
from stitchline.errors import DefinitionError

Layer = Literal["source", "staging", "intermediate", "marts"]

_LAYERS: Final[tuple[Layer, ...]] = ("staging", "intermediate", "marts")
_SOURCE: Final = re.compile(r"\bsource\(\s*['\"](\w+)['\"]\s*,\s*['\"](\w+)['\"]\s*\)")
_WEIGHTS: Final = {"called": 4.0, "synonyms": 3.0, "owner": 2.0, "says": 1.0}
"""How much a word counts that is in what something is called, in what else people call it, and so on."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a mart, by its contract."""

    name: str
    data_type: str
    description: str
    tests: tuple[str, ...]
    """What has to hold of it, in words."""


@dataclass(frozen=True, slots=True)
class Mart:
    """A table that was tested before anybody sees it."""

    name: str
    question: str
    """What it answers: its description's first sentence."""
    description: str
    """The rest of its description."""
    owner: str | None
    """The team to ask."""
    columns: tuple[Column, ...]
    tests: tuple[str, ...]
    """What has to hold of it, besides what has to hold of its columns, in words."""

    @property
    def test_count(self) -> int:
        return len(self.tests) + sum(len(column.tests) for column in self.columns)


@dataclass(frozen=True, slots=True)
class Model:
    """What a table is made from, one step back."""

    name: str
    layer: Layer
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of them, by name."""

    marts: Mapping[str, Mart]
    metrics: Mapping[str, Metric]
    models: Mapping[str, Model]
    latest: Mapping[str, int]
    """Of the models that have versions, the one that is meant by the name alone."""
    _metric_index: Index = field(repr=False, compare=False)
    _mart_index: Index = field(repr=False, compare=False)

    def metrics_about(self, words: str) -> list[Metric]:
        """The metrics that some of these plain words speak of, the best first; all of them for no words."""
        if not words.strip():
            return list(self.metrics.values())
        return [self.metrics[name] for name in self._metric_index.find(words)]

    def marts_about(self, words: str) -> list[Mart]:
        """The marts that some of these plain words speak of, the best first; all of them for no words."""
        if not words.strip():
            return list(self.marts.values())
        return [self.marts[name] for name in self._mart_index.find(words)]

    def made_from(self, *names: str) -> list[Model]:
        """Everything that is behind these models, the nearest first; they themselves are left out."""
        found: dict[str, Model] = {}
        waiting = [read for name in names for read in self._reads(name)]
        while waiting:
            name = waiting.pop(0)
            if name not in found and name in self.models and name not in names:
                found[name] = self.models[name]
                waiting += self._reads(name)
        return list(found.values())

    def behind(self, metric: Metric) -> list[Model]:
        """Everything that a metric is worked out from, the nearest first."""
        direct = [self.models[name] for name in self.read_for(metric) if name in self.models]
        return direct + self.made_from(*(model.name for model in direct))

    def read_by(self, name: str) -> list[Model]:
        """The models that read this one themselves."""
        return [model for model in self.models.values() if name in model.reads]

    def metrics_of(self, mart: str) -> list[Metric]:
        """The metrics that are worked out from this mart directly."""
        return [metric for metric in self.metrics.values() if mart in self.read_for(metric)]

    def read_for(self, metric: Metric) -> tuple[str, ...]:
        """The models that a metric is worked out from; of a ratio those of both its parts."""
        return _reads_of(metric, self.metrics, self.latest)

    def _reads(self, name: str) -> tuple[str, ...]:
        return self.models[name].reads if name in self.models else ()


def _reads_of(metric: Metric, metrics: Mapping[str, Metric], latest: Mapping[str, int]) -> tuple[str, ...]:
    if metric.ratio is not None:
        return tuple(dict.fromkeys(read for part in metric.ratio for read in _reads_of(metrics[part], metrics, latest)))
    return tuple(refs_in(metric.value or "", latest))


def load_catalogue(project: Path, metrics: Path) -> Catalogue:
    """The catalogue of the dbt project in a folder and of the metrics in a file; read again when one of them changed.

    Raises DefinitionError for a file that cannot be read.
    """
    files = [*project.glob("models/**/*.*"), *project.glob("tests/*.sql"), metrics]
    try:
        state = tuple(sorted((str(file), file.stat().st_mtime_ns) for file in files))
    except OSError as error:
        raise DefinitionError(f"{error.filename} cannot be read: {error.strerror}", source=error.filename) from error
    return _loaded(project, metrics, state)


@lru_cache(maxsize=4)
def _loaded(project: Path, metrics: Path, state: tuple[tuple[str, int], ...]) -> Catalogue:
    known = {metric.shown_as: metric for metric in load_metrics(metrics)}
    described = [*_described(project)]
    latest = {told["name"]: _latest(told) for told in described if told.get("versions")}
    models = {model.name: model for model in _models(project, latest)}
    read = {name: _reads_of(metric, known, latest) for name, metric in known.items()}
    every = (name for some in read.values() for name in some)
    models[DAILY] = Model(DAILY, "marts", tuple(dict.fromkeys([*every, "int_calendar"])))
    for name in sorted({name for model in models.values() for name in model.reads if "." in name}):
        models[name] = Model(name, "source", ())
    business = _business_tests(project, latest)
    marts = {mart.name: mart for told in described for mart in _marts(told, business)}
    of_mart = {name: [known[metric] for metric, some in read.items() if name in some] for name in marts}
    return Catalogue(
        marts,
        known,
        models,
        latest,
        Index([_metric_document(metric) for metric in known.values()], _WEIGHTS),
        Index([_mart_document(mart, of_mart[mart.name]) for mart in marts.values()], _WEIGHTS),
    )


def _models(project: Path, latest: Mapping[str, int]) -> Iterator[Model]:
    for layer in _LAYERS:
        for file in sorted((project / "models" / layer).glob("*.*")):
            if file.suffix in (".sql", ".py"):
                text = file.read_text(encoding="utf-8")
                reads = refs_in(text, latest) + [f"{schema}.{table}" for schema, table in _SOURCE.findall(text)]
                yield Model(file.stem, layer, tuple(dict.fromkeys(reads)))


def _described(project: Path) -> Iterator[dict[str, Any]]:
    """What the project says of each mart."""
    for file in sorted((project / "models" / "marts").glob("*.yml")):
        try:
            told = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DefinitionError(f"{file} cannot be read: {error}", source=file) from error
        yield from (told or {}).get("models") or []


def _latest(told: Mapping[str, Any]) -> int:
    """The version of a mart that is meant by its name alone."""
    return int(told.get("latest_version") or max(int(version["v"]) for version in told["versions"]))


def _marts(told: Mapping[str, Any], business: Mapping[str, list[str]]) -> Iterator[Mart]:
    """A mart, or each of its versions, which says only what it has otherwise."""
    for version in told.get("versions") or [{}]:
        name = shown_mart(told["name"], version.get("v"))
        question, rest = _question(_without_macros(version.get("description") or told.get("description") or ""))
        columns = told.get("columns") or []
        if "columns" in version:
            columns = [*_columns_of(version["columns"], columns)]
        tests = told.get("data_tests") if "data_tests" not in version else version["data_tests"]
        yield Mart(
            name=name,
            question=question,
            description=rest,
            owner=((told.get("config") or {}).get("meta") or {}).get("owner"),
            columns=tuple(_column(column) for column in columns),
            tests=tuple([said for test in tests or () for said in _of_table(test)] + business.get(name, [])),
        )


def _columns_of(version: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The columns of a version: those of all versions that it includes and does not exclude, and its own."""
    own = {column["name"] for column in version if "name" in column}
    for column in version:
        if "name" in column:
            yield column
            continue
        included, excluded = column.get("include", "all"), [*(column.get("exclude") or ()), *own]
        every = included in ("all", "*")
        yield from (one for one in columns if (every or one["name"] in included) and one["name"] not in excluded)


def _question(description: str) -> tuple[str, str]:
    """The first sentence, and the others.

    >>> _question("Which days are there, and are they over? One row per UTC day.")
    ('Which days are there, and are they over?', 'One row per UTC day.')
    """
    text = " ".join(description.split())
    end = re.search(r"[.?!] ", text)
    return (text[: end.start() + 1], text[end.end() :]) if end else (text, "")


def _without_macros(text: str) -> str:
    return re.sub(r"\{\{.*?\}\}", "", text, flags=re.DOTALL)


def _column(told: Mapping[str, Any]) -> Column:
    tests = [_of_column(test) for test in told.get("data_tests") or ()]
    return Column(
        str(told["name"]), str(told.get("data_type", "")), " ".join(str(told.get("description", "")).split()), (*tests,)
    )


def _named(test: Any) -> tuple[str, Mapping[str, Any]]:
    """A test's name and its arguments, in whichever form they are written."""
    if not isinstance(test, Mapping):
        return str(test), {}
    name, told = next(iter(test.items()))
    written: Mapping[str, Any] = told or {}
    return str(name), dict(written.get("arguments") or written)


def _of_column(test: Any) -> str:
    name, told = _named(test)
    match name:
        case "unique":
            return "each value once"
        case "not_null":
            return "never null"
        case "relationships":
            found = REF.search(str(told.get("to", "")))
            return f"is in {shown_mart(*found.groups()) if found else told.get('to')}.{told.get('field')}"
        case "accepted_values":
            return f"one of {', '.join(map(str, told.get('values', ())))}"
    return name.replace("_", " ")


def _of_table(test: Any) -> Iterator[str]:
    name, told = _named(test)
    columns = ", ".join(told.get("columns", ()))
    match name:
        case "never_null":
            yield f"never null: {columns}"
        case "one_row_per":
            yield f"one row per {columns}"
        case _:
            yield name.replace("_", " ")


def _business_tests(project: Path, latest: Mapping[str, int]) -> dict[str, list[str]]:
    """By mart, what the business knows to be true of it: the names of the tests, which are sentences."""
    found: dict[str, list[str]] = {}
    for file in sorted((project / "tests").glob("*.sql")):
        text = file.read_text(encoding="utf-8")
        for model in refs_in(text, latest):
            found.setdefault(model, []).append(file.stem.replace("_", " "))
    return found


def _metric_document(metric: Metric) -> Document:
    return Document(
        metric.shown_as,
        {
            "called": (metric.label, metric.name),
            "synonyms": metric.synonyms,
            "owner": (metric.owner, metric.unit),
            "says": (metric.definition,),
        },
    )


def _mart_document(mart: Mart, metrics: Sequence[Metric]) -> Document:
    """A mart is found by what it answers, by its columns, and by the metrics that are worked out from it."""
    if mart.name == DAILY:  # it holds all of them, so that says nothing
        metrics = ()
    return Document(
        mart.name,
        {
            "called": (mart.name, mart.question),
            "synonyms": [phrase for metric in metrics for phrase in (metric.label, *metric.synonyms)],
            "owner": (mart.owner or "",),
            "says": (mart.description, *(f"{column.name} {column.description}" for column in mart.columns)),
        },
    )
