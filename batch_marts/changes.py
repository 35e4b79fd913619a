"""What was announced of the marts: which changes come, from when on, and who of those downstream has seen it.

Every function works on a connection; those that write, inside somebody's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final, Literal

import duckdb

What = Literal[
    "mart_added", "mart_removed", "column_added", "column_removed", "column_renamed", "column_retyped",
    "contract_loosened", "grain_changed", "test_added", "test_removed", "description_changed", "meaning_changed",
    "meaning_corrected", "metric_added", "metric_removed",
]  # fmt: skip
"""What becomes of a mart, a column or a metric."""


@dataclass(frozen=True, slots=True)
class AnnouncedChange:
    """A change that those downstream were told of. Times are aware UTC."""

    change_id: str
    mart: str
    """As the schema marts has it; mart_daily_metrics for a metric."""
    metric: str | None
    """As mart_daily_metrics has it."""
    column_name: str | None
    what: What
    is_breaking: bool
    says: str
    """In a sentence."""
    before: str | None
    after: str | None
    link: str | None
    announced_at: datetime
    announced_by: str
    in_force_at: datetime
    """From when on a refresh may publish it."""
    because: str | None
    """Why it does not wait for the notice period; None if it does."""


_CHANGE: Final = tuple(each.name for each in fields(AnnouncedChange))


def pending(con: duckdb.DuckDBPyConnection, now: datetime | None = None) -> list[AnnouncedChange]:
    """The changes that were announced and are not in force yet, by mart and by when they come."""
    rows = con.execute(
        f"select {', '.join(_CHANGE)} from governance.changes where withdrawn_at is null and in_force_at > ? "
        "order by mart, in_force_at, change_id",
        [now or datetime.now(UTC)],
    ).fetchall()
    return [AnnouncedChange(*row) for row in rows]
