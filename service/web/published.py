"""What the page and the API say of the marts: the published tables, the metrics in them, spend, and experiments."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from batch_marts import builds
from batch_marts.builds import PUBLISHED, Build
from batch_marts.catalogue import Catalogue, Mart, Model
from batch_marts.metrics import DAILY, WHOLE, Metric
from service.web.rows import iso_utc, query_rows
from stitchline.errors import StitchlineError

SPARK_DAYS: Final = 42
"""Of each metric in the list of them."""

_LATEST: Final = f"""
with known as (
    select metric_name, metric_date, metric_value, is_complete
    from {PUBLISHED}.{DAILY}
    where dimension = '{WHOLE}'
      and metric_date > (select max(metric_date) from {PUBLISHED}.{DAILY} where is_complete) - $days::integer
)
select metric_name,
    arg_max(metric_value, metric_date) filter (where is_complete) as value,
    max(metric_date) filter (where is_complete) as date,
    list(metric_value order by metric_date) filter (where is_complete) as "values"
from known
group by metric_name
"""

VALUES: Final = f"""
select metric_date, metric_name, dimension, metric_value, is_complete
from {PUBLISHED}.{DAILY}
where metric_name = $name and dimension = $dimension
  and ($since::date is null or metric_date >= $since::date) and ($until::date is null or metric_date <= $until::date)
order by metric_date
"""

_PARTS: Final = f"""
with newest as (
    select max(metric_date) as day from {PUBLISHED}.{DAILY} where metric_name = $name and is_complete
),
parts as (
    select dimension, arg_max(metric_value, metric_date) as value, sum(metric_value) as sum, avg(metric_value) as mean
    from {PUBLISHED}.{DAILY}
    where metric_name = $name and dimension <> '{WHOLE}' and is_complete
      and metric_date > (select day from newest) - 28
    group by dimension
)
select dimension, value, sum, mean, count(*) over () as all_of_them from parts
order by sum desc, dimension
limit $limit
"""

_DAYS: Final = f"""
select min(metric_date) as first_day, max(metric_date) as last_day,
    max(metric_date) filter (where is_complete) as complete_until,
    count(distinct metric_date) filter (where not is_complete) as incomplete_days
from {PUBLISHED}.{DAILY}
where metric_name = $name and dimension = '{WHOLE}'
"""

SPEND: Final = f"""
select month_start, channel,
    sum(spend_usd) as spend_usd, sum(new_customers) as new_customers, sum(orders) as orders,
    sum(revenue_usd) as revenue_usd,
    case when sum(spend_usd) > 0 then sum(spend_usd) / nullif(sum(new_customers), 0) end as cac_usd,
    sum(revenue_usd) / nullif(sum(spend_usd), 0) as roas
from {PUBLISHED}.mart_acquisition
group by month_start, channel
order by month_start desc, spend_usd desc, revenue_usd desc, channel
"""

_UNRATED: Final = f"select distinct currency from {PUBLISHED}.fct_ad_spend_daily where is_without_rate order by all"
_SPENT_UNTIL: Final = f"""
select channel, max(spend_date) as spent_until from {PUBLISHED}.fct_ad_spend_daily group by channel
"""

EXPERIMENTS: Final = f"""
select * from {PUBLISHED}.mart_experiment_results
order by experiment_id, metric_role desc, metric_name, is_control desc, variation_id
"""

_ONE_LOOK: Final = """
select {build} as build_id, experiment_id, metric_name, variation_id, as_of, persons, lift, sequential_low,
    sequential_high, verdict
from {schema}.mart_experiment_results where not is_control
"""

_NO_LOOK: Final = """
select 0::bigint as build_id, '' as experiment_id, '' as metric_name, '' as variation_id, null::timestamptz as as_of,
    0::bigint as persons, null::double as lift, null::double as sequential_low, null::double as sequential_high,
    '' as verdict
where false
"""

Row = dict[str, Any]


class NothingPublished(StitchlineError):
    """There are no marts that anybody could read."""

    def __init__(self) -> None:
        super().__init__(
            "No build of the marts is published yet. `stitchline marts refresh` builds, tests and publishes them; the "
            "service does so every night."
        )


_reaches: dict[tuple[object, ...], str | None] = {}
_looking = threading.Lock()
_MOST_REACHES: Final = 1000


@dataclass(frozen=True, slots=True)
class Published:
    """The build that everybody reads now, and what is known of its tables."""

    build: Build
    catalogue: Catalogue
    generation: str
    """Which warehouse it is in."""

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> Published:
        """Raises NothingPublished."""
        build = builds.published(con)
        if build is None:
            raise NothingPublished
        (generation,) = con.execute("select generation from stream.warehouse").fetchone() or ("",)
        return cls(build, catalogue, generation)

    @property
    def state(self) -> str:
        """Another one with each build and each change of what it means: for ETags."""
        return f"{self.build.build_id} {self.build.published_at} {self.catalogue!r}"

    @property
    def told(self) -> Row:
        """The build, as JSON values."""
        build = self.build
        times = {"published_at": build.published_at, "as_of": build.pin and build.pin.as_of}
        return {"build_id": build.build_id} | {name: at and iso_utc(at) for name, at in times.items()}

    def reaches(self, con: duckdb.DuckDBPyConnection, mart: Mart) -> str | None:
        """The last day or time in it: of all its columns of dates or times the greatest value, ISO 8601. A mart that
        is published does not change: it is looked for once."""
        key = (self.generation, self.build.build_schema, mart.name, tuple(column.name for column in mart.columns))
        with _looking:
            if key not in _reaches:
                if len(_reaches) >= _MOST_REACHES:
                    _reaches.clear()
                _reaches[key] = _last_in(con, self.build.build_schema, mart)
            return _reaches[key]

    def has(self, *marts: str) -> bool:
        """Whether the build has these marts: a project of somebody's own may lack some."""
        return all(mart in self.build.row_counts for mart in marts)


def tables(con: duckdb.DuckDBPyConnection, published: Published) -> list[Row]:
    """Every published mart: the question it answers, its rows, up to when it reaches, its columns and tests."""
    found = []
    for name, rows in published.build.row_counts.items():
        mart = published.catalogue.marts.get(name)
        found.append(
            {
                "name": name,
                "question": mart.question if mart else "",
                "rows": rows,
                "reaches": published.reaches(con, mart) if mart else None,
                "columns": len(mart.columns) if mart else 0,
                "tests": mart.test_count if mart else 0,
            }
        )
    return sorted(found, key=lambda row: row["name"])


def _last_in(con: duckdb.DuckDBPyConnection, schema: str, mart: Mart) -> str | None:
    names = [f'max("{column.name}")' for column in mart.columns if column.data_type in ("date", "timestamptz")]
    if not names:
        return None
    picked = ", ".join(f"cast({name} as timestamp)" for name in names)
    kind = "timestamp" if any(column.data_type == "timestamptz" for column in mart.columns) else "date"
    (row,) = query_rows(con, f'select cast(greatest({picked}) as {kind}) as last from "{schema}"."{mart.name}"')
    last: str | None = row["last"]
    return last


def table(published: Published, mart: Mart) -> Row:
    """One mart: what it answers, its columns, what is tested, what it is made from, and who reads it."""
    behind = published.catalogue.made_from(mart.name)
    return {
        "name": mart.name,
        "question": mart.question,
        "description": mart.description,
        "rows": published.build.row_counts.get(mart.name),
        "columns": [
            {"name": one.name, "data_type": one.data_type, "description": one.description, "tests": list(one.tests)}
            for one in mart.columns
        ],
        "tests": list(mart.tests),
        "made_from": lineage(behind),
        "read_by": [model.name for model in published.catalogue.read_by(mart.name)],
        "metrics": [metric.shown_as for metric in published.catalogue.metrics_of(mart.name)],
    }


def lineage(models: Sequence[Model]) -> Row:
    """Models by layer, the sources first."""
    return {
        layer: sorted(model.name for model in models if model.layer == layer)
        for layer in ("source", "staging", "intermediate", "marts")
    }


def described(metric: Metric) -> Row:
    """What a metric means, without any value."""
    return {
        "name": metric.shown_as,
        "label": metric.label,
        "synonyms": list(metric.synonyms),
        "definition": metric.definition,
        "owner": metric.owner,
        "unit": metric.unit,
        "good": metric.good,
        "version": metric.version,
        "split_by": metric.dimension,
        "ratio": None if metric.ratio is None else list(metric.ratio),
    }


def latest(con: duckdb.DuckDBPyConnection, published: Published | None) -> dict[str, Row]:
    """By metric: `value` of the last complete day `date`, and the `values` of SPARK_DAYS complete days up to it."""
    if published is None or not published.has(DAILY):
        return {}
    return {row.pop("metric_name"): row for row in query_rows(con, _LATEST, {"days": SPARK_DAYS})}


def metric(con: duckdb.DuckDBPyConnection, published: Published, named: Metric, parts: int = 50) -> Row:
    """All that there is to say of one metric: its meaning, its days, its parts, its tests, what it is made from."""
    behind = published.catalogue.behind(named)
    told = described(named) | {"sql": named.value, "made_from": lineage(behind), "days": None, "parts": []}
    told["tests"] = list(published.catalogue.marts[DAILY].tests) if DAILY in published.catalogue.marts else []
    if published.has(DAILY):
        (told["days"],) = query_rows(con, _DAYS, {"name": named.shown_as})
        told["parts"] = query_rows(con, _PARTS, {"name": named.shown_as, "limit": parts})
    return told


def spend(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """What was spent, won and earned by month and channel, the newest month first."""
    return query_rows(con, SPEND)


def spend_gaps(con: duckdb.DuckDBPyConnection) -> Row:
    """What is missing of it: currencies without a rate, and until when each channel's exports reach."""
    return {
        "currencies_without_rate": [row["currency"] for row in query_rows(con, _UNRATED)],
        "spent_until": {row["channel"]: row["spent_until"] for row in query_rows(con, _SPENT_UNTIL)},
    }


def looks(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """How the interval of each variation stood in each build that is kept, the oldest first."""
    return query_rows(con, looks_sql(con))


def looks_sql(con: duckdb.DuckDBPyConnection) -> str:
    """The query for that."""
    there = builds.schemas(con)
    kept = [
        build
        for build in builds.builds(con)
        if build.status in ("published", "replaced")
        and build.build_schema in there
        and "mart_experiment_results" in build.row_counts
    ]
    every = [_ONE_LOOK.format(build=one.build_id, schema=one.build_schema) for one in kept]
    return f"{' union all '.join(every)} order by as_of, build_id" if every else _NO_LOOK


def change(values: Sequence[float | None]) -> float | None:
    """Of the last value against the one of a week before, relative to it; None where that cannot be said."""
    if len(values) < 8 or not values[-8] or values[-1] is None:
        return None
    return (values[-1] - values[-8]) / abs(values[-8])


def by_name(rows: Sequence[Row], name: str) -> Mapping[str, list[Row]]:
    """The rows by the value of one of their columns, in the order in which they come."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[name], []).append(row)
    return found
