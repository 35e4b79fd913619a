"""Holds README's table of settings to the settings themselves: writes it, or with --check only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from service.settings import settings_table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def main(*, check: bool) -> int:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [f"| `{name}` | {default} | {meaning} |\n" for name, _, default, meaning in settings_table()]
    wanted = f"{before}{BEGIN}| setting | default | meaning |\n| --- | --- | --- |\n{''.join(rows)}{END}{after}"
    if text == wanted:
        return 0
    if check:
        print(f"{README.name} lags behind the settings: run .venv/bin/python ci/settings_table.py", file=sys.stderr)
        return 1
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv))
