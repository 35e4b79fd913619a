"""What Slack shows of an incident: its message, and the reply that each change is. Pure, and the same each time.

The first line has to be enough at three in the morning: how bad, which metric, how far off. Then the figures, what
explains them, what the metric means, and what one can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from batch_marts.anomalies.blocks import (
    FALLBACK,
    Block,
    actions,
    button,
    clip,
    code,
    context,
    escape,
    header,
    link,
    section,
)
from batch_marts.anomalies.health import CHECKS
from batch_marts.anomalies.incidents import LENGTH, SEVERITIES, Change, Deed, Incident, is_group
from batch_marts.anomalies.numbers import amount, change, day, instead, is_sum, lasting, moment, span, value_of
from batch_marts.anomalies.verdicts import Verdict
from batch_marts.metrics import WHOLE, Metric

ACTIONS: Final[dict[Deed, str]] = {
    "acknowledge": "stitchline_acknowledge",
    "snooze": "stitchline_snooze",
    "not_anomaly": "stitchline_not_anomaly",
}
"""The action_id of each button; its value is the incident's id."""

_SIGNS: Final = {1: "🟡", 2: "🟠", 3: "🔴"}
_OVER: Final = {"resolved": "✅", "expired": "⌛", "dismissed": "☑️"}
_SEGMENTS: Final = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """What an incident may be about, as people know it."""

    label: str
    definition: str
    unit: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where more can be read; addresses in which {incident}, {metric} and {anchor} are filled in. None: nowhere."""

    incident: str | None = None
    definition: str | None = None
    runbook: str | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """All that the words depend on besides the incident."""

    subjects: Mapping[str, Subject]
    places: Places = Places()
    mention: str = ""
    """How those on duty are called."""

    def subject(self, metric: str) -> Subject:
        """The metric as people know it; by its name, if nobody defined it."""
        return self.subjects.get(metric) or Subject(metric, "", "")


def subjects_of(metrics: Sequence[Metric]) -> dict[str, Subject]:
    """By name, these metrics and what can be wrong with Stitchline itself."""
    own = {name: Subject(check.label, check.definition, check.unit) for name, check in CHECKS.items()}
    return own | {metric.shown_as: Subject(metric.label, metric.definition, metric.unit) for metric in metrics}


def incident_message(incident: Incident, telling: Telling) -> dict[str, Any]:
    """`text` and `blocks` of the message, as the incident is now."""
    title = f"{_sign(incident)} {title_of(incident, telling)}"
    blocks = [header(title), section(_figures(incident, telling))]
    if explained := _explained(incident, telling):
        blocks.append(section(explained))
    if (about := _about(incident, telling)) is not None:
        blocks.append(about)
    blocks.append(context(_standing(incident, telling)))
    if not incident.is_over:
        blocks.append(actions(_buttons(incident)))
    return {
        "text": clip(f"{_title_in_words(incident, telling)}. {_summary(incident, telling)}", FALLBACK),
        "blocks": blocks,
    }


def change_reply(incident: Incident, changed: Change, telling: Telling) -> dict[str, Any] | None:
    """`text` and `blocks` of the reply; None for the opening, which the message itself tells."""
    if changed.what == "opened":
        return None
    text = _said(incident, changed, telling)
    return {"text": text, "blocks": [section([text])]}


def current(incident: Incident) -> Verdict:
    """The verdict that a single incident is told by: the last one out of range, the finest of that time."""
    return max(incident.firing or incident.verdicts, key=lambda v: (v.at, -LENGTH[v.grain].total_seconds()))


def _off(verdict: Verdict) -> str:
    told = change(verdict.actual, verdict.expected)
    return f"{told} {'what is ' if told.endswith('times') else ''}expected"


def _name(verdict: Verdict, telling: Telling) -> str:
    label = telling.subject(verdict.metric).label
    return label if verdict.segment == WHOLE else f"{label}, {verdict.segment}"


def title_of(incident: Incident, telling: Telling) -> str:
    now = current(incident)
    many = len({metric for metric, _ in incident.members})
    if incident.kind == "late":
        late = "Data late" if not incident.is_over else "Data is there"
        what = f"{many} metrics" if many > 1 else _name(now, telling)
        return f"{late}: {what}, {value_of(now)}"
    if is_group(incident):
        return f"{many} metrics {'back in range' if incident.status == 'resolved' else 'out of range together'}"
    name = _name(now, telling)
    if incident.kind == "health":
        return f"{name}: {'all right again' if incident.status == 'resolved' else now.because}"
    if incident.status == "resolved":
        return f"{name} back in range"
    return f"{name} {_off(now)}"


def _title_in_words(incident: Incident, telling: Telling) -> str:
    """The title with the standing in a word, where there is no sign to see."""
    word = incident.status.capitalize() if incident.status != "open" else SEVERITIES[incident.severity].capitalize()
    if incident.status == "dismissed":
        word = "No anomaly"
    return f"{word}: {title_of(incident, telling)}"


def _summary(incident: Incident, telling: Telling) -> str:
    """The figures in one sentence, for a notification."""
    now = current(incident)
    if incident.status == "resolved":
        return _lasted(incident, telling)
    if incident.kind != "anomaly":
        return f"Since {_since(incident)}."
    if is_group(incident):
        names = [telling.subject(metric).label for metric in _metrics(incident)]
        return f"{', '.join(names[:4])}{' and others' if len(names) > 4 else ''}, since {_since(incident)}."
    unit = telling.subject(now.metric).unit
    told = f"{amount(now.actual, unit)}, expected {span(now.low, now.high, unit)}; {value_of(now)}"
    return f"{told}, {now.unusual}." if now.unusual else f"{told}."


def _figures(incident: Incident, telling: Telling) -> list[str]:
    """What is so, in lines."""
    now = current(incident)
    if incident.status == "resolved":
        return [escape(_lasted(incident, telling))]
    if incident.kind == "late":
        return [
            f"Nothing is wrong with the metrics as far as one knows: their data is not all there yet, so they are not "
            f"judged. {clip(now.because.rstrip('.').capitalize(), 500)}.",
            *[f"• {escape(_name(verdict, telling))}: {value_of(verdict)}" for verdict in _last_of_each(incident)],
        ]
    if is_group(incident):
        return [_line(verdict, telling) for verdict in _last_of_each(incident)]
    unit = telling.subject(now.metric).unit
    if incident.kind == "health":
        return [clip(telling.subject(now.metric).definition or now.because, 1000)]
    lines = [
        f"*{escape(amount(now.actual, unit))}*, expected {escape(span(now.low, now.high, unit))} ({value_of(now)})"
    ]
    z = f"z = {now.z:.1f}" if now.z is not None else "no z, as it never changed before"
    lines.append(f"{clip(now.unusual[:1].upper() + now.unusual[1:], 300)} · {z}" if now.unusual else z)
    worst = max(incident.firing or incident.verdicts, key=lambda verdict: verdict.z or 0)
    if (worst.z or 0) > (now.z or 0) and worst.grain == now.grain:
        at = value_of(worst)
        lines.append(
            f"Worst so far: {escape(amount(worst.actual, unit))}, {change(worst.actual, worst.expected)} ({at})"
        )
    return lines


def _line(verdict: Verdict, telling: Telling) -> str:
    """One of several metrics, in a line."""
    unit = telling.subject(verdict.metric).unit
    z = f", z = {verdict.z:.1f}" if verdict.z is not None else ""
    told = f"{amount(verdict.actual, unit)}, expected {span(verdict.low, verdict.high, unit)}"
    return f"• *{clip(_name(verdict, telling), 200)}*: {escape(told)} ({change(verdict.actual, verdict.expected)}{z})"


def _explained(incident: Incident, telling: Telling) -> list[str]:
    now = current(incident)
    if is_group(incident) or incident.status == "resolved" or not now.parts:
        return []
    unit = telling.subject(now.metric).unit
    lines = ["*Where it comes from*"]
    for part in now.parts[:_SEGMENTS]:
        told = instead(part.actual, part.expected, unit)
        lines.append(f"• {code(part.segment)}: {escape(told)}, {part.share * 100:.0f} % of the change")
    return lines


def _about(incident: Incident, telling: Telling) -> Block | None:
    """What the metric means, and where more stands."""
    links = []
    if telling.places.incident:
        links.append(link(telling.places.incident.format(incident=incident.incident_id), "Chart and history"))
    metrics = _metrics(incident)
    subject = telling.subject(metrics[0])
    lines = []
    if len(metrics) == 1 and incident.kind != "late":
        if subject.definition and incident.kind == "anomaly":
            first = f"{subject.definition.split('. ')[0].rstrip('.')}."
            lines.append(clip(first, 400))
        if telling.places.definition and incident.kind == "anomaly":
            links.append(link(telling.places.definition.format(metric=metrics[0]), f"What “{subject.label}” means"))
    if telling.places.runbook:
        anchor = "late" if incident.kind == "late" else CHECKS[metrics[0]].anchor if metrics[0] in CHECKS else "anomaly"
        if is_group(incident) and incident.kind == "anomaly":
            anchor = "together"
        links.append(link(telling.places.runbook.format(anchor=anchor), "What to do"))
    if links:
        lines.append(" · ".join(links))
    return section(lines) if lines else None


def _standing(incident: Incident, telling: Telling) -> list[str]:
    """How it stands, whose it is, and by which rule."""
    rule = "" if incident.kind != "anomaly" else f" by the {escape(incident.rule)} rule"
    since = day(incident.since) if _is_of_days(incident) else _local(incident.since)
    found = f"Since {since}, found {_local(incident.opened_at)}{rule}"
    by = f" by {clip(incident.acted_by, 100)}" if incident.acted_by else ""
    standing = incident.status.capitalize()
    if incident.status == "snoozed" and incident.snoozed_until is not None:
        by += f" until {_local(incident.snoozed_until)}"
    if incident.status == "dismissed":
        standing = "No anomaly: its values stay in the baseline; said so"
    if incident.status == "resolved" and incident.ended_at is not None:
        by = f", back in range since {_local(incident.ended_at)}" if incident.kind == "anomaly" else ""
    severity = SEVERITIES[incident.severity]
    return [f"*{standing}*{by} · {severity} · {clip(incident.team, 100)}", found]


def _buttons(incident: Incident) -> list[Block]:
    def press(text: str, deed: Deed, style: str | None = None) -> Block:
        return button(text, ACTIONS[deed], incident.incident_id, style)

    buttons = [] if incident.status == "acknowledged" else [press("Acknowledge", "acknowledge", "primary")]
    if incident.status != "snoozed":
        buttons.append(press("Snooze 4 h", "snooze"))
    if incident.kind == "anomaly":
        buttons.append(press("Not an anomaly", "not_anomaly"))
    return buttons


def _said(incident: Incident, changed: Change, telling: Telling) -> str:
    """The reply's text, escaped."""
    who = clip(changed.actor or "Somebody", 100)
    now = escape(_summary(incident, telling))
    match changed.what:
        case "acknowledged":
            return f"{who} has acknowledged it."
        case "snoozed":
            return f"{who} has snoozed it until {_local(datetime.fromisoformat(changed.about))}."
        case "dismissed":
            return f"{who} says that this is no anomaly. Its values stay in the baseline."
        case "woke":
            return f"The snooze is over, and it goes on. {now} {telling.mention}".rstrip()
        case "escalated":
            waited = lasting(changed.at - incident.opened_at)
            return f"{telling.mention} Nobody has acknowledged this for {waited}.".lstrip()
        case "worsened":
            return f"It is *{escape(changed.about)}* now. {now}"
        case "joined":
            names = [telling.subject(metric).label for metric in changed.about.split(", ")]
            return clip(f"More of the same cause: {', '.join(names)}.", 2000)
        case "confirmed":
            return escape(_of_day(incident, datetime.fromisoformat(changed.about), telling))
        case "reopened":
            return f"Out of range again. {escape(title_of(incident, telling))}."
        case "expired":
            return "No value has come in for days, so nobody knows whether it goes on. It is not watched any more."
        case _:
            return escape(_lasted(incident, telling))


def _of_day(incident: Incident, at: datetime, telling: Telling) -> str:
    found = [verdict for verdict in incident.firing if verdict.grain == "day" and verdict.at == at]
    if not found:
        return "The day as a whole shows it, too."
    verdict, unit = found[0], telling.subject(found[0].metric).unit
    told = f"{amount(verdict.actual, unit)}, {change(verdict.actual, verdict.expected)} what is expected"
    return f"{value_of(verdict)} as a whole shows it, too: {told} ({span(verdict.low, verdict.high, unit)})."


def _lasted(incident: Incident, telling: Telling) -> str:
    """How long it was and how much it came to, once it is over."""
    if incident.kind == "late":
        return "The data has come in; the metrics are judged again."
    if not incident.firing:
        return "Corrected data brought it back in range: it was none."
    lasted = lasting(max((incident.ended_at or incident.until) - incident.since, timedelta()))
    told = f"Out of range for {lasted}, from {_since(incident)}"
    if incident.kind == "health":
        return f"{told.replace('Out of range', 'Not as it should be')}."
    if is_group(incident):
        return f"{told}: {len(_metrics(incident))} metrics."
    worst = max(incident.firing, key=lambda verdict: verdict.z or 0)
    unit = telling.subject(worst.metric).unit
    told += f"; at worst {amount(worst.actual, unit)}, {change(worst.actual, worst.expected)} what is expected"
    finest = min(LENGTH[verdict.grain] for verdict in incident.firing)
    pairs = [(v.actual, v.expected) for v in incident.firing if LENGTH[v.grain] == finest]
    if is_sum(unit) and all(actual is not None and expected is not None for actual, expected in pairs):
        missing = sum((actual or 0) - (expected or 0) for actual, expected in pairs)
        told += f". In all {amount(abs(missing), unit)} {'fewer' if missing < 0 else 'more'} than expected"
    return f"{told}."


def _sign(incident: Incident) -> str:
    if incident.status in _OVER:
        return _OVER[incident.status]
    return "⏳" if incident.kind == "late" else _SIGNS[incident.severity]


def _metrics(incident: Incident) -> list[str]:
    return sorted({metric for metric, _ in incident.members})


def _last_of_each(incident: Incident) -> list[Verdict]:
    """The last verdict out of range of each series, the most unusual first."""
    last = {(verdict.metric, verdict.segment): verdict for verdict in incident.firing or incident.verdicts}
    return sorted(last.values(), key=lambda verdict: (-(verdict.z or 0), verdict.metric, verdict.segment))


def _is_of_days(incident: Incident) -> bool:
    return all(verdict.grain == "day" for verdict in incident.closest)


def _since(incident: Incident) -> str:
    """When it began, for where Slack shows no reader's own time."""
    return day(incident.since) if _is_of_days(incident) else moment(incident.since)


def _local(at: datetime) -> str:
    """A time as Slack shows it by each reader's own clock; in UTC where it cannot."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{moment(at)}>"
