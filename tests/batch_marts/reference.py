"""What the marts have to say, worked out event by event from the stream's tables and the rules alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import duckdb

from tests.batch_marts.experiments.reference import Told

Row = dict[str, Any]
SEARCH = ("www.google.com", "duckduckgo.com")
OWN = "larkhill.example"
PLATFORMS = {
    "google": "google",
    "facebook": "meta",
    "bing": "microsoft",
    "linkedin": "linkedin",
    "tiktok": "tiktok",
} | {name: name for name in ("x", "reddit", "pinterest")}
LOOK_BACK = timedelta(days=30)
HALF_LIFE = timedelta(days=7)
MODELS = ("first_touch", "last_touch", "linear", "position_based", "time_decay")


def rows(con: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    """What `query` answers, a dictionary a row."""
    cursor = con.execute(query)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class People:
    """Whose an event or a session is, by all that is known now."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._overrides: dict[str, list[Row]] = defaultdict(list)
        for override in rows(con, "from stream.person_overrides"):
            self._overrides[override["anonymous_id"]].append(override)
        self._merges = {row["person_id"]: row["merged_into"] for row in rows(con, "from stream.person_merges")}
        self.bots = {row["anonymous_id"] for row in rows(con, "from stream.bot_devices")}

    def of(self, row: Row, at: datetime, message_id: str) -> str | None:
        person: str | None = row["person_id"]
        if row["user_id"] is None or row["user_id"] != person:
            for override in self._overrides[row["anonymous_id"]]:
                begin = (override["from_at"], override["from_message_id"])
                if begin <= (at, message_id) < (override["to_at"], override["to_message_id"]):
                    person = override["person_id"]
        return self._merges.get(person, person) if person is not None else None


def sessions(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Sessions of people, each with `person` and `channel`."""
    people = People(con)
    found = []
    for row in rows(con, "from stream.sessions"):
        if row["is_bot"] or row["anonymous_id"] in people.bots:
            continue
        person = people.of(row, row["started_at"], row["first_message_id"])
        found.append(row | {"person": person, "channel": channel(row)})
    return found


def channel(row: Row) -> str:
    """Of the made-up shop's visits."""
    if row["utm_medium"] in ("cpc", "paid_social"):
        return PLATFORMS[row["utm_source"]]
    if row["utm_medium"] == "email":
        return "email"
    host = urlsplit(row["referrer"] or "").hostname
    if host in SEARCH:
        return "organic_search"
    return "direct" if host in (None, OWN) else "referral"


@dataclass(frozen=True)
class Order:
    """An order, once."""

    order_id: str
    person: str
    at: datetime
    revenue: Decimal


def orders(con: duckdb.DuckDBPyConnection) -> list[Order]:
    """The orders of people, by time; the first one of an order_id counts."""
    people = People(con)
    found: dict[str, Order] = {}
    seen: set[tuple[str | None, str]] = set()
    query = """
        select *, json_extract_string(properties, '$.order_id') as order_id,
            json_extract_string(properties, '$.revenue') as revenue
        from stream.events where name = 'Order Completed' order by event_at, message_id
    """
    for row in rows(con, query):
        key = (row["anonymous_id"], row["message_id"])
        if key in seen or row["is_bot"] or row["anonymous_id"] in people.bots:
            continue
        seen.add(key)
        person = people.of(row, row["event_at"], row["message_id"])
        assert person is not None
        found.setdefault(row["order_id"], Order(row["order_id"], person, row["event_at"], Decimal(row["revenue"])))
    return list(found.values())


def tracks(con: duckdb.DuckDBPyConnection) -> list[Told]:
    """What people did, each event once, with whose it is."""
    people = People(con)
    found: dict[tuple[str | None, str], Told] = {}
    for row in rows(con, "from stream.events where type = 'track' order by event_at, message_id"):
        if not row["is_bot"] and row["anonymous_id"] not in people.bots:
            person = people.of(row, row["event_at"], row["message_id"])
            told = Told(person, row["name"], row["event_at"], json.loads(row["properties"] or "{}"))
            found.setdefault((row["anonymous_id"], row["message_id"]), told)
    return list(found.values())


def shares(visits: list[datetime], at: datetime) -> dict[str, list[float]]:
    """How much of a conversion at `at` each of `visits`, in order, is given, by each model."""
    count = len(visits)
    decay = [0.5 ** ((at - visit) / HALF_LIFE) for visit in visits]
    if count == 1:
        position = [1.0]
    elif count == 2:
        position = [0.5, 0.5]
    else:
        position = [0.4, *[0.2 / (count - 2)] * (count - 2), 0.4]
    return {
        "first_touch": [1.0, *[0.0] * (count - 1)],
        "last_touch": [*[0.0] * (count - 1), 1.0],
        "linear": [1 / count] * count,
        "position_based": position,
        "time_decay": [share / sum(decay) for share in decay],
    }


def attributed(con: duckdb.DuckDBPyConnection, value: Callable[[Order], float]) -> dict[tuple[str, str], float]:
    """What the orders are worth by `value`, by (model, channel)."""
    visits: dict[str, list[Row]] = defaultdict(list)
    for session in sorted(sessions(con), key=lambda row: (row["started_at"], row["session_id"])):
        visits[session["person"]].append(session)
    found: dict[tuple[str, str], float] = defaultdict(float)
    for order in orders(con):
        path = [visit for visit in visits[order.person] if order.at - LOOK_BACK <= visit["started_at"] <= order.at]
        if not path:
            for model in MODELS:
                found[model, "none"] += value(order)
            continue
        for model, given in shares([visit["started_at"] for visit in path], order.at).items():
            for visit, share in zip(path, given, strict=True):
                found[model, visit["channel"]] += share * value(order)
    return found


def first_orders(every: Iterable[Order]) -> set[str]:
    """The ids of the orders that are their person's first."""
    first: dict[str, Order] = {}
    for order in every:
        first.setdefault(order.person, order)
    return {order.order_id for order in first.values()}
