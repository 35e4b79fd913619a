"""Runs the long forms of the tests and keeps what they said under docs/proofs/: command, seed, commit and output.

100,000 examples of each property, 100 kills, every fault for as long as it is told about: five to six hours on two
cores. Where a property takes crowds (tests/crowds.py), an example is one case of a crowd, drawn by itself and checked
with the others: Hypothesis's own figures, in the output, then count crowds. What counts is in docs/proofs/README.md.
`--seed N` repeats a run, `--into FOLDER` keeps the proof elsewhere; whatever else is given goes to pytest.
`STITCHLINE_PROVE_EXAMPLES=1000` foresees how long it will take.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[1]
LONG_FORMS: Final = [
    "tests/flows",  # the longest first
    "tests/stitchline",
    "tests/service/test_settings.py",
    "tests/funnels",
    "tests/identity",
    "tests/batch_marts/spend",
    "tests/faults",
]
"""Where the properties and the faults are."""
SHARED: Final = ["-n", "logical", "--dist", "worksteal"]
"""A process for each core: most of it is computing."""
OPTIONS: Final = [
    *["-q", "--color=no", "--timeout=0", "--durations=20", "-rP", "--show-capture=stdout"],
    "--hypothesis-show-statistics",
]
"""No time limit; what each test printed (its seed and its figures) is told even if it passed."""
WARNING: Final = "There are changes that are in no commit."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--into", type=Path, default=TOP / "docs" / "proofs")
    asked, given = parser.parse_known_args()
    tests = given if any((TOP / word.partition("::")[0]).exists() for word in given) else [*LONG_FORMS, *given]
    command = ["python", "-m", "pytest", *SHARED, *OPTIONS, f"--hypothesis-seed={asked.seed}", *tests]
    variables = {"STITCHLINE_PROVE": "1", "STITCHLINE_PROVE_SEED": str(asked.seed)}
    if (fewer := os.environ.get("STITCHLINE_PROVE_EXAMPLES")) is not None:
        variables["STITCHLINE_PROVE_EXAMPLES"] = fewer
    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    began = datetime.now(UTC)
    output: list[str] = []
    process = subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=TOP,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        output.append(line.rstrip("\n"))
    status = process.wait()
    proof = asked.into / f"{began:%Y-%m-%d-%H%M}-{commit[:7]}.md"
    proof.parent.mkdir(parents=True, exist_ok=True)
    assignments = " ".join(f"{name}={value}" for name, value in variables.items())
    proof.write_text(
        "\n".join(
            [
                f"# {'Proved' if status == 0 else 'Failed'}, {began:%Y-%m-%d %H:%M} UTC",
                "",
                "| | |",
                "| --- | --- |",
                f"| commit | {commit}{f'. {WARNING}' if changed else ''} |",
                f"| command | `{assignments} {shlex.join(command)}` |",
                f"| seed | {asked.seed} |",
                f"| took | {str(datetime.now(UTC) - began).partition('.')[0]} |",
                f"| exit status | {status} |",
                f"| result | {(output or ['nothing was said'])[-1].strip('= ')} |",
                f"| on | Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores |",
                "",
                "```",
                *without_places(output),
                "```",
                "",
            ]
        ),
        encoding="utf-8",
    )
    print(f"Kept in {proof}")
    return status


def without_places(output: list[str]) -> Iterator[str]:
    """What was said, without where the project lies on this machine, and without what would end a block of Markdown."""
    for line in output:
        yield re.sub("`{3,}", "'''", line.replace(f"{TOP}/", ""))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=TOP, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
