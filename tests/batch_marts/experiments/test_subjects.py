"""Who is in an experiment, in which variation, with what: the SQL against Python, person by person."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_marts.experiments import Experiment
from tests.batch_marts.experiments import reference
from tests.batch_marts.experiments.reference import Subject, Told
from tests.batch_marts.experiments.worlds import START, SUBJECTS, ask, experiment, exposure

DAY = timedelta(days=1)
METRICS = [
    {"name": "orders", "event": "Ordered"},
    {"name": "revenue", "event": "Ordered", "sum": "total"},
    {"name": "revenue_once", "event": "Ordered", "sum": "total", "once_per": "order"},
]


def found(experiments: list[Experiment], events: list[Told]) -> dict[tuple[str, str], Subject]:
    """By experiment and person."""
    subjects: dict[tuple[str, str], Subject] = {}
    for row in ask(SUBJECTS, experiments, events).to_pylist():
        new = Subject(row["variation_id"], row["exposed_at"], {})
        subject = subjects.setdefault((row["experiment_id"], row["person_id"]), new)
        assert (subject.variation, subject.exposed_at) == (new.variation, new.exposed_at)
        assert row["metric_name"] not in subject.values
        subject.values[row["metric_name"]] = (row["value"], row["earlier_value"])
    return subjects


def order(person: str, at: datetime, **properties: Any) -> Told:
    return Told(person, "Ordered", at, properties)


def test_values_count_from_the_first_exposure_and_14_days_back() -> None:
    first = START + 20 * DAY
    events = [
        order("ada", first - 14 * DAY - timedelta(microseconds=1), total=1),
        order("ada", first - 14 * DAY, total=2),
        order("ada", first - timedelta(microseconds=1), total=4.5),
        exposure("ada", "new", first + DAY),
        exposure("ada", "new", first),
        order("ada", first, total=8),
        order("ada", first + 300 * DAY, total="16.25"),
        order("ada", first + 300 * DAY, total="many"),
        order("ada", first + 300 * DAY, total="nan"),
        order("bo", first, total=1),
    ]
    (subject,) = found([experiment(metrics=METRICS)], events).values()
    assert subject == Subject("new", first, {"orders": (1, 1), "revenue": (24.25, 6.5), "revenue_once": (24.25, 6.5)})


def test_an_order_that_is_told_twice_is_one_and_where_it_was_first() -> None:
    events = [
        order("ada", START, total=5, order="a"),
        exposure("ada", "new", START + DAY),
        order("ada", START + 2 * DAY, total=5, order="a"),
        order("ada", START + 2 * DAY, total=7, order="b"),
        order("ada", START + 3 * DAY, total=7, order="b"),
        order("ada", START + 3 * DAY, total=1),
        order("ada", START + 3 * DAY, total=1),
    ]
    (subject,) = found([experiment(metrics=METRICS)], events).values()
    assert subject.values == {"orders": (1, 1), "revenue": (21, 5), "revenue_once": (9, 5)}


@pytest.mark.parametrize(
    ("seen", "variation"),
    [
        (["new", "new"], "new"),
        (["new", "control"], None),
        (["new", "elsewhere"], None),
        (["elsewhere"], "elsewhere"),
        ([None], ""),
        (["new", None], None),
    ],
)
def test_who_saw_several_variations_is_in_none(seen: list[str | None], variation: str | None) -> None:
    events = [exposure("ada", each, START + number * DAY) for number, each in enumerate(seen)]
    (subject,) = found([experiment()], events).values()
    assert subject.variation == variation


def test_what_is_before_the_start_or_after_the_end_does_not_count() -> None:
    bounds = {"start": START + DAY, "end": START + 3 * DAY}
    events = [
        exposure("early", "new", START + DAY - timedelta(microseconds=1)),
        exposure("late", "new", START + 3 * DAY),
        exposure("both", "control", START),
        exposure("both", "new", START + DAY),
        order("both", START + 2 * DAY, total=1),
        order("both", START + 3 * DAY, total=2),
        exposure("stranger", "new", START + DAY, of="another"),
    ]
    subjects = found([experiment(metrics=METRICS, **bounds)], events)
    assert {person for _, person in subjects} == {"both"}
    assert subjects["checkout", "both"] == Subject(
        "new", START + DAY, {"orders": (1, 0), "revenue": (1, 0), "revenue_once": (1, 0)}
    )


moments_of_time = st.builds(
    lambda day, shift: START + day * DAY + shift * timedelta(microseconds=1), st.integers(0, 30), st.integers(-1, 1)
)
amounts = st.one_of(st.integers(-3, 9), st.sampled_from(["4.25", "x", "", None, "inf"]))
exposures = st.builds(
    exposure,
    st.sampled_from(["ada", "bo", "cy"]),
    st.sampled_from(["control", "new", "new", "elsewhere", None]),
    moments_of_time,
    st.sampled_from(["checkout", "checkout", "search", "unknown"]),
)
orders = st.builds(
    lambda person, at, total, name: Told(person, "Ordered", at, {"total": total} | ({"order": name} if name else {})),
    st.sampled_from(["ada", "bo", "cy", None]),
    moments_of_time,
    amounts,
    st.sampled_from([None, "a", "b"]),
)


@given(
    events=st.lists(st.one_of(exposures, orders, orders), max_size=25),
    start=st.one_of(st.none(), moments_of_time),
    end=st.one_of(st.none(), moments_of_time),
)
def test_any_events(events: list[Told], start: datetime | None, end: datetime | None) -> None:
    if start is not None and end is not None and start >= end:
        start = None
    experiments = [
        experiment(metrics=METRICS[:2], guardrails=METRICS[2:], start=start, end=end),
        experiment(id="search", metrics=METRICS[2:]),
    ]
    expected = {
        (each.id, person): subject
        for each in experiments
        for person, subject in reference.subjects(each, events).items()
    }
    assert found(experiments, events) == expected
