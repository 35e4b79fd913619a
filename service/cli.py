"""The command line. With --json, standard output holds one JSON document; progress and logs go to standard error.

Exit status: 0 done, 1 found or failed, 2 used wrongly.
"""

from __future__ import annotations

import getpass
import logging
import sys
import threading
from pathlib import Path
from typing import Annotated, Final

import duckdb
import typer
from rich.console import Console

from service import logs, show
from service.anomalies_commands import anomalies
from service.ask import ask
from service.catalog_commands import catalog
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, err, settings_of, time_of
from service.experiments_commands import experiments
from service.funnel_commands import funnel, retention, trends
from service.marts_commands import marts
from service.settings import Settings
from service.spend_commands import spend
from sinks.warehouse import unreadable
from stitchline import __version__
from stitchline.errors import DefinitionError, SettingsError, StitchlineError, UsageError

_USED_WRONGLY: Final = (UsageError, SettingsError, DefinitionError)

cli = typer.Typer(
    name="stitchline",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turns a stream of product events into stitched sessions and live funnels.",
)
dead_letters = typer.Typer(no_args_is_help=True, help="Records that are no acceptable events.")
cli.add_typer(dead_letters, name="dead-letters")
identity = typer.Typer(no_args_is_help=True, help="Who is behind an id, and why; merging persons and undoing it.")
cli.add_typer(identity, name="identity")
cli.add_typer(marts, name="marts")
cli.add_typer(anomalies, name="anomalies")
cli.add_typer(spend, name="spend")
for report in (experiments, funnel, trends, retention):
    cli.command()(report)
cli.add_typer(catalog, name="catalog")

log = logging.getLogger("stitchline")


def app() -> None:
    """Runs the command line; what a person did wrong or the world refused is one sentence and an exit status.

    Wrong options (2), Ctrl-C (130) and typer.Exit are Typer's own to end the process with.
    """
    try:
        cli()
    except StitchlineError as error:
        if logs.as_json:
            log.error("%s", error, extra={name: str(value) for name, value in error.facts.items()})
        else:
            err.print(f"[red]Error:[/red] {show.plain(str(error))}", soft_wrap=True)
        sys.exit(2 if isinstance(error, _USED_WRONGLY) else 1)
    except duckdb.Error as error:  # met while reading: a block of the file is damaged, or the memory is too small
        err.print(f"[red]Error:[/red] {show.plain(unreadable(error))}", soft_wrap=True)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"stitchline {__version__}")
        raise typer.Exit


@cli.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, on standard error.")] = False,
) -> None:
    logs.configure(err, verbose=verbose)


@cli.command()
def up(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address of the page; any but loopback demands a token.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the page; 0 takes any free one.")] = None,
) -> None:
    """Run the service: the flow over the topic, and the page.

    Ctrl-C or SIGTERM ends it. With nothing configured, a Kafka and a Valkey of its own are started under .stitchline/.
    """
    from service.runtime import Service, dependencies, stop_on_signals

    settings = settings_of(warehouse, config, web={"host": host, "port": port})
    stopping = threading.Event()
    with (
        stop_on_signals(stopping),
        dependencies(settings, kafka=True) as addresses,
        Service(settings, addresses, stopping) as service,
    ):
        if logs.as_json:
            log.info("the page is at %s", service.url, extra={"url": service.url})
        else:
            waits = f"Waiting for events on topic {settings.kafka.topic!r}."
            err.print(f"The page is at [bold]{service.url}[/bold]. {waits}", soft_wrap=True)
            command = show.producer_command(addresses.bootstrap or "", settings.kafka.topic)
            err.print(command, markup=False, soft_wrap=True)
        service.wait()
        if not logs.as_json:
            err.print("Stopping: what was read is being committed …")


@cli.command()
def demo(
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of history.")] = 60,
    rate: Annotated[float, typer.Option(min=0.1, max=20_000, help="Live events a second.")] = 200.0,
    port: Annotated[int | None, typer.Option(help="Port of the page; 0 takes any free one.")] = None,
    warehouse: Annotated[
        Path, typer.Option(help="The demo's own file; what an earlier demo left there is removed first.")
    ] = Path(".stitchline/demo/warehouse.duckdb"),
) -> None:
    """Show it all on the events of a made-up shop.

    60 days of history go through Kafka and the flow, then live traffic does, and the page shows it. Ctrl-C ends it.
    """
    from service.demo import run_demo
    from service.runtime import stop_on_signals

    settings = settings_of(warehouse, None, web={"port": port})
    stopping = threading.Event()
    with stop_on_signals(stopping):
        run_demo(settings, stopping, Console(highlight=False), days, rate)


@cli.command()
def replay(
    files: Annotated[
        list[str] | None, typer.Argument(help="JSONL files, plain, .gz or .zst; - is standard input.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="A Kafka topic instead of files: from where it was left to its end.")
    ] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the flow over files, or a topic, to the end.

    Then every session is closed. A replay that was interrupted goes on where it was when it is run again.
    """
    from service.replay import replay_files, replay_topic

    if bool(files) == (topic is not None):
        raise UsageError("Name the files to replay, or a topic with --topic; one of the two.")
    settings = settings_of(warehouse, config, kafka={"topic": topic})
    summary = replay_topic(settings, err) if topic is not None else replay_files(settings, files or [], err)
    answer(summary, as_json, show.summary)


@cli.command()
def sql(
    statement: Annotated[str, typer.Argument(help="One statement that only reads.")],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the warehouse in SQL. Times are UTC."""
    rows = ask(settings_of(warehouse, config), "POST", "/api/sql", {"sql": statement})
    answer(rows, as_json, show.rows)


@cli.command()
def sessions(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="A session_id.")],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One session with its events."""
    found = ask(settings_of(warehouse, config), "GET", f"/api/sessions/{session_id}")
    answer(found, as_json, show.session)


@dead_letters.command("list")
def list_dead_letters(
    reason: Annotated[str | None, typer.Option(help="With this reason only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most, newest first.")] = 100,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was rejected, and why."""
    params = {"limit": limit} | ({"reason": reason} if reason else {})
    found = ask(settings_of(warehouse, config), "GET", "/api/dead-letters", params=params)
    answer(found, as_json, show.dead_letters)


PersonArgument = Annotated[str, typer.Argument(metavar="PERSON", help="Who stays: a user id, or anon:ID of a device.")]
OtherArgument = Annotated[str, typer.Argument(metavar="OTHER", help="Who counts to that person.")]
BecauseOption = Annotated[str, typer.Option("--because", help="Why; kept in the ledger.")]
ActorOption = Annotated[str | None, typer.Option("--as", help="Who does it [default: your login]; kept in the ledger.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what it would change, and change nothing.")]


@identity.command("show")
def show_identity(
    asked: Annotated[str, typer.Argument(metavar="ID", help="A user id, an anonymous id, or a person_id.")],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The persons behind an id.

    Their devices, who had each of them when, and the messages that say so.
    """
    found = ask(settings_of(warehouse, config), "GET", "/api/identity", params={"id": asked})
    answer(found, as_json, show.persons)


@identity.command()
def merge(
    person: PersonArgument,
    other: OtherArgument,
    because: BecauseOption,
    actor: ActorOption = None,
    dry_run: DryRunOption = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count one person to another.

    Known users never merge by themselves. `stitchline identity unmerge` takes it back, and leaves no trace but the two
    acts in the ledger.
    """
    _change_persons("merge", person, other, because, actor, dry_run, settings_of(warehouse, config), as_json)


@identity.command()
def unmerge(
    person: PersonArgument,
    other: OtherArgument,
    because: BecauseOption,
    actor: ActorOption = None,
    dry_run: DryRunOption = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a merge back, as if it had never been."""
    _change_persons("unmerge", person, other, because, actor, dry_run, settings_of(warehouse, config), as_json)


@identity.command()
def forget(
    person: Annotated[str, typer.Argument(metavar="PERSON", help="A user id, or anon:ID of a device.")],
    because: Annotated[str, typer.Option("--because", help="Why, without the person's id; it is kept.")],
    actor: Annotated[str | None, typer.Option("--as", help="Who does it [default: your login]; it is kept.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would remove, and remove nothing.")] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove all that is stored of a person, for good.

    Events, sessions, links, dead letters, Redis keys; the file is written anew, and a running flow stands still
    meanwhile. What arrives later from before that moment is refused and counted. It cannot be undone: try --dry-run.
    """
    asked = {"person": person, "because": because, "actor": actor or getpass.getuser(), "dry_run": dry_run}
    with err.status("Looking …" if dry_run else "Forgetting, and writing the file anew …"):
        told = ask(settings_of(warehouse, config), "POST", "/api/identity/forget", asked, patience=None)
    answer(told, as_json, show.forgotten)


@identity.command()
def refused(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most.")] = 100,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the rules do not link, the most frequent first."""
    found = ask(settings_of(warehouse, config), "GET", "/api/identity/refused", params={"limit": limit})
    answer(found, as_json, show.rows)


@identity.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many of each at most.")] = 20,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The users with the most devices, and the devices with the most users."""
    found = ask(settings_of(warehouse, config), "GET", "/api/identity/audit", params={"limit": limit})
    answer(found, as_json, show.audit)


@identity.command()
def rebuild(warehouse: WarehouseOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Judge all facts anew, after identity settings were changed.

    Which devices are shared, which links are held, whose stored events are; Redis is filled again. A running flow
    stands still meanwhile. `stitchline reconcile` says whether persons are as the rules have them.
    """
    with err.status("Judging all that is known about devices …"):
        judged = ask(settings_of(warehouse, config), "POST", "/api/identity/rebuild", patience=None)
    answer(judged, as_json, show.judged)


def _change_persons(
    kind: str,
    person: str,
    other: str,
    because: str,
    actor: str | None,
    dry_run: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    asked = {"kind": kind, "person": person, "other": other, "because": because, "dry_run": dry_run}
    told = ask(settings, "POST", "/api/identity/change", asked | {"actor": actor or getpass.getuser()})
    answer(told, as_json, show.person_change)


@cli.command()
def reconcile(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only sessions that began then or later; ISO 8601, UTC.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rewrite what differs; a running flow waits meanwhile.")
    ] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the sessions with what the batch definition makes of the stored events.

    Row for row. Exit status 1 if any differs and was not repaired.
    """
    question = {"since": time_of(since).isoformat() if since is not None else None, "repair": repair}
    found = ask(settings_of(warehouse, config), "POST", "/api/reconcile", question)
    answer(found, as_json, show.reconciliation)
    if found["differing"] and not found["repaired"]:
        raise typer.Exit(1)


@cli.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the warehouse into a folder.

    As it is committed at one moment; a service that runs on it goes on. `stitchline restore` puts it back.
    """
    from service.backup import make_backup

    answer(make_backup(settings_of(warehouse, config), folder, err), as_json, show.backup)


@cli.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `stitchline backup` made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a warehouse that is there; it is kept beside.")
    ] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a backup the warehouse, which no service may hold now.

    The flow goes on from the offsets of the backup, which Kafka must still have; Redis is filled again at the start.
    """
    from service.backup import restore_backup

    told = restore_backup(settings_of(warehouse, config), folder, err, replace=replace)
    answer(told, as_json, show.restored)


@cli.command()
def doctor(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    settings: Annotated[bool, typer.Option("--settings", help="List every setting instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is configured, reachable and behind.

    And what to do about it: with status 1 if anything has to be done.
    """
    from service.doctor import examine

    if settings:
        answer(show.setting_rows(), as_json, show.rows)
        return
    findings = examine(settings_of(warehouse, config))
    answer(findings, as_json, show.findings)
    if any(not finding["ok"] for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
