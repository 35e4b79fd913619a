"""What the commands share: their common options, the settings, and how they answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from service import logs
from service.settings import Settings, load_settings
from stitchline.errors import UsageError

WarehouseOption = Annotated[
    Path | None,
    typer.Option(
        "--warehouse", help="The DuckDB file [env STITCHLINE_WAREHOUSE; default .stitchline/warehouse.duckdb]"
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file [default ./stitchline.toml]")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]

err: Final = Console(stderr=True, highlight=False)


def settings_of(warehouse: Path | None, config: Path | None, **flags: dict[str, Any]) -> Settings:
    """The settings, with the flags of a command above all; a flag that is None was not given.

    Raises SettingsError for what is wrong with them.
    """
    given = {section: {k: v for k, v in values.items() if v is not None} for section, values in flags.items()}
    settings = load_settings(config, warehouse, given)
    if settings.log.format == "json":
        logs.use_json()
    return settings


def time_of(text: str) -> datetime:
    """A time that somebody wrote, in UTC where no zone is named. Raises UsageError if it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time: write it as 2026-01-31 or 2026-01-31T12:00:00Z.") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def answer(value: Any, as_json: bool, render: Callable[[Any], object]) -> None:
    """Prints what was found: as one JSON document, or for people."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False, allow_nan=False))
    else:
        render(value)
