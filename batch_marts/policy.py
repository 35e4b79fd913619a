"""The policy of the marts, `policy.yml`, checked by dbt-bouncer: no mart without a contract, a description of every
column, keys that are tested, and a business test."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from batch_marts.dbt import FILES, FOLDERS, Finding
from stitchline.errors import StitchlineError

_BOUNCER: Final = "from dbt_bouncer.main import app; app()"


def breaches(project: Path) -> list[Finding]:
    """What of the policy the dbt project in the folder `project` does not keep; dbt has written its manifest there. A
    project that kept it is looked at again only once one of its files has changed.

    Raises StitchlineError if it cannot be checked.
    """
    kept, now = project / "target" / "policy.kept", _digest(project)
    if kept.exists() and kept.read_text(encoding="utf-8") == now:
        return []
    said = project / "target" / "policy.json"
    said.unlink(missing_ok=True)
    command = [sys.executable, "-c", _BOUNCER, "run", "--config-file", str(project / "policy.yml")]
    ran = subprocess.run(
        [*command, "--output-file", str(said), "--output-only-failures"], cwd=project, capture_output=True, text=True
    )
    if ran.returncode not in (0, 1) or not said.exists():
        told = (ran.stderr or ran.stdout).strip() or "nothing was said"
        raise StitchlineError(
            f"The policy of the marts cannot be checked, dbt-bouncer ended with {ran.returncode}: {told}"
        )
    found = [_finding(each) for each in json.loads(said.read_text(encoding="utf-8")) if each["outcome"] != "success"]
    if not found:
        kept.write_text(now, encoding="utf-8")
    return found


def _digest(project: Path) -> str:
    """Of all that the policy looks at, and of what looks."""
    told = hashlib.sha256(version("dbt-bouncer").encode())
    files = [file for part in FOLDERS for file in sorted((project / part).rglob("*.*")) if file.suffix != ".pyc"]
    for file in [*files, *(project / name for name in FILES)]:
        if file.is_file():
            told.update(f"{file.relative_to(project)} {file.stat().st_size} ".encode() + file.read_bytes())
    return told.hexdigest()


def _finding(told: dict[str, str]) -> Finding:
    message = re.sub(r"\s+", " ", told.get("failure_message") or "it breaks the policy").strip()
    about = re.search(r"`([^`]+)`", message)
    return Finding(told["check_run_id"].partition(":")[0], about.group(1) if about else "the project", message)
