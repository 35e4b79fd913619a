"""Exports in the warehouse: once, the newest one, and never two of them added up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_marts.spend.export import Account, Given
from batch_marts.spend.load import Loaded, file_id_of, load_export
from batch_marts.spend.rates import load_rates, read_rates
from batch_marts.spend.reader import read_export
from sinks.warehouse import Warehouse
from stitchline.errors import FileRefused

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SPEND = "select account, campaign_id, campaign, spend_date::varchar, spend from marketing.ad_spend order by all"
SEED = Path("batch_marts/seeds/currency_rates.csv")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse.open(tmp_path_factory.mktemp("spend") / "warehouse.duckdb") as opened:
        yield opened


@pytest.fixture
def warehouse(opened: Warehouse) -> Warehouse:
    """Without spend."""
    with opened.transaction() as con:
        empty(con)
    return opened


def empty(con: duckdb.DuckDBPyConnection) -> None:
    for table in ("spend_files", "ad_spend", "currency_rates"):
        con.execute(f"delete from marketing.{table}")


def google(*lines: str, ids: bool = True) -> bytes:
    """Lines of day, campaign id, campaign and whole dollars; with the total."""
    rows = [line.split(",") for line in lines]
    if not ids:
        rows = [[day, name, spent] for day, _, name, spent in rows]
    total = sum(int(row[-1]) for row in rows)
    head = "Day,Campaign ID,Campaign,Cost,Currency code" if ids else "Day,Campaign,Cost,Currency code"
    end = f"Total: Account,{'--,' * (1 + ids)}{total}.00,USD"
    return "\n".join([head, *(",".join(row) + ".00,USD" for row in rows), end]).encode()


def linkedin(generated: str, spent: int) -> bytes:
    head = f'"Date Generated: {generated}"\n\nStart Date (in UTC),Campaign Group Name,Total Spent\n'
    return f"{head}1/5/2026,gifts,${spent}.00\nTotal,,${spent}.00\n".encode()


def load(warehouse: Warehouse, data: bytes, name: str = "a.csv", account: str | None = None, **more: Any) -> Loaded:
    export = read_export(data, name, Given(account=account, **more))
    with warehouse.transaction() as con:
        return load_export(con, export, file_id_of(data), name, NOW, account_is_sure=account is not None)


def rows(warehouse: Warehouse, sql: str = SPEND) -> list[tuple[Any, ...]]:
    with warehouse.reader() as con:
        return con.execute(sql).fetchall()


def counts(told: Loaded) -> tuple[int, int, int]:
    return told.added, told.replaced, told.kept


def test_what_is_stored(warehouse: Warehouse) -> None:
    data = google("2026-01-05,11,brand,10", "2026-01-05,12,jackets,5", "2026-01-07,11,brand,7")
    told = load(warehouse, data, "january.csv", time_zone="Europe/Berlin")
    assert counts(told) == (3, 0, 0)
    assert rows(warehouse) == [
        ("default", "11", "brand", "2026-01-05", Decimal(10)),
        ("default", "11", "brand", "2026-01-07", Decimal(7)),
        ("default", "12", "jackets", "2026-01-05", Decimal(5)),
    ]
    (file,) = rows(warehouse, "from marketing.spend_files")
    assert file == (
        *(file_id_of(data), "january.csv", "google", "default", "USD", "Europe/Berlin", 3, Decimal(22)),
        *(date(2026, 1, 5), date(2026, 1, 7), None, NOW),
    )
    assert {row[0] for row in rows(warehouse, "select file_id from marketing.ad_spend")} == {file[0]}


def test_the_same_bytes_are_loaded_once(warehouse: Warehouse) -> None:
    data = google("2026-01-05,11,brand,10")
    load(warehouse, data, "first.csv")
    again = load(warehouse, data, "again.csv")
    assert (again.outcome, again.file_name, again.loaded_at) == ("already loaded", "first.csv", NOW)
    assert again.spend == 10
    assert len(rows(warehouse)) == len(rows(warehouse, "from marketing.spend_files")) == 1


def test_a_newer_export_replaces_and_never_adds(warehouse: Warehouse) -> None:
    first = google("2026-01-05,11,brand,10", "2026-01-06,11,brand,20", "2026-01-06,12,jackets,1")
    load(warehouse, first)
    told = load(warehouse, google("2026-01-06,11,brand,25", "2026-01-07,11,brand,30"))
    assert counts(told) == (1, 1, 0)
    spends = [row[-1] for row in rows(warehouse)]
    assert spends == [10, 25, 30, 1], "what the newer one does not have stays"
    assert load(warehouse, first).outcome == "already loaded"
    assert [row[-1] for row in rows(warehouse)] == spends


def test_accounts_are_apart(warehouse: Warehouse) -> None:
    load(warehouse, google("2026-01-05,11,brand,10"), account="Shop")
    told = load(warehouse, google("2026-01-05,21,brand,12"), account="Outlet")
    assert counts(told) == (1, 0, 0)
    assert [row[0] for row in rows(warehouse)] == ["Outlet", "Shop"]


def test_an_export_that_was_made_earlier_does_not_replace(warehouse: Warehouse) -> None:
    load(warehouse, linkedin("January 8, 2026, 9:00 AM", 80))
    assert counts(load(warehouse, linkedin("January 7, 2026, 9:00 AM", 70))) == (0, 0, 1)
    assert [row[-1] for row in rows(warehouse)] == [80]
    assert counts(load(warehouse, linkedin("January 8, 2026, 3:00 PM", 90))) == (0, 1, 0)
    assert [row[-1] for row in rows(warehouse)] == [90]


@pytest.mark.parametrize("ids_first", [True, False])
def test_a_campaign_is_the_same_with_and_without_its_id(warehouse: Warehouse, ids_first: bool) -> None:
    load(warehouse, google("2026-01-05,11,brand,10", ids=ids_first))
    assert counts(load(warehouse, google("2026-01-05,11,brand,12", ids=not ids_first))) == (0, 1, 0)
    assert [row[-1] for row in rows(warehouse)] == [12]


def test_a_campaign_that_was_renamed_is_the_same(warehouse: Warehouse) -> None:
    load(warehouse, google("2026-01-05,11,brand,10"))
    load(warehouse, google("2026-01-05,11,brand 2026,12", "2026-01-05,12,brand,1"))
    assert [row[1:3] for row in rows(warehouse)] == [("11", "brand 2026"), ("12", "brand")]


def test_the_same_campaign_under_another_account_is_refused(warehouse: Warehouse) -> None:
    load(warehouse, google("2026-01-05,11,brand,10"), "first.csv")
    newer = google("2026-01-05,11,brand,12")
    words = r"'brand' of 2026-01-05 is there as account 'default', out of first.csv, .* as 'Shop' .*--account 'default'"
    with pytest.raises(FileRefused, match=words):
        load(warehouse, newer, usual={"google": Account(name="Shop")})
    assert [row[-1] for row in rows(warehouse)] == [10]
    load(warehouse, newer, account="default")
    assert [row[-1] for row in rows(warehouse)] == [12]
    load(warehouse, google("2026-01-05,11,brand,14"), account="Shop")
    assert [(row[0], row[-1]) for row in rows(warehouse)] == [("Shop", 14), ("default", 12)], "who says it is sure"


IDS = {"a": "1", "b": "2", "c": "3"}
FILES = st.tuples(
    st.booleans(),
    st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(5, 7)), st.integers(1, 99), min_size=1, max_size=5),
)


@settings(max_examples=100)
@given(files=st.lists(FILES, min_size=1, max_size=5), order=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_whatever_is_loaded_in_whatever_order(opened: Warehouse, files: list[Any], order: list[int]) -> None:
    """Files with and without ids, each any number of times: what is stored is what the last file says of a campaign and
    day, by the order in which the files came first."""
    expected: dict[tuple[str, int], int] = {}
    seen: set[bytes] = set()
    with opened.transaction(keep=False) as con:
        empty(con)
        for number in order:
            ids, days = files[number % len(files)]
            lines = [f"2026-01-0{day},{IDS[name]},{name},{spent}" for (name, day), spent in days.items()]
            data = google(*lines, ids=ids)
            told = load_export(con, read_export(data, "a.csv"), file_id_of(data), "a.csv", NOW)
            assert (told.outcome == "already loaded") == (data in seen)
            if data not in seen:
                expected |= days
            seen.add(data)
        found = con.execute("select campaign, day(spend_date), spend from marketing.ad_spend").fetchall()
    assert sorted(found) == sorted((name, day, spent) for (name, day), spent in expected.items())


class TestRates:
    def test_rates_replace_those_of_the_day(self, warehouse: Warehouse) -> None:
        first = read_rates(b"rate_date,currency,usd\n2026-01-01,EUR,1.17\n2026-01-01,JPY,0.0064\n", "r.csv")
        with warehouse.transaction() as con:
            told = load_rates(con, first, "r.csv")
        assert (told.added, told.replaced, told.currencies) == (2, 0, ("EUR", "JPY"))
        second = read_rates(b"usd;currency;rate_date\n1.180000001;EUR;2026-01-01\n1.2;EUR;2026-02-01\n", "s.csv")
        with warehouse.transaction() as con:
            told = load_rates(con, second, "s.csv")
        assert (told.added, told.replaced, told.from_date, told.to_date) == (1, 1, date(2026, 1, 1), date(2026, 2, 1))
        assert rows(warehouse, "from marketing.currency_rates order by all") == [
            (date(2026, 1, 1), "EUR", Decimal("1.180000001")),
            (date(2026, 1, 1), "JPY", Decimal("0.0064")),
            (date(2026, 2, 1), "EUR", Decimal("1.2")),
        ]

    def test_the_seed(self) -> None:
        rates = read_rates(SEED.read_bytes(), SEED.name)
        assert len(set(rates["currency"].to_pylist())) >= 12
        assert rates.num_rows == len(set(rates["currency"].to_pylist())) * len(set(rates["rate_date"].to_pylist()))

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("", None, "empty"),
            ("day,code,rate\n", 1, "no table of rates. Begin it with the line rate_date,currency,usd"),
            ("rate_date,currency,usd\n", None, "no rates"),
            ("rate_date,currency,usd\n1/2/2026,EUR,1.1\n", 2, "'1/2/2026' is no day"),
            ("rate_date,currency,usd\n2026-01-01,EURO,1.1\n", 2, "no currency"),
            ("rate_date,currency,usd\n2026-01-01,EUR,0\n", 2, "'0' is no rate"),
            ('rate_date,currency,usd\n2026-01-01,EUR,"1,1"\n', 2, "'1,1' is no rate"),
            ("rate_date,currency,usd\n2026-01-01,EUR,nan\n", 2, "'nan' is no rate"),
            ("rate_date,currency,usd\n2026-01-01,EUR,1.0000000001\n", 2, "nine decimals"),
            ("rate_date,currency,usd\n2026-01-01,USD,1.1\n", 2, "one US dollar"),
            ("rate_date,currency,usd\n2026-01-01,EUR,1.1\n2026-01-01,EUR,1.2\n", 3, "and 1.1 in line 2"),
            ("rate_date,currency,usd\n2026-01-01,EUR\n", 2, "2 cells"),
        ],
    )
    def test_what_is_refused(self, text: str, line: int | None, words: str) -> None:
        with pytest.raises(FileRefused, match=words) as refused:
            read_rates(text.encode(), "rates.csv")
        assert refused.value.line == line
