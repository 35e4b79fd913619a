"""Says in Slack what is in the outbox: each thing once, in order, however often it has to be tried.

A sender claims an item in one transaction, says it, and records in another one that it is said. Who finds an item that
was tried before and not recorded looks for it in the channel's history first. A claim outlives its process: until it
has run out, a request of that process may still arrive.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sinks import outbox
from sinks.outbox import Item
from sinks.slack import CHANGE, INCIDENT, OF_THE_BLOCKS, Slack
from sinks.warehouse import Warehouse
from stitchline.errors import MessageGone, SlackBusy, SlackRefused, SlackUnsure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what."""

    lease: timedelta = timedelta(seconds=60)
    """How long an item is one sender's; longer than the few requests that saying it takes."""
    first: timedelta = timedelta(seconds=10)
    """Until an item is tried a second time; each time twice as long. Not shorter than Slack may take to do what it was
    asked after it gave no answer."""
    most: timedelta = timedelta(minutes=10)
    stuck: timedelta = timedelta(minutes=15)
    """Until it is looked whether somebody has mended what Slack refuses."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a round."""

    said: int
    next_due_at: datetime | None
    """When there is something to say again; None if everything is said."""


class Sender:
    """Says what is due. One for each process is enough; more, also of other processes, do no harm."""

    def __init__(
        self,
        warehouse: Warehouse,
        slack: Slack,
        patience: Patience = Patience(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._warehouse = warehouse
        self._slack = slack
        self._patience = patience
        self._clock = clock
        self._name = uuid.uuid4().hex
        self._told: set[str] = set()

    def send_due(self, most: int = 1000) -> Sent:
        """Says what is due, at most so many things, and when there is more. Never raises for what Slack does."""
        said = 0
        for _ in range(most):
            with self._warehouse.transaction() as con:
                item = outbox.claim(con, self._name, self._clock(), self._patience.lease)
            if item is None:
                break
            said += self._try(item)
        with self._warehouse.reader() as con:
            return Sent(said, outbox.next_due(con))

    def _try(self, item: Item) -> bool:
        """Says one item, and records what came of it. Returns whether it is said."""
        channel_id = item.channel_id or ""
        try:
            channel_id = channel_id or self._slack.channel_id(item.channel)
            ts = self._say(item, channel_id)
        except SlackBusy as busy:
            with self._warehouse.transaction() as con:
                outbox.hold_channel(con, item, self._clock() + busy.retry_after, str(busy))
        except SlackUnsure as unsure:
            with self._warehouse.transaction() as con:
                outbox.put_off(con, item, self._again_at(item), str(unsure), unsure=True)
            self._tell(logging.WARNING, f"{unsure}; it is tried again.")
        except MessageGone:
            with self._warehouse.transaction() as con:
                if not outbox.gone(con, item, self._clock()):
                    log.info("The message of incident %s was deleted twice: no more is said of it", item.incident_id)
        except SlackRefused as refused:
            with self._warehouse.transaction() as con:
                outbox.stick(con, item, self._clock() + self._patience.stuck, str(refused), refused.scope)
            self._tell(logging.ERROR, str(refused))
        else:
            self._told.clear()
            with self._warehouse.transaction() as con:
                outbox.said(con, item, ts, channel_id, self._clock())
            return True
        return False

    def _say(self, item: Item, channel_id: str) -> str:
        """Says it and returns Slack's id of it. `item.is_unsure` says whether Slack may have it, if this raises."""
        if item.kind == "message":
            return self._say_message(item, channel_id)
        assert item.thread_ts is not None
        if item.is_unsure and (there := self._reply_there(item, channel_id)) is not None:
            return there
        item.is_unsure = False
        self._check_claim(item)
        if item.kind == "image":
            assert item.image is not None
            self._slack.find_reply(channel_id, item.thread_ts, "")  # an upload does not say that the thread is gone
            name, shows = item.payload["name"], item.payload["shows"]
            return self._slack.upload(channel_id, item.thread_ts, item.image, name, shows)
        return self._post(item, channel_id, item.thread_ts)

    def _say_message(self, item: Item, channel_id: str) -> str:
        ts = item.ts
        if ts is None and item.is_unsure:
            ts = self._slack.find(channel_id, INCIDENT, "incident_id", item.incident_id, item.created_at)
            item.is_unsure = ts is not None
        if ts is None:
            self._check_claim(item)
            return self._post(item, channel_id, None)
        metadata = _metadata(item)
        try:
            self._slack.update(channel_id, ts, item.payload, metadata)
        except SlackRefused as refused:
            if refused.error not in OF_THE_BLOCKS:
                raise
            log.error("Slack refuses the blocks of incident %s; it gets the text alone", item.incident_id)
            self._slack.update(channel_id, ts, {"text": item.payload["text"], "blocks": []}, metadata)
        return ts

    def _post(self, item: Item, channel_id: str, thread_ts: str | None) -> str:
        """Posts it; without its blocks, if it is those that Slack refuses: who is on call has to hear of it."""
        try:
            return self._slack.post(channel_id, item.payload, _metadata(item), thread_ts)
        except SlackRefused as refused:
            if refused.error not in OF_THE_BLOCKS:
                raise
            log.error("Slack refuses the blocks of incident %s; it gets the text alone", item.incident_id)
            return self._slack.post(channel_id, {"text": item.payload["text"]}, _metadata(item), thread_ts)

    def _reply_there(self, item: Item, channel_id: str) -> str | None:
        """Where an earlier try to say it came through: in the thread, or in that of a message since deleted."""
        for thread_ts in (item.thread_ts, item.former_thread_ts):
            if thread_ts is None:
                continue
            try:
                if item.kind == "image":
                    found = self._slack.find_image(channel_id, thread_ts, item.payload["name"])
                else:
                    found = self._slack.find_reply(channel_id, thread_ts, item.item_id)
            except MessageGone:
                if thread_ts == item.thread_ts:
                    self._take_back(item, channel_id)
                    raise
                continue
            if found is not None:
                return found
        self._take_back(item, channel_id)
        return None

    def _take_back(self, item: Item, channel_id: str) -> None:
        """Removes what an earlier try left beside the thread, because its message was deleted just then."""
        if item.kind == "reply":
            stray = self._slack.find(channel_id, CHANGE, "change_id", item.item_id, item.created_at)
            if stray is not None:
                self._slack.delete(channel_id, stray)

    def _check_claim(self, item: Item) -> None:
        """Raises SlackBusy if what is asked of Slack now might be done only after somebody else has looked for it."""
        if self._clock() + self._slack.timeout > item.claimed_until:
            raise SlackBusy("It took too long to look for it", method="claim", retry_after=timedelta())

    def _again_at(self, item: Item) -> datetime:
        pause = min(self._patience.first * 2 ** min(item.attempts, 30), self._patience.most)
        return self._clock() + pause * random.uniform(1, 1.25)

    def _tell(self, level: int, message: str) -> None:
        """Logs it, once until something is said again."""
        if message not in self._told:
            self._told.add(message)
            log.log(level, message)


def _metadata(item: Item) -> dict[str, Any]:
    payload = {"incident_id": item.incident_id}
    if item.kind == "message":
        return {"event_type": INCIDENT, "event_payload": payload}
    return {"event_type": CHANGE, "event_payload": payload | {"change_id": item.item_id}}
