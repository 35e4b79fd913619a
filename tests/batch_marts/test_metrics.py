"""Metrics as code: what is refused, how two versions of a meaning stand side by side, and the table made of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from batch_marts.metrics import daily_metrics_sql, load_metrics, metrics_markdown
from stitchline.errors import DefinitionError

VIEWS: dict[str, Any] = {
    "name": "views",
    "label": "Views",
    "definition": "Page views by people, counted on the day on which they happened.",
    "owner": "product",
    "unit": "views",
    "good": "up",
    "value": "select day as metric_date, page as dimension, sum(views) as metric_value from told group by all",
    "dimension": "page",
}
ORDERS = VIEWS | {
    "name": "orders",
    "label": "Orders",
    "value": "select day as metric_date, page as dimension, sum(orders) as metric_value from told group by all",
}
RATE = {name: VIEWS[name] for name in ("definition", "owner", "unit", "good")} | {
    "name": "rate",
    "label": "Rate",
    "ratio": ["orders", "views"],
}


def file_of(folder: Path, *metrics: dict[str, Any]) -> Path:
    file = folder / "metrics.yml"
    file.write_text(yaml.safe_dump({"metrics": [dict(metric) for metric in metrics]}), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ([VIEWS | {"definition": "Views."}], "definition"),
        ([VIEWS | {"name": "Views!"}], "name"),
        ([VIEWS | {"good": "sideways"}], "good"),
        ([VIEWS | {"colour": "red"}], "colour"),
        ([VIEWS | {"value": None}], "either `value`"),
        ([VIEWS | {"ratio": ["orders", "views"]}], "either `value`"),
        ([VIEWS | {"dimension": None, "top": 3}], "`top` says how many"),
        ([VIEWS, VIEWS], "version 1 twice"),
        ([VIEWS, RATE], "a ratio of 'orders', which is no metric"),
        ([], "metrics"),
        ([VIEWS | {"synonyms": ["hits", "HITS"]}], "'HITS' is said already"),
        ([VIEWS | {"synonyms": ["Views"]}], "'Views' is said already"),
        ([VIEWS | {"synonyms": [" "]}], "synonyms"),
        ([VIEWS | {"synonyms": ["orders"]}, ORDERS], "'orders', which is what metric 'orders' is called"),
        ([VIEWS | {"anomaly": {"rule": "seasons"}}], "rule"),
        ([VIEWS | {"anomaly": {"threshhold": 3}}], "did you mean threshold?"),
        ([VIEWS | {"anomaly": {"threshold": 0}}], "greater than 0"),
        ([VIEWS | {"anomaly": {"quiet": [{"start": "2026-02-02", "reason": "x"}]}}], "end"),
        (
            [VIEWS | {"anomaly": {"quiet": [{"start": "2026-02-02", "end": "2026-02-01", "reason": "x"}]}}],
            "ends before",
        ),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, metrics: list[dict[str, Any]], says: str) -> None:
    file = file_of(tmp_path, *metrics)
    with pytest.raises(DefinitionError) as refused:
        load_metrics(file)
    assert str(file) in str(refused.value)
    assert says in str(refused.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_bytes(b"metrics: [\xff")
    for file in (tmp_path / "missing.yml", tmp_path / "broken.yml"):
        with pytest.raises(DefinitionError, match="cannot be read"):
            load_metrics(file)


def table(path: Path, *metrics: dict[str, Any]) -> dict[tuple[date, str, str], float]:
    """What mart_daily_metrics would be, over three days of which the second has nothing."""
    sql = daily_metrics_sql(load_metrics(file_of(path, *metrics))).replace("{{ ref('int_calendar') }}", "calendar")
    with duckdb.connect() as con:
        con.execute("create table told (day date, page varchar, views integer, orders integer)")
        con.execute(
            "insert into told values ('2026-01-01', '/', 6, 3), ('2026-01-01', '/a', 2, 0), "
            "('2026-01-03', '/', 4, 1), ('2026-01-03', null, 1, 1), ('2026-01-03', '/b', 1, 0)"
        )
        con.execute(
            "create table calendar as select '2026-01-01'::date + n::integer as calendar_date, n < 2 as is_complete "
            "from range(3) as days (n)"
        )
        rows = con.execute(sql).fetchall()
    found = {(day, name, part): value for day, name, part, value, _ in rows}
    assert len(found) == len(rows), "one row per metric, part and day"
    assert {(day, complete) for day, *_, complete in rows} == {(date(2026, 1, n), n < 3) for n in (1, 2, 3)}
    return found


def test_every_day_has_every_part_and_ratios_are_of_the_same_part(tmp_path: Path) -> None:
    found = table(tmp_path, VIEWS, ORDERS, RATE)
    parts = {
        "all": (8, 0, 6),
        "page=/": (6, 0, 4),
        "page=/a": (2, 0, 0),
        "page=/b": (0, 0, 1),
        "page=(none)": (0, 0, 1),
    }
    for part, values in parts.items():
        assert tuple(found[date(2026, 1, n), "views", part] for n in (1, 2, 3)) == values, part
    assert {part for _, name, part in found if name == "views"} == set(parts)
    rates = {part: found[date(2026, 1, 1), "rate", part] for part in parts}
    assert rates == {"all": 3 / 8, "page=/": 1 / 2, "page=/a": 0, "page=/b": 0, "page=(none)": 0}


def test_only_the_greatest_parts_are_kept_and_the_rest_is_other(tmp_path: Path) -> None:
    found = table(tmp_path, VIEWS | {"top": 1})
    assert {part for *_, part in found} == {"all", "page=/", "page=other"}
    assert [found[date(2026, 1, n), "views", "page=other"] for n in (1, 2, 3)] == [2, 0, 2]


def test_both_meanings_are_shown_until_the_old_one_is_retired(tmp_path: Path) -> None:
    new = VIEWS | {"version": 2, "definition": "Page views by people and crawlers, on the day on which they happened."}
    new |= {
        "value": "select day as metric_date, page as dimension, sum(views + 1) as metric_value from told group by all"
    }
    found = table(tmp_path, VIEWS, new)
    assert (found[date(2026, 1, 1), "views", "all"], found[date(2026, 1, 1), "views_v2", "all"]) == (8, 10)
    for retired, shown in (("2026-01-01", ["views_v2"]), ("9999-01-01", ["views", "views_v2"])):
        metrics = load_metrics(file_of(tmp_path, VIEWS | {"retired": retired}, new))
        assert [metric.shown_as for metric in metrics] == shown
        told = metrics_markdown(metrics)
        assert ("`views`" in told, "`views_v2`" in told) == ("views" in shown, True)
    assert "Page views by people and crawlers" in told


def test_how_each_is_judged_and_when_none_is(tmp_path: Path) -> None:
    file = tmp_path / "metrics.yml"
    anomaly = {
        "rule": "base",
        "direction": "drops",
        "quiet": [{"start": "2026-05-01", "end": "2026-05-01", "reason": "Sale"}],
    }
    quiet = [{"start": date(2026, 12, 24), "end": date(2026, 12, 26), "reason": "Christmas"}]
    file.write_text(
        yaml.safe_dump({"metrics": [VIEWS | {"anomaly": anomaly}, ORDERS], "quiet": quiet}), encoding="utf-8"
    )
    views, orders = (metric.anomaly for metric in load_metrics(file))
    assert (views.rule, views.direction, views.deviations, views.relative) == ("base", "drops", 2.5, 0)
    assert (orders.rule, orders.direction, orders.deviations, orders.relative) == ("seasonal", "both", 3, 0.1)
    assert [time.reason for time in views.quiet] == ["Sale", "Christmas"]
    (christmas,) = orders.quiet
    assert (christmas.start, christmas.end) == (datetime(2026, 12, 24, tzinfo=UTC), datetime(2026, 12, 27, tzinfo=UTC))
