"""A funnel as SQL to paste: it counts what the engine counts, and what somebody wrote stays in its quotes."""

from __future__ import annotations

import itertools
from typing import Any

import duckdb
import pytest

from funnels import FunnelDefinition, run_funnel
from funnels.as_sql import funnel_sql
from service.web.statement import read_rows
from sinks.warehouse import Warehouse
from stitchline.errors import DefinitionError
from tests.funnels.pasted import compare
from tests.funnels.worlds import Event, alone, at, fill, put

HOSTILE = [
    *("it's", "'; drop table stream.events; --", "a\nb", "\r\n", "${x} $1 ?", '"', "\\'", "/* */", "nul\0nul", "\0"),
    *("\u202ex", "\U0001f9e6 gr\u00f6\u00dfe", "{0}"),
]


def test_many_simultaneous_events_of_one_kind_are_no_burden(con: duckdb.DuckDBPyConnection) -> None:
    fill(con, alone(*(Event("A", at(0), f"m{number:03}", offset=number) for number in range(200))))
    compare(con, FunnelDefinition.model_validate({"steps": [{"event": "A"}] * 6}))


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"order": "any"}, "in any order"),
        ({"count": "totals"}, "totals"),
        ({"steps": [{"event": "A"}, {"event": "B", "optional": True}]}, "optional"),
    ],
)
def test_what_sql_cannot_say_is_refused_with_the_reason(rules: dict[str, Any], says: str) -> None:
    definition = FunnelDefinition.model_validate({"steps": [{"event": "A"}, {"event": "B"}]} | rules)
    with pytest.raises(DefinitionError, match=says) as refusal:
        funnel_sql(definition)
    assert "stitchline funnel" in str(refusal.value)


def test_half_a_character_is_refused() -> None:
    step = {"event": "A", "where": {"path": {"in": ["\ud800"]}}}
    with pytest.raises(DefinitionError, match="half a character"):
        funnel_sql(FunnelDefinition.model_validate({"steps": [step]}))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_values_stay_values(con: duckdb.DuckDBPyConnection, text: str) -> None:
    key = text.replace('"', '""')
    events = [Event(text, at(0), "m1", properties={text: text}), Event("B", at(1), "m2", utm_source=text)]
    fill(con, alone(*events, Event("A", at(0), "m3", device="d2")))
    definition = FunnelDefinition.model_validate(
        {
            "name": text,
            "steps": [
                {"event": text, "where": {f'properties."{key}"': {"contains": text}}, "name": text},
                {"event": "B", "where": {"utm_source": {"in": [text, text]}}},
            ],
            "exclude": [{"event": text + text, "from_step": 0, "to_step": 1}],
            "hold": ["anonymous_id"],
        }
    )
    assert [step.count for step in run_funnel(con, definition).steps] == [1, 1]
    compare(con, definition)


def test_numbers_times_and_truths_are_what_they_were(con: duckdb.DuckDBPyConnection) -> None:
    values = [0.1, 1e300, 2**63, -(2**63), 10**30, -1.5, True, "2025-06-01T00:00:00+05:30", "0001-01-01", None]
    tests = ["equals", "not", "at_least", "less"]
    fill(
        con,
        alone(
            *(
                Event("A", at(0), f"m{place}", f"d{place}", properties={"x": value})
                for place, value in enumerate(values)
            )
        ),
    )
    for value, test in itertools.product(values, tests):
        if test in ("at_least", "less") and (value is None or value is True):
            continue
        compare(
            con, FunnelDefinition.model_validate({"steps": [{"event": "A", "where": {"properties.x": {test: value}}}]})
        )


def test_a_service_takes_it(tmp_path: Any) -> None:
    definition = FunnelDefinition.model_validate(
        {"steps": [{"event": "it's"}, {"event": "B"}], "by": "session", "breakdown": "session.browser"}
    )
    with Warehouse.open(tmp_path / "warehouse.duckdb") as warehouse, warehouse.reader() as con:
        put(con, alone(Event("it's", at(0), "m1")))
        rows = read_rows(con, funnel_sql(definition))
    assert [row["value"] for row in rows] == ["(all)", "(all)"]
    assert [row["step"] for row in rows] == ["it's", "B"]
