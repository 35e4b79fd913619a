"""Says at once that pandas is not there, whether it is installed or not.

Stitchline has no use for it. DuckDB looks for it at every parameter of every statement, Arrow at every table: a tenth
of the time of a small commit and of a funnel's question where it is not there, a fifth of a second of every command
where it is.
"""

from __future__ import annotations

import sys
from typing import Final

_NAME: Final = "pandas"


class _Absent:
    """A finder of modules that knows only that this one cannot be found."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == _NAME:
            raise ModuleNotFoundError(f"Stitchline's processes do without {_NAME}", name=name)


_absent: Final = _Absent()


def do_not_look_for_pandas() -> None:
    """From now on, in this process."""
    if _absent not in sys.meta_path:
        sys.meta_path.insert(0, _absent)


def look_for_pandas_again() -> None:
    """For what cannot do without it."""
    if _absent in sys.meta_path:
        sys.meta_path.remove(_absent)
