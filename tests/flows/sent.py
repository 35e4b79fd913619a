"""Events as clients send them, and what the references of sessions and persons read in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.flows.reference import Event, happened_at
from tests.identity.reference import Said

FIREFOX = "Mozilla/5.0 (Android 14; Mobile; rv:126.0) Gecko/126.0 Firefox/126.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
AGENTS: dict[str | None, dict[str, Any]] = {
    None: {"device_type": None, "browser": None, "os": None, "is_bot": False},
    FIREFOX: {"device_type": "mobile", "browser": "Firefox Mobile", "os": "Android", "is_bot": False},
    GOOGLEBOT: {"device_type": None, "browser": "Googlebot", "os": None, "is_bot": True},
}
NAMES = {"page": "Page Viewed", "screen": "Screen Viewed", "identify": "identify", "alias": "alias", "group": "group"}


@dataclass(frozen=True)
class Sent:
    """One event. Times are aware UTC; `sent_at` and `received_at` are what the payload says, if it does."""

    message_id: str
    timestamp: datetime
    anonymous_id: str | None = None
    user_id: str | None = None
    type: str = "track"
    track: str = "Click"
    previous_id: str | None = None
    library: str | None = None
    agent: str | None = None
    path: str | None = None
    referrer: str | None = None
    campaign: tuple[str | None, str | None, str | None] = (None, None, None)
    sent_at: datetime | None = None
    received_at: datetime | None = None

    @property
    def name(self) -> str:
        return NAMES.get(self.type, self.track)

    def payload(self) -> bytes:
        context = {
            "page": _present(path=self.path, referrer=self.referrer),
            "campaign": _present(**dict(zip(("source", "medium", "name"), self.campaign, strict=True))),
            "library": _present(name=self.library),
            "userAgent": self.agent,
        }
        fields = _present(
            messageId=self.message_id,
            type=self.type,
            event=self.track if self.type == "track" else None,
            anonymousId=self.anonymous_id,
            userId=self.user_id,
            previousId=self.previous_id,
            timestamp=self.timestamp.isoformat(),
            sentAt=self.sent_at and self.sent_at.isoformat(),
            receivedAt=self.received_at and self.received_at.isoformat(),
            context=_present(**context),
        )
        return json.dumps(fields).encode()

    def happened(self, kafka_at: datetime | None) -> datetime:
        return happened_at(self.timestamp, self.sent_at, self.received_at, kafka_at)

    def event(self, event_at: datetime) -> Event:
        """As the sessions' reference takes it."""
        return {
            "anonymous_id": self.anonymous_id,
            "message_id": self.message_id,
            "event_at": event_at,
            "type": self.type,
            "name": self.name,
            "user_id": self.user_id,
            "path": self.path,
            "referrer": self.referrer,
            "utm_source": self.campaign[0],
            "utm_medium": self.campaign[1],
            "utm_campaign": self.campaign[2],
            "library": self.library,
            **AGENTS[self.agent],
        }

    def said(self, event_at: datetime) -> Said:
        """As the persons' reference takes it."""
        previous = self.previous_id if self.type == "alias" else None
        return Said(self.message_id, event_at, self.anonymous_id, self.user_id, self.name, previous)


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}
