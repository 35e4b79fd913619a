"""What is read out of an export: its days of spend, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from batch_marts.spend.forms import Platform

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Given:
    """What is said of an export by others, and counts where it does not say it itself; but for `account`."""

    account: str | None = None
    """Counts whatever the export says."""
    usual_account: str | None = None
    time_zone: str | None = None
    currency: str | None = None
    """A code of ISO 4217."""
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
