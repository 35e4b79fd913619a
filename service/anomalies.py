"""Anomalies as the service runs them: values are judged, incidents kept, and Slack is told of what became of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

import duckdb

from batch_marts import builds
from batch_marts.anomalies import Verdict
from batch_marts.anomalies.backtest import backtest, propose, trial_rows
from batch_marts.anomalies.chart import Series, chart
from batch_marts.anomalies.days import MART, check_days
from batch_marts.anomalies.health import Observed, judged
from batch_marts.anomalies.incidents import SEVERITIES, Act, Deed, Incident, fires
from batch_marts.anomalies.message import Places, Subject, Telling, current, incident_message, subjects_of, title_of
from batch_marts.anomalies.owners import OWNERS, load_owners
from batch_marts.anomalies.record import Office, act, act_of, draw, record
from batch_marts.anomalies.rolling import COUNTS, FIVE_MINUTES, HOUR, Count, Pace, check_rolling
from batch_marts.anomalies.store import incidents_on_record
from batch_marts.builds import Build
from batch_marts.metrics import METRICS, WHOLE, Metric, load_metrics
from service.changes import MartChanges
from service.settings import Settings
from sinks import outbox
from sinks.sender import Sender
from sinks.slack import Slack
from sinks.slack_actions import Press, SignedRequests
from sinks.warehouse import Warehouse
from stitchline.errors import UsageError

log = logging.getLogger(__name__)

_HISTORY: Final = timedelta(days=28)
"""Shown before the value that an incident is about."""
_LISTED: Final = 200
_MOST_DAYS: Final = 14
"""What is older is nobody's matter any more."""

Found = Literal["open", "all"]


class Anomalies:
    """What is out of range over one warehouse, and who knows of it. Threads may share it."""

    def __init__(self, warehouse: Warehouse, settings: Settings, url: str = "", *, is_alone: bool = False) -> None:
        """`url` is where the page is. Where no service runs, `is_alone`, what is to be said is sent with each change.

        Raises DefinitionError if the metrics or the owners cannot be read.
        """
        self._warehouse = warehouse
        self._metrics = load_metrics(settings.marts.metrics or METRICS)
        owner_of = {metric.shown_as: metric.owner for metric in self._metrics}
        places = (
            Places(f"{url}/anomalies/{{incident}}", f"{url}/docs", f"{url}/runbook#{{anchor}}") if url else Places()
        )
        slack = settings.slack
        self._office = Office(
            owners=load_owners(settings.owners or OWNERS, owner_of),
            subjects=_ALL_EVENTS | subjects_of(self._metrics),
            owner_of=owner_of,
            places=places,
            in_slack=slack.token is not None,
        )
        self._changes = MartChanges(warehouse, settings)
        self._slack = (
            Slack(slack.token.get_secret_value(), base_url=slack.base_url, timeout=slack.timeout)
            if slack.token is not None
            else None
        )
        secret = slack.signing_secret
        self._signed = SignedRequests(secret.get_secret_value()) if secret is not None else None
        self._is_alone = is_alone
        self._is_rolling = settings.anomalies.rolling
        self._counts = _counts_of(settings.marts.variables)
        self._checking = threading.Lock()
        self._judged_until: dict[str, datetime] = {}

    # Checks

    def check_days(self, days: int | None = None, now: datetime | None = None) -> list[Incident]:
        """Judges the newest complete `days` of every metric in the marts that are shown; by default those that the
        marts shown before did not have, and at least one."""
        now = now or datetime.now(UTC)
        with self._warehouse.reader() as con:
            if builds.published(con) is None:
                return []
            days = days or _days_since(builds.builds(con))
            verdicts = check_days(con, self._metrics, left_out=_left_out("day"), days=days)
            ((newest,),) = con.execute(f"select max(metric_date) from {MART} where is_complete").fetchall()
        # A complete day may wait as well, because it still grows: that is not late. Of those that are late, the first
        # and the last ones say enough. While no day is complete, none is late.
        late: set[date] = set()
        if newest is not None:
            lately = now.astimezone(UTC).date() - timedelta(days=_MOST_DAYS)
            late = {
                newest + timedelta(days=1),
                *(one.at.date() for one in verdicts if one.at.date() > max(newest, lately)),
            }
        return self._record([one for one in verdicts if one.said != "waiting" or one.at.date() in late], now)

    def check_rolling(self, now: datetime | None = None) -> list[Incident]:
        """Judges what the flow has passed since the last time, in steps of five minutes and in hours; nothing, if that
        is not wanted."""
        if not self._is_rolling:
            return []
        now = now or datetime.now(UTC)
        verdicts: list[Verdict] = []
        with self._checking, self._warehouse.reader() as con:
            for pace in (FIVE_MINUTES, HOUR):
                if self._judged_until.get(pace.grain) == pace.floor(now):
                    continue
                since = self._judged_until.get(pace.grain)
                found = self._rolling(con, now, pace, since)
                passed = [one.at + pace.step for one in found if one.said != "waiting"]
                if passed:
                    self._judged_until[pace.grain] = max(passed)
                verdicts += found
        return self._record(verdicts, now)

    def _rolling(
        self, con: duckdb.DuckDBPyConnection, now: datetime, pace: Pace, since: datetime | None
    ) -> list[Verdict]:
        return check_rolling(
            con,
            self._metrics,
            now,
            pace=pace,
            counts=self._counts,
            since=since,
            left_out=_left_out(pace.grain),
        )

    def check(self) -> dict[str, Any]:
        """Judges all that can be judged now: what changed, and what goes on."""
        changed = [*self.check_days(), *self.check_rolling()]
        return {
            "changed": [self.told(one) for one in {one.incident_id: one for one in changed}.values()],
            "open": self.listed(),
            "not_said": self.troubles(),
        }

    def check_health(self, observed: Observed) -> list[Incident]:
        """Judges Stitchline itself."""
        return self._record(judged(observed), observed.at)

    def _record(self, verdicts: Iterable[Verdict], now: datetime) -> list[Incident]:
        verdicts = _without_what_the_whole_tells(list(verdicts))
        if self._is_alone:  # nothing comes in, so nothing is late
            verdicts = [one for one in verdicts if one.said != "waiting"]
        changed = record(self._warehouse, verdicts, now, self._office)
        self._log(changed, now)
        if self._is_alone:
            self.send()
        return changed

    def _log(self, changed: Sequence[Incident], now: datetime) -> None:
        """Says on the console what changed: all that there is without Slack."""
        telling = Telling(self._office.subjects, self._office.places)
        for incident in changed:
            news = [change.what for change in incident.changes if change.at == now]
            if news:
                level = logging.INFO if incident.is_over else logging.WARNING
                extra = {"incident": incident.incident_id, "team": incident.team}
                log.log(level, "%s: %s", title_of(incident, telling), ", ".join(news), extra=extra)

    # What people do

    def act(self, incident_id: str, deed: Deed, actor: str, act_id: str, at: datetime | None = None) -> dict[str, Any]:
        """What somebody did about an incident. Raises UsageError if there is none of that id, or it changes nothing."""
        deed_done = Act(act_id, incident_id, deed, actor, at or datetime.now(UTC))
        incident = act(self._warehouse, deed_done, self._office)
        if incident is None:
            raise UsageError(
                f"There is no incident {incident_id!r}: `stitchline anomalies list --all` has all of them."
            )
        if not any(change.act_id == act_id for change in incident.changes):
            raise UsageError(f"Incident {incident_id} is {incident.status}: there is nothing to {_DEEDS[deed]}.")
        self._log([incident], deed_done.at)
        if self._is_alone:
            self.send()
        return self.told(incident)

    def pressed(self, press: Press) -> None:
        """A button in Slack. One that comes too late, or again, changes nothing."""
        if self._changes.pressed(press):
            return
        if (deed := act_of(press, datetime.now(UTC))) is None:
            return
        incident = act(self._warehouse, deed, self._office)
        if incident is not None:
            self._log([incident], deed.at)

    def from_slack(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Does what was pressed, by a request that Slack signed; returns how many buttons that were.

        Raises UsageError if there is no signing secret, and RequestRefused for a request that is not Slack's, or old.
        """
        if self._signed is None:
            raise UsageError("Buttons are not heard of here: put the app's signing secret into slack.signing_secret.")
        presses = self._signed.presses(body, headers)
        for press in presses:
            self.pressed(press)
        return len(presses)

    # What there is to see

    def listed(self, which: Found = "open") -> list[dict[str, Any]]:
        """The incidents that go on, or all, the last one first."""
        with self._warehouse.reader() as con:
            found = incidents_on_record(con, ended_since=None if which == "all" else datetime.now(UTC))
        chosen = [one for one in found if which == "all" or one.ended_at is None]
        return [self.told(one) for one in sorted(chosen, key=lambda one: one.opened_at, reverse=True)[:_LISTED]]

    def one(self, incident_id: str) -> dict[str, Any]:
        """One incident, with everything that is known of it. Raises UsageError if there is none of that id."""
        return self.told(self._incident(incident_id), whole=True)

    def _incident(self, incident_id: str) -> Incident:
        with self._warehouse.reader() as con:
            found = incidents_on_record(con, incident_id=incident_id)
        if not found:
            raise UsageError(
                f"There is no incident {incident_id!r}: `stitchline anomalies list --all` has all of them."
            )
        return found[0]

    def told(self, incident: Incident, *, whole: bool = False) -> dict[str, Any]:
        """An incident as the API says it; the `whole` of it has its verdicts, what became of it, and the message."""
        telling = Telling(self._office.subjects, self._office.places)
        last = current(incident)
        told: dict[str, Any] = {
            "incident_id": incident.incident_id,
            "title": title_of(incident, telling),
            "kind": incident.kind,
            "status": incident.status,
            "severity": SEVERITIES[incident.severity],
            "team": incident.team,
            "rule": incident.rule,
            "grain": incident.grain,
            "metrics": [{"metric": metric, "segment": segment} for metric, segment in incident.members],
            "since": incident.since.isoformat(),
            "until": incident.until.isoformat(),
            "opened_at": incident.opened_at.isoformat(),
            "ended_at": None if incident.ended_at is None else incident.ended_at.isoformat(),
            "acted_by": incident.acted_by,
            "because": last.because,
            "unusual": last.unusual,
        }
        if whole:
            told["verdicts"] = [
                _verdict(one) | {"out_of_range": fires(one, incident.kind)} for one in incident.verdicts
            ]
            told["changes"] = [
                {"what": change.what, "at": change.at.isoformat(), "actor": change.actor, "about": change.about}
                for change in incident.changes
            ]
            told["message"] = incident_message(incident, telling)
        return told

    def troubles(self) -> list[dict[str, Any]]:
        """What Slack could not be told, by channel and error."""
        with self._warehouse.reader() as con:
            return [
                asdict(one) | {"since": one.since.isoformat(), "next_try_at": one.next_try_at.isoformat()}
                for one in outbox.troubles(con)
            ]

    def picture(self, incident_id: str) -> bytes | None:
        """The chart of an incident of one metric, a PNG; None where there is nothing to show."""
        incident = self._incident(incident_id)
        series = self._series(incident)
        if series is None:
            return None
        return chart(series, title_of(incident, Telling(self._office.subjects)))

    def _series(self, incident: Incident) -> Series | None:
        """The values around an incident of one metric, with what was expected of them."""
        if incident.kind != "anomaly" or len(incident.members) != 1:
            return None
        ((name, segment),) = incident.members
        metric = next((one for one in self._metrics if one.shown_as == name), None)
        values: Sequence[Verdict] = [one for one in incident.verdicts if one.grain == incident.grain]
        if incident.grain == "day" and metric is not None:
            day = incident.since.date()
            with self._warehouse.reader() as con:
                if builds.published(con) is not None:
                    values = backtest(
                        con, metric, day - _HISTORY, incident.until.date(), segment=segment, trials={},
                        confirmed=_left_out("day"),
                    )[0].days  # fmt: skip
        elif metric is not None:
            pace = FIVE_MINUTES if incident.grain == "five_minutes" else HOUR
            values = self._recent(pace, incident) or values
        out = {one.at for one in incident.firing}
        values = [one for one in values if one.actual is not None]
        return _series_of(values, out, metric.unit if metric is not None else "events") if values else None

    def _recent(self, pace: Pace, incident: Incident) -> list[Verdict]:
        """What is said of the series in the last hour of an incident."""
        until = incident.until + pace.step
        with self._warehouse.reader() as con:
            found = self._rolling(con, until, pace, until - timedelta(hours=1))
        series = incident.members[0]
        return [one for one in found if (one.metric, one.segment) == series and one.said != "waiting"]

    def backtest(self, name: str, since: date, until: date, segment: str) -> dict[str, Any]:
        """What would have fired of a metric under other settings, and which its past asks for.

        Raises UsageError if there is no such metric, or nothing is published.
        """
        metric = self._metric(name)
        with self._warehouse.reader() as con:
            if builds.published(con) is None:
                raise UsageError("No marts are published yet: `stitchline marts refresh` makes them.")
            confirmed = _left_out("day")
            tried = backtest(con, metric, since, until, segment=segment, confirmed=confirmed)
            proposal = propose(con, metric, since, until, segment=segment, confirmed=confirmed)
        rows = trial_rows(tried)
        for row in rows:
            row["fired_on"] = [day.isoformat() for day in row["fired_on"]]
        return {
            "metric": name,
            "segment": segment,
            "since": since.isoformat(),
            "until": until.isoformat(),
            "tried": rows,
            "proposal": None
            if proposal is None
            else {
                "anomaly": proposal.anomaly.model_dump(mode="json", exclude={"quiet", "rolling"}),
                "least_found": proposal.least_found,
                "because": proposal.because,
            },
        }

    def backtest_picture(self, name: str, since: date, until: date, segment: str) -> bytes | None:
        """What the metric's own settings say of these days, a PNG; None if there are none."""
        metric = self._metric(name)
        with self._warehouse.reader() as con:
            own = backtest(con, metric, since, until, segment=segment, trials={}, confirmed=_left_out("day"))[0]
        days = [one for one in own.days if one.actual is not None]
        fired = {one.at for one in own.fired}
        return chart(_series_of(days, fired, metric.unit), metric.label) if days else None

    def _metric(self, name: str) -> Metric:
        for metric in self._metrics:
            if metric.shown_as == name:
                return metric
        names = ", ".join(metric.shown_as for metric in self._metrics)
        raise UsageError(f"There is no metric {name!r}. There are: {names}.")

    # Slack

    def send(self) -> datetime | None:
        """Draws charts that are missing, and says in Slack what is due; returns when there is more. Without a token
        there is nothing to say."""
        if self._slack is None:
            return None
        draw(self._warehouse, self._series, datetime.now(UTC), self._office)
        return Sender(self._warehouse, self._slack).send_due().next_due_at

    def send_if_alone(self) -> None:
        """Says in Slack what is due, where no service does."""
        if self._is_alone:
            self.send()

    def test(self, channel: str) -> dict[str, Any]:
        """Posts a sample to a channel, a #name or an id, and returns where it is.

        Raises UsageError without a token, and a StitchlineError with what Slack said and what to do if it refuses.
        """
        if self._slack is None:
            raise UsageError("Slack is not set up: put the app's bot token into slack.token (docs/anomalies.md).")
        channel_id = self._slack.channel_id(channel)
        sample = {
            "text": "Stitchline can post here. This is a test, and nothing is wrong.",
            "blocks": [
                {
                    "type": "section",
                    "text": {
                        "type": "mrkdwn",
                        "text": "*Stitchline can post here.* This is a test, and nothing is wrong. Incidents come with "
                        "the figures, a chart, and buttons.",
                    },
                }
            ],
        }
        ts = self._slack.post(channel_id, sample, {"event_type": "stitchline_test", "event_payload": {}})
        return {"channel": channel, "channel_id": channel_id, "ts": ts}


_DEEDS: Final[dict[Deed, str]] = {"acknowledge": "acknowledge", "snooze": "snooze", "not_anomaly": "dismiss"}


_ALL_EVENTS: Final = {
    "events": Subject("All events", "Events of every kind that come in. Known bots do not count.", "events")
}
"""What is counted while the day runs and is no metric."""


def _counts_of(variables: Mapping[str, Any]) -> list[Count]:
    """What is counted while the day runs, by the names that the shop has for it."""
    names = {"sign_ups": variables.get("sign_up_event"), "orders": variables.get("order_event")}
    return [replace(one, events=(str(name),)) if (name := names.get(one.metric)) is not None else one for one in COUNTS]


def _without_what_the_whole_tells(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """A part of a metric that is out of range as the whole is, at the same time, is no matter of its own."""
    whole = {(one.metric, one.grain, one.at, _is_low(one)) for one in verdicts if _is_out(one) and one.segment == WHOLE}
    return [
        one
        for one in verdicts
        if one.segment == WHOLE or not _is_out(one) or (one.metric, one.grain, one.at, _is_low(one)) not in whole
    ]


def _is_out(verdict: Verdict) -> bool:
    return verdict.said == "anomaly"


def _is_low(verdict: Verdict) -> bool:
    return verdict.actual is not None and verdict.expected is not None and verdict.actual < verdict.expected


def _days_since(every: Sequence[Build]) -> int:
    """So many days the marts that are shown have more than those before: nights may have been missed."""
    moments = [one.pin.as_of.date() for one in every if one.status in ("published", "replaced") and one.pin is not None]
    return min(max((moments[0] - moments[1]).days, 1), _MOST_DAYS) if len(moments) > 1 else 1


def _left_out(grain: str) -> str:
    return f"select metric as metric_name, segment, began_at from anomalies.left_out where grain = '{grain}'"


def _series_of(values: Sequence[Verdict], out: set[datetime], unit: str) -> Series:
    return Series(
        at=[one.at for one in values],
        actual=[one.actual for one in values],
        low=[one.low for one in values],
        high=[one.high for one in values],
        out=[one.at in out for one in values],
        unit=unit,
    )


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict) | {"at": verdict.at.isoformat()}
