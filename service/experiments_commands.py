"""`stitchline experiments`: how the experiments stand now."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

import typer
from rich.table import Table

from service.ask import ask
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, settings_of
from service.show import out, plain


def experiments(
    experiment: Annotated[str | None, typer.Argument(metavar="ID", help="One alone [default: all].")] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how the experiments stand now, and what may be concluded.

    The setting `experiments` names the YAML files that define them. Look as often as you like: the intervals shown, and
    the verdicts, hold at every look. --json has the columns of mart_experiment_results.
    """
    params = {"id": experiment} if experiment is not None else None
    answer(ask(settings_of(warehouse, config), "GET", "/api/experiments", params=params), as_json, _show)


def _show(told: list[dict[str, Any]]) -> None:
    if not told:
        out.print("No experiment is defined: the setting `experiments` names a YAML file, or a folder of them.")
    for experiment, group in groupby(told, itemgetter("experiment_id")):
        rows = list(group)
        table = Table(title=plain(experiment), box=None, header_style="bold", pad_edge=False, title_justify="left")
        for column in ("metric", "variation", "persons", "value", "lift", "95 % interval", "p"):
            table.add_column(column, justify="left" if column in ("metric", "variation") else "right", overflow="fold")
        for row in sorted(rows, key=lambda row: [each["metric_name"] for each in rows].index(row["metric_name"])):
            table.add_row(*_cells(row))
        out.print(table)
        for variation, sentence in {row["variation_id"]: row["verdict_sentence"] for row in rows}.items():
            if sentence is not None:
                out.print(f"[bold]{plain(variation)}[/bold]: {plain(sentence)}", soft_wrap=True)
        out.print(" ".join([*_left_out(rows[0]), f"As of {rows[0]['as_of']}.\n"]), style="dim", soft_wrap=True)


def _cells(row: dict[str, Any]) -> list[str]:
    name = plain(row["metric_name"]) + (" (guardrail)" if row["metric_role"] == "guardrail" else "")
    bounds = (row["sequential_low"], row["sequential_high"])
    p_value = row["sequential_holm_p_value"] if row["metric_role"] == "metric" else row["sequential_p_value"]
    return [
        name,
        plain(row["variation_id"]),
        f"{row['persons']:,}",
        _value(row),
        _signed(row["lift"]),
        "" if None in bounds else " to ".join(map(_signed, bounds)),
        "" if p_value is None else f"{p_value:.2g}",
    ]


def _value(row: dict[str, Any]) -> str:
    """What the lift and the verdict's sentence are of."""
    mean = row["adjusted_mean"]
    if mean is None:
        return ""
    return f"{mean:.1%}" if row["metric_kind"] == "conversion" else f"{mean:,.2f}"


def _signed(lift: float | None) -> str:
    return "" if lift is None else f"{lift:+.1%}"


def _left_out(row: dict[str, Any]) -> list[str]:
    told = (
        (row["persons_in_several"], "saw several variations"),
        (row["persons_elsewhere"], "saw one that is not defined"),
    )
    return [f"Left out: {number:,} who {what}." for number, what in told if number]
