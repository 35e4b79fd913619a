"""Who approves changes to which file: CODEOWNERS, made from the owners of metrics and exposures. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from batch_marts.anomalies.owners import PLATFORM, Owners
from batch_marts.metrics import DAILY

_HEAD: Final = """\
# Whose approval a change to the marts needs. Made by ci/code_owners.py from the owners in metrics.yml and exposures.yml
# and the reviewers of each team in owners.yml; `make lint` checks that it is current.
"""


def code_owners(
    folder: PurePosixPath, marts: Collection[str], owned: Mapping[str, Sequence[str]], owners: Owners
) -> str:
    """The file, for a project in `folder` of the repository. `owned` are the teams of each mart and metric.

    The last line that fits a file counts, so what is general comes first.
    """
    platform = _reviewers([PLATFORM], owners)
    of_metrics = _reviewers(sorted({team for name in owned.keys() - set(marts) for team in owned[name]}), owners)
    lines = [(f"/{folder}/", platform)]
    lines += [(f"/{folder}/metrics.yml", of_metrics), (f"/{folder}/owners.yml", platform)]
    for mart in sorted(marts):
        if mart != DAILY:  # which has no file of its own
            lines.append((f"/{folder}/models/marts/{mart}.sql", _reviewers(owned[mart], owners)))
    every = sorted({team for mart in marts for team in owned[mart]})
    lines.append((f"/{folder}/models/marts/*.yml", _reviewers(every, owners)))
    return _HEAD + "".join(f"{path} {' '.join(who)}\n" for path, who in lines)


def _reviewers(teams: Sequence[str], owners: Owners) -> list[str]:
    """The reviewers of these teams; the platform team's for one that names none."""
    named = [who for team in teams for who in owners.team(team).reviewers]
    return list(dict.fromkeys(named or owners.team(PLATFORM).reviewers))
