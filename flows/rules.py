"""What decides about the flow's outcome, and when it commits: made from the settings, known to every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from flows.bots import BotRules
from flows.clock import DEFAULT_REORDER_WINDOW
from flows.session_rules import SessionRules
from identity.claims import LinkRules
from identity.ids import LegalIds


@dataclass(frozen=True, slots=True)
class CheckpointLimits:
    """When what was gathered is committed: at so many events, or after so long, whichever comes first."""

    events: int = 250_000
    """A DuckDB row group is 122,880 rows; a quarter of a million in one transaction beat a tenth by a fifth."""
    interval: timedelta = timedelta(seconds=1)
    forget_every: int = 500_000
    """Events between two sweeps of the remembered messages."""


@dataclass(frozen=True, slots=True)
class FlowRules:
    """What decides about the outcome."""

    sessions: SessionRules = field(default_factory=SessionRules)
    bots: BotRules = field(default_factory=BotRules)
    legal: LegalIds = field(default_factory=LegalIds)
    links: LinkRules = field(default_factory=LinkRules)
    reorder_window: timedelta = DEFAULT_REORDER_WINDOW
