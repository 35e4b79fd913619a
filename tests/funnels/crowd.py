"""Subjects at random, many to one warehouse, and definitions that use one feature of funnels each.

Nobody shares an id with another one, so that what a reference says of each alone adds up to what is said of all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from funnels import FunnelDefinition
from tests.funnels.worlds import Event, Override, Session, World, at

LAST: Final = 12
"""Seconds that a subject is seen for: few, so that times tie."""

TIMES: Final = ("2025-06-01", "2025-07-01T10:00:00Z")
PLANS: Final[Sequence[Any]] = [
    None,
    "pro",
    "free",
    "profit",
    1,
    1.0,
    2.5,
    "1",
    True,
    "2025-06-01",
    "2025-07-01T10:00:00Z",
]

_EVENTS: Final = "AABBCD"


def subject(rnd: random.Random, number: int) -> World:
    """One person, mostly on one device, with ids of its own."""
    name = f"u{number}"
    devices = [f"d{number}", f"e{number}"] if rnd.random() < 0.3 else [f"d{number}"]
    ids = rnd.sample(range(100), 12)
    events = [
        Event(
            name=rnd.choice(_EVENTS),
            event_at=at(rnd.randint(0, LAST)),
            message_id=f"m{message:02}",
            device=rnd.choice(devices),
            user=name,
            properties=rnd.choice([None, {}, *({"plan": plan} for plan in PLANS)]),
            utm_source=rnd.choice([None, "x", "y", "z"]),
            path=rnd.choice([None, "/", "/hat", "/hats/red"]),
            is_background=rnd.random() < 0.2,
            offset=message,
            type=rnd.choice(["track", "track", "page", "screen", "identify"]),
        )
        for message in ids[: rnd.randint(1, 9)]
    ]
    if rnd.random() < 0.1:
        copied = rnd.choice(events)
        events.append(Event(**{**vars(copied), "event_at": at(rnd.randint(0, LAST)), "offset": 999}))
    if rnd.random() < 0.3:
        events = [Event(**{**vars(event), "user": None, "person": None}) for event in events]
    sessions, overrides = [], []
    for device in devices:
        places = sorted({(event.event_at, event.message_id) for event in events if event.device == device})
        cut = rnd.randint(0, len(places))
        for part, run in enumerate((places[:cut], places[cut:])):
            if run and rnd.random() < 0.9:
                browser, pages = rnd.choice([None, "Firefox", "Safari"]), rnd.randint(0, 4)
                is_bot = rnd.random() < 0.05
                sessions.append(Session(f"{device}-{part}", device, run[0], run[-1], is_bot, browser, pages))
        if places and rnd.random() < 0.3:
            overrides.append(Override(device, places[0], places[-1], rnd.choice([name, f"v{number}"])))
    return World(events, sessions, overrides, watermarks=())


def together(worlds: Sequence[World]) -> World:
    """All of them in one; half of the windows are over."""
    return World(
        [event for world in worlds for event in world.events],
        [session for world in worlds for session in world.sessions],
        [override for world in worlds for override in world.overrides],
        watermarks=[at(LAST)],
    )


def definition(rnd: random.Random, feature: str) -> FunnelDefinition:
    """A funnel that uses `feature`, one of FEATURES, and otherwise as little as possible."""
    rules: dict[str, Any] = {
        "steps": [{"event": rnd.choice("ABC")} for _ in range(rnd.randint(1, 4))],
        "window": f"{rnd.randint(0, LAST)} s",
    }
    return FunnelDefinition.model_validate(rules | FEATURES[feature](rnd, rules["steps"]))


def _several(rnd: random.Random, steps: list[Any]) -> dict[str, Any]:
    return {"steps": [{"any_of": [step, {"event": rnd.choice("ABCD"), "where": _where(rnd)}]} for step in steps]}


def _optional(rnd: random.Random, steps: list[Any]) -> dict[str, Any]:
    rest = [{"event": rnd.choice("ABCD"), "optional": rnd.random() < 0.5} for _ in range(rnd.randint(1, 4))]
    return {"steps": [steps[0], *rest], "order": rnd.choice(["ordered", "ordered", "strict"])}


def _excluded(rnd: random.Random, steps: list[Any]) -> dict[str, Any]:
    steps = [*steps, {"event": rnd.choice("ABC")}]
    first = rnd.randrange(len(steps) - 1)
    void = {"event": rnd.choice("ABD"), "where": _where(rnd) if rnd.random() < 0.5 else {}}
    return {
        "steps": steps,
        "exclude": [{**void, "from_step": first, "to_step": rnd.randrange(first + 1, len(steps))}],
        "order": rnd.choice(["ordered", "ordered", "strict", "any"]),
        "count": rnd.choice(["uniques", "totals"]),
    }


def _where(rnd: random.Random) -> dict[str, Any]:
    return rnd.choice(
        [
            {"properties.plan": rnd.choice(PLANS)},
            {"properties.plan": {"not": rnd.choice(PLANS)}},
            {"properties.plan": {rnd.choice(["in", "not_in"]): rnd.sample(PLANS, 2)}},
            {"properties.plan": {"contains": rnd.choice(["pro", "f", ""])}},
            {"properties.plan": {rnd.choice(["greater", "at_least", "less", "at_most"]): rnd.choice([1, 2.5, 0])}},
            {"properties.plan": {rnd.choice(["greater", "at_least", "less", "at_most"]): "2025-06-01T00:00:00+00:00"}},
            {"properties.plan": {"exists": rnd.random() < 0.5}},
            {"properties.plan": {"at_least": 1, "not": 2.5}},
            {"path": {rnd.choice(["contains", "not"]): "/hat"}},
            {"utm_source": {rnd.choice(["in", "not_in"]): ["x", None]}},
            {"utm_source": {"exists": rnd.random() < 0.5}, "is_background": {"not": True}},
            {"session.browser": rnd.choice(["Firefox", None])},
            {"session.page_count": {rnd.choice(["greater", "at_most"]): rnd.choice([2, 1.5])}},
            {"session.started_at": {"less": at(3).isoformat()}},
            {"person.is_known": rnd.random() < 0.5},
            {"person.first_seen": {"at_least": at(2).isoformat()}},
            {"person.traits.plan": rnd.choice(PLANS)},
            {"person.traits.plan": {"exists": True}},
        ]
    )


def _breakdown(rnd: random.Random, steps: list[Any]) -> dict[str, Any]:
    at_step = {"step": rnd.randrange(len(steps))}
    return {
        "breakdown": rnd.choice(["utm_source", "properties.plan", "session.browser", "person.id", "path"]),
        "attribution": rnd.choice(["first_touch", "last_touch", at_step]),
        "top": rnd.choice([50, 2, 1]),
        "order": rnd.choice(["ordered", "strict", "any"]),
    }


def _bounded(rnd: random.Random, steps: list[Any]) -> dict[str, Any]:
    since = rnd.randint(0, LAST - 1)
    until = rnd.randint(since + 1, LAST)
    return {"since": at(since), "until": at(until), "compare": "previous_period", "order": _order(rnd)}


def _order(rnd: random.Random) -> str:
    return rnd.choice(["ordered", "strict", "any"])


FEATURES: Final[dict[str, Any]] = {
    "ordered": lambda rnd, steps: {},
    "strict": lambda rnd, steps: {"order": "strict"},
    "any": lambda rnd, steps: {"order": "any"},
    "conditions": lambda rnd, steps: {"steps": [{**step, "where": _where(rnd)} for step in steps]},
    "several events": _several,
    "optional": _optional,
    "exclusions": _excluded,
    "by": lambda rnd, steps: {"by": rnd.choice(["session", "device"]), "order": _order(rnd)},
    "totals": lambda rnd, steps: {"count": "totals", "order": _order(rnd)},
    "hold": lambda rnd, steps: {
        "hold": rnd.sample(["properties.plan", "path", "utm_source", "session.browser"], rnd.randint(1, 2)),
        "order": _order(rnd),
        "count": rnd.choice(["uniques", "totals"]),
    },
    "breakdown": _breakdown,
    "bounds": _bounded,
}
"""What makes a definition use each."""
