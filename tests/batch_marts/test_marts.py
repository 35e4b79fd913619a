"""The marts of a made-up shop: every figure that teams argue about, against values worked out event by event."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_marts.artifacts import write_artifacts
from batch_marts.dbt import ARTIFACTS, PUBLISHED_ARTIFACTS
from batch_marts.experiments import load_experiments
from demo import EXPERIMENTS, FUNNELS, Shop
from demo.exports import MadeExport, shop_exports
from funnels import load_definition, run_funnel
from tests.batch_marts import reference
from tests.batch_marts.experiments.reference import figures, subjects
from tests.shared import made_once
from tests.whole.runs import Run

NOW = datetime(2026, 9, 21, 7, 30, tzinfo=UTC)
DAYS = 9
SHOP = Shop(now=NOW, days=DAYS, visits_per_day=90)
DIFFERENCE = ("difference", "difference_low", "difference_high")
USD = {"USD": Decimal(1)}


@dataclass
class World:
    """A warehouse with four builds that were published: of the first days, twice carried over to later ones, and all of
    it anew. Between the second and the third is one that failed."""

    run: Run
    exports: list[MadeExport]
    builds: list[dict[str, Any]]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    connection: duckdb.DuckDBPyConnection = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def world(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    exports = shop_exports(SHOP.first_day, DAYS)
    folder, builds = made_once(tmp_path_factory, "marts", lambda folder: make(run_in(folder, redis_url), exports))
    run = run_in(folder, redis_url)
    with duckdb.connect(str(run.warehouse), read_only=True) as con:
        con.execute("set TimeZone = 'UTC'")
        yield World(run, exports, builds, con)


def run_in(folder: Path, redis_url: str) -> Run:
    settings = {
        "MARTS__OWN_HOSTS": '["larkhill.example"]',
        "FUNNELS": str(FUNNELS),
        "EXPERIMENTS": str(EXPERIMENTS),
        "SPEND__ACCOUNTS": '{"x": {"currency": "USD"}, "pinterest": {"currency": "CAD"}}',
    }
    return Run(folder / "w.duckdb", redis_url, settings=settings)


def make(run: Run, exports: list[MadeExport]) -> list[dict[str, Any]]:
    """Returns what was said of the builds that were published."""
    folder = run.warehouse.parent
    records = list(SHOP.history())
    files = [folder / name for name in ("early.jsonl", "later.jsonl", "last.jsonl")]
    cuts = [0, len(records) * 5 // 6, len(records) * 11 // 12, len(records)]
    for file, begin, end in zip(files, cuts, cuts[1:], strict=False):
        part = records[begin:end]
        file.write_bytes(b"".join(record.value.replace(b"\n", b" ") + b"\n" for record in part))
    for export in exports:
        (folder / export.file_name).write_bytes(export.data)
    run.replay(files[0])
    run.command("spend", "load", *(str(folder / export.file_name) for export in exports))
    first = json.loads(run.command("marts", "refresh", "--json"))
    run.replay(files[1])
    customers = run.rows(
        "select distinct person_id from stream.sessions where user_id is not null order by all limit 4"
    )
    kept, other, third, fourth = (person for (person,) in customers)
    run.command("identity", "merge", kept, other, "--because", "they are one")
    run.command("identity", "merge", third, fourth, "--because", "they seem to be one")
    second = json.loads(run.command("marts", "refresh", "--json"))
    run.replay(files[2])
    run.command("identity", "unmerge", third, fourth, "--because", "they are two")
    with duckdb.connect(str(run.warehouse)) as con:
        con.execute("update marketing.spend_files set spend = spend + 1")
    run.command("marts", "refresh", exits=1)
    with duckdb.connect(str(run.warehouse)) as con:
        con.execute("update marketing.spend_files set spend = spend - 1")
    carried = json.loads(run.command("marts", "refresh", "--json"))
    anew = json.loads(run.command("marts", "refresh", "--full", "--json"))
    return [first, second, carried, anew]


def test_a_refresh_publishes_every_mart(world: World) -> None:
    shown = {name for (name,) in world.query("select view_name from duckdb_views() where schema_name = 'marts'")}
    assert shown == {
        *("dim_campaign", "dim_channel", "dim_date", "dim_person", "fct_ad_spend_daily", "fct_conversions"),
        *("fct_events_daily", "fct_funnel_daily", "fct_sessions", "mart_acquisition", "mart_daily_metrics"),
        "mart_experiment_results",
    }
    for mart in shown:
        assert world.query(f"select count(*) > 0 from marts.{mart}") == [(True,)], mart
    assert [build["kind"] for build in world.builds] == ["full", "incremental", "incremental", "full"]


def test_what_is_carried_over_is_what_would_be_worked_out_anew(world: World) -> None:
    carried, anew = world.builds[2:]
    assert (carried["build_id"], anew["build_id"]) == (4, 5)
    assert carried["row_counts"] == anew["row_counts"]
    for mart in anew["row_counts"]:
        columns = world.query(
            f"select column_name, data_type from information_schema.columns where table_name = '{mart}' "
            "and table_schema = 'build_0005' order by ordinal_position"
        )
        shown = ", ".join(f'round("{n}", 9) as "{n}"' if kind == "DOUBLE" else f'"{n}"' for n, kind in columns)
        left, right = (f"select {shown} from build_000{number}.{mart}" for number in (4, 5))
        assert world.query(f"({left}) except all ({right})") == [], mart
        assert world.query(f"({right}) except all ({left})") == [], mart


def test_an_event_that_was_late_opens_its_day_again(world: World) -> None:
    days = "select event_date, sum(event_count) from build_000{}.fct_events_daily group by all"
    before, after = (dict(world.query(days.format(number))) for number in (1, 4))
    complete = {day for (day,) in world.query("select date_day from build_0001.dim_date where is_complete")}
    reopened = {day for day in complete if before.get(day) != after[day]}
    assert reopened, "the shop has visitors whose events arrive days later"
    first = world.builds[1]["changes"]
    assert {change["day"] for change in first} <= {day.isoformat() for day in complete}
    assert {change["metric"] for change in first + world.builds[2]["changes"]} >= {"page_views"}


def test_persons_and_channels_of_sessions(world: World) -> None:
    expected = {row["session_id"]: (row["person"], row["channel"]) for row in reference.sessions(world.connection)}
    found = world.query("select session_id, person_id, channel from marts.fct_sessions")
    assert {session: (person, channel) for session, person, channel in found} == expected
    assert len({channel for _, channel in expected.values()}) >= 10


def test_attribution_by_every_model(world: World) -> None:
    expected = reference.attributed(world.connection, lambda order: float(order.revenue))
    for model in reference.MODELS:
        found = dict(
            world.query(
                f"select channel, sum({model} * value_usd) from marts.fct_conversions "
                "where conversion_type = 'order' group by all"
            )
        )
        wanted = {channel: value for (name, channel), value in expected.items() if name == model and value}
        assert {channel: value for channel, value in found.items() if value} == pytest.approx(wanted), model
    total = sum(order.revenue for order in reference.orders(world.connection))
    assert sum(value for (model, _), value in expected.items() if model == "linear") == pytest.approx(float(total))


def rates(world: World) -> dict[str, list[tuple[date, Decimal]]]:
    """By currency: the rates of the seed, the newest first."""
    lines = Path("batch_marts/seeds/currency_rates.csv").read_text().splitlines()[1:]
    found: dict[str, list[tuple[date, Decimal]]] = defaultdict(list)
    for line in lines:
        day, currency, usd = line.split(",")
        found[currency].append((date.fromisoformat(day), Decimal(usd)))
    return {currency: sorted(every, reverse=True) for currency, every in found.items()}


def spend_by_channel(world: World) -> dict[str, float]:
    """What the exports' own truth says, in US dollars."""
    known = rates(world)
    spent: dict[str, float] = defaultdict(float)
    for export in world.exports:
        for row in export.rows:
            usd = next(rate for day, rate in known[export.currency] if day <= row.day)
            spent[export.platform] += float(row.spend * usd)
    return spent


def test_customer_acquisition_cost_and_return_on_ad_spend(world: World) -> None:
    spent = spend_by_channel(world)
    orders = reference.orders(world.connection)
    first = reference.first_orders(orders)
    new = reference.attributed(world.connection, lambda order: float(order.order_id in first))
    revenue = reference.attributed(world.connection, lambda order: float(order.revenue))
    found = {
        channel: values
        for channel, *values in world.query(
            "select channel, sum(spend_usd), sum(new_customers), sum(revenue_usd) "
            "from marts.mart_acquisition group by channel"
        )
    }
    assert len(spent) == 8
    for channel, (spend, customers, income) in found.items():
        assert spend == pytest.approx(spent.get(channel, 0.0), abs=0.01), channel
        assert customers == pytest.approx(new.get(("last_touch", channel), 0.0)), channel
        assert income == pytest.approx(revenue.get(("last_touch", channel), 0.0)), channel
    for campaign, spend, customers, income, cac, roas in world.query(
        "select campaign_key, spend_usd, new_customers, revenue_usd, cac_usd, roas from marts.mart_acquisition"
    ):
        assert cac == (pytest.approx(spend / customers) if customers and spend else None), campaign
        assert roas == (pytest.approx(income / spend) if spend and income else None), campaign


def metric(world: World, name: str, dimension: str = "all") -> dict[date, float]:
    return dict(
        world.query(
            f"select metric_date, metric_value from marts.mart_daily_metrics "
            f"where metric_name = '{name}' and dimension = '{dimension}'"
        )
    )


def test_daily_metrics(world: World) -> None:
    sessions = reference.sessions(world.connection)
    orders = reference.orders(world.connection)
    first = reference.first_orders(orders)
    day_of = {row["session_id"]: row["started_at"].date() for row in sessions}
    assert {d: v for d, v in metric(world, "sessions").items() if v} == Counter(day_of.values())
    of_google = Counter(row["started_at"].date() for row in sessions if row["channel"] == "google")
    assert {d: v for d, v in metric(world, "sessions", "channel=google").items() if v} == of_google
    visitors = defaultdict(set)
    for row in sessions:
        visitors[row["started_at"].date()].add(row["person"])
    assert {d: v for d, v in metric(world, "visitors").items() if v} == {d: len(who) for d, who in visitors.items()}
    retention = {
        day: len(who & visitors[day - timedelta(days=7)]) / len(visitors[day - timedelta(days=7)])
        for day, who in visitors.items()
        if visitors.get(day - timedelta(days=7))
    }
    assert {d: v for d, v in metric(world, "retention").items() if v} == pytest.approx(
        {d: v for d, v in retention.items() if v}
    )
    revenue: dict[date, float] = defaultdict(float)
    for order in orders:
        revenue[order.at.date()] += float(order.revenue)
    assert {d: v for d, v in metric(world, "revenue").items() if v} == pytest.approx(revenue)
    new = Counter(order.at.date() for order in orders if order.order_id in first)
    assert {d: v for d, v in metric(world, "new_customers").items() if v} == new
    spent: dict[date, float] = defaultdict(float)
    known = rates(world)
    for export in world.exports:
        for truth in export.rows:
            usd = next(rate for day, rate in known[export.currency] if day <= truth.day)
            spent[truth.day] += float(truth.spend * usd)
    found_cac, found_roas = metric(world, "cac"), metric(world, "roas")
    for day, spend in spent.items():
        if day in found_cac and new[day]:
            assert found_cac[day] == pytest.approx(spend / new[day], rel=1e-5)
        if day in found_roas:
            assert found_roas[day] == pytest.approx(revenue[day] / spend, rel=1e-5)
    in_session = {
        row["session_id"]
        for row in sessions
        for order in orders
        if order.person == row["person"] and row["started_at"] <= order.at <= row["ended_at"]
    }
    share = Counter(day_of[session] for session in in_session)
    counts = Counter(day_of.values())
    assert {d: v for d, v in metric(world, "conversion").items() if v} == pytest.approx(
        {day: share[day] / counts[day] for day in share}
    )


def test_no_metric_lacks_a_day(world: World) -> None:
    days = world.query("select date_day from marts.dim_date order by all")
    assert [day for (day,) in days] == [days[0][0] + timedelta(days=n) for n in range(len(days))]
    gaps = "select metric_name, dimension from marts.mart_daily_metrics group by all having count(*) <> {}"
    assert world.query(gaps.format(len(days))) == []
    (watermark,) = world.query("select min(watermark) from stream.progress")[0]
    complete = {day for (day,) in world.query("select date_day from marts.dim_date where is_complete")}
    assert complete == {
        day for (day,) in days if datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= watermark
    }


def test_funnels_by_day(world: World) -> None:
    for file in FUNNELS.glob("*.json"):
        definition = load_definition(file)
        day = date(2026, 9, 16)
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        alone = run_funnel(
            world.connection, definition.model_copy(update={"since": begin, "until": begin + timedelta(days=1)})
        )
        found = world.query(
            f"select subject_count from marts.fct_funnel_daily where funnel_name = '{definition.name}' "
            f"and entry_date = '{day}' order by step_number"
        )
        assert [count for (count,) in found] == [step.count for step in alone.steps]


def test_the_experiment(world: World) -> None:
    """Each figure of the shop's experiment, worked out person by person."""
    (asked,) = load_experiments(EXPERIMENTS)
    people = subjects(asked, reference.tracks(world.connection))
    arms = Counter(person.variation for person in people.values())
    assert min(arms["control"], arms["one-page"], arms[None]) > 0
    rows = reference.rows(world.connection, "from marts.mart_experiment_results")
    found = {(row["variation_id"], row["metric_name"]): row for row in rows}
    assert set(found) == {(arm, metric.name) for arm in asked.arms for metric in asked.measured}
    for row in rows:
        assert (row["persons"], row["persons_in_several"], row["persons_elsewhere"]) == (
            *(arms[row["variation_id"]], arms[None], 0),
        )
    for metric in asked.measured:
        values = {
            arm: [person.values[metric.name] for person in people.values() if person.variation == arm]
            for arm in asked.arms
        }
        expected = figures(values["control"], values["one-page"])
        control, other = (found[arm, metric.name] for arm in asked.arms)
        assert (control["mean"], other["mean"]) == pytest.approx(expected.means)
        assert (control["adjusted_mean"], other["adjusted_mean"]) == pytest.approx(expected.adjusted)
        assert [other[name] for name in DIFFERENCE] == pytest.approx(expected.difference)
        assert other["p_value"] == pytest.approx(expected.p_value)
    assert found["control", "orders"]["mean"] > 0.2
    assert found["one-page", "orders"]["verdict"] in ("too_few", "no_difference_yet", "better")


def test_customers_and_prospects(world: World) -> None:
    people: dict[str, list[reference.Row]] = defaultdict(list)
    for row in reference.sessions(world.connection):
        people[row["person"]].append(row)
    found = world.query(
        "select person_id, customer_id, prospect_id, session_count, device_count, account_created_at "
        "from marts.dim_person"
    )
    assert {person for person, *_ in found} >= set(people)
    for person, customer, prospect, count, devices, created in found:
        assert customer == (None if person.startswith("anon:") else person)
        mine = people[person]
        assert (count, devices) == (len(mine), len({row["anonymous_id"] for row in mine}))
        if person.startswith("anon:"):
            assert prospect == person
        elif mine:
            first = min(mine, key=lambda row: (row["started_at"], row["first_message_id"]))
            before = created is None or first["started_at"] < created
            assert prospect == (f"anon:{first['anonymous_id']}" if before else None)


def a_copy(world: World, folder: Path) -> Run:
    """The same warehouse, to change, and what dbt has read of the project."""
    shutil.copyfile(world.run.warehouse, folder / "w.duckdb")
    shutil.copytree(world.run.warehouse.with_name("w.marts"), folder / "w.marts")
    return Run(folder / "w.duckdb", world.run.redis_url, settings=world.run.settings)


def test_experiments_now_are_those_of_the_marts(world: World, tmp_path: Path) -> None:
    run = a_copy(world, tmp_path)
    now = json.loads(run.command("experiments", "--json"))
    published = reference.rows(world.connection, "from marts.mart_experiment_results")
    assert len(now) == len(published) == 6
    for rows in (now, published):
        rows.sort(key=lambda row: (row["variation_id"], row["metric_name"]))
    for told, row in zip(now, published, strict=True):
        for time in ("first_exposed_at", "last_exposed_at", "as_of"):
            assert datetime.fromisoformat(told.pop(time)) == row.pop(time)
        assert told == pytest.approx(row)
    shown = run.command("experiments", "one-page-checkout")
    assert f"one-page: {published[-1]['verdict_sentence']}" in shown
    (orders,) = (row for row in published if (row["variation_id"], row["metric_name"]) == ("one-page", "orders"))
    assert f"{orders['adjusted_mean']:.1%}" in shown, "what the lift and the sentence are of"
    refused = run.command("experiments", "two-page", exits=2)
    assert "there is no experiment 'two-page'. Defined are: one-page-checkout" in refused
    undefined = Run(run.warehouse, run.redis_url)
    assert "No experiment is defined" in undefined.command("experiments")


def test_going_back_and_what_there_was(world: World, tmp_path: Path) -> None:
    run = a_copy(world, tmp_path)
    back = json.loads(run.command("marts", "rollback", "--to", "1", "--json"))
    assert (back["build_id"], back["status"]) == (1, "published")
    status = json.loads(run.command("marts", "status", "--json"))
    assert status["published"]["build_id"] == 1
    counts = run.value("select count(*) from marts.fct_sessions")
    assert counts == world.builds[0]["row_counts"]["fct_sessions"]
    history = json.loads(run.command("marts", "history", "--json"))
    assert [(build["build_id"], build["status"], build["kept"]) for build in history] == [
        (5, "replaced", True),
        (4, "replaced", True),
        (3, "failed", False),
        (2, "replaced", True),
        (1, "published", True),
    ]
    again = json.loads(run.command("marts", "refresh", "--json"))
    assert (again["kind"], again["row_counts"]) == ("full", world.builds[3]["row_counts"]), "others came after it"
    refused = run.command("marts", "rollback", "--to", "9", exits=2)
    assert "no build 9 to go back to. Kept are: 5, 4, 2, 1" in refused


def test_builds_share_rows_and_what_none_needs_is_dropped(world: World, tmp_path: Path) -> None:
    run = a_copy(world, tmp_path)
    shared = "select distinct schema_name from duckdb_tables() where schema_name like 'rows_%' order by all"
    assert run.rows(shared) == [("rows_0001",), ("rows_0005",)]
    numbers = run.rows(
        "select from_build from rows_0001.int_sessions union select to_build from rows_0001.int_sessions"
    )
    assert {number for (number,) in numbers} == {1, 2, 4, None}, "nothing of the one that failed"
    sessions = {
        build["build_id"]: run.value(f"select count(*) from build_{build['build_id']:04d}.fct_sessions")
        for build in world.builds
    }
    assert sessions == {build["build_id"]: build["row_counts"]["fct_sessions"] for build in world.builds}
    run.settings["MARTS__KEPT_BUILDS"] = "2"
    assert json.loads(run.command("marts", "refresh", "--json"))["kind"] == "incremental"
    assert run.rows(shared) == [("rows_0005",)]


def test_who_is_forgotten_is_in_no_build(world: World, tmp_path: Path) -> None:
    run = a_copy(world, tmp_path)
    customer = run.value(
        "select person_id from marts.dim_person where is_customer and order_count > 0 and device_count > 0 "
        "order by session_count desc, person_id limit 1"
    )
    told = json.loads(run.command("identity", "forget", customer, "--because", "asked", "--json"))
    assert told["rows_of_marts"] > 3
    forgotten = told["persons"] + told["devices"] + [f"anon:{gone}" for gone in told["devices"]]
    assert customer in forgotten
    assert told["devices"]
    listed = ", ".join(repr(text) for text in forgotten)
    columns = run.rows(
        "select schema_name, table_name, column_name from duckdb_columns() where data_type = 'VARCHAR' "
        "and (schema_name = 'marts' or schema_name like 'build_%' or schema_name like 'rows_%')"
    )
    assert len({schema for schema, *_ in columns}) == 1 + 4 + 2
    with duckdb.connect(str(run.warehouse), read_only=True) as con:
        for schema, table, column in columns:
            found = con.execute(f'select 1 from {schema}."{table}" where "{column}" in ({listed})').fetchall()
            assert found == [], (schema, table, column)
    again = json.loads(run.command("marts", "refresh", "--json"))
    assert again["kind"] == "full", "rows of the stream have moved"


def test_other_catalogues_get_the_artifacts_of_the_published_build(world: World, tmp_path: Path) -> None:
    source = world.run.warehouse.with_name(f"{world.run.warehouse.stem}.marts") / PUBLISHED_ARTIFACTS
    write_artifacts(source, tmp_path)
    manifest, catalog, results = (json.loads((tmp_path / name).read_text()) for name in ARTIFACTS)
    marts = {name: node for name, node in manifest["nodes"].items() if node["schema"] == "marts"}
    assert {node["name"] for node in marts.values()} == set(world.builds[-1]["row_counts"])
    assert all(catalog["nodes"][name]["metadata"]["schema"] == "marts" for name in marts)
    assert all(node["meta"]["owner"] for node in marts.values())
    tested = {one["unique_id"]: one["status"] for one in results["results"] if one["unique_id"].startswith("test.")}
    assert len(tested) > 40
    assert set(tested.values()) == {"pass"}
    assert set(tested) <= set(manifest["nodes"])
