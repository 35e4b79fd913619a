"""Nothing is shown before its tests pass: defects of every kind in the data, in the models, in the project itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from batch_marts.dbt import PROJECT, Finding, Project
from batch_marts.metrics import load_metrics
from batch_marts.policy import breaches
from sinks.warehouse import Warehouse
from tests.whole.runs import Run, event

SPEND = """\
Date,Campaign name,Ad group name,Ad name,Spend,Impressions,Clicks
2026-01-01,ultralight,all,ad 1,$3.10,800,9
Total,,,,$3.10,800,9
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, to spoil."""
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("*.py[c]", "spend")))


def change(file: Path, what: str, into: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(re.findall(what, text)) == 1, f"{what!r} in {file}"
    file.write_text(re.sub(what, into, text), encoding="utf-8")


def shop(folder: Path, redis_url: str) -> Run:
    """A visitor who came by an ad, signed up and ordered; and what the ad cost."""
    url = "https://shop.example/?utm_source=reddit&utm_medium=cpc&utm_campaign=ultralight"
    events = [
        event("p", "10:00:00", type="page", event=None, context={"page": {"url": url, "path": "/"}}),
        event("s", "10:01:00", event="Signed Up", userId="u"),
        event("o", "10:02:00", event="Order Completed", userId="u", properties={"order_id": "1", "revenue": 9.5}),
        event("q", "10:00:00", "e", type="page", event=None, context={"page": {"path": "/help"}}),
    ]
    (folder / "events.jsonl").write_bytes(b"\n".join(events))
    (folder / "spend.csv").write_text(SPEND, encoding="utf-8")
    run = Run(folder / "w.duckdb", redis_url)
    run.replay(folder / "events.jsonl")
    run.command("spend", "load", str(folder / "spend.csv"), "--account", "shop")
    return run


def test_a_defect_of_each_kind_stops_the_publication(redis_url: str, tmp_path: Path, project: Path) -> None:
    run = shop(tmp_path, redis_url)
    assert json.loads(run.command("marts", "refresh", "--json"))["status"] == "published"
    shown = run.rows("from marts.mart_daily_metrics order by all")

    # In the stream's own tables, for a build that carries over.
    with Warehouse.open(run.warehouse) as warehouse, warehouse.transaction() as con:
        for revision in (8, 9):
            con.execute(
                "insert into stream.closed_sessions select * replace ($revision as revision) "
                "from stream.closed_sessions where anonymous_id = 'e' and revision < 8",
                {"revision": revision},
            )
    assert "stg_sessions: session_id is there more than once (1 rows" in " ".join(
        run.command("marts", "refresh", exits=1).split()
    )
    failed = json.loads(run.command("marts", "history", "--json"))[0]
    assert (failed["kind"], len(failed["findings"])) == ("incremental", 1)
    with Warehouse.open(run.warehouse) as warehouse, warehouse.transaction() as con:
        con.execute("delete from stream.closed_sessions where revision > 7")

    run.settings["MARTS__PROJECT"] = str(project)
    marts = project / "models" / "marts"
    with (marts / "fct_events_daily.sql").open("a", encoding="utf-8") as file:  # a key that is there twice
        file.write("union all (select * from fresh order by all limit 1)\n")
    change(marts / "dim_campaign.sql", "any_value\\(channel\\)", "nullif(any_value(channel), 'reddit')")  # a null
    change(marts / "dim_person.sql", r"coalesce\(visits.first_channel, 'none'\)", "'nowhere'")  # an orphan
    change(marts / "fct_conversions.sql", r"1.0e0 / touch_count", "1.1e0 / touch_count")  # more than there was
    with Warehouse.open(run.warehouse) as warehouse, warehouse.transaction() as con:  # a total that is wrong
        con.execute("update marketing.spend_files set spend = spend + 1")
    said = run.command("marts", "refresh", exits=1)

    assert run.rows("from marts.mart_daily_metrics order by all") == shown
    failed, _, published = json.loads(run.command("marts", "history", "--json"))
    assert (failed["status"], published["status"]) == ("failed", "published")
    found = {(each["about"], each["says"]): each for each in failed["findings"]}
    expected = {
        ("fct_events_daily", "there is more than one row per event_date, event_name, path, device_type"): 1,
        ("dim_person", "first_channel is not in dim_channel"): 2,
        ("dim_campaign", "channel is null"): 1,
        ("fct_conversions", "the shares of a conversion do not add up to the whole"): 2,
        ("fct_ad_spend_daily", "the spend of a platform is not what its exports' own totals say"): 1,
    }
    for key, rows in expected.items():
        assert key in found, list(found)
        assert found[key]["failures"] == rows
        kept = found[key]["relation"]
        assert run.value(f"select count(*) from {kept}") == rows, "the rows are kept for a look"
        about, says = key
        assert f"{about}: {says} ({rows} rows, kept in {kept})" in " ".join(said.split())
    assert "what was published stays" in said


def spoil(project: Path, mart: str, do: Callable[[dict[str, object]], object]) -> None:
    file = project / "models" / "marts" / "marts.yml"
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    (model,) = (each for each in told["models"] if each["name"] == mart)
    do(model)
    file.write_text(yaml.safe_dump(told), encoding="utf-8")


def findings(project: Path, folder: Path) -> list[Finding]:
    with Warehouse.open(folder / "w.duckdb") as warehouse:
        return breaches(Project(warehouse, folder / "dbt", "build_0001", load_metrics(), project).folder)


def test_the_project_keeps_the_policy_which_names_marts_that_lack_something(tmp_path: Path, project: Path) -> None:
    assert findings(project, tmp_path) == []
    spoil(project, "dim_date", lambda model: model.pop("description"))
    spoil(project, "dim_channel", lambda model: model.update(config={"contract": {"enforced": False}}))
    spoil(project, "fct_ad_spend_daily", lambda model: model.pop("data_tests"))
    spoil(project, "mart_acquisition", lambda model: model["columns"][0].pop("description"))  # type: ignore[index]
    change(project / "tests" / "customers_and_prospects_are_kept_apart.sql", r"tags=\['business'\], ", "")
    change(project / "tests" / "revenue_is_that_of_the_events.sql", r"tags=\['business'\], ", "")
    found = {(finding.what, finding.about) for finding in findings(project, tmp_path)}
    assert found == {
        ("check_model_description_populated", "dim_date"),
        ("check_model_has_contracts_enforced", "dim_channel"),
        ("check_model_has_meta_keys", "dim_channel"),
        ("check_model_has_unique_test", "fct_ad_spend_daily"),
        ("check_model_column_description_populated", "mart_acquisition"),
        ("check_mart_has_business_test", "mart_acquisition"),
        ("check_mart_has_business_test", "dim_person"),
    }


def test_a_refresh_stops_at_the_policy_before_it_builds(redis_url: str, tmp_path: Path, project: Path) -> None:
    run = shop(tmp_path, redis_url)
    spoil(project, "dim_date", lambda model: model.pop("description"))
    run.settings["MARTS__PROJECT"] = str(project)
    said = " ".join(run.command("marts", "refresh", exits=1).split())
    assert "Build 1 is not published" in said
    assert "dim_date" in said
    assert run.rows("from duckdb_views() where schema_name = 'marts'") == []
    assert run.rows("from duckdb_tables() where schema_name = 'build_0001' and table_name like 'int%'") == []
