"""What a change does to the marts, for the pull request (Markdown) and for machines (one JSON document). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from batch_marts.anomalies.owners import Owners
from batch_marts.consumers import Consumer, channel_of, downstream
from batch_marts.impact.differences import TOLD, Change, by_mart
from batch_marts.impact.rules import Breach, owners_of, status_of
from batch_marts.metrics import DAILY

_GRAVE: Final = {"meaning_changed": "🔴 meaning changed", "meaning_corrected": "🟠 corrected", "deprecated": "🟠 goes"}
_HARMLESS: Final = "⚪"
_ROWS: Final = 20
"""Values of a metric that a report lists."""
_WIDE: Final = 160
"""Characters of a cell."""
_LEAD: Final = 40
"""Characters that are shown of what long texts have in common, before they part."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure before and after; None where there is none."""

    name: str
    before: float | None
    after: float | None
    changed_days: Sequence[tuple[str, float | None, float | None]] = ()
    """Of a metric: closed days whose value differs, with both."""


@dataclass(frozen=True, slots=True)
class Values:
    """What both revisions make of one warehouse."""

    rows: Sequence[Difference]
    """Of each mart, how many rows it has."""
    sums: Sequence[Difference]
    """Of `mart.column`, what its numbers add up to, where that differs."""
    metrics: Sequence[Difference]
    """Of each metric that differs, its average over closed days, and the days that differ."""
    failed: str = ""
    """Why the later revision cannot be built, if so."""


@dataclass(frozen=True, slots=True)
class Impact:
    """All that there is to say."""

    base: str
    head: str
    changes: Sequence[Change]
    breaches: Sequence[Breach]
    consumers: Sequence[Consumer]
    """Those of both revisions."""
    owned: Mapping[str, Sequence[str]]
    """The teams that own each mart and metric."""
    owners: Owners
    not_understood: Mapping[str, str] = field(default_factory=dict)
    values: Values | None = None

    @property
    def status(self) -> int:
        """The exit status."""
        return status_of(self.breaches)

    def downstream(self, change: Change) -> list[Consumer]:
        """Who has to be told of a change; nobody, if it takes nothing away."""
        return downstream(self.consumers, change.mart, change.column, change.metric) if change.what in TOLD else []


def as_json(impact: Impact) -> dict[str, Any]:
    """The document for machines; `stitchline marts announce` takes it, too."""
    return {
        "base": impact.base,
        "head": impact.head,
        "status": impact.status,
        "breaches": [asdict(one) for one in impact.breaches],
        "changes": [_change(impact, one) for one in impact.changes],
        "compared_as_a_whole": dict(impact.not_understood),
        "values": None if impact.values is None else asdict(impact.values),
    }


def _change(impact: Impact, one: Change) -> dict[str, Any]:
    return {
        "change_id": one.change_id,
        "mart": one.mart,
        "metric": one.metric,
        "column": one.column,
        "what": one.what,
        "is_breaking": one.is_breaking,
        "says": one.says,
        "before": one.before,
        "after": one.after,
        "lineage": list(one.way),
        "sql": one.sql,
        "comes_on": None if one.comes_on is None else one.comes_on.isoformat(),
        "owners": owners_of(one, impact.owned),
        "consumers": [
            {"name": each.name, "label": each.label, "owner": each.owner, "channel": channel_of(each, impact.owners)}
            for each in impact.downstream(one)
        ],
    }


def as_markdown(impact: Impact) -> str:
    """The comment for the pull request."""
    if not impact.changes:
        told = f"Between {impact.base} and {impact.head} every column and every metric means what it did."
        return f"### Marts: nothing changes\n\n{told}\n"
    lines = [f"### Marts: {_verdict(impact)}", "", f"From {impact.base} to {impact.head}.", ""]
    if impact.breaches:
        lines += [f"- **{one.rule}** · `{one.about}`: {_cell(one.says)}" for one in impact.breaches] + [""]
    for mart, changes in by_mart(list(impact.changes)).items():
        lines += [f"#### {'Metrics' if mart == DAILY else mart}", "", "| | what | before | after | owner | told |"]
        lines += ["| --- | --- | --- | --- | --- | --- |", *(_row(impact, one) for one in changes), ""]
        lines += _details(changes)
    if impact.values is not None:
        lines += _values(impact.values)
    if impact.not_understood:
        lines += ["Compared as a whole, since their SQL could not be followed by columns:", ""]
        lines += [f"- `{name}`: {why}" for name, why in impact.not_understood.items()] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _verdict(impact: Impact) -> str:
    words = {"meaning": "meaning changed without a version", "breaking": "breaking", "approval": "waits for approval"}
    said = dict.fromkeys(words[one.rule] for one in impact.breaches)
    return ", ".join(said) or "changes that keep to the rules"


def _row(impact: Impact, one: Change) -> str:
    sign = "🔴 breaking: " if one.is_breaking else f"{_HARMLESS} "
    what = _GRAVE.get(one.what) or f"{sign}{one.what.replace('_', ' ')}"
    told = ", ".join(dict.fromkeys(f"{each.owner} ({each.label})" for each in impact.downstream(one)))
    before, after = _apart(one.before or "", one.after or "")
    cells = (f"`{one.about}`", what, before, after, " or ".join(owners_of(one, impact.owned)), told)
    return f"| {' | '.join(_cell(cell or '', _WIDE) for cell in cells)} |"


def _details(changes: Iterable[Change]) -> list[str]:
    """Where in the SQL a changed meaning comes from: those that come from the same place together."""
    places: dict[str, list[Change]] = {}
    for one in changes:
        if one.sql:
            places.setdefault(one.sql, []).append(one)
    lines = []
    for sql, found in places.items():
        ways = dict.fromkeys(" → ".join(f"`{step}`" for step in one.way) for one in found if one.way)
        lines += [f"<details><summary>{found[0].way[0] if found[0].way else found[0].about}</summary>", ""]
        lines += [f"- {way}" for way in list(ways)[:_ROWS]]
        lines += ["", "```diff", sql.replace("```", "'''"), "```", "</details>", ""]
    return lines


def _values(values: Values) -> list[str]:
    lines = ["#### Values, both built over the same data", ""]
    if values.failed:
        return [*lines, f"The later revision cannot be built: {values.failed}", ""]
    rows = [each for each in values.rows if each.before != each.after]
    found = [("rows of", each) for each in rows] + [("sum of", each) for each in values.sums]
    found += [("average closed day of", each) for each in values.metrics]
    if not found:
        return [*lines, "Every figure is what it was.", ""]
    lines += ["| | before | after | closed days that change |", "| --- | --- | --- | --- |"]
    for what, each in found:
        figures = f"{_number(each.before)} | {_number(each.after)} | {len(each.changed_days) or ''}"
        lines.append(f"| {what} `{each.name}` | {figures} |")
    for each in values.metrics:
        days = "; ".join(f"{day}: {_number(was)} → {_number(now)}" for day, was, now in each.changed_days[:_ROWS])
        if days:
            lines += ["", f"`{each.name}`: {days}"]
    return [*lines, ""]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.2f}"


def _apart(before: str, after: str) -> tuple[str, str]:
    """Two long texts from a little before where they part."""
    alike = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), len(before))
    start = alike - _LEAD if alike > 2 * _LEAD and max(len(before), len(after)) > _WIDE else 0
    return (before, after) if not start else (f"…{before[start:]}", f"…{after[start:]}")


def _cell(text: str, most: int = 2000) -> str:
    """Text within a table."""
    flat = " ".join(text.replace("|", "\\|").split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
