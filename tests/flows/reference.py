"""Sessions once more, as a plain loop over events: what flows/sessions.py has to agree with.

Written from the session rules alone and as slowly as they read. Where the rules leave an attribute open: the user is
the first legal one; entry and exit path are those of the first and last event with a path; the referrer is that of
the first event with a path or a referrer; the campaign, and the device, browser and system, are those of the first
event that has any of the three.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.session_rules import SessionRules  # the values of the settings; nothing of the product runs here

Event = dict[str, Any]
"""anonymous_id, message_id, event_at, type, name, user_id (as sent), is_bot, path, referrer, utm_source, utm_medium,
utm_campaign, device_type, browser, os, library: as in stream.events, plus what becomes columns of the session."""
Session = dict[str, Any]
"""By flows.sessions.SESSIONS."""

LOGOUTS = {"Signed Out", "Logged Out", "Logout", "User Signed Out"}
BACKGROUND = {
    "Email Sent",
    "Email Delivered",
    "Email Opened",
    "Email Bounced",
    "Push Notification Received",
    "Experiment Viewed",
}
"""Both are settings; these are the design's values."""

FIVE_MINUTES = timedelta(minutes=5)
CAMPAIGN = ("utm_source", "utm_medium", "utm_campaign")
AGENT = ("device_type", "browser", "os")
NO_USERS = {
    "empty": ["", " ", "null", "none", "nil", "nan", "undefined"],
    "stand-ins": ["anonymous", "guest", "unknown", "[object object]", "distinct_id", "distinctid"],
    "values": ["true", "false", "0", "-1"],
}


def is_legal(user_id: str | None) -> bool:
    """Whether the id may stand for a user (identity rules 1 and 3)."""
    if user_id is None or len(user_id) > 200:
        return False
    text = user_id.strip().lower()
    if any(text == illegal.strip() for illegals in NO_USERS.values() for illegal in illegals):
        return False
    return not text.startswith("anon:") and not ("0" in text and text.strip("0-") == "")


def happened_at(
    timestamp: datetime, sent_at: datetime | None, received_at: datetime | None, kafka_at: datetime | None
) -> datetime:
    """The event_at of a record that says these times, read from Kafka at `kafka_at` (None: from a file)."""
    if received_at is not None and kafka_at is not None and received_at > kafka_at + FIVE_MINUTES:
        received_at = None
    event_at = timestamp
    if sent_at is not None and received_at is not None:
        event_at = received_at - (sent_at - timestamp)
    received_at = received_at or kafka_at or event_at
    return received_at if event_at > received_at + FIVE_MINUTES else event_at


def sessions_of(
    events: Iterable[Event], rules: SessionRules, legal: Callable[[str | None], bool] = is_legal
) -> list[Session]:
    """The sessions of all events, given in any order and without duplicates, in (device, time) order."""
    found: list[Session] = []
    devices: dict[str, list[Event]] = {}
    for event in events:
        if is_activity(event, rules):
            devices.setdefault(event["anonymous_id"], []).append(event)
    for device in sorted(devices, key=str.encode):
        history = sorted(devices[device], key=lambda event: (event["event_at"], event["message_id"].encode()))
        found += _sessions_of_device(device, history, rules, legal)
    return found


def is_activity(event: Event, rules: SessionRules) -> bool:
    """Rule 7: what has no device, or happens without its user, is no part of a session."""
    return event["anonymous_id"] is not None and event["name"] not in rules.background_events


def _sessions_of_device(
    device: str, history: list[Event], rules: SessionRules, legal: Callable[[str | None], bool]
) -> list[Session]:
    cuts: list[tuple[str, list[Event]]] = [("first", [])]
    for event in history:
        members = cuts[-1][1]
        reason = _why_new_session(members, event, rules, legal) if members else None
        if reason is None:
            members.append(event)
        else:
            cuts.append((reason, [event]))
    sessions = [_session(device, reason, members, rules, legal) for reason, members in cuts]
    for session, (next_reason, _) in zip(sessions, cuts[1:], strict=False):
        session["end_reason"] = next_reason
    return sessions


def _why_new_session(
    members: list[Event], event: Event, rules: SessionRules, legal: Callable[[str | None], bool]
) -> str | None:
    """The first reason for which `event` does not belong to the session that `members` make so far."""
    last = members[-1]
    if last["name"] in rules.logout_events:
        return "logout"

    known = next((member["user_id"] for member in members if legal(member["user_id"])), None)
    if known is not None and legal(event["user_id"]) and event["user_id"] != known:
        return "user_switch"

    gap: timedelta = rules.gap_by_library.get(event["library"], rules.gap)
    if event["event_at"] - last["event_at"] > gap:
        return "gap"

    if event["event_at"] - members[0]["event_at"] > rules.cap:
        return "cap"

    if rules.split_at_midnight and event["event_at"].date() != last["event_at"].date():
        return "midnight"

    campaign = next((_values(member, CAMPAIGN) for member in members if _has_any(member, CAMPAIGN)), None)
    if rules.split_on_campaign and campaign and _has_any(event, CAMPAIGN) and _values(event, CAMPAIGN) != campaign:
        return "campaign"
    return None


def _session(
    device: str, reason: str, members: list[Event], rules: SessionRules, legal: Callable[[str | None], bool]
) -> Session:
    first, last = members[0], members[-1]
    paths = [member["path"] for member in members if member["path"] is not None]
    agent = next((_values(member, AGENT) for member in members if _has_any(member, AGENT)), (None, None, None))
    campaign = next((_values(member, CAMPAIGN) for member in members if _has_any(member, CAMPAIGN)), (None, None, None))
    digest = hashlib.sha256(device.encode() + b"\x1f" + first["message_id"].encode())
    return {
        "session_id": digest.digest()[:16].hex(),
        "anonymous_id": device,
        "user_id": next((member["user_id"] for member in members if legal(member["user_id"])), None),
        "started_at": first["event_at"],
        "ended_at": last["event_at"],
        "event_count": len(members),
        "page_count": sum(1 for member in members if member["type"] == "page"),
        "entry_path": paths[0] if paths else None,
        "exit_path": paths[-1] if paths else None,
        "referrer": next((m["referrer"] for m in members if _has_any(m, ("path", "referrer"))), None),
        "utm_source": campaign[0],
        "utm_medium": campaign[1],
        "utm_campaign": campaign[2],
        "device_type": agent[0],
        "browser": agent[1],
        "os": agent[2],
        "start_reason": reason,
        "end_reason": "logout" if last["name"] in rules.logout_events else None,
        "is_bot": any(member["is_bot"] for member in members),
        "first_message_id": first["message_id"],
        "last_message_id": last["message_id"],
    }


def _values(event: Event, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(event[name] for name in names)


def _has_any(event: Event, names: tuple[str, ...]) -> bool:
    return any(event[name] is not None for name in names)
