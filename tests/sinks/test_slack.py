"""Slack is told each thing exactly once, whatever goes wrong on the way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sinks import outbox
from sinks.sender import Patience, Sender
from sinks.slack import Slack
from sinks.warehouse import Warehouse
from tests.slack import TOKEN, Channel, Fault, SlackServer, slack_server

PATIENCE = Patience(
    lease=timedelta(seconds=60), first=timedelta(seconds=10), most=timedelta(minutes=10), stuck=timedelta(minutes=15)
)
SOON = timedelta(seconds=13)
"""After which an item that failed once is due again."""
LOST: list[Fault] = ["500_after", "drop_after", "slow", "internal_error", "not_json"]
"""Slack did it, and nobody knows."""
NOT_DONE: list[Fault] = ["500_before", "drop_before"]


@dataclass
class Office:
    """A warehouse, a workspace, and a clock that one turns oneself."""

    warehouse: Warehouse
    server: SlackServer
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    faults: deque[tuple[str, Fault]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.server.faults = self.fault
        self.server.slowness = 0.6
        self.channel = self.server.channel("product")
        self.sender = self.another()

    def another(self) -> Sender:
        """A sender of another process would be like it."""
        slack = Slack(TOKEN, base_url=self.server.base_url, timeout=timedelta(seconds=0.3))
        return Sender(self.warehouse, slack, PATIENCE, lambda: self.now)

    def fault(self, method: str) -> Fault:
        if self.faults and self.faults[0][0] == method:
            return self.faults.popleft()[1]
        return "none"

    def message(self, text: str = "Traffic fell", incident: str = "i1", channel: str = "#product") -> None:
        with self.warehouse.transaction() as con:
            outbox.put_message(con, incident, channel, {"text": text, "blocks": section(text)}, self.now)

    def reply(self, position: int, incident: str = "i1") -> None:
        with self.warehouse.transaction() as con:
            text = f"Change {position}"
            payload = {"text": text, "blocks": section(text)}
            outbox.put_reply(con, f"{incident}-{position}", incident, position, payload, self.now)

    def image(self, incident: str = "i1") -> None:
        with self.warehouse.transaction() as con:
            outbox.put_image(con, incident, b"\x89PNG", f"incident-{incident}.png", "A chart", self.now)

    def troubles(self) -> list[outbox.Trouble]:
        with self.warehouse.reader() as con:
            return outbox.troubles(con)

    def send(self, after: timedelta = timedelta()) -> int:
        """Turns the clock, and says what is due then."""
        self.now += after
        return self.sender.send_due().said


def section(text: str) -> list[dict[str, Any]]:
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]


def texts(channel: Channel) -> list[str]:
    return [each.body["text"] for each in channel.top()]


def told(channel: Channel) -> list[str]:
    """The changes in all threads, in order."""
    return [
        each.body["metadata"]["event_payload"]["change_id"] for each in channel.replies() if "metadata" in each.body
    ]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse, slack_server() as server:
        yield Office(warehouse, server)


def test_one_message_updated_in_place_with_a_reply_for_each_change(office: Office) -> None:
    office.message("Traffic fell")
    office.reply(1)
    assert office.send() == 2
    office.message("Traffic fell; Ada has seen it")
    office.message("Traffic fell; Ada has seen it")
    office.reply(1)
    office.reply(2)
    assert office.send() == 2
    assert office.send(timedelta(days=1)) == 0
    assert texts(office.channel) == ["Traffic fell; Ada has seen it"]
    assert told(office.channel) == ["i1-1", "i1-2"]
    posted = office.channel.top()[0]
    assert posted.edits == 1
    assert posted.body["metadata"] == {"event_type": "stitchline_incident", "event_payload": {"incident_id": "i1"}}
    assert [each.body["metadata"]["event_type"] for each in office.channel.replies()] == ["stitchline_change"] * 2
    assert office.server.refusals == []


@pytest.mark.parametrize("fault", LOST)
def test_what_slack_may_have_is_looked_for_and_not_posted_again(office: Office, fault: Fault) -> None:
    office.message()
    office.reply(1)
    office.faults.extend([("chat.postMessage", fault), ("conversations.history", "500_before")])
    assert office.send() == 0
    assert office.send(timedelta(seconds=9)) == 0, "too soon: it may still arrive"
    assert office.troubles()[0].error.startswith("Slack ")
    assert office.send(SOON) == 0, "while the history cannot be read, nothing is posted"
    assert office.send(SOON * 2) == 2
    assert texts(office.channel) == ["Traffic fell"]
    assert len(office.server.called("chat.postMessage")) == 2
    office.reply(2)
    office.faults.append(("chat.postMessage", fault))
    assert office.send() == 0
    assert office.send(SOON) == 1
    assert told(office.channel) == ["i1-1", "i1-2"]
    assert office.troubles() == []


@pytest.mark.parametrize("fault", NOT_DONE)
def test_what_slack_has_not_is_posted(office: Office, fault: Fault) -> None:
    office.message()
    office.reply(1)
    office.faults.extend([("chat.postMessage", fault)] * 3)
    for n in range(3):
        assert office.send(SOON * 2**n) == 0
    assert office.send(SOON * 8) == 2
    assert (texts(office.channel), told(office.channel)) == (["Traffic fell"], ["i1-1"])


def test_slack_is_left_alone_for_as_long_as_it_asks(office: Office) -> None:
    office.server.retry_after = 90
    office.message()
    office.message(incident="i2")
    office.faults.append(("chat.postMessage", "429"))
    assert office.send() == 0
    assert office.sender.send_due().next_due_at == office.now + timedelta(seconds=90)
    assert office.send(timedelta(seconds=89)) == 0
    assert office.server.calls == [] or {method for _, method, _ in office.server.calls} == {"conversations.list"}
    assert office.send(timedelta(seconds=1)) == 2
    assert office.server.called("conversations.history") == [], "Slack said that it did not take it"


def test_a_channel_that_cannot_be_used_is_told_and_holds_no_other_up(office: Office) -> None:
    office.message(incident="i1", channel="#nowhere")
    office.reply(1, "i1")
    office.message(incident="i2")
    office.reply(1, "i2")
    assert office.send() == 2
    (trouble,) = office.troubles()
    assert (trouble.channel, trouble.items) == ("#nowhere", 2)
    for words in ("#nowhere", "channel_not_found", "owners.yml", "kept"):
        assert words in trouble.error
    found = office.server.channel("nowhere")
    assert office.send(timedelta(minutes=14)) == 0
    assert office.send(timedelta(minutes=2)) == 2
    assert (len(found.top()), told(found)) == (1, ["i1-1"])


def test_a_token_that_is_refused_holds_all_up_and_loses_nothing(office: Office) -> None:
    office.server.errors[TOKEN] = "invalid_auth"
    office.message(incident="i1")
    office.message(incident="i2")
    office.reply(1, "i2")
    assert office.send() == 0
    assert len(office.server.calls) == 1, "with the same token the others would be refused as well"
    (trouble,) = office.troubles()
    assert trouble.items == 3
    assert "slack.token" in trouble.error
    office.server.errors.clear()
    assert office.send(timedelta(minutes=16)) == 3
    assert (len(office.channel.top()), told(office.channel)) == (2, ["i2-1"])


def test_blocks_that_slack_refuses_leave_the_text(office: Office) -> None:
    with office.warehouse.transaction() as con:
        payload = {"text": "Traffic fell", "blocks": section("x" * 3001)}
        outbox.put_message(con, "i1", "#product", payload, office.now)
    assert office.send() == 1
    assert texts(office.channel) == ["Traffic fell"]
    assert "blocks" not in office.channel.top()[0].body


@pytest.mark.parametrize("kind", ["message", "reply", "image"])
def test_a_crash_between_the_post_and_the_record_of_it(office: Office, kind: str) -> None:
    office.message()
    if kind != "message":
        office.send()
        office.reply(1) if kind == "reply" else office.image()
    with office.warehouse.transaction() as con:
        item = outbox.claim(con, "one that was killed", office.now, PATIENCE.lease)
    assert item is not None
    dead = office.another()
    dead._say(item, office.channel.channel_id)  # and then the process ends
    assert office.send(timedelta(seconds=59)) == 0, "its request may still be on the way"
    assert office.send(timedelta(seconds=2)) == 1
    assert office.send(timedelta(hours=1)) == 0
    assert len(office.channel.messages) == (1 if kind == "message" else 2)


def test_a_message_far_back_in_the_history_is_found(office: Office) -> None:
    office.server.page = 3
    office.message()
    office.faults.append(("chat.postMessage", "drop_after"))
    assert office.send() == 0
    for n in range(20):
        office.server._post(office.channel, {"text": f"talk {n}"})
    assert office.send(SOON) == 1
    assert texts(office.channel).count("Traffic fell") == 1


def test_a_deleted_message_is_posted_anew_once(office: Office) -> None:
    office.message("first")
    office.send()
    office.server.delete(office.channel, office.channel.top()[0].ts)
    office.message("second")
    office.reply(1)
    assert office.send() == 2
    assert (texts(office.channel), told(office.channel)) == (["second"], ["i1-1"])
    office.server.delete(office.channel, office.channel.top()[0].ts)
    office.message("third")
    office.reply(2)
    office.send()
    office.message("fourth")
    office.reply(3)
    assert office.send(timedelta(days=1)) == 0
    assert texts(office.channel) == []
    assert told(office.channel) == ["i1-1"], "in the thread of what was deleted"
    assert office.troubles() == []
    with office.warehouse.reader() as con:
        assert outbox.next_due(con) is None


@pytest.mark.parametrize("fault", ["none", "drop_after", "slow"])
def test_a_reply_to_a_deleted_message_does_not_stand_alone(office: Office, fault: Fault) -> None:
    office.message()
    office.send()
    office.server.delete(office.channel, office.channel.top()[0].ts)
    office.reply(1)
    office.faults.append(("chat.postMessage", fault))
    for _ in range(4):
        office.send(SOON * 4)
    assert texts(office.channel) == ["Traffic fell"]
    assert told(office.channel) == ["i1-1"]


@pytest.mark.parametrize("step", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
@pytest.mark.parametrize("fault", ["500_before", "500_after", "drop_after"])
def test_a_picture_is_uploaded_once(office: Office, step: str, fault: Fault) -> None:
    office.message()
    office.reply(1)
    office.image()
    office.faults.append((step, fault))
    assert office.send() == 2, "no text waits for a picture"
    assert office.send(SOON) == 1
    files = [file["name"] for each in office.channel.replies() for file in each.files]
    assert files == ["incident-i1.png"]
    assert office.server.image("incident-i1.png") == b"\x89PNG"
    assert told(office.channel) == ["i1-1"]


def test_words_are_said_without_pictures(office: Office) -> None:
    office.server.errors["files.getUploadURLExternal"] = "missing_scope"
    office.message()
    office.image()
    office.reply(1)
    assert office.send() == 2
    assert told(office.channel) == ["i1-1"]
    assert "files.completeUploadExternal" in office.troubles()[0].error
    office.server.errors.clear()
    assert office.send(timedelta(minutes=16)) == 1


def test_two_senders_at_once(office: Office) -> None:
    for n in range(10):
        office.message(incident=f"i{n}")
        office.reply(1, f"i{n}")
        office.reply(2, f"i{n}")
    senders = [office.another() for _ in range(2)]
    threads = [threading.Thread(target=sender.send_due) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    office.send()
    assert len(office.channel.top()) == 10
    assert sorted(told(office.channel)) == sorted(f"i{n}-{k}" for n in range(10) for k in (1, 2))


def test_what_takes_too_long_to_look_for_is_not_posted(office: Office) -> None:
    office.message()
    office.faults.append(("chat.postMessage", "drop_before"))
    office.send()
    office.now += SOON
    history = office.fault

    def slowly(method: str) -> Fault:
        if method == "conversations.history":
            office.now += timedelta(seconds=60)
        return history(method)

    office.server.faults = slowly
    with office.warehouse.transaction() as con:
        item = outbox.claim(con, "slow", office.now, PATIENCE.lease)
    assert item is not None
    assert not office.sender._try(item)
    assert texts(office.channel) == []
    office.server.faults = history
    assert office.send(SOON) == 1
    assert texts(office.channel) == ["Traffic fell"]
