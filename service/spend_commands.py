"""The commands of `stitchline spend`: exports of advertising platforms, and the rates of their currencies."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from batch_marts.spend.sheet import LARGEST, too_large
from service.ask import ask, has_to_exist
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, err, settings_of
from service.show import out, plain
from service.spend import Outcome, refusal
from service.spend_folder import exports_in
from stitchline.errors import FileRefused, UsageError

spend = typer.Typer(no_args_is_help=True, help="What marketing costs: exports of advertising platforms, and rates.")


@spend.command()
def load(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES|DIR…", readable=False, help="CSV exports, or folders of them (.csv, .tsv, .txt)."
        ),
    ],
    account: Annotated[
        str | None, typer.Option(help="The account, whatever the files say [default: theirs, else spend.accounts].")
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", help="In which the days are, of files that do not say it.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217, of files that do not say it.")] = None,
    rounding: Annotated[
        bool, typer.Option("--rounding", help="A total may differ by what the rounding of its lines explains.")
    ] = False,
    without_total: Annotated[
        bool, typer.Option("--without-total", help="Files may be without the totals that show that they are whole.")
    ] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load the CSV exports of Google Ads, Meta, Microsoft, LinkedIn, TikTok, X, Reddit and Pinterest.

    The platform is told by the header. A newer export replaces what is there of the same campaigns and days; a file
    that cannot be read for certain is refused whole, the others are loaded. Exit status 1 if any was refused.
    """
    settings = settings_of(warehouse, config)
    has_to_exist(settings.warehouse.path)
    asked: dict[str, Any] = {"account": account, "time_zone": time_zone, "currency": currency}
    asked |= {"rounding": rounding, "without_total": without_total}
    told: list[Outcome] = []
    with err.status("Loading …"):
        for batch in _batches(_named(files)):
            uploads = [upload for upload in batch if "content" in upload]
            body = asked | {"files": uploads}
            answers = iter(ask(settings, "POST", "/api/spend/files", body, patience=None) if uploads else [])
            told += [next(answers) if "content" in upload else upload for upload in batch]
    answer(told, as_json, _show_files)
    if any(outcome["outcome"] == "refused" for outcome in told):
        raise typer.Exit(1)


@spend.command()
def rates(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="CSV with the columns rate_date, currency and usd.")
    ],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load rates of currencies: what one unit is worth in US dollars, from a day on.

    They replace those of the same days, and come before the rates that are built in.
    """
    settings = settings_of(warehouse, config)
    has_to_exist(settings.warehouse.path)
    upload = _upload(file)
    told = ask(settings, "POST", "/api/spend/rates", upload) if "content" in upload else upload
    answer(told, as_json, _show_rates)
    if told["outcome"] == "refused":
        raise typer.Exit(1)


def _named(files: list[Path]) -> list[Path]:
    """The files, with those that are in the folders. Raises UsageError for a folder without any."""
    found: list[Path] = []
    for path in files:
        if not path.is_dir():
            found.append(path)
            continue
        inside = exports_in(path)
        if not inside:
            raise UsageError(f"The folder {path} has no .csv, .tsv or .txt file. Name another, or the files.")
        found += inside
    return list(dict.fromkeys(found))


def _batches(files: list[Path]) -> Iterator[list[dict[str, Any]]]:
    """The files as uploads, so many together as are not too large to be sent, and outcomes of those that cannot be."""
    batch: list[dict[str, Any]] = []
    size = 0
    for file in files:
        upload = _upload(file)
        more = len(upload.get("content", ""))
        if batch and (size + more > LARGEST or len(batch) == 1000):
            yield batch
            batch, size = [], 0
        batch.append(upload)
        size += more
    if batch:
        yield batch


def _upload(file: Path) -> dict[str, Any]:
    """The file as the API takes it; an outcome if it cannot be read."""
    try:
        size = file.stat().st_size
        if size > LARGEST:
            return refusal(too_large(str(file), size))
        return {"name": str(file), "content": base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        why = f"it cannot be read ({error.strerror or error})"
        return refusal(FileRefused(str(file), None, why, "Check its path and your right to read it."))


def _show_files(told: list[Outcome]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("file", "platform", "account", "rows", "days", "spend", "", "result"):
        table.add_column(column, justify="right" if column in ("rows", "days", "spend") else "left", overflow="fold")
    for outcome in told:
        refused = outcome["outcome"] == "refused"
        name = plain(Path(outcome["file"]).name)
        if refused:
            table.add_row(name, *[""] * 6, f"[red]refused[/red]{_at(outcome)}")
            continue
        table.add_row(
            name,
            outcome["platform"],
            plain(outcome["account"]),
            f"{outcome['lines']:,}",
            f"{outcome['days']:,}",
            f"{outcome['spend']:,.2f}",
            outcome["currency"],
            _became(outcome),
        )
    out.print(table)
    refusals = [outcome["error"] for outcome in told if outcome["outcome"] == "refused"]
    for error in refusals:
        out.print(f"[red]Refused:[/red] {plain(error)}", soft_wrap=True)
    out.print(f"{len(told) - len(refusals):,} of {len(told):,} files are in the warehouse.", style="dim")


def _at(outcome: Outcome) -> str:
    return f", line {outcome['line']}" if outcome["line"] is not None else ""


def _became(outcome: Outcome) -> str:
    if outcome["outcome"] == "already loaded":
        return f"already loaded {outcome['loaded_at'][:10]}"
    parts = [f"{outcome['added']:,} new"]
    if outcome["replaced"]:
        parts.append(f"{outcome['replaced']:,} replaced")
    if outcome["kept"]:
        parts.append(f"{outcome['kept']:,} left as a later export has them")
    return ", ".join(parts)


def _show_rates(told: Outcome) -> None:
    if told["outcome"] == "refused":
        out.print(f"[red]Refused:[/red] {plain(told['error'])}", soft_wrap=True)
        return
    out.print(
        f"{told['added']:,} rates are new, {told['replaced']:,} replaced, {told['from_date']} to {told['to_date']}: "
        f"{', '.join(told['currencies'])}."
    )
