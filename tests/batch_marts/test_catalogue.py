"""What the marts and metrics mean, and which metric plain words find."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_marts.catalogue import Catalogue, found_by, load_catalogue
from batch_marts.dbt import PROJECT
from batch_marts.metrics import METRICS
from stitchline.errors import DefinitionError


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(PROJECT, METRICS)


def test_every_mart_has_a_question_columns_and_tests(catalogue: Catalogue) -> None:
    assert len(catalogue.marts) == 12
    for mart in catalogue.marts.values():
        assert mart.question.endswith("?"), mart.name
        assert "{{" not in mart.description
        assert all(column.description and column.data_type for column in mart.columns), mart.name
        assert mart.tests, mart.name


def test_lineage_reaches_from_a_metric_to_the_events(catalogue: Catalogue) -> None:
    behind = {model.name: model.layer for model in catalogue.behind(catalogue.metrics["cac"])}
    assert behind["fct_ad_spend_daily"] == behind["fct_conversions"] == "marts"
    assert behind["stg_events"] == "staging"
    assert behind["stream.events"] == behind["marketing.ad_spend"] == "source"
    assert "mart_acquisition" not in behind
    assert "int_orders" in {model.name for model in catalogue.made_from("mart_daily_metrics")}
    assert {"fct_conversions", "fct_funnel_daily"} & {model.name for model in catalogue.read_by("dim_person")} == set()


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ("how much does a customer cost us", "cac"),
        ("orders", "orders"),
        ("how many people sign up", "sign_ups"),
        ("ad spend", "ad_spend"),
        ("revenue", "revenue"),
        ("traffic", "page_views"),
        ("conversion", "conversion"),
        ("return on advertising spend", "roas"),
        ("refunds", "refunds"),
        ("visitors", "visitors"),
        ("retention", "retention"),
        ("activation rate", "activation"),
    ],
)
def test_plain_words_find_a_metric(catalogue: Catalogue, words: str, metric: str) -> None:
    assert metric in [one.shown_as for one in found_by(words, list(catalogue.metrics.values()))][:3]


def test_no_words_find_all_and_strange_ones_none(catalogue: Catalogue) -> None:
    every = list(catalogue.metrics.values())
    assert found_by(" ", every) == every
    assert found_by("zeppelin", every) == []
    assert found_by("how much is it", every) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    marts = tmp_path / "models" / "marts"
    marts.mkdir(parents=True)
    (marts / "marts.yml").write_text("models: [")
    with pytest.raises(DefinitionError, match=r"marts\.yml cannot be read"):
        load_catalogue(tmp_path, METRICS)
