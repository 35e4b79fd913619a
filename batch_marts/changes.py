"""What was announced of the marts: which changes come, from when on, and who of those downstream has seen it.

Every function works on a connection; those that write, inside somebody's transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import duckdb

from batch_marts.impact.kinds import What


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


_GOING: Final[tuple[What, ...]] = (
    "mart_removed", "column_removed", "column_renamed", "column_retyped", "metric_removed", "deprecated",
)  # fmt: skip
"""After these, what was there under a name is not."""
NOTICE: Final = timedelta(days=14)
"""How long those downstream have, before what breaks something comes into force."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody's that reads what changes."""

    name: str
    label: str
    owner: str
    channel: str


@dataclass(frozen=True, slots=True)
class Coming:
    """A change that is to be announced, and to whom."""

    change_id: str
    mart: str
    metric: str | None
    column_name: str | None
    what: What
    is_breaking: bool
    says: str
    before: str | None
    after: str | None
    readers: tuple[Reader, ...]
    comes_on: date | None = None
    """When it takes effect, where the change itself says so."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What one owner was told in one message, and whether somebody there has seen it."""

    notice_id: str
    owner: str
    channel: str
    changes: tuple[AnnouncedChange, ...]
    consumers: tuple[str, ...]
    """What of theirs reads it, as people know it."""
    told_at: datetime
    seen_by: str | None = None
    seen_at: datetime | None = None


def announce(
    con: duckdb.DuckDBPyConnection,
    coming: Sequence[Coming],
    *,
    by: str,
    now: datetime,
    notice: timedelta = NOTICE,
    comes_on: date | None = None,
    because: str | None = None,
    link: str | None = None,
) -> list[Notice]:
    """Puts changes on record, and who has to be told; returns what each owner hears now: one notice each, of what they
    were not told before. The same changes again are nothing new.

    What takes something from those who read it comes into force after `notice`, or on `comes_on`, whichever is later;
    with a reason, `because`, it is in force at once, or on `comes_on`.
    """
    for one in coming:
        begins = _in_force(one, now, notice, comes_on, at_once=because is not None)
        if because is not None:  # a reason that is given later brings forward what waits
            con.execute(
                "update governance.changes set in_force_at = least(in_force_at, $begins), because = $because "
                "where change_id = $change_id and withdrawn_at is null and in_force_at > $begins",
                {"begins": begins, "because": because, "change_id": one.change_id},
            )
        values: list[Any] = [one.change_id, one.mart, one.metric, one.column_name, one.what, one.is_breaking, one.says]
        values += [one.before, one.after, link, now, by, begins, because]
        marks = ", ".join(f"${number + 1}" for number in range(len(values)))
        con.execute(
            f"insert into governance.changes ({', '.join(_CHANGE)}) select {marks} "
            "where not exists (from governance.changes where change_id = $1 and withdrawn_at is null)",
            values,
        )
    told: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in coming:
        for reader in one.readers:
            told.setdefault((reader.owner, reader.channel), {}).setdefault(one.change_id, []).append(reader.label)
    fresh = []
    for (owner, channel), readers in told.items():
        new = {key: names for key, names in readers.items() if not _was_told(con, key, owner, because)}
        if new:
            fresh.append(_put_notice(con, owner, channel, new, now, because))
    return [one for one in notices(con) if one.notice_id in fresh]


def notices(con: duckdb.DuckDBPyConnection) -> list[Notice]:
    """All that was announced, the last first: what each owner was told, and whether they have seen it."""
    rows = con.execute(
        f"select n.notice_id, n.owner, n.channel, n.consumers, n.told_at, n.seen_by, n.seen_at, "
        f"{', '.join(f'c.{name}' for name in _CHANGE)} "
        "from governance.notices n join governance.changes c on c.change_id = n.change_id and c.withdrawn_at is null "
        "order by n.told_at desc, n.owner, n.notice_id, "
        "c.is_breaking desc, c.mart, c.metric, c.column_name, c.change_id"
    ).fetchall()
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    told = []
    for notice_id, each in found.items():
        _, owner, channel, _, told_at, seen_by, seen_at, *_ = each[0]
        labels = dict.fromkeys(label for row in each for label in json.loads(row[3]))
        changes = tuple(AnnouncedChange(*row[7:]) for row in each)
        told.append(Notice(notice_id, owner, channel, changes, tuple(labels), told_at, seen_by, seen_at))
    return told


def seen(con: duckdb.DuckDBPyConnection, notice_id: str, who: str, now: datetime) -> Notice | None:
    """Somebody has seen a notice: the first one is kept. Returns it; None if there is none of that id."""
    con.execute(
        "update governance.notices set seen_by = ?, seen_at = ? where notice_id = ? and seen_by is null",
        [who, now, notice_id],
    )
    return next((one for one in notices(con) if one.notice_id == notice_id), None)


def withdraw(con: duckdb.DuckDBPyConnection, change_ids: Sequence[str], now: datetime) -> list[str]:
    """These changes do not come. Returns those that were announced and not withdrawn before."""
    rows = con.execute(
        "update governance.changes set withdrawn_at = ? where list_contains(?, change_id) and withdrawn_at is null "
        "returning change_id",
        [now, list(change_ids)],
    ).fetchall()
    withdrawn = sorted(change_id for (change_id,) in rows)
    # Announced once more, it is news to everybody.
    con.execute("delete from governance.notices where list_contains(?, change_id)", [withdrawn])
    return withdrawn


def in_force(con: duckdb.DuckDBPyConnection, now: datetime) -> set[tuple[str, str | None]]:
    """What those downstream were told is gone, or another one, by now: a mart and its column, or its metric; a mart and
    None for all of it."""
    rows = con.execute(
        "select mart, coalesce(column_name, metric) from governance.changes "
        "where withdrawn_at is null and in_force_at <= ? and list_contains(?, what)",
        [now, list(_GOING)],
    ).fetchall()
    return {(mart, name) for mart, name in rows}


def _in_force(one: Coming, now: datetime, notice: timedelta, comes_on: date | None, *, at_once: bool) -> datetime:
    days = [day for day in (comes_on, one.comes_on) if day is not None]
    begins = max((datetime.combine(day, time(), UTC) for day in days), default=now)
    waits = one.what not in ("meaning_corrected",) and not at_once
    return max(begins, now + notice) if waits else max(begins, now)


def _was_told(con: duckdb.DuckDBPyConnection, change_id: str, owner: str, because: str | None) -> bool:
    """Whether an owner knows of a change, and of the reason why it does not wait, if there is one."""
    row = con.execute(
        "select true from governance.notices n join governance.changes c using (change_id) "
        "where n.change_id = $change_id and n.owner = $owner and c.withdrawn_at is null "
        "and ($because is null or n.because is not distinct from $because)",
        {"change_id": change_id, "owner": owner, "because": because},
    ).fetchone()
    return row is not None


def _put_notice(
    con: duckdb.DuckDBPyConnection,
    owner: str,
    channel: str,
    readers: dict[str, list[str]],
    now: datetime,
    because: str | None,
) -> str:
    parts = "\x1f".join([owner, channel, because or "", now.isoformat(), *sorted(readers)])
    notice_id = f"change-{hashlib.sha256(parts.encode()).hexdigest()[:20]}"
    for change_id, labels in readers.items():
        con.execute(
            "insert into governance.notices (notice_id, change_id, owner, channel, consumers, told_at, because) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            [notice_id, change_id, owner, channel, json.dumps(labels), now, because],
        )
    return notice_id
