"""How the service stands: the flow and what it needs, its records, the marts; and how today is against last week."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import duckdb

from flows.reconcile import last_reconciliation
from service.web import published, readings, wording
from service.web.published import NothingPublished, Published
from service.web.readings import Reading
from service.web.rows import iso_utc, query_rows
from service.web.view import FlowState, ServiceView

DAY: Final = timedelta(hours=24)
WEEK: Final = timedelta(days=7)

DEAD_BY_REASON: Final = (
    "select reason, count(*) as letters from stream.dead_letters group by reason order by letters desc"
)

# Two ranges of time by themselves: with `or` between them, DuckDB would read all that lies between.
_PULSE: Final = """
select
    (select count(*) from stream.events where event_at >= $now - $day and event_at < $now) as events,
    (select count(*) from stream.events where event_at >= $now - $day - $week and event_at < $now - $week)
        as events_before,
    (select count(*) from stream.sessions where started_at >= $now - $day and started_at < $now) as sessions,
    (select count(*) from stream.sessions where started_at >= $now - $day - $week and started_at < $now - $week)
        as sessions_before
"""

_SIZE: Final = "select database_size, wal_size from pragma_database_size() where database_name = current_database()"


def pulse(con: duckdb.DuckDBPyConnection, now: datetime) -> dict[str, int]:
    """Events and sessions of the last 24 hours, and of the same 24 hours a week before."""
    (row,) = query_rows(con, _PULSE, {"now": now, "day": DAY, "week": WEEK})
    return row


def read_pulse(con: duckdb.DuckDBPyConnection, now: datetime) -> Reading:
    """The same, in words."""
    found = pulse(con, now)
    texts = {}
    for name in ("events", "sessions"):
        count, before = found[name], found[f"{name}_before"]
        change = (count - before) / before if before else None
        texts[name] = wording.number(count)
        texts[f"{name}_change"] = "none last week" if change is None else f"{wording.signed(change)} on last week"
    return {"texts": texts}


def told(view: ServiceView, con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """All of it, as JSON values."""
    state = view.flow_state()
    last = last_reconciliation(con)
    (size,) = query_rows(con, _SIZE)
    return {
        "status": state.status,
        "detail": state.detail,
        "not_ready": state.why_not_ready(),
        "services": {name: _standing(state, name) for name in ("kafka", "redis", "warehouse")},
        "events_per_second": state.events_per_second,
        "lag_records": state.lag_records,
        "lag_seconds": state.lag.total_seconds(),
        "partitions": readings.read_partitions(state)["rows"],
        "totals": readings.totals(con),
        "dead_letters": {row["reason"]: row["letters"] for row in query_rows(con, DEAD_BY_REASON)},
        "warehouse_size": size,
        "reconciled": None
        if last is None
        else {
            "compared_at": iso_utc(last.compared_at),
            "sessions": last.sessions,
            "differing": last.differing,
            "repaired": last.repaired,
        },
        "marts": view.marts().status(),
    }


def _standing(state: FlowState, name: str) -> str:
    return "waited for" if name in state.waits_for else "silent" if name in state.silent else "answers"


def freshness(view: ServiceView, con: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
    """The published build, with up to when each of its marts reaches; None if there is none."""
    try:
        now = Published.of(con, view.marts().catalogue())
    except NothingPublished:
        return None
    return now.told | {"tables": published.tables(con, now)}
