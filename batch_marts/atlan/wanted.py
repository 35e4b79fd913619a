"""The catalogue as it should be in Atlan: tables, columns, lineage, and a term for each metric. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from batch_marts.atlan.entries import Entry
from batch_marts.catalogue import Catalogue, Mart
from batch_marts.metrics import DAILY, Metric

_MARTS: Final = "marts"
_NO_CERTIFICATE: Final = (None, None)
_NO_ANNOUNCEMENT: Final = (None, None, None)
_PINNED: Final = {
    "pinned.pinned_sessions": "stream.sessions",
    "pinned.pinned_bot_devices": "stream.bot_devices",
    "pinned.pinned_overrides": "stream.person_overrides",
}
"""What a build copies, and of what. Its other copies hold nothing but notes on the build."""
_SOURCES: Final = ("stream.", "marketing.")


def wanted(
    catalogue: Catalogue, trust: Mapping[str, Any], database: str, groups: Mapping[str, str] | None = None
) -> list[Entry]:
    """What should be in Atlan. `trust` is what the API says at /api/trust; `database` is the name of the warehouse;
    `groups` has Atlan's name of a team that has another one there."""
    named = dict(groups or {})
    standings = {one["name"]: one for one in trust["marts"]}
    marts = [catalogue.marts[name] for name in standings]
    passed = bool(trust["last_refresh"]["passed"])
    pending = {one["name"]: one["pending"] for one in trust["metrics"]}
    sources = sorted({source for mart in marts for source in _nearest(catalogue, mart.name) if "." in source})
    schemas = sorted({_MARTS, *(source.partition(".")[0] for source in sources)})
    entries = [Entry("Database", database, database)]
    entries += [Entry("Schema", f"{database}/{schema}", schema) for schema in schemas]
    entries += [_source(database, source) for source in sources]
    for mart in marts:
        entries.append(_table(database, catalogue, mart, standings[mart.name], passed, named))
        entries += _columns(database, mart)
        reads = tuple(_key(database, name) for name in _nearest(catalogue, mart.name))
        if reads:
            entries.append(
                Entry("Process", f"{database}/dbt/{mart.name}", f"dbt builds {mart.name}", reads=reads,
                      makes=_key(database, mart.name))
            )  # fmt: skip
    entries += [_term(one, passed, pending.get(one.shown_as, ()), named) for one in catalogue.metrics.values()]
    return entries


def _key(database: str, table: str) -> str:
    schema, _, name = table.rpartition(".")
    return f"{database}/{schema or _MARTS}/{name}"


def _nearest(catalogue: Catalogue, name: str) -> list[str]:
    """The marts and sources that a mart is made from, through what lies between them."""
    found: list[str] = []
    seen: set[str] = set()
    waiting = list(catalogue.models[name].reads) if name in catalogue.models else []
    while waiting:
        read = waiting.pop(0)
        read = _PINNED.get(read, read)
        if read in seen:
            continue
        seen.add(read)
        if read in catalogue.marts or read.startswith(_SOURCES):
            found.append(read)
        elif read in catalogue.models:
            waiting += catalogue.models[read].reads
    return sorted(found)


def _source(database: str, source: str) -> Entry:
    return Entry("Table", _key(database, source), source.partition(".")[2], {"description": "What the marts are of."})


def _table(
    database: str,
    catalogue: Catalogue,
    mart: Mart,
    standing: Mapping[str, Any],
    passed: bool,
    groups: Mapping[str, str],
) -> Entry:
    metrics = catalogue.metrics if mart.name == DAILY else [one.shown_as for one in catalogue.metrics_of(mart.name)]
    own = {
        "description": f"{mart.question} {mart.description}".strip(),
        "rowCount": standing["rows"],
        "sourceUpdatedAt": _milliseconds(standing["published_at"]),
    }
    failed = standing["tests"]["failed_since"]
    return Entry(
        "Table",
        _key(database, mart.name),
        mart.name,
        {name: value for name, value in own.items() if value is not None},
        {
            "certificate": _certificate(passed, mart.test_count, failed),
            "announcement": _announcement([one for one in standing["pending"] if one["metric"] is None]),
        },
        owners=_owners(mart.owner, groups),
        links=frozenset(metrics),
    )


def _columns(database: str, mart: Mart) -> Iterator[Entry]:
    for number, column in enumerate(mart.columns, 1):
        tested = f" Tested: {'; '.join(column.tests)}." if column.tests else ""
        own = {"description": f"{column.description}{tested}", "dataType": column.data_type, "order": number}
        yield Entry("Column", f"{_key(database, mart.name)}/{column.name}", column.name, own)


def _term(metric: Metric, passed: bool, pending: Sequence[Mapping[str, Any]], groups: Mapping[str, str]) -> Entry:
    facts = [f"Version {metric.version}", f"in {metric.unit}", f"good when it goes {metric.good}"]
    if metric.dimension is not None:
        facts.append(f"split by {metric.dimension}")
    if metric.ratio is not None:
        facts.append(f"{metric.ratio[0]} divided by {metric.ratio[1]}")
    if metric.synonyms:
        facts.append(f"also called {', '.join(metric.synonyms)}")
    return Entry(
        "AtlasGlossaryTerm",
        metric.shown_as,
        metric.label if metric.version == 1 else f"{metric.label} (version {metric.version})",
        {"description": metric.definition, "usage": "; ".join(facts) + ".", "abbreviation": metric.shown_as},
        {"certificate": _certificate(passed, None, ()), "announcement": _announcement(pending)},
        owners=_owners(metric.owner, groups),
    )


def _certificate(passed: bool, tests: int | None, failed: Sequence[Mapping[str, Any]]) -> tuple[str | None, ...]:
    """Verified only when the tests of the last refresh passed."""
    if passed:
        said = "Every test" if tests is None else "Its test" if tests == 1 else f"All {tests} tests"
        return ("VERIFIED", f"{said} passed in the last refresh.")
    if failed:
        said = "; ".join(f"{one['what'].replace('_', ' ')}: {one['says']}" for one in failed[:3])
        return ("DRAFT", f"The last refresh failed its tests ({said}). What is published is from before it.")
    return ("DRAFT", "The last refresh failed. What is published is from before it.")


def _announcement(pending: Sequence[Mapping[str, Any]]) -> tuple[str | None, ...]:
    if not pending:
        return _NO_ANNOUNCEMENT
    day = min(str(one["in_force_at"]) for one in pending)[:10]
    kind = "warning" if any(one["is_breaking"] for one in pending) else "information"
    said = [
        f"{str(one['in_force_at'])[:10]}: {one['says']}{' ' + one['link'] if one['link'] else ''}" for one in pending
    ]
    return (kind, f"A change comes on {day}", "\n".join(said))


def _owners(owner: str | None, groups: Mapping[str, str]) -> frozenset[str]:
    return frozenset() if owner is None else frozenset({groups.get(owner, owner)})


def _milliseconds(iso: str | None) -> int | None:
    return None if iso is None else round(datetime.fromisoformat(iso).timestamp() * 1000)
