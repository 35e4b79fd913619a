"""What is read out of an export: its days of spend, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from batch_marts.spend.forms import Platform

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Account:
    """An advertising account, as far as it is known."""

    name: str | None = None
    time_zone: str | None = None
    currency: str | None = None
    """A code of ISO 4217."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is said of an export by others. But for `account`, it counts where the export does not say it itself."""

    account: str | None = None
    """The account's name, whatever the export says."""
    time_zone: str | None = None
    currency: str | None = None
    """A code of ISO 4217."""
    usual: Mapping[Platform, Account] = field(default_factory=dict)
    """By platform, for what is not said otherwise."""
    rounding: bool = False
    """Whether a total may differ from its rows by what their rounding explains: half of the last decimal for each."""
    without_total: bool = False
    """Whether it may be without the totals that the platform's exports have, so that nobody can tell it is whole."""


@dataclass(frozen=True, slots=True)
class SpendRow:
    """What a campaign cost and brought on a day of the account's time zone; over all of its ads.

    None is what the export has no column for.
    """

    day: date
    campaign_id: str | None
    campaign: str
    spend: Decimal
    impressions: int | None = None
    clicks: int | None = None
    conversions: Decimal | None = None
    conversion_value: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A file that was read for certain. Amounts are in `currency`."""

    platform: Platform
    account: str
    currency: str
    time_zone: str | None
    """As the file or `Given` says it: a name of the tz database, or Microsoft's words; None if nobody says it."""
    rows: tuple[SpendRow, ...]
    """One for each campaign and day, by day and name."""
    lines: int
    """Of data in the file, which `rows` are the sums of."""
    total: Decimal | None
    """Of spend, as the file says it itself; None if it has no total."""
    exported_at: datetime | None = None
    """When the platform made the file, if it says so."""

    @property
    def spend(self) -> Decimal:
        return sum((row.spend for row in self.rows), Decimal(0))
