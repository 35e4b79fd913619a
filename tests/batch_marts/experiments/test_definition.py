"""Experiments as people write them, and what is said when they are wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from batch_marts.experiments import load_experiments
from demo import EXPERIMENTS
from stitchline.errors import DefinitionError

GOOD = """\
experiments:
  - id: checkout
    label: Checkout on one page
    control: old
    variations: {new: 1, old: 3}
    start: 2026-03-01
    end: 2026-03-14
    minimum_effect: 0.05
    metrics:
      - {name: orders, event: Order Completed}
      - {name: revenue, event: Order Completed, sum: revenue, once_per: order_id}
    guardrails:
      - {name: refunds, event: Order Refunded, good: down}
"""


def written(folder: Path, text: str, name: str = "experiments.yml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_what_a_definition_says(tmp_path: Path) -> None:
    (experiment,) = load_experiments(written(tmp_path, GOOD))
    assert (experiment.arms, experiment.shares) == (("old", "new"), (0.75, 0.25))
    assert experiment.start == datetime(2026, 3, 1, tzinfo=UTC)
    assert experiment.end == datetime(2026, 3, 15, tzinfo=UTC), "the 14th is its last day"
    assert [(m.name, m.kind, m.good) for m in experiment.measured] == [
        ("orders", "conversion", "up"),
        ("revenue", "mean", "up"),
        ("refunds", "conversion", "down"),
    ]
    assert type(experiment).model_validate_json(experiment.model_dump_json()) == experiment


def test_a_folder_has_those_of_its_files(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace("id: checkout", "id: b"), "2.yaml")
    written(tmp_path, GOOD.replace("id: checkout", "id: a"), "1.yml")
    written(tmp_path, "no YAML: [", "notes.txt")
    assert [experiment.id for experiment in load_experiments(tmp_path)] == ["a", "b"]
    assert load_experiments(None) == []
    written(tmp_path, GOOD.replace("id: checkout", "id: b"), "3.yml")
    with pytest.raises(DefinitionError, match=r"3\.yml: experiment 'b' is in .*2\.yaml already: keep one"):
        load_experiments(tmp_path)


def test_the_demo_has_one() -> None:
    assert [experiment.id for experiment in load_experiments(EXPERIMENTS)] == ["one-page-checkout"]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("control: old", "control: odd", "the control 'odd' is none of the variations 'new', 'old'"),
        ("    control: old\n", "", "the control 'control' is none of the variations 'new', 'old'"),
        ("{new: 1, old: 3}", "{old: 1}", "variations: dictionary should have at least 2 items"),
        ("{new: 1, old: 3}", "{new: 0, old: 3}", r"variations\.new: input should be greater than 0"),
        ("{new: 1, old: 3}", "{on: 1, old: 3}", "True is no text to YAML: put it in quotes"),
        ("end: 2026-03-14", "end: 2026-02-14", "it ends before it starts"),
        ("end: 2026-03-14", "end: soon", "'soon' is no time"),
        ("minimum_effect: 0.05", "minimum_effect: 0", "minimum_effect: input should be greater than 0"),
        ("minimum_effect: 0.05", "minimal_effect: 0.05", "did you mean minimum_effect?"),
        ("name: revenue", "name: orders", "'orders' is the name of two metrics"),
        ("name: refunds", "name: orders", "'orders' is the name of two metrics"),
        ("good: down", "good: less", r"guardrails\[0\]\.good: input should be 'up' or 'down'"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_experiment(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in GOOD
    file = written(tmp_path, GOOD.replace(right, wrong))
    with pytest.raises(DefinitionError, match=rf"experiments\.yml: .*experiment 'checkout': .*{said}") as error:
        load_experiments(file)
    assert error.value.facts["source"] == file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("experiments: [", "cannot be read"),
        ("", "is not a table of `name: value`"),
        ("experiments: [3]", r"experiments\[0\]: is not a table"),
        ("trials: []", "trials: is not a field of a definition"),
    ],
)
def test_what_is_no_definition_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        load_experiments(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"none\.yml cannot be read"):
        load_experiments(tmp_path / "none.yml")
