"""What a step's conditions and names accept, hostile ones included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pytest

from tests.funnels.conftest import Ask
from tests.funnels.worlds import Event, World, alone, at, counts

VALUES = [None, "5", 5, 5.0, 5.5, True, False, "true", "", 1, 0, {"k": 5}, [5], 2**53, 2**53 + 1, 2**64 - 1, -3, 1e300]


@pytest.mark.parametrize("wanted", [value for value in VALUES if not isinstance(value, dict | list)])
def test_where_compares_as_json_does(ask: Ask, wanted: Any) -> None:
    world = alone(
        *(Event("View", at(), "m1", f"d{place}", properties={"plan": value}) for place, value in enumerate(VALUES)),
        Event("View", at(), "m1", "d-absent", properties={}),
        Event("View", at(), "m1", "d-empty"),
    )
    equal = sum(type(value) is type(wanted) and value == wanted for value in VALUES)
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        equal = sum(isinstance(v, int | float) and not isinstance(v, bool) and v == wanted for v in VALUES)
    expected = 3 if wanted is None else equal
    step = {"event": "View", "where": {"properties.plan": wanted}}
    assert counts(ask(world, step, by="device")) == [expected]


@pytest.mark.parametrize("wanted", [10**40, -(10**40), 0.1, 10**400])
def test_where_a_number_that_no_event_holds(ask: Ask, wanted: float) -> None:
    world = alone(Event("View", at(), "m1", properties={"n": 1}))
    assert counts(ask(world, {"event": "View", "where": {"properties.n": wanted}})) == [0]


def test_where_on_context_and_columns(ask: Ask) -> None:
    event = Event(
        "View", at(), "m1", path="/a'b", utm_source="x", context={"campaign": {"name": "spring"}}, is_background=False
    )

    def fits(**where: Any) -> bool:
        step = {"event": "View", "where": {name.replace("__", "."): value for name, value in where.items()}}
        return counts(ask(alone(event), step)) == [1]

    assert fits(path="/a'b", utm_source="x", type="track", anonymous_id="d1", user_id=None, is_background=False)
    assert fits(context__campaign__name="spring", properties__anything=None)
    assert not fits(path="/a", utm_source="x")
    assert not fits(context__campaign__name=None)
    assert not fits(is_background=True)


HOSTILE = [
    "'; drop table stream.events; --",
    'a "quoted" name',
    "it's",
    "$p1",
    "?",
    "back\\slash",
    "{curly} %s %(x)s",
    "new\nline",
    "nul\x00inside",
    "日本語 🛒",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_event_names_and_values(ask: Ask, con: duckdb.DuckDBPyConnection, name: str) -> None:
    events = [
        Event(name, at(), "m1", "d1", properties={"k": name}, path=name),
        Event(name, at(), "m1", "d2", properties={"k": "other"}, path=name),
        Event("View", at(1), "m2", "d1"),
    ]
    first = {"event": name, "where": {"properties.k": name, "path": name}}
    result = ask(World(events), first, "View", breakdown="properties.k", by="device", name=name)
    assert counts(result) == [1, 1]
    assert [(part.value, part.steps[0].step) for part in result.breakdown] == [(name, name)]
    assert con.execute("select count(*) from stream.events").fetchone() == (3,)


KEYS = {
    "properties.plan": ["plan"],
    'properties."cart.total"': ["cart.total"],
    "properties.cart.total": ["cart", "total"],
    'properties."say ""hi"""': ['say "hi"'],
    "properties.it's": ["it's"],
    "properties.a/b~c": ["a/b~c"],
    'properties.""': [""],
    "properties.*": ["*"],
    "properties.$": ["$"],
    "properties.with space": ["with space"],
    "properties.'); drop table stream.events; --": ["'); drop table stream", "events; --"],
    "properties.日本": ["日本"],
    'properties.a."b.c".d': ["a", "b.c", "d"],
}


@pytest.mark.parametrize(("field", "keys"), KEYS.items())
def test_hostile_property_keys(ask: Ask, field: str, keys: Sequence[str]) -> None:
    content: Any = "yes"
    for key in reversed(keys):
        content = {key: content, "decoy": "no"}
    world = alone(
        Event("View", at(), "m1", "d1", properties=content),
        Event("View", at(), "m1", "d2", properties={"decoy": "yes", "ca": "yes"}),
    )
    result = ask(world, {"event": "View", "where": {field: "yes"}}, by="device", breakdown=field)
    assert counts(result) == [1]
    assert [part.value for part in result.breakdown] == ["yes"]
