"""Results and verdicts of whole experiments, from their events on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from batch_marts.experiments import Experiment
from batch_marts.experiments.results import RESULTS_SCHEMA, analyse
from tests.batch_marts.experiments import reference
from tests.batch_marts.experiments.reference import Told
from tests.batch_marts.experiments.worlds import START, experiment, exposure, moments

DAY = timedelta(days=1)
NOW = START + 30 * DAY
ORDERS = {"name": "orders", "event": "Ordered"}
REVENUE = {"name": "revenue", "event": "Ordered", "sum": "total"}
REFUNDS = {"name": "refunds", "event": "Refunded", "good": "down"}


def did(variation: str | None, persons: int, of_them: int = 0, event: str = "Ordered", **properties: Any) -> list[Told]:
    """So many were exposed, and the first of them did something the day after."""
    people = [f"{variation}-{number}" for number in range(persons)]
    return [
        *(exposure(person, variation, START) for person in people),
        *(Told(person, event, START + DAY, properties) for person in people[:of_them]),
    ]


def results(asked: Experiment, events: Sequence[Told]) -> dict[tuple[str, str], dict[str, Any]]:
    """By variation and metric."""
    table = analyse([asked], moments([asked], events), NOW)
    assert table.schema == RESULTS_SCHEMA
    return {(row["variation_id"], row["metric_name"]): row for row in table.to_pylist()}


def verdict(asked: Experiment, events: Sequence[Told], variation: str = "new") -> tuple[str, str]:
    row = results(asked, events)[variation, "orders"]
    return row["verdict"], row["verdict_sentence"]


def test_figures_are_those_worked_out_person_by_person() -> None:
    rng = np.random.default_rng(11)
    events = []
    for number in range(900):
        person, arm = f"p{number}", "new" if number % 3 else "control"
        times = [START + float(day) * DAY for day in rng.uniform(1, 27, rng.poisson(0.5))]
        events.append(exposure(person, arm, START + 14 * DAY))
        events += [Told(person, "Ordered", at, {"total": int(rng.integers(90))}) for at in times]
    asked = experiment(metrics=[ORDERS, REVENUE], variations={"control": 1, "new": 2})
    people = reference.subjects(asked, events)
    found = results(asked, events)
    for metric in ("orders", "revenue"):
        control, other = (
            [each.values[metric] for each in people.values() if each.variation == arm] for arm in ("control", "new")
        )
        expected = reference.figures(control, other)
        row = found["new", metric]
        assert (row["persons"], found["control", metric]["persons"]) == (600, 300)
        assert (found["control", metric]["mean"], row["mean"]) == pytest.approx(expected.means)
        assert (found["control", metric]["adjusted_mean"], row["adjusted_mean"]) == pytest.approx(expected.adjusted)
        difference = (row["difference"], row["difference_low"], row["difference_high"])
        assert difference == pytest.approx(expected.difference)
        assert row["p_value"] == pytest.approx(expected.p_value)
        assert row["lift"] == pytest.approx(expected.adjusted[1] / expected.adjusted[0] - 1)
        assert row["sequential_low"] < row["lift_low"] < row["lift"] < row["lift_high"] < row["sequential_high"]
        assert 0.5 < row["variance_kept"] <= 1.01
        assert row["holm_p_value"] >= row["p_value"]
        assert row["sequential_holm_p_value"] >= row["sequential_p_value"] >= row["p_value"]


def test_better() -> None:
    # By hand: 500 persons' worth, so 3.0835 standard errors; of means with variances 0.16016 and 0.21021 per person.
    assert verdict(experiment(), did("control", 1000, 200) + did("new", 1000, 300)) == (
        "better",
        "Better than control in orders: 30.0 % against 20.0 %, +50.0 % (+17.9 % to +94.0 %).",
    )


def test_worse() -> None:
    word, sentence = verdict(experiment(), did("control", 1000, 300) + did("new", 1000, 200))
    assert word == "worse"
    assert sentence.startswith("Worse than control in orders: 20.0 % against 30.0 %, −33.3 %")


def test_fewer_of_what_is_bad_is_better() -> None:
    asked = experiment(metrics=[ORDERS | {"good": "down"}])
    assert verdict(asked, did("control", 1000, 300) + did("new", 1000, 200))[0] == "better"


def test_no_difference_yet_says_what_it_takes() -> None:
    events = did("control", 1000, 200) + did("new", 1000, 210)
    word, sentence = verdict(experiment(), events)
    assert word == "no_difference_yet"
    assert sentence.startswith("No sure difference yet in orders: 21.0 % against 20.0 %, +5.0 % (")
    needed = results(experiment(), events)["new", "orders"]["persons_needed"]
    assert f"To find 10.0 %, it takes about {needed:,} persons; 2,000 are in." in sentence
    ended = experiment(end=NOW)
    assert verdict(ended, events)[0] == "no_difference"
    assert verdict(experiment(end=NOW + DAY), events)[0] == "no_difference_yet"


def test_no_difference_that_would_be_worth_having() -> None:
    assert verdict(experiment(minimum_effect=0.8), did("control", 1000, 200) + did("new", 1000, 205)) == (
        "no_worthwhile_difference",
        "No difference of 80.0 % or more in orders: 20.5 % against 20.0 %, +2.5 % (−22.3 % to +35.5 %).",
    )


def test_a_harmed_guardrail_goes_above_a_better_metric() -> None:
    events = did("control", 1000, 200) + did("new", 1000, 300) + did("new", 1000, 60, "Refunded")
    events += did("control", 1000, 2, "Refunded")
    word, sentence = verdict(experiment(guardrails=[REFUNDS]), events)
    assert word == "guardrail_harmed"
    assert sentence.startswith("It harms refunds: 6.0 % against 0.2 %")
    fewer = did("control", 1000, 60, "Refunded") + did("control", 1000, 200) + did("new", 1000, 300)
    assert verdict(experiment(guardrails=[REFUNDS]), fewer)[0] == "better"


def test_an_uneven_split_blocks_the_verdict() -> None:
    events = did("control", 1000, 200) + did("new", 850, 300)
    word, sentence = verdict(experiment(), events)
    assert word == "sample_ratio_mismatch"
    assert sentence.startswith("No verdict: 1,000 in control, 850 in new is not the split of 1 : 1 (p = 0.00049).")
    assert verdict(experiment(variations={"control": 1, "new": 0.85}), events)[0] == "better"


def test_too_few() -> None:
    assert verdict(experiment(), did("control", 100, 20) + did("new", 99, 90)) == (
        "too_few",
        "Too few persons: 99 in new, and 100 is the least of each.",
    )


def test_one_variation_that_nobody_sees() -> None:
    assert verdict(experiment(), did("control", 99, 20))[0] == "too_few"
    assert verdict(experiment(), did("control", 100, 20))[0] == "sample_ratio_mismatch"
    row = results(experiment(), did("control", 100, 20))["new", "orders"]
    assert (row["persons"], row["mean"], row["lift"], row["p_value"]) == (0, None, None, None)


def test_not_begun() -> None:
    assert verdict(experiment(), []) == ("not_started", "Nobody has been exposed to it yet.")
    assert verdict(experiment(start=NOW + DAY), [])[1] == "It begins on 2026-04-01."
    row = results(experiment(), [])["control", "orders"]
    assert (row["persons"], row["mean"], row["verdict"], row["first_exposed_at"]) == (0, None, None, None)


def test_values_that_are_all_the_same() -> None:
    for who in (0, 500):
        row = results(experiment(), did("control", 500, who) + did("new", 500, who))["new", "orders"]
        assert (row["difference"], row["difference_low"], row["p_value"], row["sequential_low"]) == (
            0,
            None,
            None,
            None,
        )
        assert row["verdict"] == "no_difference_yet"
    assert row["verdict_sentence"] == "No sure difference yet in orders: 100.0 % against 100.0 %."


def test_a_control_with_nothing_has_no_lift() -> None:
    row = results(experiment(), did("control", 500) + did("new", 500, 100))["new", "orders"]
    assert (row["lift"], row["sequential_low"]) == (None, None)
    assert row["verdict_sentence"] == "Better than control in orders: 20.0 % against 0.0 %."


def test_who_is_left_out_is_counted() -> None:
    events = did("control", 300, 60) + did("new", 300, 60) + did("typo", 7, 7) + did(None, 5, 5)
    events += [exposure(f"control-{number}", "new", START + DAY) for number in range(4)]
    found = results(experiment(), events)
    assert (found["control", "orders"]["persons"], found["control", "orders"]["mean"]) == (296, pytest.approx(56 / 296))
    assert {row["persons_in_several"] for row in found.values()} == {4}
    assert {row["persons_elsewhere"] for row in found.values()} == {12}


def test_several_variations_have_a_verdict_each_and_share_the_correction() -> None:
    asked = experiment(variations={"control": 1, "new": 1, "other": 1}, metrics=[ORDERS, REVENUE])
    events = did("control", 1000, 200, total=5) + did("new", 1000, 300, total=5) + did("other", 1000, 201, total=5)
    found = results(asked, events)
    assert [found[arm, "orders"]["verdict"] for arm in asked.arms] == [None, "better", "no_difference_yet"]
    lowest = min(found["new", "orders"]["p_value"], found["new", "revenue"]["p_value"])
    assert min(row["holm_p_value"] or 1 for row in found.values()) == pytest.approx(4 * lowest)


def test_experiments_do_not_see_each_other() -> None:
    both = [experiment(), experiment(id="search", metrics=[REVENUE])]
    events = did("control", 300, 60, total=2) + did("new", 300, 90, total=2)
    events += [exposure(f"new-{number}", "control", START + 2 * DAY, of="search") for number in range(150)]
    rows = analyse(both, moments(both, events), NOW).to_pylist()
    assert [(row["experiment_id"], row["metric_name"], row["variation_id"], row["persons"]) for row in rows] == [
        ("checkout", "orders", "control", 300),
        ("checkout", "orders", "new", 300),
        ("search", "revenue", "control", 150),
        ("search", "revenue", "new", 0),
    ]
    assert rows[2]["mean"] == 0, "who ordered the day before"
