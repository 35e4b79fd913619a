"""Says at once that pandas is not there, where it is not installed.

DuckDB looks for it at every parameter of every statement, Arrow at every table: a tenth of the time of a small commit
and of a funnel's question.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Final

_NAME: Final = "pandas"


class _Absent:
    """A finder of modules that knows only that this one cannot be found."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == _NAME:
            raise ModuleNotFoundError(f"{_NAME} is not installed", name=name)


_absent: Final = _Absent()


def do_not_look_for_pandas() -> None:
    """From now on, in this process. Does nothing where it is installed."""
    if _absent not in sys.meta_path and importlib.util.find_spec(_NAME) is None:
        sys.meta_path.insert(0, _absent)
