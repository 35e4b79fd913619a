"""What there is to build a funnel of: the events that were seen, their properties and values, each with its count."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import duckdb

from funnels.fields import parse_field
from service.web.rows import query_rows
from stitchline.errors import UsageError

SEEN_WITHIN: Final = timedelta(days=30)
"""Before the newest event: what was sent then and is no more does not clutter the lists."""

SAMPLE: Final = 20_000
"""Events whose properties are looked into: the newest of a name."""

LONGEST_VALUE: Final = 500

_EVENTS: Final = """
select name, count(*) as events, max(event_at) as last_at
from stream.events
where event_at > (select max(event_at) from stream.events) - $within and not is_bot
  and ($q = '' or contains(lower(name), lower($q)))
group by name
order by events desc, name
limit $limit
"""

_SAMPLE: Final = """
select {picked} from stream.events
where event_at > (select max(event_at) from stream.events) - $within and name = $name and not is_bot
limit $sample
"""

COLUMNS: Final = ("path", "referrer", "utm_source", "utm_medium", "utm_campaign")
"""What is known of every event besides its properties; of funnels.fields.TEXT_COLUMNS those that are no ids."""

_BARE: Final = re.compile(r'[^."]+')


def events(con: duckdb.DuckDBPyConnection, q: str, limit: int) -> list[dict[str, Any]]:
    """The names of events that were seen in the last 30 days, the most frequent first, with their counts."""
    return query_rows(con, _EVENTS, {"within": SEEN_WITHIN, "q": q, "limit": limit})


def properties(con: duckdb.DuckDBPyConnection, name: str, limit: int) -> dict[str, Any]:
    """The fields that events of that name have, each with how many of the `sample` have it and its JSON type."""
    counted = ", ".join(f"count({column}) as {column}" for column in COLUMNS)
    sample = _SAMPLE.format(picked=f"properties, {', '.join(COLUMNS)}")
    asked = {"within": SEEN_WITHIN, "name": name, "sample": SAMPLE}
    (known,) = query_rows(con, f"select count(*) as events, {counted} from ({sample})", asked)
    size = known.pop("events")
    fields = [{"field": column, "type": "text", "events": count} for column, count in known.items() if count]
    found = query_rows(
        con,
        f"""
        with sample as ({sample}),
        keys as (
            select unnest(json_keys(properties)) as key, properties from sample where json_type(properties) = 'OBJECT'
        )
        select key, count(*) as events,
            mode(json_type(properties, '/' || replace(replace(key, '~', '~0'), '/', '~1'))) as type
        from keys
        group by key
        order by events desc, key
        limit $limit
        """,
        asked | {"limit": limit},
    )
    fields += [
        {
            "field": f"properties.{_written(row['key'])}",
            "type": _TYPES.get(row["type"], "text"),
            "events": row["events"],
        }
        for row in found
    ]
    return {"event": name, "sample": size, "fields": fields}


def values(con: duckdb.DuckDBPyConnection, name: str, field: str, q: str, limit: int) -> dict[str, Any]:
    """The values that a field of such events has, the most frequent first, each with its count in the sample.

    Raises UsageError for what is no field.
    """
    try:
        told = parse_field(field)
    except ValueError as error:
        raise UsageError(str(error)) from error
    value = f"json_extract_string({told.column}, $path)" if told.keys else f'cast("{told.column}" as varchar)'
    asked: dict[str, Any] = {"within": SEEN_WITHIN, "name": name, "sample": SAMPLE, "q": q, "limit": limit}
    if told.keys:
        asked["path"] = told.pointer
    found = query_rows(
        con,
        f"""
        with sample as ({_SAMPLE.format(picked=f"left({value}, {LONGEST_VALUE}) as value")})
        select value, count(*) as events from sample
        where value is not null and ($q = '' or contains(lower(value), lower($q)))
        group by value order by events desc, value limit $limit
        """,
        asked,
    )
    return {"event": name, "field": field, "values": found}


def _written(key: str) -> str:
    """A key as funnels.fields reads it.

    >>> [_written(key) for key in ("plan", "cart.total", 'a"b')]
    ['plan', '"cart.total"', '"a""b"']
    """
    return key if _BARE.fullmatch(key) else '"' + key.replace('"', '""') + '"'


_TYPES: Final = {
    "BIGINT": "number",
    "UBIGINT": "number",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "ARRAY": "list",
    "OBJECT": "object",
}
"""By DuckDB's word for the type of a JSON value."""
