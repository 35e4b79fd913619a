"""Changes to the marts as the service knows them: who reads what, what was announced, and who has seen it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import Any, Final

import duckdb

from batch_marts import changes
from batch_marts.anomalies.owners import OWNERS, PLATFORM, Owners, load_owners
from batch_marts.catalogue import Catalogue
from batch_marts.change_message import SEEN, notice_message
from batch_marts.changes import AnnouncedChange, Coming, Notice, Reader
from batch_marts.consumers import (
    Consumer,
    channel_of,
    check_consumers,
    downstream,
    exposures_yaml,
    load_consumers,
)
from batch_marts.dbt import PROJECT
from batch_marts.metrics import DAILY
from batch_marts.reads import Read, ReadLog, put_down, reads
from funnels import FunnelDefinition
from service.settings import Settings
from sinks.outbox import put_message
from sinks.slack_actions import Press
from sinks.warehouse import Warehouse
from stitchline.errors import StitchlineError

log = logging.getLogger(__name__)

_FUNNELS: Final = "fct_funnel_daily"
"""The mart of the days of funnels."""


class MartChanges:
    """What is known of changes to the marts over one warehouse. Threads may share it."""

    def __init__(self, warehouse: Warehouse, settings: Settings) -> None:
        self._warehouse = warehouse
        self._settings = settings

    def announced(self) -> dict[str, Any]:
        """What was announced, who was told, and who has not seen it yet."""
        now = datetime.now(UTC)
        with self._warehouse.reader() as con:
            found = changes.notices(con)
            waiting = changes.pending(con, now)
        unseen = [one for one in found if one.seen_by is None]
        return {
            "pending": [_change(one) for one in waiting],
            "notices": [_notice(one) for one in found],
            "not_seen": [{"owner": one.owner, "channel": one.channel, "notice_id": one.notice_id} for one in unseen],
        }

    def announce(
        self,
        coming: Sequence[Coming],
        *,
        by: str,
        link: str | None = None,
        comes_on: date | None = None,
        because: str | None = None,
    ) -> dict[str, Any]:
        """Tells the owners downstream, each in one message, of what they were not told before.

        It is on record, and in the outbox, once this returns; Slack has it soon after, or once it is set up.
        """
        now = datetime.now(UTC)
        with self._warehouse.transaction() as con:
            told = changes.announce(
                con,
                coming,
                by=by,
                now=now,
                notice=self._settings.marts.notice,
                comes_on=comes_on,
                because=because,
                link=link,
            )
            for one in told:
                put_message(con, one.notice_id, one.channel, notice_message(one, self._page), now)
        for one in told:
            log.info("%s was told of %d changes to the marts", one.owner, len(one.changes))
        return {"told": [_notice(one) for one in told], "in_slack": self._settings.slack.token is not None}

    def announce_for_readers(self, coming: Sequence[Coming], *, by: str, because: str | None) -> None:
        """The same, of changes of which it is not known yet whom they concern."""
        consumers, owners = self._declared(), self._owners()
        found = []
        for one in coming:
            concerned = downstream(consumers, one.mart, one.column_name, one.metric)
            readers = [Reader(each.name, each.label, each.owner, channel_of(each, owners)) for each in concerned]
            found.append(replace(one, readers=tuple(readers)))
        self.announce(found, by=by, because=because)

    def withdraw(self, change_ids: Sequence[str]) -> dict[str, Any]:
        """These changes do not come after all. Slack's messages of them stay as they are."""
        with self._warehouse.transaction() as con:
            return {"withdrawn": changes.withdraw(con, change_ids, datetime.now(UTC))}

    def put_down(self, counts: ReadLog) -> None:
        """Puts on record who read marts since the last time."""
        counted = counts.taken()
        if not counted:
            return
        try:
            with self._warehouse.transaction() as con:
                put_down(con, counted, datetime.now(UTC))
        except (StitchlineError, duckdb.Error) as error:
            log.warning("%d counts of who reads the marts are lost: %s", len(counted), error)

    def pressed(self, press: Press) -> bool:
        """A button in Slack. Returns whether it was one of ours; one that is pressed again changes nothing."""
        if press.action_id != SEEN:
            return False
        now = datetime.now(UTC)
        with self._warehouse.transaction() as con:
            notice = changes.seen(con, press.value, press.user_name or press.user_id, now)
            if notice is not None:
                put_message(con, notice.notice_id, notice.channel, notice_message(notice, self._page), now)
        return True

    def consumers(self, catalogue: Catalogue, funnels: Sequence[FunnelDefinition]) -> dict[str, Any]:
        """Who reads the marts: declared, and proposed because a funnel or the API's log says so.

        Raises DefinitionError if the exposures cannot be read.
        """
        owners, declared = self._owners(), self._declared()
        check_consumers(declared, catalogue.marts, catalogue.metrics, owners)
        with self._warehouse.reader() as con:
            seen = reads(con)
        proposed = [*_of_funnels(declared, funnels, catalogue), *_of_reads(declared, seen)]
        return {
            "consumers": [_consumer(one) | {"channel": channel_of(one, owners)} for one in declared],
            "proposed": proposed,
            "yaml": exposures_yaml(proposed) if proposed else "",
            "reads": [asdict(one) | {"last_at": one.last_at.astimezone(UTC).isoformat()} for one in seen],
        }

    def _declared(self) -> list[Consumer]:
        marts = self._settings.marts
        return load_consumers(PROJECT if marts.project is None else marts.project, marts.exposures)

    def _owners(self) -> Owners:
        return load_owners(self._settings.owners or OWNERS)

    @property
    def _page(self) -> str:
        return self._settings.web.public_url or ""


def _of_funnels(
    declared: Sequence[Consumer], funnels: Sequence[FunnelDefinition], catalogue: Catalogue
) -> list[dict[str, Any]]:
    """An exposure for each funnel whose days are in the marts and that nobody declared."""
    known = {one.name for one in declared}
    found = []
    for funnel in funnels:
        name = f"funnel_{_word(funnel.name)}"
        if name not in known and _FUNNELS in catalogue.marts:
            told = f"The funnel “{funnel.name}”, saved on the page."
            found.append(_proposal(name, f"Funnel {funnel.name}", "dashboard", "/funnels", told, [_FUNNELS], []))
    return found


def _of_reads(declared: Sequence[Consumer], seen: Sequence[Read]) -> list[dict[str, Any]]:
    """An exposure for each reader and program that the log has and nobody declared."""
    known = {one.name for one in declared}
    by_reader: dict[tuple[str, str], list[Read]] = {}
    for one in seen:
        by_reader.setdefault((one.reader, one.client), []).append(one)
    found = []
    for (reader, client), each in by_reader.items():
        name = f"api_{_word(f'{reader} {client}')}"
        if name in known:
            continue
        marts = sorted({one.mart for one in each})
        of_metrics = [one for one in each if one.mart == DAILY]
        metrics = sorted({one.metric for one in of_metrics if one.metric is not None})
        whole = any(one.metric is None for one in of_metrics)
        count, last = sum(one.reads for one in each), max(one.last_at for one in each)
        told = f"{client}, used by {reader}, read it {count:,} times by the API, last on {last:%Y-%m-%d}."
        found.append(
            _proposal(name, f"{client} of {reader}", "application", None, told, marts, [] if whole else metrics)
        )
    return found


def _proposal(
    name: str, label: str, kind: str, url: str | None, told: str, marts: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    one: dict[str, Any] = {"name": name, "label": label, "type": kind}
    if url is not None:
        one["url"] = url
    one |= {"description": told, "depends_on": [f"ref('{mart}')" for mart in marts]}
    one["owner"] = {"name": PLATFORM}  # until somebody says whose it is
    return one | ({"config": {"meta": {"metrics": list(metrics)}}} if metrics else {})


def _word(text: str) -> str:
    """A name as dbt takes it.

    >>> _word("Ada's report (v2)")
    'ada_s_report_v2'
    """
    return "_".join("".join(sign if sign.isascii() and sign.isalnum() else " " for sign in text.lower()).split())[:80]


def _consumer(one: Consumer) -> dict[str, Any]:
    return {
        "name": one.name,
        "label": one.label,
        "kind": one.kind,
        "owner": one.owner,
        "marts": sorted(one.marts),
        "metrics": sorted(one.metrics),
        "columns": sorted(f"{mart}.{column}" for mart, column in one.columns),
        "url": one.url,
    }


def _change(one: AnnouncedChange) -> dict[str, Any]:
    times = {name: getattr(one, name).astimezone(UTC).isoformat() for name in ("announced_at", "in_force_at")}
    return asdict(one) | times


def _notice(one: Notice) -> dict[str, Any]:
    return {
        "notice_id": one.notice_id,
        "owner": one.owner,
        "channel": one.channel,
        "consumers": list(one.consumers),
        "told_at": one.told_at.astimezone(UTC).isoformat(),
        "seen_by": one.seen_by,
        "seen_at": None if one.seen_at is None else one.seen_at.astimezone(UTC).isoformat(),
        "changes": [_change(each) for each in one.changes],
    }
