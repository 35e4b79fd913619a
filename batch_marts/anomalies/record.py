"""Puts on record what becomes of incidents, and with it, in the same transaction, what has to be said in Slack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import duckdb

from batch_marts.anomalies.chart import Series, chart
from batch_marts.anomalies.incidents import Act, Incident, Kind, LifeRules, advance, perform
from batch_marts.anomalies.message import ACTIONS, Places, Subject, Telling, change_reply, incident_message, title_of
from batch_marts.anomalies.owners import PLATFORM, Owners
from batch_marts.anomalies.store import incidents_on_record, put_act, save_incidents
from batch_marts.anomalies.verdicts import Verdict
from sinks.outbox import put_image, put_message, put_reply, without_image
from sinks.slack_actions import Press
from sinks.warehouse import Warehouse


@dataclass(frozen=True, slots=True)
class Office:
    """Who is told of what, and how."""

    owners: Owners
    subjects: Mapping[str, Subject]
    owner_of: Mapping[str, str]
    """The owner of each metric."""
    places: Places = field(default_factory=Places)
    rules: LifeRules = field(default_factory=LifeRules)
    in_slack: bool = True
    """Whether Slack is told; without it all else is the same."""

    def team_of(self, metrics: Sequence[str], kind: Kind) -> str:
        """The team that is told: the metrics' owner; the platform team of what has several owners, and of the data."""
        if kind != "anomaly":
            return PLATFORM
        return self.owners.of_metrics([self.owner_of.get(metric, PLATFORM) for metric in metrics])

    def escalates_at(self, incident: Incident) -> datetime | None:
        """When those on duty are called, if nobody has acted by then."""
        team = self.owners.team(incident.team)
        return team.escalates_at(incident.opened_at, critical=incident.severity == 3)


def record(warehouse: Warehouse, verdicts: Iterable[Verdict], now: datetime, office: Office) -> list[Incident]:
    """What these verdicts and the clock change, on record. Returns the incidents that are new or other than before.

    The same verdicts again change nothing. Without verdicts, only the clock is looked at.
    """
    heard = list(verdicts)
    since = min((verdict.at for verdict in heard), default=now) - office.rules.reopen_within - timedelta(days=1)
    with warehouse.transaction() as con:
        known = incidents_on_record(con, ended_since=since)
        changed = advance(known, heard, now, office.team_of, office.escalates_at, office.rules)
        _keep(con, known, changed, now, office)
    return changed


def act(warehouse: Warehouse, deed: Act, office: Office) -> Incident | None:
    """What somebody did, on record. Returns the incident as it is now; None if there is none of that id.

    The same act again changes nothing, nor does one that comes when the incident is over.
    """
    with warehouse.transaction() as con:
        known = incidents_on_record(con, incident_id=deed.incident_id)
        if not known:
            return None
        if not put_act(con, deed):
            return known[0]
        incident = perform(known[0], deed, office.rules)
        if incident != known[0]:
            _keep(con, known, [incident], deed.at, office)
    return incident


def act_of(press: Press, at: datetime) -> Act | None:
    """What was meant by a button that was pressed in Slack; None for one that is none of an incident's."""
    for deed, action_id in ACTIONS.items():
        if press.action_id == action_id:
            return Act(press.press_id, press.value, deed, press.user_name or press.user_id, at)
    return None


def draw(
    warehouse: Warehouse, series_of: Callable[[Incident], Series | None], now: datetime, office: Office
) -> list[str]:
    """Puts the charts that are missing into the outbox, drawn outside of any transaction; returns whose those are.

    `series_of` gives the values around an incident of one metric; None if there are none to show.
    """
    with warehouse.reader() as con:
        missing = set(without_image(con))
        going_on = incidents_on_record(con, ended_since=now) if missing else []
    drawn = []
    for incident in going_on:
        is_one = len(incident.members) == 1
        if incident.incident_id not in missing or incident.kind != "anomaly" or incident.is_over or not is_one:
            continue
        series = series_of(incident)
        if series is None:
            continue
        told = Telling(office.subjects, office.places)
        image = chart(series, told.subject(incident.members[0][0]).label)
        with warehouse.transaction() as con:
            shows = f"Chart: {title_of(incident, told)}"
            put_image(con, incident.incident_id, image, f"incident-{incident.incident_id}.png", shows, now)
        drawn.append(incident.incident_id)
    return drawn


def _keep(
    con: duckdb.DuckDBPyConnection,
    known: Sequence[Incident],
    changed: Sequence[Incident],
    now: datetime,
    office: Office,
) -> None:
    save_incidents(con, changed, known)
    if not office.in_slack:
        return
    before = {incident.incident_id: len(incident.changes) for incident in known}
    for incident in changed:
        new = incident.changes[before.get(incident.incident_id, 0) :]
        if incident.status == "dismissed" and not new:
            continue  # what still comes in of it is no news
        team = office.owners.team(incident.team)
        telling = Telling(office.subjects, office.places, team.mention)
        put_message(con, incident.incident_id, team.channel, incident_message(incident, telling), now)
        for change in new:
            if (reply := change_reply(incident, change, telling)) is not None:
                position = incident.changes.index(change)
                put_reply(con, change.change_id, incident.incident_id, position, reply, now)
