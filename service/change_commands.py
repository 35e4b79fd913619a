"""`stitchline marts impact`, `announce` and `consumers`: what a change does, to whom, and telling them."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from service.ask import ask
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, err, settings_of
from service.settings import Settings
from service.show import out, plain
from service.web.wording import counted
from stitchline.errors import UsageError

BaseOption = Annotated[
    str | None, typer.Option("--base", metavar="REV", help="The revision to compare with, as git names it.")
]


def impact(
    base: Annotated[str, typer.Option("--base", metavar="REV", help="The revision to compare with, as git names it.")],
    approved_by: Annotated[
        list[str] | None,
        typer.Option("--approved-by", metavar="WHO", help="A team, or one of its reviewers in owners.yml; repeatable."),
    ] = None,
    built_over: Annotated[
        Path | None,
        typer.Option("--warehouse", help="Build both revisions over this warehouse, in scratch schemas, and compare."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write the report there.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the working tree does to the marts of another revision: columns, tests, meanings, and whom it concerns.

    A report in Markdown, or with --json one document. Exit status 0 if every rule is kept, 3 if a meaning changed
    without a version, 4 if something breaks without one, 5 if an owner has not approved; the least, if several.
    """
    found = _impact(settings_of(built_over, config), base, approved_by or [], built_over)
    from batch_marts.impact.report import as_json as document
    from batch_marts.impact.report import as_markdown

    report = as_markdown(found)
    if markdown is not None:
        markdown.write_text(report, encoding="utf-8")
    answer(document(found), as_json, lambda _: print(report, end=""))
    if found.status:
        raise typer.Exit(found.status)


def announce(
    base: BaseOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--impact", metavar="FILE", help="What `marts impact --json` said, instead of --base."),
    ] = None,
    link: Annotated[str | None, typer.Option("--link", metavar="URL", help="Where more can be read.")] = None,
    comes_on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="When it comes; not before the notice period.")
    ] = None,
    because: Annotated[
        str | None, typer.Option("--now-because", metavar="REASON", help="Do not wait; those downstream read why.")
    ] = None,
    withdraw: Annotated[
        list[str] | None, typer.Option("--withdraw", metavar="CHANGE", help="This change does not come; repeatable.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who announces it [default: you].")] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell those downstream of a change, each owner in one Slack message, and of each change once.

    Without --base or --impact it lists what was announced, and who has not seen it.
    """
    settings = settings_of(warehouse, config)
    if base is not None and file is not None:
        raise UsageError("Name a revision with --base or a report with --impact, not both.")
    if withdraw:
        told = ask(settings, "POST", "/api/marts/changes/withdrawn", {"change_ids": withdraw})
        return answer(told, as_json, lambda told: out.print(f"Withdrawn: {', '.join(told['withdrawn']) or 'none'}."))
    if base is None and file is None:
        if link or comes_on or because:
            raise UsageError("There is nothing to announce: name the revision to compare with, --base REV.")
        return answer(ask(settings, "GET", "/api/marts/changes"), as_json, _announced)
    report = _report(file) if file is not None else _document(settings, base or "")
    changes = [one for one in report["changes"] if one["consumers"]]
    body = {
        "changes": changes,
        "by": by or getpass.getuser(),
        "link": link,
        "comes_on": None if comes_on is None else comes_on.date().isoformat(),
        "because": because,
    }
    return answer(ask(settings, "POST", "/api/marts/changes", body), as_json, _told)


def consumers(
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="The proposed ones alone, as exposures to put into a file.")
    ] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who reads the marts: what is declared, and what the saved funnels and the log of the API propose."""
    told = ask(settings_of(warehouse, config), "GET", "/api/marts/consumers")
    if as_yaml and not as_json:
        print(told["yaml"], end="")
    else:
        answer(told, as_json, _consumers)


def _impact(settings: Settings, base: str, approved_by: list[str], built_over: Path | None) -> Any:
    from batch_marts.anomalies.owners import OWNERS, load_owners
    from batch_marts.dbt import PROJECT
    from batch_marts.impact.compare import impact_since
    from batch_marts.impact.revisions import Places
    from batch_marts.metrics import METRICS

    marts = settings.marts
    places = Places(
        project=marts.project or PROJECT,
        metrics=marts.metrics or METRICS,
        exposures=marts.exposures,
        variables=marts.variables,
    )
    owners = load_owners(settings.owners or OWNERS)
    today = datetime.now(UTC).date()
    with err.status("comparing the marts"):
        built = None if built_over is None else _building(settings)
        return impact_since(base, places, owners, today=today, approved_by=approved_by, built=built)


def _building(settings: Settings) -> Callable[..., Any]:
    from service.scratch import built_over

    return built_over(settings)


def _document(settings: Settings, base: str) -> dict[str, Any]:
    from batch_marts.impact.report import as_json

    return as_json(_impact(settings, base, [], None))


def _report(file: Path) -> dict[str, Any]:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        return {"changes": [one for one in report["changes"] if isinstance(one["consumers"], list)]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is no report of `stitchline marts impact --json` ({error}): write one, or name a revision with "
            "--base."
        ) from None


def _told(told: dict[str, Any]) -> None:
    if not told["told"]:
        out.print("There is nothing to announce that those downstream were not told before.")
        return
    for one in told["told"]:
        out.print(f"{_told_one(one)}.", soft_wrap=True)
        for change in one["changes"]:
            out.print(f"  {plain(change['says'])} From {change['in_force_at'][:10]}.", soft_wrap=True)
    if not told["in_slack"]:
        out.print("Slack is not set up (slack.token): they are told once it is. Until then, tell them yourself.")


def _announced(told: dict[str, Any]) -> None:
    if not told["notices"]:
        out.print("Nothing was announced yet: `stitchline marts announce --base REV` does.")
        return
    pending = len(told["pending"])
    out.print(f"{counted(pending, 'change')} {'is' if pending == 1 else 'are'} announced and not in force yet.")
    for one in told["pending"]:
        out.print(f"  {one['in_force_at'][:10]}  {plain(one['says'])} ({one['change_id']})", soft_wrap=True)
    for one in told["notices"]:
        seen = f"seen by {plain(one['seen_by'])}" if one["seen_by"] else "[bold]not seen yet[/bold]"
        out.print(f"{one['told_at'][:10]}  {_told_one(one)}, {seen}", soft_wrap=True)


def _consumers(told: dict[str, Any]) -> None:
    for one in told["consumers"]:
        reads = ", ".join(one["metrics"] or one["marts"])
        out.print(
            f"{plain(one['label'])} ({plain(one['owner'])}, {plain(one['channel'])}): {plain(reads)}", soft_wrap=True
        )
    if told["proposed"]:
        out.print(f"\n{len(told['proposed'])} more read marts and are not declared; --yaml writes them down:")
        for one in told["proposed"]:
            out.print(f"{plain(one['name'])}: {plain(one['description'])}", soft_wrap=True)


def _told_one(one: dict[str, Any]) -> str:
    """Who was told where, and of how many changes."""
    return f"{plain(one['owner'])}, in {plain(one['channel'])}: {counted(len(one['changes']), 'change')}"
