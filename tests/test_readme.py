"""The README says what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from service.settings import settings_table

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")


def test_the_settings_table_is_that_of_the_settings() -> None:
    subprocess.run([sys.executable, "ci/settings_table.py", "--check"], check=True, cwd=TOP)
    assert len(re.findall(r"^\| `", README, re.MULTILINE)) >= len(settings_table())


def test_every_command_is_named() -> None:
    told = subprocess.run([sys.executable, "-m", "service.cli", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^  ([a-z-]+)  ", told.stdout.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) >= 8
    assert [name for name in commands if f"`stitchline {name}" not in README] == []


def test_what_it_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link and not link.startswith("#")]
    assert links
    assert [link for link in links if not (TOP / link).exists()] == []
