"""Figures of both revisions over one warehouse, and a refresh that keeps its promises: by builds of small marts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import yaml

from batch_marts import changes
from batch_marts.anomalies.owners import load_owners
from batch_marts.builds import Build, published
from batch_marts.dbt import Finding
from batch_marts.impact.compare import impact_since
from batch_marts.impact.revisions import Places
from batch_marts.impact.values import values_over
from batch_marts.metrics import every_metric
from batch_marts.promises import broken, findings
from batch_marts.reads import ReadLog, put_down, reads
from batch_marts.refresh import MartRules, RefreshFailed, refresh
from sinks.warehouse import Warehouse
from tests.batch_marts.test_publication import FUNNELS, bare_project

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
ORDERS = """\
select order_id, '2026-01-0' || day as day_text, cast('2026-01-0' || day as date) as order_date, amount
from (values ('a', 1, 10.0), ('b', 1, 20.0), ('c', 2, 5.0)) as t (order_id, day, amount)
"""
METRIC = {
    "name": "revenue",
    "label": "Revenue",
    "definition": "What orders of the UTC day add up to, whoever placed them.",
    "owner": "finance",
    "unit": "USD",
    "good": "up",
    "value": "select order_date as metric_date, sum(amount) as metric_value from {{ ref('fct_orders') }} group by all",
}


def project(folder: Path) -> MartRules:
    """Two marts and a calendar of two days, in a repository."""
    bare_project(folder, "building.sql", "versions.sql")
    (folder / "models" / "int_calendar.sql").write_text(
        "select unnest(['2026-01-01'::date, '2026-01-02'::date]) as calendar_date, true as is_complete"
    )
    (folder / "models" / "marts" / "fct_orders.sql").write_text(ORDERS)
    (folder / "models" / "marts" / "fct_days.sql").write_text(
        "select order_date, count(*) as order_count from {{ ref('fct_orders') }} group by all"
    )
    (folder / "metrics.yml").write_text(yaml.safe_dump({"metrics": [METRIC]}), encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The marts as they are")
    return MartRules(folder.parent / "dbt", folder / "metrics.yml", folder)


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@shop.example")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_figures_and_promises(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        rules = project(tmp_path / "project")
        metrics = every_metric(rules.metrics)
        refresh(warehouse, rules, FUNNELS)

        # An order less, and a column less.
        mart = rules.project / "models" / "marts" / "fct_orders.sql"
        mart.write_text(
            "select order_id, order_date, cast(amount * 2 as decimal(3, 1)) as amount from ("
            + ORDERS
            + ") where order_id <> 'c'"
        )

        told = impact_since(
            "main",
            Places(rules.project, rules.metrics),
            load_owners(),
            today=date(2026, 12, 1),
            built=lambda was, now, folder: values_over(warehouse, rules, FUNNELS, was, now, folder),
        )
        assert told.values is not None
        rows = {one.name: (one.before, one.after) for one in told.values.rows}
        assert rows == {"fct_days": (2, 1), "fct_orders": (3, 2), "mart_daily_metrics": (2, 2)}
        assert {one.name: (one.before, one.after) for one in told.values.sums} == {
            "fct_orders.amount": (35.0, 60.0),
            "fct_days.order_count": (3, 2),
        }
        (revenue,) = told.values.metrics
        assert (revenue.name, revenue.before, revenue.after) == ("revenue", 17.5, 30.0)
        assert revenue.changed_days == [("2026-01-01", 30.0, 60.0), ("2026-01-02", 5.0, 0.0)]
        with warehouse.reader() as con:
            left = con.execute("select schema_name from duckdb_schemas() where schema_name like 'scratch%'").fetchall()
            assert left == [], "nothing stays of it"
            assert con.execute("select sum(amount) from marts.fct_orders").fetchall() == [(35.0,)]

        # Nobody was told that the column goes: it is not published.
        def promises(at: datetime) -> list[Finding]:
            seen: list[Finding] = []

            def promised(con: duckdb.DuckDBPyConnection, build: Build) -> Sequence[Finding]:
                seen[:] = findings(con, broken(con, build, metrics, at), at)
                return seen

            with suppress(RefreshFailed):
                refresh(warehouse, rules, FUNNELS, promises=promised)
            return seen

        (why,) = promises(NOW)
        assert why.about == "fct_orders"
        assert why.says.startswith("The column day_text of fct_orders is gone. Nobody was told")
        assert shown(warehouse) == 1

        # They are told; it waits for its day, and comes then.
        gone = changes.Coming(
            "0123456789abcdef", "fct_orders", None, "day_text", "column_removed", True, "day_text is gone.", "varchar",
            None, (changes.Reader("slides", "Slides", "finance", "#finance-alerts"),),
        )  # fmt: skip
        with warehouse.transaction() as con:
            (notice,) = changes.announce(con, [gone], by="Ada", now=NOW)
            assert changes.announce(con, [gone], by="Ada", now=NOW) == []
        (why,) = promises(NOW + timedelta(days=13))
        assert "It is announced for 2026-12-15, and waits until then" in why.says
        assert shown(warehouse) == 1
        with warehouse.reader() as con:
            assert [one.change_id for one in changes.pending(con, NOW + timedelta(days=13))] == [gone.change_id]
            assert changes.pending(con, NOW + timedelta(days=14)) == []
        assert promises(NOW + timedelta(days=14)) == []
        assert shown(warehouse) > 1
        with warehouse.transaction() as con:
            seen = changes.seen(con, notice.notice_id, "grace", NOW)
            assert seen is not None
            assert changes.seen(con, notice.notice_id, "heidi", NOW) == seen, "the first one is kept"


def shown(warehouse: Warehouse) -> int:
    with warehouse.reader() as con:
        build = published(con)
        assert build is not None
        return build.build_id


def test_a_reason_brings_forward_what_waits(tmp_path: Path) -> None:
    reader = changes.Reader("slides", "Slides", "finance", "#finance-alerts")
    gone = changes.Coming(
        "0123456789abcdef", "fct_orders", None, "a", "column_removed", True, "a is gone.", "date", None, (reader,)
    )
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        with warehouse.transaction() as con:
            (first,) = changes.announce(con, [gone], by="Ada", now=NOW, comes_on=date(2027, 1, 31))
            assert first.changes[0].in_force_at == datetime(2027, 1, 31, tzinfo=UTC)
        with warehouse.transaction() as con:
            (second,) = changes.announce(con, [gone], by="Ada", now=NOW, because="it is wrong")
            assert (second.changes[0].in_force_at, second.changes[0].because) == (NOW, "it is wrong")
            assert changes.announce(con, [gone], by="Ada", now=NOW, because="it is wrong") == []
            assert changes.in_force(con, NOW) == {("fct_orders", "a")}
        with warehouse.transaction() as con:
            assert changes.withdraw(con, [gone.change_id], NOW) == [gone.change_id]
            assert changes.notices(con) == []
            (again,) = changes.announce(con, [gone], by="Ada", now=NOW)
            assert again.changes[0].in_force_at == NOW + changes.NOTICE


@pytest.mark.parametrize("days", [0, 91])
def test_reads_are_kept_for_90_days(tmp_path: Path, days: int) -> None:
    log = ReadLog()
    for _ in range(3):
        log.saw("ada", "python-requests/2.32", "fct_orders", None, NOW)
    log.saw("ada", "python-requests/2.32", "mart_daily_metrics", "cac", NOW)
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        with warehouse.transaction() as con:
            put_down(con, log.taken(), NOW)
        log.saw("ada", "python-requests/2.33", "fct_orders", None, NOW)
        with warehouse.transaction() as con:
            put_down(con, log.taken(), NOW)
            put_down(con, log.taken(), NOW + timedelta(days=days))
            found = [(one.reader, one.client, one.mart, one.metric, one.reads) for one in reads(con)]
    kept = [
        ("ada", "python-requests", "fct_orders", None, 4),
        ("ada", "python-requests", "mart_daily_metrics", "cac", 1),
    ]
    assert found == ([] if days else kept)
