"""What two revisions of the marts differ in, and where in the SQL that comes from. Pure."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from batch_marts.impact.facts import Mart, MetricFacts, Revision, reads_of
from batch_marts.impact.kinds import What
from batch_marts.impact.meaning import ROWS, Input, digest_of
from batch_marts.metrics import DAILY

_BREAKING: Final[tuple[What, ...]] = (
    "mart_removed", "column_removed", "column_renamed", "column_retyped", "contract_loosened", "grain_changed",
    "metric_removed",
)  # fmt: skip
"""After these, what reads the mart fails, or counts rows that are something else."""
TOLD: Final[tuple[What, ...]] = (*_BREAKING, "meaning_changed", "meaning_corrected", "deprecated")
"""What those downstream are told of; the others take nothing away from anybody."""
_SHOWN_LINES: Final = 14
"""Of a difference in SQL."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    mart: str
    what: What
    says: str
    """In a sentence."""
    metric: str | None = None
    column: str | None = None
    before: str | None = None
    after: str | None = None
    way: tuple[str, ...] = ()
    """From where the SQL differs to what is concerned: `model.column` each, or `model` for its rows."""
    sql: str = ""
    """How the SQL differs there."""
    mark: str = ""
    """What tells this change from another one of the same thing: a digest of both sides."""
    comes_on: date | None = None
    """When it takes effect, where the change itself says so."""

    @property
    def change_id(self) -> str:
        """The same for the same change, in whichever branch."""
        parts = (self.mart, self.metric or "", self.column or "", self.what, self.mark)
        return digest_of(*parts)[:16]

    @property
    def is_breaking(self) -> bool:
        """Whether what reads the mart may fail."""
        return self.what in _BREAKING

    @property
    def about(self) -> str:
        """What it is of: a metric, `mart.column`, or a mart."""
        return self.metric or (f"{self.mart}.{self.column}" if self.column else self.mart)


def differences(base: Revision, head: Revision) -> list[Change]:
    """All that is not in `head` as it was in `base`, by mart; metrics last."""
    found = [*_marts(base, head), *_metrics(base, head)]
    return sorted(found, key=lambda one: (one.mart == DAILY, one.mart, one.metric or "", not one.is_breaking))


def corrected(change: Change, because: str) -> Change:
    """A changed meaning of which somebody says that the definition stays: the SQL had not kept to it."""
    return replace(
        change,
        what="meaning_corrected",
        says=f"{change.about} is worked out otherwise; its definition stays, because {because}.",
    )


# Marts


def _marts(base: Revision, head: Revision) -> Iterator[Change]:
    for name in sorted(base.marts.keys() - head.marts.keys()):
        yield _made(name, "mart_removed", f"The mart {name} is gone.", before=name)
    for name in sorted(head.marts.keys() - base.marts.keys()):
        mart = head.marts[name]
        of = f", version {mart.version} of {mart.model.removesuffix(f'_v{mart.version}')}" if mart.version > 1 else ""
        yield _made(name, "mart_added", f"The mart {name} is new{of}.", after=name)
    for name in sorted(base.marts.keys() & head.marts.keys()):
        yield from _mart(base, head, base.marts[name], head.marts[name])


def _mart(base: Revision, head: Revision, was: Mart, now: Mart) -> Iterator[Change]:
    name = now.name
    renamed = dict(_renamed(base, head, was, now))
    for column in was.columns.keys() - now.columns.keys():
        if column in renamed:
            told = f"The column {column} of {name} is called {renamed[column]}."
            yield _made(name, "column_renamed", told, column=column, before=column, after=renamed[column])
        else:
            told = f"The column {column} of {name} is gone."
            yield _made(name, "column_removed", told, column=column, before=was.columns[column].data_type)
    for column in now.columns.keys() - was.columns.keys() - set(renamed.values()):
        told = f"The column {column} of {name} is new."
        yield _made(name, "column_added", told, column=column, after=now.columns[column].data_type)
    for column in was.columns.keys() & now.columns.keys():
        before, after = was.columns[column], now.columns[column]
        if before.data_type != after.data_type:
            told = f"The column {column} of {name} is {after.data_type} instead of {before.data_type}."
            yield _made(name, "column_retyped", told, column=column, before=before.data_type, after=after.data_type)
        if before.description != after.description:
            told = f"The description of {name}.{column} reads otherwise."
            yield _made(
                name, "description_changed", told, column=column, before=before.description, after=after.description
            )
    yield from _terms(was, now)
    if name != DAILY:  # its rows are the metrics, each of which is told of by itself
        yield from _meanings(base, head, was, now)


def _terms(was: Mart, now: Mart) -> Iterator[Change]:
    """What is promised of a mart besides its columns."""
    name = now.name
    if was.is_contracted and not now.is_contracted:
        told = f"The contract of {name} is not enforced any more: names and types may change in silence."
        yield _made(name, "contract_loosened", told, before="enforced", after="not enforced")
    if was.grain != now.grain:
        before, after = _grain(was), _grain(now)
        told = f"{name} has one row per {after} instead of one per {before}."
        yield _made(name, "grain_changed", told, before=before, after=after)
    if was.description != now.description:
        told = f"The description of {name} reads otherwise."
        yield _made(name, "description_changed", told, before=was.description, after=now.description)
    for test in sorted(was.tests.keys() - now.tests.keys()):
        yield _made(name, "test_removed", f"{name} is not tested any more for: {test}.", before=test)
    for test in sorted(now.tests.keys() - was.tests.keys()):
        yield _made(name, "test_added", f"{name} is tested for: {test}.", after=test)
    for test in sorted(was.tests.keys() & now.tests.keys()):
        if was.tests[test] != now.tests[test]:
            told = f"The test of {name} for “{test}” asks something else."
            yield _made(name, "test_changed", told, before=was.tests[test], after=now.tests[test])
    if now.deprecated_on is not None and now.deprecated_on != was.deprecated_on:
        told = f"The mart {name} goes on {now.deprecated_on.isoformat()}."
        yield _made(
            name, "deprecated", told, before=_date(was.deprecated_on), after=_date(now.deprecated_on),
            comes_on=now.deprecated_on,
        )  # fmt: skip


def _renamed(base: Revision, head: Revision, was: Mart, now: Mart) -> Iterator[tuple[str, str]]:
    """Columns that are there under another name: what they mean is the same, and so is their type."""
    gone = [name for name in was.columns if name not in now.columns]
    new = [name for name in now.columns if name not in was.columns]
    for column in gone:
        before = base.meaning(was.model, column)
        for other in new:
            after = head.meaning(now.model, other)
            same = before is not None and after is not None and before.digest == after.digest
            if same and was.columns[column].data_type == now.columns[other].data_type:
                new.remove(other)
                yield column, other
                break


def _meanings(base: Revision, head: Revision, was: Mart, now: Mart) -> Iterator[Change]:
    """The columns that are worked out otherwise, and whether other rows are there."""
    for column in (ROWS, *was.columns):
        if column != ROWS and column not in now.columns:
            continue
        before, after = base.meaning(was.model, column), head.meaning(now.model, column)
        if before is None or after is None or before.digest == after.digest:
            continue
        what = f"Which rows {now.name} has" if column == ROWS else f"{now.name}.{column}"
        way = _way(base, head, now.model, column)
        came = f", since {way[0]} is" if len(way) > 1 else ""
        yield _made(
            now.name,
            "meaning_changed",
            f"{what} is worked out otherwise{came}.",
            column=None if column == ROWS else column,
            mark=digest_of(before.digest, after.digest),
            way=way,
            sql=_sql(base, head, way),
        )


# Metrics


def _metrics(base: Revision, head: Revision) -> Iterator[Change]:
    for name in base.metrics.keys() - head.metrics.keys():
        yield _made(DAILY, "metric_removed", f"The metric {name} is gone.", metric=name, before=name)
    for name in head.metrics.keys() - base.metrics.keys():
        metric = head.metrics[name].metric
        of = f", version {metric.version} of {metric.name}" if metric.version > 1 else ""
        yield _made(DAILY, "metric_added", f"The metric {name} is new{of}.", metric=name, after=metric.definition)
    for name in base.metrics.keys() & head.metrics.keys():
        yield from _metric(base, head, name, base.metrics[name], head.metrics[name])


def _metric(base: Revision, head: Revision, name: str, was: MetricFacts, now: MetricFacts) -> Iterator[Change]:
    before, after = was.metric, now.metric
    if was.meaning.digest != now.meaning.digest:
        way = _metric_way(base, head, name)
        origin = way[0] if way and way[0] in base.metrics and way[0] in head.metrics else name
        own = _lines(_metric_sql(base.metrics[origin]), _metric_sql(head.metrics[origin]))
        came = f", since {way[0]} is" if way else ""
        told = f"The metric {name} is worked out otherwise{came}."
        mark = digest_of(was.meaning.digest, now.meaning.digest)
        sql = own or _sql(base, head, way)
        yield _made(DAILY, "meaning_changed", told, metric=name, mark=mark, way=(*way, name), sql=sql)
    if before.definition != after.definition or before.label != after.label:
        told = f"The definition of {name} reads otherwise."
        yield _made(DAILY, "description_changed", told, metric=name, before=before.definition, after=after.definition)
    if after.retired is not None and after.retired != before.retired:
        told = f"The metric {name} goes on {after.retired.isoformat()}."
        yield _made(
            DAILY, "deprecated", told, metric=name, before=_date(before.retired), after=_date(after.retired),
            comes_on=after.retired,
        )  # fmt: skip


def _metric_way(base: Revision, head: Revision, name: str) -> tuple[str, ...]:
    """The way to a metric from SQL that differs; to a ratio by the metric that does."""
    for part in head.metrics[name].metric.ratio or ():
        before, after = base.metrics.get(part), head.metrics[part]
        if before is None or before.meaning.digest != after.meaning.digest:
            return (*_metric_way(base, head, part), part)
    return _way(base, head, "", name)


def _metric_sql(facts: MetricFacts) -> str:
    metric = facts.metric
    return metric.value if metric.value is not None else " / ".join(metric.ratio or ())


# Where it comes from


def _way(base: Revision, head: Revision, model: str, column: str) -> tuple[str, ...]:
    """The shortest way from SQL that differs to a column of a model, or with no model to a metric."""

    def below(one: Input) -> frozenset[Input]:
        if one[0] == "":
            return reads_of(head, DAILY, None, one[1]) | reads_of(base, DAILY, None, one[1])
        found = [revision.meaning(*one) for revision in (base, head)]
        return frozenset().union(*(each.reads for each in found if each is not None))

    def differs(one: Input) -> bool:
        before, after = base.meaning(*one), head.meaning(*one)
        return (before.digest if before else None) != (after.digest if after else None)

    waiting: deque[tuple[Input, ...]] = deque([((model, column),)])
    seen = {(model, column)}
    while waiting:
        way = waiting.popleft()
        further = [one for one in sorted(below(way[-1])) if differs(one)]
        if not further:
            return tuple(_name(one) for one in reversed(way) if one[0])
        for one in further:
            if one not in seen:
                seen.add(one)
                waiting.append((*way, one))
    return ()


def _name(one: Input) -> str:
    model, column = one
    return model if column == ROWS else f"{model}.{column}"


def _sql(base: Revision, head: Revision, way: tuple[str, ...]) -> str:
    """How the SQL of the model differs where a way begins."""
    model = way[0].partition(".")[0] if way else ""
    return _lines(base.queries.get(model, ""), head.queries.get(model, ""))


def _lines(before: str, after: str) -> str:
    lines = [
        line
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
        if not line.startswith(("---", "+++", "@@"))
    ]
    more = [f"… and {len(lines) - _SHOWN_LINES} more lines"] if len(lines) > _SHOWN_LINES else []
    return "\n".join([*lines[:_SHOWN_LINES], *more])


def _made(
    mart: str,
    what: What,
    says: str,
    *,
    metric: str | None = None,
    column: str | None = None,
    before: str | None = None,
    after: str | None = None,
    mark: str = "",
    way: tuple[str, ...] = (),
    sql: str = "",
    comes_on: date | None = None,
) -> Change:
    mark = mark or digest_of(before or "", after or "")
    return Change(mart, what, says, metric, column, before, after, way, sql, mark, comes_on)


def _grain(mart: Mart) -> str:
    return " and per ".join(sorted(", ".join(sorted(key)) for key in mart.grain)) or "nothing that a test holds"


def _date(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def by_mart(changes: list[Change]) -> Mapping[str, list[Change]]:
    """The changes of each mart, in order."""
    found: dict[str, list[Change]] = {}
    for one in changes:
        found.setdefault(one.mart, []).append(one)
    return found
