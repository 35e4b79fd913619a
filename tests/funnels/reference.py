"""A naive funnel, from the words of the funnel definition alone: loops over events, tries every way to fill steps.

Told apart from the engine in everything: no SQL, no greedy choice, no bit sets, no Hall.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.funnels.worlds import Event, World


@dataclass(frozen=True)
class Entry:
    """One way through the funnel: when each step was reached, and the event that began it."""

    first: Event
    times: tuple[datetime, ...]


def funnel(world: World, definition: Any, as_of: datetime | None) -> dict[str, Any]:
    """What the engine must answer, as plain values."""
    by_subject = defaultdict(list)
    for event in _once(event for event in world.events if _eligible(world, definition, event)):
        by_subject[_subject(world, definition.by, event)].append(event)
    results = [entry for events in by_subject.values() if (entry := _best_entry(definition, events)) is not None]
    parts = defaultdict(list)
    if definition.breakdown:
        for entry in results:
            parts[_shown(_field(entry.first, definition.breakdown))].append(entry)
    return {
        "steps": _steps(definition, results, as_of),
        "as_of": as_of,
        "breakdown": [
            {"value": value, "steps": _steps(definition, part, as_of)}
            for value, part in sorted(parts.items(), key=lambda item: (-len(item[1]), item[0].encode()))
        ],
    }


def _eligible(world: World, definition: Any, event: Event) -> bool:
    """Whether the event can fill a step at all, of anybody."""
    if event.is_bot or event.device in world.bot_devices or _subject(world, definition.by, event) is None:
        return False
    if definition.since is not None and event.event_at < definition.since:
        return False
    if definition.until is not None and event.event_at > definition.until + definition.window:
        return False
    return any(_fits(step, event) for step in definition.steps)


def _once(events: Iterator[Event]) -> list[Event]:
    """The earliest of the events with one (anonymous id, message id)."""
    kept: dict[tuple[str | None, str], Event] = {}
    for event in sorted(events, key=lambda event: (event.event_at, event.offset)):
        kept.setdefault((event.device, event.message_id), event)
    return sorted(kept.values(), key=lambda event: (event.event_at, event.message_id.encode()))


def _subject(world: World, by: str, event: Event) -> str | None:
    place = (event.event_at, event.message_id)
    if by == "device":
        return event.device
    if by == "session":
        for session in world.sessions:
            if session.device == event.device and session.first <= place <= session.last:
                return None if session.is_bot else session.session_id
        return None
    if event.user is None or event.person_then != event.user:
        for override in world.overrides:
            if override.device == event.device and override.first <= place < override.end:
                return override.person
    return event.person_then


def _best_entry(definition: Any, events: Sequence[Event]) -> Entry | None:
    """The entry that got furthest, the earliest on ties. `events` are in order."""
    best: Entry | None = None
    for first in events:
        begins = definition.until is None or first.event_at < definition.until
        if begins and _fits(definition.steps[0], first):
            entry = Entry(first, _furthest(definition, events, [first]))
            if best is None or len(entry.times) > len(best.times):
                best = entry
    return best


def _furthest(definition: Any, events: Sequence[Event], taken: list[Event]) -> tuple[datetime, ...]:
    """The times of the steps on the best way on from the events taken: the furthest, then the earliest."""
    best = tuple(event.event_at for event in taken)
    if len(taken) == len(definition.steps):
        return best
    for event in events:
        in_order = event.event_at >= taken[-1].event_at
        in_window = event.event_at - taken[0].event_at <= definition.window
        unused = not any(event is other for other in taken)
        if in_order and in_window and unused and _fits(definition.steps[len(taken)], event):
            way = _furthest(definition, events, [*taken, event])
            best = min(best, way, key=lambda times: (-len(times), times))
    return best


def _steps(definition: Any, entries: Sequence[Entry], as_of: datetime | None) -> list[dict[str, Any]]:
    answer = []
    first_count = len(entries)
    for number, step in enumerate(definition.steps):
        reached = [entry for entry in entries if len(entry.times) > number]
        before = [entry for entry in entries if len(entry.times) >= max(number, 1)]
        stayed = [entry for entry in reached if len(entry.times) == number + 1 < len(definition.steps)]
        still_open = [entry for entry in stayed if as_of is None or entry.first.event_at + definition.window >= as_of]
        seconds = sorted((entry.times[number] - entry.times[number - 1]).total_seconds() for entry in reached if number)
        answer.append(
            {
                "step": step.event,
                "count": len(reached),
                "conversion": len(reached) / len(before) if before else None,
                "conversion_from_start": len(reached) / first_count if first_count else None,
                "dropped": len(stayed) - len(still_open),
                "still_open": len(still_open),
                "median_seconds": _quantile(seconds, 0.5),
                "p90_seconds": _quantile(seconds, 0.9),
            }
        )
    return answer


def _quantile(ordered: Sequence[float], part: float) -> float | None:
    if not ordered:
        return None
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _fits(step: Any, event: Event) -> bool:
    if event.name != step.event:
        return False
    return all(_same(_field(event, name), wanted) for name, wanted in step.where.items())


def _field(event: Event, name: str) -> object:
    """The value of a field, None where it is missing: properties.KEY, or a column."""
    if name.startswith(("properties.", "context.")):
        source, key = name.split(".", 1)
        content: Mapping[str, object] | None = getattr(event, source)
        return None if content is None else content.get(key)
    value: object = getattr(event, name)
    return value


def _same(value: object, wanted: object) -> bool:
    """Equal as JSON values: true is not 1, "1" is not 1, 1.0 is."""
    return isinstance(value, bool) is isinstance(wanted, bool) and value == wanted


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) else json.dumps(value)
