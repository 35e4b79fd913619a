"""Readers never see half a refresh: somebody reads all the time while 20 builds are made, some of which fail."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
import yaml

from batch_marts.builds import builds, published, schemas
from batch_marts.dbt import PROJECT
from batch_marts.refresh import Funnels, MartRules, RefreshFailed, Stopped, Told, refresh, rollback
from demo import EXPERIMENTS
from sinks.warehouse import Warehouse
from stitchline.errors import UsageError

MARTS = [f"fct_{number}" for number in range(6)]
ROUNDS = 20
OUTCOMES = {3: "test", 7: "model", 8: "stopped", 12: "test", 13: "test", 17: "stopped at once"}
"""How the rounds fail that do."""


def no_funnels(con: duckdb.DuckDBPyConnection, copies: str, since: object) -> str:
    con.execute(
        "create temp table funnel_days (funnel_name varchar, entry_date date, step_number integer, "
        "step_name varchar, subject_count bigint)"
    )
    return "funnel_days"


FUNNELS = Funnels(no_funnels, timedelta(), "")


def bare_project(folder: Path, *macros: str) -> None:
    """A project with some of our macros, a policy that asks little, and no models yet."""
    for part in ("models/marts", "macros", "tests", "seeds", "checks"):
        (folder / part).mkdir(parents=True)
    told = yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    told["models"] = {"stitchline": {"+materialized": "table"}}
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(told | {"seeds": {}}), encoding="utf-8")
    policy = {
        "dbt_artifacts_dir": "target",
        "manifest_checks": [{"name": "check_model_names", "model_name_pattern": ".*_"}],
    }
    (folder / "policy.yml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    for macro in macros:
        shutil.copyfile(PROJECT / "macros" / macro, folder / "macros" / macro)


def small_project(folder: Path) -> MartRules:
    """A project of seven marts, each of which says in every row in which round it was made."""
    models = folder / "models" / "marts"
    bare_project(folder, "building.sql")
    (folder / "models" / "int_calendar.sql").write_text(
        "select '2026-01-01'::date as calendar_date, true as is_complete"
    )
    for before, mart in zip(["int_calendar", *MARTS], MARTS, strict=False):
        broken = "{% if var('fails') == 'model' %} where no_such_column {% endif %}" if mart == MARTS[4] else ""
        (models / f"{mart}.sql").write_text(
            f"select {{{{ var('round') }}}} as round from range(1000), {{{{ ref('{before}') }}}} limit 1000 {broken}"
        )
    (folder / "tests" / "nothing_is_wrong.sql").write_text(
        f"select round from {{{{ ref('{MARTS[3]}') }}}} where '{{{{ var('fails') }}}}' = 'test'"
    )
    metric = {
        "name": "round",
        "label": "Round",
        "definition": "In which of the rounds of this test the mart was made.",
        "owner": "tests",
        "unit": "1",
        "good": "up",
        "value": "select '2026-01-01'::date as metric_date, max(round) as metric_value from {{ ref('fct_5') }}",
    }
    (folder / "metrics.yml").write_text(yaml.safe_dump({"metrics": [metric]}), encoding="utf-8")
    return MartRules(folder.parent / "dbt", folder / "metrics.yml", folder)


class Reader(threading.Thread):
    """Reads all marts, now in one statement, now one by one in a transaction, until it is told to stop."""

    def __init__(self, warehouse: Warehouse) -> None:
        super().__init__(name="reader", daemon=True)
        self.seen: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self._warehouse = warehouse

    def run(self) -> None:
        marts = [f"select distinct round from marts.{mart}" for mart in MARTS]
        marts.append("select distinct metric_value::integer from marts.mart_daily_metrics")
        at_once = " union all ".join(f"({mart})" for mart in marts)
        with self._warehouse.reader() as con:
            while not self.stop.wait(0.01):
                try:
                    together = [number for (number,) in con.execute(at_once).fetchall()]
                    con.execute("begin transaction read only")
                    try:
                        apart = [number for mart in marts for (number,) in con.execute(mart).fetchall()]
                    finally:
                        con.execute("commit")
                except duckdb.Error as error:
                    self.wrong.append(str(error))
                    return
                for read in (together, apart):
                    if len(read) != len(marts) or len(set(read)) != 1:
                        self.wrong.append(f"rows of different builds: {read}")
                        return
                    self.seen[read[0]] += 1


def test_readers_see_one_build_whatever_becomes_of_the_next(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        rules = small_project(tmp_path / "project")
        refresh(warehouse, with_round(rules, 0), FUNNELS)
        reader = Reader(warehouse)
        reader.start()
        for number in range(1, ROUNDS + 1):
            fails = OUTCOMES.get(number, "nothing")
            stopping = threading.Event()
            heard: list[str] = []
            told = telling(heard, stopping, fails)
            this = with_round(rules, number, fails)
            before = reader.seen.total()
            if fails == "nothing":
                assert refresh(warehouse, this, FUNNELS, told=told, stopping=stopping).status == "published"
            else:
                with pytest.raises(Stopped if fails.startswith("stopped") else RefreshFailed):
                    refresh(warehouse, this, FUNNELS, told=told, stopping=stopping)
                assert (heard == ["pin"]) is (fails == "stopped at once"), "then nothing is built"
            assert reader.seen.total() > before, "it reads while a build is made"
            if number == 10:
                assert rollback(warehouse).status == "published"
        reader.stop.set()
        reader.join()
        assert reader.wrong == []
        good = {number for number in range(ROUNDS + 1) if number not in OUTCOMES}
        assert set(reader.seen) == good, "each that was published, and none that failed"
        with warehouse.reader() as con:
            every = builds(con)
            assert {b.build_id - 1 for b in every if b.status == "failed"} == set(OUTCOMES)
            shown = published(con)
            assert shown is not None
            assert shown.build_id == ROUNDS + 1
            there = [b for b in every if b.build_schema in schemas(con)]
            assert len(there) == rules.kept
            assert {b.status for b in there} == {"published", "replaced"}


def telling(heard: list[str], stopping: threading.Event, fails: str) -> Told:
    """Hears what is done, and stops what is to be stopped: while it is made ready, or at the first thing built."""

    def told(what: str, done: int, of: int) -> None:
        heard.append(what)
        if fails == ("stopped at once" if what == "pin" else "stopped"):
            stopping.set()

    return told


def with_round(rules: MartRules, number: int, fails: str = "nothing") -> MartRules:
    return MartRules(rules.folder, rules.metrics, rules.project, variables={"round": number, "fails": fails})


def test_what_fails_after_the_publication_does_not_take_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        rules = with_round(small_project(tmp_path / "project"), 1)
        (rules.folder / "target").mkdir(parents=True)
        (rules.folder / "target" / "static_index.html").mkdir()  # the documentation cannot be written there
        build = refresh(warehouse, rules, FUNNELS)
        with warehouse.reader() as con:
            assert published(con) == build
            assert con.execute("select distinct round from marts.fct_0").fetchall() == [(1,)]
        assert "The documentation of the marts cannot be written" in caplog.text


def test_another_definition_of_a_funnel_works_out_every_day_anew(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        rules = with_round(small_project(tmp_path / "project"), 1)
        kinds = [
            refresh(warehouse, rules, Funnels(no_funnels, timedelta(), json.dumps(text))).kind
            for text in ("one", "one", "other")
        ]
    assert kinds == ["full", "incremental", "full"]


def test_another_definition_of_an_experiment_works_out_every_day_anew(tmp_path: Path) -> None:
    text = EXPERIMENTS.read_text(encoding="utf-8")
    file = tmp_path / "experiments.yml"
    kinds = []
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        rules = replace(with_round(small_project(tmp_path / "project"), 1), experiments=file)
        for told in (text, "# As before.\n" + text, text.replace("minimum_effect: 0.1", "minimum_effect: 0.2")):
            file.write_text(told, encoding="utf-8")
            kinds.append(refresh(warehouse, rules, FUNNELS).kind)
    assert kinds == ["full", "incremental", "full"]


def test_going_back_needs_somewhere_to_go(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        with pytest.raises(UsageError, match="no earlier build to go back to"):
            rollback(warehouse)
        refresh(warehouse, with_round(small_project(tmp_path / "project"), 1), FUNNELS)
        with pytest.raises(UsageError, match="Kept are: none"):
            rollback(warehouse)
