"""A naive funnel, from the words of the funnel definition alone: loops over events, tries every way to fill steps.

Told apart from the engine in everything: no SQL, no instants, no bit sets, no augmenting paths.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.funnels.worlds import Event, Session, World

Times = tuple[datetime | None, ...]


@dataclass(frozen=True)
class Entry:
    """One way through the funnel: the event that began it, and of each step when it was reached and by which event,
    None where it was not."""

    first: Event
    path: tuple[Event | None, ...]

    @property
    def times(self) -> Times:
        return tuple(None if event is None else event.event_at for event in self.path)


def funnel(world: World, definition: Any, as_of: datetime | None) -> dict[str, Any]:
    """What the engine must answer, as plain values."""
    return funnel_of_all([world], definition, as_of)


def funnel_of_all(worlds: Sequence[World], definition: Any, as_of: datetime | None) -> dict[str, Any]:
    """What the engine must answer of all worlds together, which have nobody in common."""
    results: list[Entry] = []
    parts = defaultdict(list)
    for world in worlds:
        some = entries(world, definition)
        results += some
        for entry in some if definition.breakdown else ():
            event = _attributed(definition, entry)
            parts[_shown(None if event is None else _field(world, event, definition.breakdown))].append(entry)
    ranked = sorted(parts.items(), key=lambda item: (-len(item[1]), item[0].encode()))
    shown = ranked[: definition.top]
    if ranked[definition.top :]:
        shown.append(("(other)", [entry for _, part in ranked[definition.top :] for entry in part]))
    return {
        "steps": _steps(definition, results, as_of),
        "as_of": as_of,
        "breakdown": [{"value": value, "steps": _steps(definition, part, as_of)} for value, part in shown],
        "conversion_seconds": _conversion(definition, results),
        "previous": _previous(worlds, definition, as_of),
    }


def entries(world: World, definition: Any) -> list[Entry]:
    """What became of all subjects."""
    return [entry for _, some in subjects(world, definition) for entry in some]


def subjects(world: World, definition: Any) -> list[tuple[str, list[Entry]]]:
    """What became of each subject: its best entry, or all of them."""
    by_subject = defaultdict(list)
    for event in _once(event for event in world.events if _eligible(world, definition, event)):
        subject = _subject(world, definition.by, event)
        assert subject is not None
        by_subject[subject].append(event)
    chosen = _one_after_the_other if definition.count == "totals" else _best
    return [(subject, chosen(world, definition, events)) for subject, events in by_subject.items()]


def next_event(world: World, definition: Any, subject: str, last: Event) -> str | None:
    """The name of the first event of `subject` after `last` that may not lie between steps of a strict funnel."""
    events = [e for e in world.events if _subject(world, definition.by, e) == subject and not e.is_bot]
    return next((e.name for e in _once(e for e in events if _in_sequence(e)) if _place(e) > _place(last)), None)


# Which events


def _eligible(world: World, definition: Any, event: Event) -> bool:
    """Whether the event matters at all, of anybody."""
    if event.is_bot or event.device in world.bot_devices or _subject(world, definition.by, event) is None:
        return False
    if definition.since is not None and event.event_at < definition.since:
        return False
    if definition.until is not None and event.event_at > definition.until + definition.window:
        return False
    if definition.order == "strict" and _in_sequence(event):
        return True
    return any(_fits(world, definition, step, event) for step in definition.steps) or any(
        _is(world, exclusion, event) for exclusion in definition.exclude
    )


def _in_sequence(event: Event) -> bool:
    return event.type in ("track", "page", "screen") and not event.is_background


def _once(events: Iterable[Event]) -> list[Event]:
    """The earliest of the events with one (anonymous id, message id)."""
    kept: dict[tuple[str | None, str], Event] = {}
    for event in sorted(events, key=lambda event: (event.event_at, event.offset)):
        kept.setdefault((event.device, event.message_id), event)
    return sorted(kept.values(), key=lambda event: (event.event_at, event.message_id.encode()))


def _subject(world: World, by: str, event: Event) -> str | None:
    if by == "device":
        return event.device
    if by == "session":
        session = _session(world, event)
        return None if session is None or session.is_bot else session.session_id
    return _person(world, event)


def _session(world: World, event: Event) -> Session | None:
    place = (event.event_at, event.message_id)
    for session in world.sessions:
        if session.device == event.device and session.first <= place <= session.last:
            return session
    return None


def _person(world: World, event: Event) -> str:
    place = (event.event_at, event.message_id)
    if event.user is None or event.person_then != event.user:
        for override in world.overrides:
            if override.device == event.device and override.first <= place < override.end:
                return override.person
    return event.person_then


# What a subject did


def _best(world: World, definition: Any, events: Sequence[Event]) -> list[Entry]:
    """The entry that got furthest, the earliest on ties. `events` are in order."""
    found = [entry for first in events for entry in _entry(world, definition, events, first)]
    return [min(found, key=lambda entry: (-_reached(definition, entry), _place(entry.first)))] if found else []


def _one_after_the_other(world: World, definition: Any, events: Sequence[Event]) -> list[Entry]:
    """All entries: each of those with the same held values begins after the one before has ended. A funnel of one step
    counts its events."""
    told: list[Entry] = []
    groups = defaultdict(list)
    for event in events:
        groups[_held(world, definition, event)].append(event)
    for group in groups.values():
        ended: Any = None
        found = [entry for first in group for entry in _entry(world, definition, events, first)]
        while found:
            if len(_required(definition)) == 1 and definition.order != "strict":
                told += found
                break
            if definition.order == "strict":
                entry, *_ = found
            else:
                now = min(entry.first.event_at for entry in found)
                together = [entry for entry in found if entry.first.event_at == now]
                entry = min(together, key=lambda entry: (-_reached(definition, entry), _place(entry.first)))
            told.append(entry)
            last = entry.path[_required(definition)[-1]]
            if last is None:
                ended = entry.first.event_at + definition.window
                found = [other for other in found if other.first.event_at > ended]
            elif definition.order == "strict":
                found = [other for other in found if _place(other.first) > _place(last)]
            else:
                found = [other for other in found if other.first.event_at > last.event_at]
    return told


def _entry(world: World, definition: Any, events: Sequence[Event], first: Event) -> list[Entry]:
    """The entry that `first` begins, if it begins one that is not void."""
    if definition.until is not None and first.event_at >= definition.until:
        return []
    held = _held(world, definition, first)
    alike = [event for event in events if _held(world, definition, event) == held]
    match definition.order:
        case "ordered":
            entry = _ordered(world, definition, alike, first)
        case "strict":
            entry = _strict(world, definition, events, first)
        case _:
            entry = _any(world, definition, alike, first)
    return [entry] if entry is not None and not _is_void(world, definition, alike, entry) else []


def _ordered(world: World, definition: Any, events: Sequence[Event], first: Event) -> Entry | None:
    required = _required(definition)
    if not _fits(world, definition, definition.steps[0], first):
        return None
    taken = _furthest(world, definition, events, [first])
    path: list[Event | None] = [None] * len(definition.steps)
    for place, event in zip(required, taken, strict=False):
        path[place] = event
    end = first.event_at + definition.window
    for number, place in enumerate(required[: len(taken)]):
        after = taken[number].event_at
        before = taken[number + 1].event_at if number + 1 < len(taken) else end
        behind = required[number + 1] if number + 1 < len(required) else len(path)
        for optional in range(place + 1, behind):
            for event in events:
                fits = _fits(world, definition, definition.steps[optional], event)
                if fits and after <= event.event_at <= before and not any(event is used for used in path):
                    path[optional], after = event, event.event_at
                    break
    return Entry(first, tuple(path))


def _furthest(world: World, definition: Any, events: Sequence[Event], taken: list[Event]) -> list[Event]:
    """The events of the required steps on the best way on from those taken: the furthest, then the earliest, then of
    simultaneous events the first."""
    required = _required(definition)
    best = taken
    if len(taken) == len(required):
        return best
    for event in events:
        in_order = event.event_at >= taken[-1].event_at
        in_window = event.event_at - taken[0].event_at <= definition.window
        unused = not any(event is other for other in taken)
        step = definition.steps[required[len(taken)]]
        if in_order and in_window and unused and _fits(world, definition, step, event):
            way = _furthest(world, definition, events, [*taken, event])
            best = min(best, way, key=_goodness)
    return best


def _goodness(way: Sequence[Event]) -> Any:
    return (-len(way), [event.event_at for event in way], [event.message_id.encode() for event in way])


def _strict(world: World, definition: Any, events: Sequence[Event], first: Event) -> Entry | None:
    required = _required(definition)
    sequence = [event for event in events if _in_sequence(event)]
    if not any(event is first for event in sequence) or not _fits(world, definition, definition.steps[0], first):
        return None
    path: list[Event | None] = [None] * len(definition.steps)
    path[0], step = first, 0
    place = next(number for number, event in enumerate(sequence) if event is first)
    for event in sequence[place + 1 :]:
        to_come = next((place for place in required if place > step), len(path))
        choices = [to_come, *range(step + 1, to_come)]
        fitting = [c for c in choices if c < len(path) and _fits(world, definition, definition.steps[c], event)]
        in_window = event.event_at - first.event_at <= definition.window
        if not fitting or not in_window or _held(world, definition, event) != _held(world, definition, first):
            break
        step = fitting[0]
        path[step] = event
    return Entry(first, tuple(path))


def _any(world: World, definition: Any, events: Sequence[Event], first: Event) -> Entry | None:
    """The most steps, from the first on, that `first` and other events from its time on fill; and when all up to each
    one were done."""
    window = [e for e in events if timedelta() <= e.event_at - first.event_at <= definition.window]
    before = [e for e in window if e.event_at == first.event_at and _place(e) < _place(first)]
    for count in range(len(definition.steps), 0, -1):
        steps = definition.steps[:count]
        others = [event for event in window if event is not first]
        uses_first = any(
            _fits(world, definition, step, first)
            and _can(world, definition, [other for other in steps if other is not step], others)
            for step in steps
        )
        if not uses_first:
            continue
        if len(definition.steps) > 1 and any(_fits(world, definition, step, e) for step in steps for e in before):
            return None  # of simultaneous events the first one begins the entry
        path: list[Event | None] = [None] * len(definition.steps)
        for number in range(count):
            done = (n for n in range(1, len(window) + 1) if _can(world, definition, steps[: number + 1], window[:n]))
            path[number] = window[next(done) - 1]
        if len(definition.steps) == 1:
            path[0] = first
        return Entry(first, tuple(path))
    return None


def _can(world: World, definition: Any, steps: Sequence[Any], events: Sequence[Event]) -> bool:
    """Whether the events fill all the steps, one each."""
    if not steps:
        return True
    return any(
        _fits(world, definition, steps[0], event)
        and _can(world, definition, steps[1:], [other for other in events if other is not event])
        for event in events
    )


def _is_void(world: World, definition: Any, events: Sequence[Event], entry: Entry) -> bool:
    for exclusion in definition.exclude:
        start, end = entry.times[exclusion.from_step], entry.times[exclusion.to_step]
        if start is None:
            continue
        if end is None:
            end = entry.first.event_at + definition.window
        if any(start < event.event_at < end and _is(world, exclusion, event) for event in events):
            return True
    return False


def _required(definition: Any) -> list[int]:
    return [place for place, step in enumerate(definition.steps) if not step.optional]


def _reached(definition: Any, entry: Entry) -> int:
    return sum(entry.path[place] is not None for place in _required(definition))


def _place(event: Event) -> tuple[datetime, bytes]:
    return event.event_at, event.message_id.encode()


# What is said of entries


def _attributed(definition: Any, entry: Entry) -> Event | None:
    match definition.attribution:
        case "first_touch":
            return entry.first
        case "last_touch":
            return [event for event in entry.path if event is not None][-1]
        case at_step:
            event: Event | None = entry.path[at_step.step]
            return event


def _steps(definition: Any, entries: Sequence[Entry], as_of: datetime | None) -> list[dict[str, Any]]:
    answer = []
    required = _required(definition)
    for number, step in enumerate(definition.steps):
        previous = max((place for place in required if place < number), default=0)
        following = next((place for place in required if place > number), None)
        reached = [entry for entry in entries if entry.path[number] is not None]
        before = [entry for entry in entries if entry.path[previous] is not None]
        stayed = []
        if following is not None and not step.optional:
            stayed = [entry for entry in reached if entry.path[following] is None]
        still_open = [entry for entry in stayed if as_of is None or entry.first.event_at + definition.window >= as_of]
        seconds = sorted(_took(entry, previous, number) for entry in reached if number)
        low, high = _interval(len(reached), len(before)) if number else (None, None)
        answer.append(
            {
                "step": step.label,
                "count": len(reached),
                "conversion": len(reached) / len(before) if before else None,
                "conversion_low": low,
                "conversion_high": high,
                "conversion_from_start": len(reached) / len(entries) if entries else None,
                "dropped": len(stayed) - len(still_open),
                "still_open": len(still_open),
                "median_seconds": _quantile(seconds, 0.5),
                "p90_seconds": _quantile(seconds, 0.9),
            }
        )
    return answer


def _conversion(definition: Any, entries: Sequence[Entry]) -> dict[str, Any] | None:
    last = _required(definition)[-1]
    if not last:
        return None
    seconds = []
    for entry in entries:
        end = entry.times[last]
        if end is not None:
            seconds.append((end - entry.first.event_at).total_seconds())
    seconds.sort()
    return {"median": _quantile(seconds, 0.5), "p90": _quantile(seconds, 0.9), "seconds": seconds}


def _previous(worlds: Sequence[World], definition: Any, as_of: datetime | None) -> dict[str, Any] | None:
    if definition.compare is None:
        return None
    since = definition.since - (definition.until - definition.since)
    before = definition.model_copy(update={"since": since, "until": definition.since})
    found = [entry for world in worlds for entry in entries(world, before)]
    return {"since": since, "until": definition.since, "steps": _steps(before, found, as_of)}


def _took(entry: Entry, first: int, second: int) -> float:
    start, end = entry.times[first], entry.times[second]
    assert start is not None
    assert end is not None
    return (end - start).total_seconds()


def _interval(count: int, of: int) -> tuple[float | None, float | None]:
    """The shares p from which `count` of `of` is not further away than 1.96 standard errors of p itself: found by
    halving, not by Wilson's formula."""
    if not of:
        return None, None

    def is_near(share: float) -> bool:
        return abs(count / of - share) <= 1.959963984540054 * math.sqrt(share * (1 - share) / of) + 1e-15

    def edge(inside: float, outside: float) -> float:
        if is_near(outside):
            return outside
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_near(middle) else (inside, middle)
        return inside

    return edge(count / of, 0.0), edge(count / of, 1.0)


def _quantile(ordered: Sequence[float], part: float) -> float | None:
    if not ordered:
        return None
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


# What an event is


def _fits(world: World, definition: Any, step: Any, event: Event) -> bool:
    if definition.order == "strict" and not _in_sequence(event):
        return False
    return any(_is(world, match, event) for match in (step.any_of or [step]))


def _is(world: World, match: Any, event: Event) -> bool:
    if event.name != match.event:
        return False
    return all(_holds(_field(world, event, name), asked) for name, asked in match.where.items())


def _holds(value: object, asked: object) -> bool:
    """Whether all tests hold of a value, None being a missing one."""
    tests = asked if isinstance(asked, Mapping) else {"equals": asked}
    return all(_test(value, operator, wanted) for operator, wanted in tests.items())


def _test(value: object, operator: str, wanted: Any) -> bool:
    match operator:
        case "equals":
            return _same(value, wanted)
        case "not":
            return not _same(value, wanted)
        case "in":
            return any(_same(value, one) for one in wanted)
        case "not_in":
            return not any(_same(value, one) for one in wanted)
        case "contains":
            return isinstance(value, str) and wanted in value
        case "exists":
            return (value is not None) is wanted
    one, other = _comparable(value, wanted)
    if one is None:
        return False
    return {"greater": one > other, "at_least": one >= other, "less": one < other, "at_most": one <= other}[operator]


def _comparable(value: object, wanted: object) -> tuple[Any, Any]:
    """Both as numbers or as times; (None, None) if the value is neither as `wanted` is."""
    if isinstance(wanted, str):
        return (None, None) if (time := _time(value)) is None else (time, _time(wanted))
    return (value, wanted) if isinstance(value, int | float) and not isinstance(value, bool) else (None, None)


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)


def _field(world: World, event: Event, name: str) -> object:
    """The value of a field, None where it is missing: properties.KEY, a column, of the session or of the person."""
    source, _, key = name.partition(".")
    if source in ("properties", "context"):
        content: Mapping[str, object] | None = getattr(event, source)
        return None if content is None else content.get(key)
    if source == "session":
        session = _session(world, event)
        return None if session is None else getattr(session, key)
    if source == "person":
        return _of_person(world, _person(world, event), key)
    value: object = getattr(event, name)
    return value


def _of_person(world: World, person: str, key: str) -> object:
    if key == "id":
        return person
    if key == "is_known":
        return not person.startswith("anon:")
    events = sorted((event for event in world.events if _person(world, event) == person), key=_place)
    if key == "first_seen":
        return events[0].event_at
    trait = key.removeprefix("traits.")
    told = [event.properties for event in events if event.type == "identify" and trait in (event.properties or {})]
    return (told[-1] or {})[trait] if told else None


def _held(world: World, definition: Any, event: Event) -> tuple[object, ...]:
    """What is the same of two events if and only if their held values are."""
    values = [_field(world, event, name) for name in definition.hold]
    return tuple((isinstance(value, bool), isinstance(value, str), value) for value in values)


def _same(value: object, wanted: object) -> bool:
    """Equal as JSON values: true is not 1, "1" is not 1, 1.0 is."""
    if isinstance(value, datetime):
        return value == _time(wanted)
    return isinstance(value, bool) is isinstance(wanted, bool) and value == wanted


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value if isinstance(value, str) else json.dumps(value)
