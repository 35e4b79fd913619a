"""What the page shows of the warehouse: small queries, and their answers as the texts that are displayed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import duckdb

from flows.reconcile import last_reconciliation
from funnels import FunnelDefinition, FunnelResult
from service.web import wording
from service.web.rows import iso_utc, query_rows
from service.web.view import FlowState
from stitchline.durations import format_duration

SESSIONS_SHOWN = 12

Reading = dict[str, Any]
"""One part of the page as JSON: `texts` by place, `times` by place, `flags` by what they show or hide, `rows` of a
table, and what a chart needs."""

AS_KNOWN_NOW = """
left join stream.person_overrides o
  on o.anonymous_id = case when s.user_id is null then s.anonymous_id end
 and (s.started_at, s.first_message_id) >= (o.from_at, o.from_message_id)
 and (s.started_at, s.first_message_id) < (o.to_at, o.to_message_id)
left join stream.person_merges m on m.person_id = coalesce(o.person_id, s.person_id)
"""
"""To join to sessions `s`: whose they are by now is PERSON_NOW."""

PERSON_NOW = "coalesce(m.merged_into, o.person_id, s.person_id)"

_TOTALS = """
select coalesce(sum(consumed), 0)::bigint as consumed, coalesce(sum(stored), 0)::bigint as stored,
    coalesce(sum(duplicates), 0)::bigint as duplicates, coalesce(sum(dead), 0)::bigint as dead,
    coalesce(sum(late), 0)::bigint as late, coalesce(sum(foreign_keys), 0)::bigint as foreign_keys,
    (select count(*) from stream.closed_sessions) as closed_sessions,
    (select count(*) from stream.open_sessions) as open_sessions
from stream.progress
"""

_PEOPLE_SINCE = f"""
select count(distinct {PERSON_NOW}) as people
from stream.sessions s
{AS_KNOWN_NOW}where s.ended_at >= $since and not s.is_bot
  and s.anonymous_id not in (select anonymous_id from stream.bot_devices)
"""

_NEWEST_SINCE = """
select min(started_at) as since
from (
    from (select started_at from stream.closed_sessions order by started_at desc limit $limit)
    union all
    from (select started_at from stream.open_sessions order by started_at desc limit $limit)
    order by started_at desc
    limit $limit
)
"""

_NEWEST_SESSIONS = f"""
with newest as (
    select session_id, left(anonymous_id, 500) as device, anonymous_id, user_id, person_id,
        first_message_id, started_at, ended_at, event_count,
        left(entry_path, 500) as entry_path, left(exit_path, 500) as exit_path, left(referrer, 500) as referrer,
        left(utm_source, 500) as utm_source, left(utm_campaign, 500) as utm_campaign,
        is_open, is_bot
    from stream.sessions
    where started_at >= $since::timestamptz
    order by started_at desc, session_id
    limit $limit
)
select s.* exclude (person_id, anonymous_id, user_id, first_message_id),
    left({PERSON_NOW}, 500) as person_id
from newest s
{AS_KNOWN_NOW}order by s.started_at desc, s.session_id
"""


def totals(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Since the warehouse began: consumed, stored, duplicates, dead, late, foreign_keys; and its sessions."""
    (row,) = query_rows(con, _TOTALS)
    return row


def read_totals(con: duckdb.DuckDBPyConnection) -> Reading:
    """Events and sessions so far, and what was kept apart."""
    found = totals(con)
    texts = {name: wording.number(value) for name, value in found.items()}
    texts["sessions"] = wording.number(found["closed_sessions"] + found["open_sessions"])
    return {"texts": texts, "empty": found["consumed"] == 0}


def read_people(con: duckdb.DuckDBPyConnection) -> Reading:
    """People of today (UTC), without bots, each person once whatever the number of devices."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    (row,) = query_rows(con, _PEOPLE_SINCE, {"since": today})
    return {"texts": {"people": wording.number(row["people"])}}


def newest_since(con: duckdb.DuckDBPyConnection, limit: int) -> str | None:
    """When the oldest of the newest `limit` sessions began; None without sessions.

    Asked first, because it reads one column: sorting whole sessions takes a second at some millions of them.
    """
    since: str | None = query_rows(con, _NEWEST_SINCE, {"limit": limit})[0]["since"]
    return since


def read_sessions(con: duckdb.DuckDBPyConnection) -> Reading:
    """The sessions that began last, newest first."""
    bounds = {"since": newest_since(con, SESSIONS_SHOWN), "limit": SESSIONS_SHOWN}
    return {"rows": [session_row(row) for row in query_rows(con, _NEWEST_SESSIONS, bounds)]}


def read_reconciliation(con: duckdb.DuckDBPyConnection) -> Reading:
    """Whether the last comparison found the sessions to be what the batch definition says, and when it was."""
    last = last_reconciliation(con)
    if last is None:
        return {
            "texts": {"verdict": "Sessions were not compared with the batch definition yet", "drift": ""},
            "times": {"compared_at": ""},
            "flags": {"compared": False, "drift": False},
        }
    verdict, drift = "Sessions equal the batch definition", ""
    if last.differing:
        some = f"{wording.number(last.differing)} of {wording.number(last.sessions)} sessions"
        verdict, drift = f"{some} were repaired: they differed from the batch definition", f"{some} differ"
    return {
        "texts": {"verdict": verdict, "drift": drift},
        "times": {"compared_at": iso_utc(last.compared_at)},
        "flags": {"compared": True, "drift": bool(last.differing) and not last.repaired},
    }


def read_flow(state: FlowState, at: datetime) -> Reading:
    """What the flow does at `at`, with the point that the chart gets."""
    texts = {
        "status": state.status.capitalize(),
        "detail": wording.clipped(state.detail) if state.detail else "",
        "rate": wording.rate(state.events_per_second),
        "lag_records": wording.number(state.lag_records),
        "lag_unit": "record" if state.lag_records == 1 else "records",
        "lag_time": wording.span(state.lag) if state.lag_records else "nothing is waiting",
    }
    point = [round(at.timestamp(), 1), round(state.events_per_second, 1)]
    return {"texts": texts, "status": state.status, "point": point}


def read_partitions(state: FlowState) -> Reading:
    """One row a partition, in the order of topic and number."""
    ordered = sorted(state.partitions, key=lambda place: (place.topic, place.partition))
    return {
        "rows": [
            {
                "topic": wording.clipped(place.topic),
                "partition": str(place.partition),
                "next_offset": wording.number(place.next_offset),
                "end_offset": wording.number(place.end_offset),
                "lag_records": wording.number(place.lag_records),
                "lag": wording.span(place.lag) if place.lag_records else wording.NOTHING,
                "watermark": iso_utc(place.watermark) if place.watermark else "",
            }
            for place in ordered
        ]
    }


def read_funnel(result: FunnelResult, definition: FunnelDefinition) -> Reading:
    """A funnel: texts by step, and what each bar is made of, in percent of the first step."""
    texts: dict[str, str] = {}
    bars: list[dict[str, float]] = []
    first = result.steps[0].count
    for index, step in enumerate(result.steps):
        went_on = step.count - step.dropped - step.still_open
        texts |= {
            f"{index}.count": wording.number(step.count),
            f"{index}.conversion": wording.share(step.conversion),
            f"{index}.conversion_from_start": wording.share(step.conversion_from_start),
            f"{index}.median": wording.seconds(step.median_seconds),
            f"{index}.p90": wording.seconds(step.p90_seconds),
            f"{index}.went_on": wording.number(went_on),
            f"{index}.still_open": wording.number(step.still_open),
            f"{index}.dropped": wording.number(step.dropped),
        }
        parts = (("went_on", went_on), ("open", step.still_open), ("dropped", step.dropped))
        bars.append({name: round(100 * count / first, 2) if first else 0.0 for name, count in parts})
    last = [step for step, asked in zip(result.steps, definition.steps, strict=True) if not asked.optional][-1]
    texts["overall"] = wording.share(last.conversion_from_start)
    as_of = iso_utc(result.as_of) if result.as_of else ""
    return {"texts": texts, "times": {"as_of": as_of}, "bars": bars, "empty": first == 0}


def describe(definition: FunnelDefinition) -> str:
    """The rules of a funnel in a line, for people."""
    subjects = {"person": "people", "device": "devices", "session": "sessions"}
    order = {"ordered": "in this order", "strict": "one right after the other", "any": "in any order"}
    each_time = ", each time anew" if definition.count == "totals" else ""
    window = format_duration(definition.window)
    return f"{subjects[definition.by]}{each_time}, {order[definition.order]}, within {window}"


def step_names(definition: FunnelDefinition) -> list[str]:
    """What each step asks for: its name, or its events with their conditions, and whether it may be left out."""
    names = []
    for step in definition.steps:
        asked = step.name or " or ".join(
            ", ".join((match.event, *(wording.condition(field, test) for field, test in match.where.items())))
            for match in step.matches
        )
        names.append(wording.clipped(f"{asked} (optional)" if step.optional else asked))
    return names


def session_row(row: dict[str, Any]) -> dict[str, Any]:
    """A session (_NEWEST_SESSIONS) as a row of a table: texts, and what the row is marked by."""
    person, device = row["person_id"], row["device"]
    anonymous = person.startswith("anon:")
    return {
        "id": row["session_id"],
        "href": f"/sessions/{row['session_id']}",
        "short_id": row["session_id"][:8],
        "person": "Anonymous" if anonymous else wording.clipped(person),
        "person_title": wording.clipped(person),
        "person_href": person_href(person),
        "device": wording.clipped(device),
        "started": row["started_at"],
        "lasted": wording.span(_at(row["ended_at"]) - _at(row["started_at"])),
        "events": wording.number(row["event_count"]),
        "entry": wording.clipped(row["entry_path"]),
        "exit": wording.clipped(row["exit_path"]),
        "source": source_of(row),
        "open": row["is_open"],
        "bot": row["is_bot"],
        "anonymous": anonymous,
    }


def person_href(person: str) -> str:
    """Where the page of a person is."""
    return f"/identity/{quote(person, safe='')}"


def source_of(row: dict[str, Any]) -> str:
    """Where a session (utm_source, utm_campaign, referrer) came from, for people."""
    campaign = " · ".join(part for part in (row["utm_source"], row["utm_campaign"]) if part)
    return wording.clipped(campaign or row["referrer"]) if campaign or row["referrer"] else "direct"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
