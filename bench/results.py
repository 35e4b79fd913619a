"""RESULTS.md: every part of the bench rewrites its own section and leaves the others as they are."""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_TITLE = (
    "# Results\n\nWhat `make bench` measured last. How each figure is taken is said in its section and in the code.\n"
)


def write_section(name: str, text: str, path: Path = RESULTS) -> None:
    """Puts `text` between the marks of section `name`; a section that is not there yet goes to the end."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    whole = path.read_text(encoding="utf-8") if path.exists() else _TITLE
    if begin in whole:
        whole = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: section, whole, flags=re.DOTALL)
    else:
        whole = f"{whole.rstrip()}\n\n{section}\n"
    path.write_text(whole, encoding="utf-8")
