"""Reading definitions: what they say, and how they are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from funnels import FunnelDefinition, load_definition
from funnels.definition import Step
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
        ({"order": "random"}, "order", "'ordered'"),
        ({"exclude": [{"event": "Refunded", "from_step": 1, "to_step": 1}]}, "", "exclude[0]: from_step and to_step"),
        ({"exclude": [{"event": "Refunded", "from_step": 0, "to_step": 2}]}, "", "exclude[0]: from_step and to_step"),
        ({"exclude": [{"event": "Refunded", "to_step": 1}]}, "exclude[0].from_step", "is missing: add it"),
        ({"hold": ["plan"]}, "hold[0]", "write properties.KEY"),
        ({"attribution": "middle_touch"}, "attribution", "'first_touch'"),
        ({"attribution": {"step": 2}}, "", "there is no step 2"),
        ({"count": "some"}, "count", "'uniques' or 'totals'"),
        ({"top": 0}, "top", "greater than or equal to 1"),
        ({"time_zone": "Europe/Bärlin"}, "time_zone", "write one like Europe/Berlin"),
        ({"time_zone": "../UTC"}, "time_zone", "write one like Europe/Berlin"),
        ({"compare": "previous_period"}, "", "compare needs since and until"),
        ({"steps": [{"event": "View", "optional": True}]}, "", "the first step cannot be optional"),
        (
            {"order": "any", "steps": [{"event": "View"}, {"event": "Order", "optional": True}]},
            "",
            "cannot be optional",
        ),
        ({"steps": [{"event": "View", "any_of": [{"event": "Order"}]}]}, "steps[0].event", "beside any_of"),
        ({"steps": [{"any_of": [{"event": "A"}], "where": {"path": "/"}}]}, "steps[0].where", "beside any_of"),
        ({"steps": [{"any_of": []}]}, "steps[0].event", "is missing: add it"),
        ({"by": "household"}, "by", "'person', 'session' or 'device'"),
        ({"steps": []}, "steps", "at least 1"),
        ({"steps": [{"event": "View"}] * 21}, "steps", "at most 20"),
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
        *(
            ({"steps": [{"event": "View", "where": {field: asked}}]}, "steps[0].where", words)
            for field, asked, words in [
                ("properties.n", [1], "write a value, or a test"),
                ("properties.n", {}, "an empty object asks nothing"),
                ("properties.n", {"gt": 1}, "'gt' is no test: write equals, not, in"),
                ("properties.n", {"in": 1}, "in takes a list"),
                ("properties.n", {"in": []}, "in takes a list of one or more values"),
                ("properties.n", {"equals": [1]}, "equals takes one value"),
                ("properties.n", {"greater": "many"}, "greater takes a number, or a time"),
                ("properties.n", {"greater": True}, "greater takes a number, or a time"),
                ("properties.n", {"contains": 5}, "contains takes text"),
                ("properties.n", {"exists": 1}, "exists takes true or false"),
                ("path", {"greater": 5}, "path is text"),
                ("path", {"in": ["/", 5]}, "path is text"),
                ("is_background", {"contains": "x"}, "is no text"),
                ("session.page_count", "5", "session.page_count is a number"),
                ("session.page_count", {"less": "5"}, "less takes a number"),
                ("session.started_at", {"less": 5}, "less takes a time"),
                ("session.colour", "red", "is no field of a session"),
                ("person.colour", "red", "is no field of a person"),
                ("person.traits.", "red", "no path of keys"),
                ("person.is_known", "yes", "person.is_known is true or false"),
            ]
        ),
        ({"name": "\ud800"}, "name", "unicode"),
    ],
)
def test_refusals_name_the_field_and_say_what_to_do(changes: dict[str, Any], field: str, words: str) -> None:
    error = refusal(**changes)
    place = str(error.facts["field"])
    assert place == field or (field and place.startswith(field + ".")), str(error)
    assert words in str(error)


def test_every_rule_is_read_and_written_again() -> None:
    text = json.dumps(
        SIGNUP
        | {
            "steps": [
                {"event": "View", "where": {"properties.n": {"at_least": 2, "not_in": [3, "4", None]}}},
                {
                    "any_of": [{"event": "Cart", "where": {"person.traits.plan": "pro"}}, {"event": "Wish"}],
                    "name": "keeps",
                },
                {"event": "Coupon", "where": {}, "optional": True},
                {"event": "Order", "where": {"session.page_count": {"greater": 1.5}}},
            ],
            "exclude": [{"event": "Refunded", "where": {"path": {"contains": "/"}}, "from_step": 0, "to_step": 3}],
            "count": "totals",
            "attribution": {"step": 1},
            "top": 5,
            "hold": ["properties.product"],
            "time_zone": "Europe/Berlin",
            "since": "2025-06-01",
            "until": "2025-06-30",
            "compare": "previous_period",
        }
    )
    definition = load_definition(text)
    assert definition.since == datetime(2025, 5, 31, 22, tzinfo=UTC)
    assert definition.until == datetime(2025, 6, 30, 22, tzinfo=UTC)
    assert [step.label for step in definition.steps] == ["View", "keeps", "Coupon", "Order"]
    assert load_definition(definition.model_dump_json()) == definition
    assert load_definition(definition.model_copy(update={"name": "again"}).model_dump_json()).steps == definition.steps


def test_a_step_of_several_events_is_called_by_them() -> None:
    step = Step.model_validate({"any_of": [{"event": "A"}, {"event": "B"}, {"event": "A", "where": {"path": "/"}}]})
    assert step.label == "A or B"


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ("2025-03-30T02:00:00", datetime(2025, 3, 30, 1, tzinfo=UTC)),  # an hour that the clocks leave out
        ("2025-10-26", datetime(2025, 10, 25, 22, tzinfo=UTC)),
        ("2025-06-01T00:00:00Z", datetime(2025, 6, 1, tzinfo=UTC)),
    ],
)
def test_times_without_an_offset_are_of_the_time_zone(since: str, first: datetime) -> None:
    assert load_definition(json.dumps(SIGNUP | {"time_zone": "Europe/Berlin", "since": since})).since == first


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
