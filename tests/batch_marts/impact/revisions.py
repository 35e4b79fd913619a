"""Revisions made by hand: the manifest that dbt would write of a few models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batch_marts.consumers import Consumer
from batch_marts.impact.facts import Revision, facts
from batch_marts.metrics import Metric, daily_metrics_sql

INT_ORDERS = "select order_id, person_id, day, amount from stream.orders"
FCT_ORDERS = "select order_id, day, amount, amount > 100 as is_large from build.int_orders"
COLUMNS = {"order_id": "varchar", "day": "date", "amount": "double", "is_large": "boolean"}
CALENDAR = "select day as calendar_date, true as is_complete from stream.days"

REVENUE: dict[str, Any] = {
    "name": "revenue",
    "label": "Revenue",
    "definition": "What orders of the UTC day add up to, whoever placed them.",
    "owner": "finance",
    "unit": "USD",
    "good": "up",
    "value": "select day as metric_date, sum(amount) as metric_value from build.fct_orders group by day",
}
ORDERS = REVENUE | {
    "name": "orders",
    "label": "Orders",
    "definition": "How many orders there are on the UTC day, whoever placed them.",
    "owner": "product",
    "unit": "orders",
    "value": "select day as metric_date, count(*) as metric_value from build.fct_orders group by day",
}
BASKET = {name: REVENUE[name] for name in ("owner", "good")} | {
    "name": "basket",
    "label": "Basket",
    "definition": "What an order of the UTC day comes to on average.",
    "unit": "USD",
    "ratio": ["revenue", "orders"],
}
SLIDES = Consumer("slides", "The board's slides", "analysis", "finance", None, frozenset({"mart_daily_metrics"}))
REPORT = Consumer("report", "A report", "analysis", "marketing", "#reports", frozenset({"fct_orders"}))


def model(name: str, sql: str, reads: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    layer = "marts" if name.startswith(("fct_", "mart_")) else "intermediate"
    return {
        "unique_id": f"model.stitchline.{name}",
        "resource_type": "model",
        "name": name,
        "alias": name,
        "fqn": ["stitchline", layer, name],
        "original_file_path": f"models/{layer}/{name}.sql",
        "language": "sql",
        "raw_code": sql,
        "compiled_code": sql,
        "depends_on": {"nodes": [f"model.stitchline.{read}" for read in reads]},
        "columns": {},
        "config": {"contract": {"enforced": layer == "marts"}},
        "description": "",
    } | more


def columns(types: Mapping[str, str], **described: str) -> dict[str, Any]:
    return {
        name: {"name": name, "data_type": data_type, "description": described.get(name, f"The {name}.")}
        for name, data_type in types.items()
    }


def generic(name: str, mart: str, column: str | None = None, **arguments: Any) -> dict[str, Any]:
    return {
        "unique_id": f"test.stitchline.{name}_{mart}_{column}_{len(arguments)}",
        "resource_type": "test",
        "name": f"{name}_{mart}",
        "alias": f"{name}_{mart}",
        "test_metadata": {"name": name, "kwargs": arguments},
        "attached_node": f"model.stitchline.{mart}",
        "column_name": column,
        "config": {"severity": "ERROR"},
        "depends_on": {"nodes": [f"model.stitchline.{mart}"]},
        "raw_code": "",
    }


def revision(
    fct: str = FCT_ORDERS,
    between: str = INT_ORDERS,
    types: Mapping[str, str] = COLUMNS,
    metrics: Sequence[Mapping[str, Any]] = (REVENUE, ORDERS, BASKET),
    consumers: Sequence[Consumer] = (SLIDES, REPORT),
    tests: Sequence[Mapping[str, Any]] = (generic("unique", "fct_orders", "order_id"),),
    models: Sequence[Mapping[str, Any]] = (),
    frame: str = "select 1",
    described: Mapping[str, str] = {},
    **more: Any,
) -> Revision:
    """Orders, a mart of them, and the metrics; `more` is told of the mart."""
    defined = [Metric.model_validate(one) for one in metrics]
    daily = daily_metrics_sql(defined).replace("{{ ref('int_calendar') }}", "build.int_calendar")
    nodes = [
        model("int_orders", between),
        model("int_calendar", CALENDAR),
        model("fct_orders", fct, ["int_orders"], columns=columns(types, **described), **more),
        model("mart_daily_metrics", daily, ["fct_orders", "int_calendar"]),
        *models,
        *tests,
    ]
    return facts("a revision", {"nodes": {node["unique_id"]: node for node in nodes}}, defined, consumers, frame=frame)
