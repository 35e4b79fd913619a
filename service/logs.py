"""How the log looks: a line for people, or one JSON object a line for collectors. All of it goes to standard error.

One line a change of state. What it is about (topic, partition, offset, service, …) stands in the text, and in JSON in
fields of its own as well: `log.info("…", extra={"topic": …})`.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.logging import RichHandler

_NOISY: Final = ("apscheduler", "httpx", "httpcore", "asyncio", "uvicorn", "uvicorn.error")
_EVERY_RECORD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

as_json = False
"""Whether the log is JSON: then nothing else may be written to standard error."""


def configure(console: Console, *, verbose: bool = False) -> None:
    """The log for people, on `console`: what there is until the settings are read."""
    for_people = RichHandler(console=console, show_path=False, markup=False)
    for_files = logging.StreamHandler()
    for_files.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s",
        handlers=[for_people if console.is_terminal else for_files],
    )
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def use_json() -> None:
    """From now on the log is JSON."""
    global as_json
    as_json = True
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.getLogger().handlers = [handler]


class JsonFormatter(logging.Formatter):
    """at (ISO 8601, UTC), level, logger, message, error (a traceback, if there is one), and the fields of the line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, object] = {
            "at": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        fields = {name: value for name, value in vars(record).items() if name not in _EVERY_RECORD}
        return json.dumps(told | {name: value for name, value in fields.items() if name not in told}, default=str)
