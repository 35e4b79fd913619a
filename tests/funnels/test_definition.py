"""Reading definitions: what they say, and how they are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from funnels import FunnelDefinition, load_definition
from funnels.definition import Step, alike
from stitchline.errors import DefinitionError

SIGNUP: dict[str, Any] = {
    "name": "signup",
    "steps": [
        {"event": "Viewed Product", "where": {"properties.plan": "pro"}},
        {"event": "Order Completed", "where": {}},
    ],
    "order": "ordered",
    "window": "14 days",
    "exclude": [],
    "by": "person",
    "breakdown": "utm_source",
    "attribution": "first_touch",
    "hold": [],
    "since": None,
    "until": None,
}


def refusal(**changes: Any) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        load_definition(json.dumps(SIGNUP | changes))
    return caught.value


def test_a_whole_definition() -> None:
    definition = load_definition(json.dumps(SIGNUP))
    assert definition.steps[0].where == {"properties.plan": "pro"}
    assert definition.window == timedelta(days=14)
    assert json.loads(definition.model_dump_json()) == SIGNUP
    assert load_definition(definition.model_dump_json()) == definition


def test_steps_alone_are_enough() -> None:
    assert load_definition('{"steps": [{"event": "View"}]}') == FunnelDefinition(steps=(Step(event="View"),))


def test_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "signup.json"
    file.write_text("\ufeff" + json.dumps(SIGNUP), encoding="utf-8")
    assert load_definition(file).name == "signup"


@pytest.mark.parametrize(
    ("since", "until", "bounds"),
    [
        ("2025-06-01", "2025-06-30", (datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))),
        ("2025-06-30", "2025-06-30", (datetime(2025, 6, 30, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))),
        (
            "2025-06-01T10:00:00+02:00",
            "2025-06-01T09:30:00",
            (datetime(2025, 6, 1, 8, tzinfo=UTC), datetime(2025, 6, 1, 9, 30, tzinfo=UTC)),
        ),
    ],
)
def test_bounds(since: str, until: str, bounds: tuple[datetime, datetime]) -> None:
    definition = load_definition(json.dumps(SIGNUP | {"since": since, "until": until}))
    assert (definition.since, definition.until) == bounds
    assert load_definition(definition.model_dump_json()) == definition


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"order": "strict"}, "order", "not supported yet"),
        ({"order": "any"}, "order", "not supported yet"),
        ({"order": "random"}, "order", "'ordered'"),
        ({"exclude": [{"event": "Refunded", "from_step": 0, "to_step": 1}]}, "exclude", "not supported yet"),
        ({"hold": ["properties.plan"]}, "hold", "not supported yet"),
        ({"attribution": "last_touch"}, "attribution", "'first_touch'"),
        ({"by": "household"}, "by", "'person', 'session' or 'device'"),
        ({"steps": []}, "steps", "at least 1"),
        ({"steps": [{"event": "View"}] * 21}, "steps", "at most 20"),
        ({"steps": [{"event": "View"}] * 9}, "steps", "tell them apart with where"),
        ({"steps": [{"event": ""}]}, "steps[0].event", "at least 1 character"),
        ({"steps": [{"event": "View"}, {}]}, "steps[1].event", "is missing: add it"),
        ({"steps": [{"event": "View", "were": {}}]}, "steps[0].were", "did you mean where?"),
        ({"windows": "1 day"}, "windows", "did you mean window?"),
        ({"zzz": 1}, "zzz", "remove it"),
        ({"window": "14"}, "window", "write a number and a unit"),
        ({"window": 14}, "window", "write a number and a unit"),
        ({"window": "99999 days"}, "window", "a hundred years"),
        ({"since": "yesterday"}, "since", "write a date like"),
        ({"until": 20250630}, "until", "write a date like"),
        ({"until": "9999-12-31"}, "until", "leave until out"),
        ({"since": "2025-07-01", "until": "2025-06-30"}, "", "until is not after since"),
        ({"breakdown": "plan"}, "breakdown", "write properties.KEY"),
        ({"breakdown": "event_at"}, "breakdown", "write properties.KEY"),
        ({"breakdown": "properties."}, "breakdown", "no path of keys"),
        ({"breakdown": 'properties.a"b'}, "breakdown", "no path of keys"),
        ({"breakdown": 'properties."a'}, "breakdown", "no path of keys"),
        ({"breakdown": "properties.a..b"}, "breakdown", "no path of keys"),
        ({"steps": [{"event": "View", "where": {"utm_source; --": "x"}}]}, "steps[0].where", "write properties.KEY"),
        ({"steps": [{"event": "View", "where": {"path": 5}}]}, "steps[0].where", "path is text"),
        ({"steps": [{"event": "View", "where": {"is_background": "no"}}]}, "steps[0].where", "true or false"),
        ({"steps": [{"event": "View", "where": {"properties.n": [1]}}]}, "steps[0].where", "only equality"),
        ({"steps": [{"event": "View", "where": {"properties.n": {"gt": 1}}}]}, "steps[0].where", "only equality"),
        ({"name": "\ud800"}, "name", "unicode"),
    ],
)
def test_refusals_name_the_field_and_say_what_to_do(changes: dict[str, Any], field: str, words: str) -> None:
    error = refusal(**changes)
    place = str(error.facts["field"])
    assert place == field or (field and place.startswith(field + ".")), str(error)
    assert words in str(error)


def test_all_problems_are_told_at_once() -> None:
    assert {"window", "by"} <= set(str(refusal(window="soon", by="nobody")).replace(":", " ").split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"steps": [{"event": "A", "where": {"properties.n": NaN}}]}', "NaN is no JSON number"),
        ('{"steps": [{"event": "A", "event": "B"}]}', "'event' is there twice"),
        ("[]", "object"),
        ('"text"', "object"),
    ],
)
def test_text_that_is_no_definition(text: str, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        load_definition(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"gone\.json: cannot be read .*: check the path"):
        load_definition(tmp_path / "gone.json")
    (tmp_path / "latin.json").write_bytes(b'{"name": "caf\xe9"}')
    with pytest.raises(DefinitionError, match=r"latin\.json: is not JSON"):
        load_definition(tmp_path / "latin.json")


def test_steps_that_one_event_could_fill() -> None:
    def steps(*wheres: Any) -> list[Step]:
        return [Step.model_validate(w if isinstance(w, dict) else {"event": w}) for w in wheres]

    def order(**where: Any) -> dict[str, Any]:
        return {"event": "Order", "where": {f"properties.{key}": value for key, value in where.items()}}

    assert alike(steps("View", "Order")) == []
    assert alike(steps("Order", "View", "Order")) == [[0, 2]]
    assert alike(steps(order(plan="pro"), order(plan="free"))) == []
    assert alike(steps(order(n=1), order(n=1.0))) == [[0, 1]]
    assert alike(steps(order(n=1), order(n=True), order(n="1"))) == []
    assert alike(steps(order(n=None), order(n="x"))) == []
    # The third could be either of the first two, which makes all three compete.
    assert alike(steps(order(plan="pro"), order(plan="free"), order(country="DE"))) == [[0, 1, 2]]
    assert alike(steps(order(plan="pro"), {"event": "Order", "where": {'properties."plan"': "free"}})) == []
