"""`stitchline anomalies`: what is out of range, who has seen it, and how other settings would have judged."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from service.ask import ask, ask_for_file
from service.command import ConfigOption, JsonOption, WarehouseOption, answer, settings_of
from service.show import out, plain

anomalies = typer.Typer(no_args_is_help=True, help="Values that are not as they should be, and who knows of them.")

Incident = Annotated[str, typer.Argument(metavar="INCIDENT", help="Its id, as `anomalies list` has it.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it [default: you].")]


@anomalies.command()
def check(warehouse: WarehouseOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Judge now what the service judges by itself: the last complete day of every metric, and what the stream counts.

    Exit status 1 if something is out of range.
    """
    told = ask(settings_of(warehouse, config), "POST", "/api/anomalies/check", patience=None)
    answer(told, as_json, _checked)
    if told["open"]:
        raise typer.Exit(1)


@anomalies.command(name="list")
def list_incidents(
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The incidents that go on, the last one first."""
    told = ask(settings_of(warehouse, config), "GET", "/api/anomalies", params={"all": every})
    answer(told, as_json, _listed)


@anomalies.command()
def show(
    incident: Incident, warehouse: WarehouseOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """One incident: the numbers in the rule, and what became of it."""
    answer(ask(settings_of(warehouse, config), "GET", f"/api/anomalies/{incident}"), as_json, _shown)


def _doing(deed: str) -> Callable[..., None]:
    """The command of a deed."""

    def do(
        incident: Incident,
        by: By = None,
        warehouse: WarehouseOption = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        body = {"deed": deed, "actor": by or getpass.getuser()}
        told = ask(settings_of(warehouse, config), "POST", f"/api/anomalies/{incident}", body)
        answer(told, as_json, lambda told: out.print(f"{plain(told['title'])}: {told['status']}."))

    return do


for _name, _deed, _help in (
    ("ack", "acknowledge", "Say that somebody looks after it: nobody else is called."),
    ("snooze", "snooze", "Hear nothing of it for four hours."),
    ("dismiss", "not_anomaly", "Say that it is no anomaly: its values stay in the baseline."),
):
    anomalies.command(name=_name, help=_help)(_doing(_deed))


@anomalies.command(name="test")
def try_channel(
    channel: Annotated[str, typer.Argument(help="A #name, or Slack's id of the channel.")],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Post a sample to a channel of Slack, and say what happened."""
    told = ask(settings_of(warehouse, config), "POST", "/api/anomalies/test", {"channel": channel})
    answer(told, as_json, lambda told: out.print(f"Posted in {plain(told['channel'])} (message {plain(told['ts'])})."))


@anomalies.command()
def backtest(
    metric: Annotated[str, typer.Argument(help="As metrics.yml names it.")],
    since: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="[default: 90 days ago]")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="[default: yesterday]")] = None,
    segment: Annotated[str, typer.Option("--segment", help="A part of it, as channel=google.")] = "all",
    picture: Annotated[Path | None, typer.Option("--chart", metavar="FILE", help="Draw it: a PNG.")] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would have fired of a metric's past days under other settings, and which settings they ask for."""
    today = datetime.now(UTC).date()
    days = {
        "from": str(since.date() if since is not None else today - timedelta(days=90)),
        "to": str(until.date() if until is not None else today - timedelta(days=1)),
    }
    settings = settings_of(warehouse, config)
    params = {"metric": metric, "segment": segment} | days
    told = ask(settings, "GET", "/api/anomalies/backtest", params=params)
    if picture is not None:
        picture.write_bytes(ask_for_file(settings, "/api/anomalies/backtest.png", params))
    answer(told, as_json, _tried)


def _checked(told: dict[str, Any]) -> None:
    out.print(f"{len(told['changed']):,} incidents changed, {len(told['open']):,} go on.")
    _listed(told["open"])
    for trouble in told["not_said"]:
        out.print(f"Slack was not told in {plain(trouble['channel'])}: {plain(trouble['error'])}", soft_wrap=True)


def _listed(told: list[dict[str, Any]]) -> None:
    if not told:
        out.print("Nothing is out of range.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("incident", "what", "how bad", "since (UTC)", "state", "team"):
        table.add_column(column, overflow="fold")
    for one in told:
        since = datetime.fromisoformat(one["since"]).astimezone(UTC)
        state = one["status"] + (f" by {one['acted_by']}" if one["acted_by"] else "")
        cells = (one["incident_id"], one["title"], one["severity"], f"{since:%Y-%m-%d %H:%M}", state, one["team"])
        table.add_row(*map(plain, cells))
    out.print(table)


def _shown(told: dict[str, Any]) -> None:
    out.print(f"[bold]{plain(told['title'])}[/bold]", soft_wrap=True)
    out.print(
        f"{told['severity']}, {told['status']}, team {plain(told['team'])}; since {told['since']}", soft_wrap=True
    )
    out.print(plain(told["because"]) + (f" {plain(told['unusual'])}." if told["unusual"] else ""), soft_wrap=True)
    for change in told["changes"]:
        who = f" by {plain(change['actor'])}" if change["actor"] else ""
        out.print(f"  {change['at']}  {change['what']}{who} {plain(change['about'])}".rstrip(), soft_wrap=True)


def _tried(told: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = (
        "settings",
        "z over",
        "days judged",
        "fired",
        "confirmed found",
        "missed",
        "others in 90 days",
        "fired on",
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in told["tried"]:
        others = row["unconfirmed_per_90_days"]
        days = ", ".join(row["fired_on"][:6]) + (" …" if len(row["fired_on"]) > 6 else "")
        cells = [row["settings"], f"{row['threshold']:g}", f"{row['days']:,}", f"{row['fired']:,}", str(row["found"])]
        table.add_row(*cells, str(row["missed"]), "" if others is None else f"{others:.1f}", days)
    out.print(table)
    if told["proposal"] is None:
        out.print("Nothing is proposed: there are too few days, or neither rule tells them apart.")
        return
    proposal = told["proposal"]
    out.print(plain(proposal["because"]), soft_wrap=True)
    anomaly = proposal["anomaly"]
    out.print(
        f"In metrics.yml: anomaly: {{rule: {anomaly['rule']}, threshold: {anomaly['threshold']:g}, "
        f"least_relative_change: {anomaly['least_relative_change']:g}}}",
        soft_wrap=True,
    )
