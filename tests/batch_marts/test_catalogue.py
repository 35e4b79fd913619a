"""What the marts and metrics mean, and which metric plain words find."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from batch_marts.catalogue import Catalogue, load_catalogue
from batch_marts.dbt import PROJECT
from batch_marts.metrics import METRICS
from batch_marts.search import Document, Index
from stitchline.errors import DefinitionError

QUESTIONS = yaml.safe_load((Path(__file__).parents[1] / "data" / "questions.yml").read_text())["questions"]


VERSIONS = """\
    latest_version: 1
    versions:
      - {v: 1, defined_in: mart_acquisition, deprecation_date: 2027-03-31}
      - v: 2
        columns: [{include: all, exclude: [cac_usd]}, {name: cost_of_customer_usd, data_type: double, description: …}]
"""


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
        assert mart.owner, mart.name


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
    assert metric in [one.shown_as for one in catalogue.metrics_about(words)][:3]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one["asked"])
def test_what_people_asked_before_there_was_a_search(catalogue: Catalogue, question: dict[str, str]) -> None:
    assert question["metric"] in [one.shown_as for one in catalogue.metrics_about(question["asked"])][:3]


@pytest.mark.parametrize(
    ("words", "mart"),
    [
        ("what happened in each visit", "fct_sessions"),
        ("advertising cost per day and campaign", "fct_ad_spend_daily"),
        ("prospects and their devices", "dim_person"),
        ("marketing turnover", "fct_conversions"),
        ("which variation of the experiment won", "mart_experiment_results"),
        ("where do people drop out of the funnel", "fct_funnel_daily"),
        ("weekend", "dim_date"),
    ],
)
def test_plain_words_find_a_mart(catalogue: Catalogue, words: str, mart: str) -> None:
    assert mart in [one.name for one in catalogue.marts_about(words)][:3]


def test_no_words_find_all_and_strange_ones_none(catalogue: Catalogue) -> None:
    assert catalogue.metrics_about(" ") == list(catalogue.metrics.values())
    assert catalogue.marts_about("") == list(catalogue.marts.values())
    for words in ("zeppelin", "how much is it", "?!", "'); --", "%", "数据"):
        assert catalogue.metrics_about(words) == [], words
        assert catalogue.marts_about(words) == [], words


def test_a_word_that_is_misspelt_or_begun_finds_what_is_most_like_it(catalogue: Catalogue) -> None:
    for words in ("retenion", "reten", "RETENTION", "rétention"):
        assert "retention" in [one.shown_as for one in catalogue.metrics_about(words)][:2], words


def test_a_phrase_that_says_little_else_counts_more_than_a_long_one_or_many() -> None:
    index = Index(
        [
            Document("long", {"called": ["what a visit to the shop costs"], "says": []}),
            Document("many", {"called": ["visit in spring", "visit in summer", "visit in winter"], "says": []}),
            Document("short", {"called": ["visit"], "says": []}),
            Document("other", {"called": ["something else"], "says": ["it only mentions a visit"]}),
            Document("none", {"called": ["revenue"], "says": []}),
        ],
        {"called": 4.0, "says": 1.0},
    )
    found = index.find("visits")
    assert found[0] == "short"
    assert found[-1] == "other"
    assert "none" not in found


def test_several_may_search_at_once(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(catalogue.metrics_about, ["customer cost"] * 16))
    assert {tuple(one.shown_as for one in each) for each in found} == {tuple(one.shown_as for one in found[0])}


def test_versions_of_a_mart_stand_beside_each_other(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    marts = project / "models" / "marts"
    text = (marts / "marts.yml").read_text()
    begin = text.index("    config:", text.index("- name: mart_acquisition\n"))
    (marts / "marts.yml").write_text(text[:begin] + VERSIONS + text[begin:])
    shutil.copy(marts / "mart_acquisition.sql", marts / "mart_acquisition_v2.sql")
    tests = project / "tests"
    told = (tests / "revenue_is_that_of_the_events.sql").read_text()
    (tests / "revenue_holds.sql").write_text(told.replace("'mart_acquisition'", "'mart_acquisition', v=2"))

    found = load_catalogue(project, METRICS)

    first, second = found.marts["mart_acquisition"], found.marts["mart_acquisition_v2"]
    assert [column.name for column in second.columns] == [
        *(column.name for column in first.columns if column.name != "cac_usd"),
        "cost_of_customer_usd",
    ]
    assert (second.question, second.owner) == (first.question, first.owner)
    assert "revenue is that of the events" in first.tests
    assert "revenue is that of the events" not in second.tests
    assert "revenue holds" in second.tests
    assert second in found.marts_about("what does a new customer cost")
    assert found.made_from("mart_acquisition_v2") == found.made_from("mart_acquisition")
    assert found.latest == {"mart_acquisition": 1}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    marts = tmp_path / "models" / "marts"
    marts.mkdir(parents=True)
    (marts / "marts.yml").write_text("models: [")
    with pytest.raises(DefinitionError, match=r"marts\.yml cannot be read"):
        load_catalogue(tmp_path, METRICS)
