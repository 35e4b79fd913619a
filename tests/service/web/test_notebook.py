"""The notebook in docs/ does what it says, cell by cell, against a service whose warehouse is written to meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.web.access import Access
from service.web.app import create_app
from tests.service.web.shop import Server, Shop, at

NOTEBOOK = Path(__file__).parents[3] / "docs" / "notebooks" / "read_while_the_flow_writes.ipynb"


def test_the_notebook_reads_while_the_flow_writes(shop: Shop, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start(create_app(shop, access=Access("0.0.0.0", token="an operator's token", viewer_token="a viewer's")))
    monkeypatch.setenv("STITCHLINE_URL", server.url)
    monkeypatch.setenv("STITCHLINE_TOKEN", "a viewer's")
    cells = [
        "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    names: dict[str, Any] = {}
    for cell in cells[:-1]:
        exec(cell, names)
    assert names["by_source"] == [("(none)", 2, 2), ("google", 1, 1)]
    assert names["funnel"].column("count").to_pylist() == [3, 2]
    shop.session("f" * 32, "late", at(50), at(51))
    exec(cells[-1], names)
    assert names["sessions_now"] == names["sessions"].num_rows + 1 == 4
