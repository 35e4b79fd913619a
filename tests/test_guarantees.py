"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.whole.test_identity import CASES

TOP = Path(__file__).parents[1]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", (TOP / "docs" / "guarantees.md").read_text(encoding="utf-8"))


def defined_in(path: Path) -> set[str]:
    """Tests of the module, those of classes as Class::name."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_every_test_that_a_promise_names_is_there() -> None:
    assert NAMED
    assert [f"{path}::{name}" for path, name in NAMED if name not in defined_in(TOP / path)] == []


def test_every_promise_names_one() -> None:
    page = (TOP / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))]
    assert rows
    assert [row for row in rows if "::" not in row] == []


def test_every_case_of_identity_is_a_test() -> None:
    page = (TOP / "docs" / "identity.md").read_text(encoding="utf-8").partition("## Cases")[2]
    told = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")]
    assert told[2:] == sorted(CASES, key=told.index)
    assert len(CASES) >= 20
