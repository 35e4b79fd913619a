"""`stitchline funnel`, `trends` and `retention`: what the page of that name shows, by a definition in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funnels.as_sql import funnel_sql
from funnels.definition import load_as, load_definition
from funnels.retention import RetentionDefinition
from funnels.trends import TrendDefinition
from service import show
from service.ask import ask
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, settings_of
from stitchline.definitions import Part

DefinitionOption = Annotated[Path, typer.Option("--definition", help="A definition, JSON.")]


def funnel(
    definition: DefinitionOption,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print one statement that counts it, for `stitchline sql` or DuckDB.")
    ] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How many came how far through a funnel."""
    asked = load_definition(definition)
    if sql:
        statement = funnel_sql(asked)
        answer({"sql": statement} if as_json else statement, as_json, print)
        return
    result = ask(settings_of(warehouse, config), "POST", "/api/funnel", _told(asked))
    answer(result, as_json, lambda told: show.funnel(asked.name, told))


def trends(
    definition: DefinitionOption,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How often events happened, or how many people did them, by hour, day or week."""
    asked = load_as(TrendDefinition, definition, "the trend's definition")
    answer(ask(settings_of(warehouse, config), "POST", "/api/trend", _told(asked)), as_json, show.trend)


def retention(
    definition: DefinitionOption,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How many of those who began in a period came back in each one after it."""
    asked = load_as(RetentionDefinition, definition, "the retention's definition")
    answer(ask(settings_of(warehouse, config), "POST", "/api/retention", _told(asked)), as_json, show.retention)


def _told(definition: Part) -> dict[str, object]:
    """The definition as the API takes it."""
    told: dict[str, object] = definition.model_dump(mode="json", by_alias=True)
    return told
