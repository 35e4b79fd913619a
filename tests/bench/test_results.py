"""A section of the results is replaced in place; the others stay."""

from __future__ import annotations

from pathlib import Path

from bench.results import write_section


def test_sections_are_added_and_replaced_in_place(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    write_section("first", "## First\n\n1 \\g<0>", results)
    write_section("second", "## Second\n\n2", results)
    write_section("first", "## First\n\n3 \\1", results)

    text = results.read_text()
    assert text.startswith("# Results\n")
    assert "1 \\g<0>" not in text
    assert text.index("3 \\1") < text.index("## Second\n\n2")
    assert text.count("<!-- first -->") == text.count("<!-- /first -->") == 1
