"""What cuts a device's events into sessions. DESIGN: session rules 1–7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

LOGOUT_EVENTS: Final = frozenset({"Signed Out", "Logged Out", "Logout", "User Signed Out"})
BACKGROUND_EVENTS: Final = frozenset(
    {
        "Email Sent",
        "Email Delivered",
        "Email Opened",
        "Email Bounced",
        "Push Notification Received",
        "Experiment Viewed",
    }
)


@dataclass(frozen=True, slots=True)
class SessionRules:
    """What cuts a device's events into sessions."""

    gap: timedelta = timedelta(minutes=30)
    """A silence greater than this starts a new session; exactly this long continues."""
    gap_by_library: Mapping[str, timedelta] = field(default_factory=dict)
    """Other gaps by context.library.name; the later event's library decides."""
    cap: timedelta = timedelta(hours=24)
    """An event later than this after the session's start begins a new one."""
    logout_events: frozenset[str] = LOGOUT_EVENTS
    background_events: frozenset[str] = BACKGROUND_EVENTS
    split_at_midnight: bool = False
    """Also split where the UTC date changes."""
    split_on_campaign: bool = False
    """Also split at an event whose campaign differs from the session's."""

    @property
    def longest_gap(self) -> timedelta:
        """No session goes on after a silence longer than this."""
        return max([self.gap, *self.gap_by_library.values()])
