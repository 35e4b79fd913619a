"""`stitchline catalog`: what the marts and metrics mean, for the catalogues that others have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.ask import ask
from service.catalog import push_to_atlan, write_files
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, err, settings_of
from service.show import out, plain

catalog = typer.Typer(no_args_is_help=True, help="What the marts and metrics mean, in the catalogues of others.")


@catalog.command()
def push(
    target: Annotated[Literal["atlan"], typer.Argument(help="Which catalogue.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make Atlan say of tables, columns and metrics what is said here.

    Only what differs is written, what is gone is archived, and what people wrote there stays. A push that was cut off
    is gone on with by the next one. Needs atlan.url and atlan.api_key.
    """
    settings = settings_of(warehouse, config)
    trust = ask(settings, "GET", "/api/trust")
    with err.status(f"Comparing with {target.title()} …"):
        told = push_to_atlan(settings, trust, dry_run=dry_run)
    answer(told, as_json, _pushed)


@catalog.command()
def files(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made if need be; files of these names are replaced.")],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what OpenMetadata and DataHub read: dbt's artifacts, and a recipe for each of the two.

    docs/catalog.md says how they are run.
    """
    told = write_files(settings_of(warehouse, config), folder.absolute())
    answer(told, as_json, lambda found: out.print(plain(f"{found['folder']}: {', '.join(found['files'])}")))


def _pushed(told: dict[str, Any]) -> None:
    would = "would be " if told["dry_run"] else ""
    for one in told["writes"]:
        said = {"create": "made", "restore": "restored", "update": "updated"}[one["deed"]]
        out.print(plain(f"{one['kind']} {one['key']}: {would}{said} ({', '.join(one['changes'])})"))
    for one in told["archives"]:
        out.print(plain(f"{one['kind']} {one['key']}: {would}archived"))
    for sentence in told["left_alone"]:
        out.print(plain(f"Left alone: {sentence}"))
    if not told["writes"] and not told["archives"]:
        out.print("Atlan says all of it already.")
    elif not told["dry_run"]:
        out.print(f"{told['written']:,} written, {told['archived']:,} archived.")
