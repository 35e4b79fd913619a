"""What makes a query another one, and what does not."""

from __future__ import annotations

import pytest

from batch_marts.impact.meaning import NotUnderstood, Relation, as_read, parsed, parts, source, understood

ORDERS = "select order_id, person_id, day, amount, currency from stream.orders"
RATES = "select currency, day, usd from stream.rates"


def table(name: str) -> Relation:
    """Two models over sources; of rates a test says that there is one for each currency and day."""
    if name == "orders":
        return as_read("orders", understood(ORDERS, source))
    if name == "rates":
        return as_read("rates", understood(RATES, source), [frozenset({"currency", "day"})])
    return source(name)


def meaning(sql: str) -> Relation:
    return understood(sql, table)


ALIKE = [
    ("select amount from orders", "SELECT\n  o.Amount -- a comment\nFROM orders AS o"),
    (
        "select a + 1 as b from (select amount as a from orders)",
        "with x as (select * from orders) select 1 + amount b from x",
    ),
    (
        "select amount from orders where day > '2026' and amount > 0",
        "select amount from orders where 0 < amount and (day > '2026')",
    ),
    ("select amount::int as n from orders", "select cast(amount as integer) as n from orders"),
    (
        "select amount from orders where currency in ('USD', 'EUR')",
        "select amount from orders where currency in ('EUR', 'USD')",
    ),
    ("select day, sum(amount) as s from orders group by all", "select day, sum(amount) as s from orders group by 1"),
    (
        "select day, sum(amount) as s from orders group by day",
        "select orders.day, sum(amount) s from orders group by orders.day order by s",
    ),
    ("from orders", "select * from orders"),
    ("select * exclude (day) from orders", "select order_id, person_id, amount, currency from orders"),
    (
        "select day from orders union all select day from rates",
        "select day from rates union all select day from orders",
    ),
    (
        "select day, row_number() over w as n from orders window w as (partition by day order by amount)",
        "select day, row_number() over (partition by day order by amount) as n from orders",
    ),
    (
        "select amount from orders left join rates using (currency, day)",
        "select amount from orders",
    ),
    (
        "with firsts as (select person_id, min(day) as day from orders group by person_id) "
        "select o.amount from orders o left join firsts f on f.person_id = o.person_id",
        "select amount from orders",
    ),
]  # fmt: skip
OTHER = [
    ("select amount from orders", "select amount + 0 from orders"),
    ("select amount from orders where amount > 0", "select amount from orders where amount >= 0"),
    (
        "select amount from orders where amount > 0 and day > '2026'",
        "select amount from orders where amount > 0 or day > '2026'",
    ),
    (
        "select amount - usd as x from orders join rates using (currency)",
        "select usd - amount as x from orders join rates using (currency)",
    ),
    ("select sum(amount) as s from orders", "select sum(distinct amount) as s from orders"),
    (
        "select day, sum(amount) as s from orders group by day",
        "select day, sum(amount) as s from orders group by day, currency",
    ),
    ("select amount from orders", "select distinct amount from orders"),
    ("select amount from orders", "select amount from orders limit 5"),
    (
        "select amount from orders join rates using (currency, day)",
        "select amount from orders left join rates using (currency, day)",
    ),
    ("select amount from orders left join rates using (currency)", "select amount from orders"),
    ("select day from orders union all select day from rates", "select day from orders union select day from rates"),
    ("select day from orders except select day from rates", "select day from rates except select day from orders"),
    (
        "select row_number() over (order by day) as n from orders",
        "select row_number() over (order by day desc) as n from orders",
    ),
    (
        "select amount from orders where day in (select day from rates)",
        "select amount from orders where day in (select day from rates where usd > 1)",
    ),
    ("select sum(amount) filter (where day > '2026') as s from orders", "select sum(amount) as s from orders"),
    ("select amount from orders", "select amount from stream.orders"),
]  # fmt: skip


def same(one: Relation, other: Relation) -> bool:
    values = [[each.digest for each in relation.columns.values()] for relation in (one, other)]
    return values[0] == values[1] and one.rows.digest == other.rows.digest


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_however_it_is_written(one: str, other: str) -> None:
    assert same(meaning(one), meaning(other))


@pytest.mark.parametrize(("one", "other"), OTHER[:-1])
def test_another_one(one: str, other: str) -> None:
    assert not same(meaning(one), meaning(other))


def test_what_a_model_hands_on_means_what_it_means_there() -> None:
    assert same(meaning(OTHER[-1][0]), meaning(OTHER[-1][1])), "a step that hands columns on is none"


def test_columns_that_a_change_does_not_touch_stay_what_they_are() -> None:
    before = meaning("select order_id, amount * 2 as twice, day from orders")
    after = meaning("select order_id, amount * 3 as twice, day from orders")
    changed = [name for name in before.columns if before.columns[name].digest != after.columns[name].digest]
    assert changed == ["twice"]
    assert before.rows.digest == after.rows.digest


def test_what_is_looked_up_changes_with_where_it_is_looked_up() -> None:
    by_day = "select amount, usd from orders left join rates using (currency, day)"
    other = by_day.replace("rates using", "(select * from rates where usd > 1) as rates using")
    before, after = meaning(by_day), meaning(other)
    assert before.columns["amount"].digest == after.columns["amount"].digest
    assert before.columns["usd"].digest != after.columns["usd"].digest
    assert before.rows.digest == after.rows.digest


def test_lineage_is_of_columns() -> None:
    told = meaning(
        "with usd as (select o.day, o.amount * r.usd as usd from orders o join rates r using (currency, day)) "
        "select day, sum(usd) as revenue from usd where day > '2026' group by day"
    )
    assert told.columns["day"].reads == {("orders", "day")}
    assert ("orders", "amount") in told.columns["revenue"].reads
    assert ("rates", "usd") in told.columns["revenue"].reads
    assert ("orders", "order_id") not in told.columns["revenue"].reads
    assert told.keys == {frozenset({"day"})}


def test_a_column_of_a_source_that_nobody_lists() -> None:
    told = meaning("select event_at, properties from (select * from stream.events where not is_bot)")
    assert told.columns["properties"].reads == {("stream.events", "properties")}
    assert told.rows.reads == {("stream.events", "*"), ("stream.events", "is_bot")}


def test_parts_of_a_query() -> None:
    told, lost = parts(
        "with a as (select 1 as x), c as (select z from a), b as (select x + 1 as y from a) from b", table
    )
    assert list(told) == ["a", "b"]
    assert list(lost) == ["c"]


@pytest.mark.parametrize(
    "sql",
    [
        "with recursive a as (select 1 as x union all select x + 1 from a) select * from a",
        "select nobody from (select 1 as x)",
        "insert into t values (1)",
        "select from where",
    ],
)
def test_what_cannot_be_followed_is_said(sql: str) -> None:
    with pytest.raises(NotUnderstood):
        understood(sql, table)


def test_parsed_takes_queries_alone() -> None:
    with pytest.raises(NotUnderstood, match="no query"):
        parsed("drop table orders")
