"""The incidents on record: read and written inside somebody's transaction, whole incidents at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import duckdb

from batch_marts.anomalies.incidents import Act, Change, Incident
from batch_marts.anomalies.verdicts import Part, Verdict

_INCIDENT: Final = (
    *("incident_id", "kind", "team", "rule", "grain", "status", "severity"),
    *("opened_at", "seen_at", "ended_at", "acted_by", "snoozed_until"),
)
_VERDICT: Final = (
    *("metric", "segment", "grain", "at", "said", "rule", "actual", "expected", "low", "high", "z", "baseline"),
    *("because", "unusual", "parts"),
)
_CHANGE: Final = ("change_id", "incident_id", "what", "at", "actor", "about", "act_id")
_COLUMNS: Final = {"at": {"verdicts": "began_at", "changes": "changed_at"}}
"""Where a column has another name than the field."""

_DELETE: Final = (
    "delete from anomalies.verdicts where incident_id = ? and metric = ? and segment = ? and grain = ? and began_at = ?"
)


def incidents_on_record(
    con: duckdb.DuckDBPyConnection, *, ended_since: datetime | None = None, incident_id: str | None = None
) -> list[Incident]:
    """The incidents that go on or have ended since then (None: all there ever were), or the one of that id.

    In the order in which they were found.
    """
    query = f"select {', '.join(_INCIDENT)} from anomalies.incidents where true"
    asked: list[object] = []
    if incident_id is not None:
        query += " and incident_id = ?"
        asked.append(incident_id)
    if ended_since is not None:
        query += " and (ended_at is null or ended_at >= ?)"
        asked.append(ended_since)
    rows = con.execute(f"{query} order by opened_at, incident_id", asked).fetchall()
    ids = [row[0] for row in rows]
    verdicts, changes = _verdicts(con, ids), _changes(con, ids)
    return [
        Incident(**dict(zip(_INCIDENT, row, strict=True)), verdicts=verdicts[row[0]], changes=changes[row[0]])
        for row in rows
    ]


def save_incidents(
    con: duckdb.DuckDBPyConnection, incidents: Sequence[Incident], before: Sequence[Incident] = ()
) -> None:
    """Puts these on record. `before`: what is on record of them, so that only what differs is written."""
    if not incidents:
        return
    known = {incident.incident_id: incident for incident in before}
    ids = [incident.incident_id for incident in incidents]
    con.execute("delete from anomalies.incidents where list_contains(?, incident_id)", [ids])
    _insert(con, "incidents", _INCIDENT, [[getattr(each, name) for name in _INCIDENT] for each in incidents])
    verdicts, changes = [], []
    for incident in incidents:
        old = known.get(incident.incident_id)
        there = set(old.verdicts) if old is not None else set()
        for gone in there - set(incident.verdicts):
            con.execute(_DELETE, [incident.incident_id, gone.metric, gone.segment, gone.grain, gone.at])
        verdicts += [[incident.incident_id, *_row(each)] for each in incident.verdicts if each not in there]
        said = len(old.changes) if old is not None else 0  # changes are only ever added
        for number, change in enumerate(incident.changes[said:], said):
            changes.append([number, *(getattr(change, name) for name in _CHANGE)])
    _insert(con, "verdicts", ("incident_id", *_columns("verdicts", _VERDICT)), verdicts)
    _insert(con, "changes", ("position", *_columns("changes", _CHANGE)), changes)


def put_act(con: duckdb.DuckDBPyConnection, act: Act) -> bool:
    """Puts the act on record; returns whether it is new."""
    if con.execute("select 1 from anomalies.acts where act_id = ?", [act.act_id]).fetchone() is not None:
        return False
    values = [act.act_id, act.incident_id, act.deed, act.actor, act.at]
    con.execute("insert into anomalies.acts values (?, ?, ?, ?, ?)", values)
    return True


def _insert(con: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], rows: list[list[Any]]) -> None:
    marks = ", ".join("?" * len(columns))
    for first in range(0, len(rows), 500):
        some = rows[first : first + 500]
        con.execute(
            f"insert into anomalies.{table} ({', '.join(columns)}) values {', '.join([f'({marks})'] * len(some))}",
            [value for row in some for value in row],
        )


def _columns(table: str, fields: Sequence[str]) -> list[str]:
    return [_COLUMNS.get(field, {}).get(table, field) for field in fields]


def _row(verdict: Verdict) -> list[Any]:
    row = [getattr(verdict, name) for name in _VERDICT]
    parts = [[part.segment, part.actual, part.expected, part.share] for part in verdict.parts]
    return [*row[:-1], json.dumps(parts)]


def _verdicts(con: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, tuple[Verdict, ...]]:
    rows = con.execute(
        f"select incident_id, {', '.join(_columns('verdicts', _VERDICT))} from anomalies.verdicts "
        "where list_contains(?, incident_id) order by began_at, metric, segment, grain",
        [list(ids)],
    ).fetchall()
    found: dict[str, list[Verdict]] = defaultdict(list)
    for incident_id, *values, parts in rows:
        found[incident_id].append(Verdict(*[*values, tuple(Part(*part) for part in json.loads(parts))]))
    return defaultdict(tuple, {key: tuple(value) for key, value in found.items()})


def _changes(con: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, tuple[Change, ...]]:
    rows = con.execute(
        f"select {', '.join(_columns('changes', _CHANGE))} from anomalies.changes "
        "where list_contains(?, incident_id) order by incident_id, position",
        [list(ids)],
    ).fetchall()
    found: dict[str, list[Change]] = defaultdict(list)
    for row in rows:
        found[row[1]].append(Change(*row))
    return defaultdict(tuple, {key: tuple(value) for key, value in found.items()})
