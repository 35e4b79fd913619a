"""`stitchline marts`: builds the marts, says which are shown, and goes back to earlier ones."""

from __future__ import annotations

import getpass
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service import show
from service.ask import ask
from service.change_commands import announce, consumers, impact
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, err, settings_of
from service.marts import progress_file

marts = typer.Typer(no_args_is_help=True, help="Tested tables for every team, built from the stream.")


@marts.command()
def refresh(
    full: Annotated[bool, typer.Option("--full", help="Work out every day anew.")] = False,
    because: Annotated[
        str | None,
        typer.Option("--because", metavar="REASON", help="Publish also what breaks readers who were not told in time."),
    ] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the marts, test them, and publish them if every test passes.

    Whoever reads the marts meanwhile sees the last ones, and goes on seeing them if a test fails: then exit status 1,
    with the test and where its rows are. Days that nothing happened to since the last build are carried over.
    """
    settings = settings_of(warehouse, config)
    with _progress(progress_file(settings)):
        asked = {"full": full, "because": because, "by": getpass.getuser()}
        told = ask(settings, "POST", "/api/marts/refresh", asked, patience=None)
    answer(told, as_json, show.refreshed)


@marts.command()
def status(warehouse: WarehouseOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say which build is published, how old it is, and whether one is being made."""
    answer(ask(settings_of(warehouse, config), "GET", "/api/marts"), as_json, show.marts_status)


@marts.command()
def history(warehouse: WarehouseOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every build, the newest first, with what failed and where its rows are."""
    answer(ask(settings_of(warehouse, config), "GET", "/api/marts/history"), as_json, show.marts_history)


@marts.command()
def rollback(
    build: Annotated[
        int | None, typer.Option("--to", metavar="BUILD", help="Its number [default: the one before].")
    ] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish an earlier build again; the last seven are kept. The next refresh publishes a new one."""
    told = ask(settings_of(warehouse, config), "POST", "/api/marts/rollback", {"build_id": build})
    answer(told, as_json, show.rolled_back)


@contextmanager
def _progress(file: Path) -> Iterator[None]:
    """A bar of what the refresh, here or in the service, says in `file`."""
    done = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("holding the stream's state still", total=None)

        def look() -> None:
            while not done.wait(0.3):
                with suppress(OSError, ValueError, KeyError):
                    now = json.loads(file.read_text(encoding="utf-8"))
                    if now["done"]:
                        bar.update(task, description=now["what"][:50], completed=now["done"], total=now["of"])

        looking = threading.Thread(target=look, name="progress", daemon=True)
        looking.start()
        try:
            yield
        finally:
            done.set()
            looking.join()


for _command in (impact, announce, consumers):
    marts.command()(_command)
