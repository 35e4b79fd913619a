"""Judges values of many metrics in one statement: what is expected, how far from it a value is, and what that says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from batch_marts.anomalies import wording
from batch_marts.anomalies.settings import Anomaly
from batch_marts.anomalies.verdicts import Grain

_BASE: Final = Path(__file__).with_name("base.sql").read_text(encoding="utf-8")
_SEASONAL: Final = Path(__file__).with_name("seasonal.sql").read_text(encoding="utf-8")
_TIME: Final = pa.timestamp("us", tz="UTC")

LEAST_WEEKS: Final = 3
"""Of the six before, which have to have a value at the same place."""
LEAST_DEVIATION: Final = 0.02
"""Of the seasonal rule, relative to the usual value: however steady a metric was, it may move that much."""
GREATEST: Final = 1e300
"""What is greater, infinite or no number is no value; nothing overflows below."""

NOTHING_LEFT_OUT: Final = "select null::varchar as metric_name, null::varchar as segment, null::timestamptz as began_at"

JUDGED: Final = (
    "metric_name, segment, slot, began_at, said, rule, value, expected, deviation, low, high, z, baseline, reason"
)
"""The columns of `judged_sql`: varchar, varchar, bigint, timestamptz, varchar, varchar, double (up to z), bigint, and
why a time is quiet. Null is what cannot be told."""


@dataclass(frozen=True, slots=True)
class Season:
    """How values are placed in the week. `slot` numbers them without a gap, in the order of time."""

    slots: int
    """That are a week."""
    level_weeks: int = 3
    """The last weeks, by which the level is told."""
    spread_weeks: int = 6
    """The last weeks, by whose surprises the deviation is told."""

    @property
    def history(self) -> int:
        """Slots before a value on which it depends."""
        return self.slots * (6 + self.level_weeks + self.spread_weeks)

    @property
    def least(self) -> int:
        """Slots before a value without which it is not judged."""
        return self.slots * (LEAST_WEEKS + 1 + 2)


DAYS: Final = Season(7)


@contextmanager
def settings_of(con: duckdb.DuckDBPyConnection, settings: Mapping[str, Anomaly]) -> Iterator[None]:
    """Within it, `con` has the tables that `judged_sql` asks for: how each of `settings`, by metric, is judged."""
    rules = [
        {
            "metric_name": name,
            "rule": one.rule,
            "threshold": one.deviations,
            "least_change": one.least_change,
            "least_relative_change": one.relative,
            "direction": one.direction,
            "counts": one.counts,
            "segments": one.segments,
            "settled_after": one.settled_after,
        }
        for name, one in settings.items()
        if one.rule != "none"
    ]
    quiet = [
        {"metric_name": name, "start_at": time.start, "end_at": time.end, "reason": time.reason}
        for name, one in settings.items()
        for time in one.quiet
    ]
    con.register("anomaly_rules", pa.Table.from_pylist(rules, schema=_RULES))
    con.register("anomaly_quiet", pa.Table.from_pylist(quiet, schema=_QUIET))
    try:
        yield
    finally:
        con.unregister("anomaly_rules")
        con.unregister("anomaly_quiet")


_RULES: Final = pa.schema(
    [
        ("metric_name", pa.string()),
        ("rule", pa.string()),
        ("threshold", pa.float64()),
        ("least_change", pa.float64()),
        ("least_relative_change", pa.float64()),
        ("direction", pa.string()),
        ("counts", pa.bool_()),
        ("segments", pa.int32()),
        ("settled_after", pa.int32()),
    ]
)
_QUIET: Final = pa.schema(
    [("metric_name", pa.string()), ("start_at", _TIME), ("end_at", _TIME), ("reason", pa.string())]
)


def judged_sql(values: str, season: Season, *, left_out: str = NOTHING_LEFT_OUT, newest: int | None = None) -> str:
    """The SQL of a row for each value (JUDGED), to be run within `settings_of`.

    `values` is a query of (metric_name, segment, slot, began_at timestamptz, value double); `left_out` one of
    (metric_name, segment, began_at), anomalies from which the seasonal rule is not to learn. Of each series the last
    `newest` slots are told, the rest only learned from.
    """
    seasonal = _SEASONAL.format(
        season=season.slots,
        least_weeks=LEAST_WEEKS,
        level=season.slots * season.level_weeks,
        spread=season.slots * season.spread_weeks,
        least_deviation=LEAST_DEVIATION,
    )
    wanted = "" if newest is None else f"and slot > last_slot - {newest}"
    return _JUDGED.format(values=values, left_out=left_out, base=_BASE, seasonal=seasonal, wanted=wanted)


_JUDGED: Final = f"""\
with given as (
{{values}}
),

series as materialized (
    select row_number() over () as series, *
    from (select metric_name, segment, min(slot) as first_slot, max(slot) as last_slot from given group by all)
    join anomaly_rules using (metric_name)
),

times as materialized (
    select distinct slot, began_at from given
),

quiet as materialized (
    select series.series, times.slot, first(one.reason order by one.start_at, one.end_at, one.reason) as reason
    from anomaly_quiet as one
    join times on times.began_at >= one.start_at and times.began_at < one.end_at
    join series using (metric_name)
    group by all
),

not_kept as materialized (
    select series, slot from quiet
    union
    select series.series, times.slot
    from ({{left_out}}) as one
    join times using (began_at)
    join series using (metric_name, segment)
),

known as (
    select series.series, given.slot, series.rule,
        case when abs(given.value) <= {GREATEST} then given.value end as value
    from given
    join series using (metric_name, segment)
),

by_base as (
    with told as (select series, slot, value from known where rule = 'base')
    from (
{{base}}
    )
),

by_season as (
    with slots as (
        select series, unnest(range(first_slot, last_slot + 1)) as slot, counts from series where rule = 'seasonal'
    ),
    told as (
        select slots.series, slots.slot, known.value, slots.counts,
            case when not_kept.series is null then known.value end as kept
        from slots
        left join known on known.series = slots.series and known.slot = slots.slot
        left join not_kept on not_kept.series = slots.series and not_kept.slot = slots.slot
    )
    from (
{{seasonal}}
    )
),

compared as (
    select *, value - expected as change from (from by_base union all by name from by_season)
    where value is not null
),

measured as (
    select series.* exclude (first_slot, last_slot), slot, value, expected, deviation, change, baseline,
        case when deviation > 0 then abs(change) / deviation end as z,
        greatest(
            series.threshold * deviation, series.least_change, series.least_relative_change * abs(expected)
        ) as allowed
    from compared
    join series on series.series = compared.series {{wanted}}
),

told as (
    select measured.*, times.began_at, quiet.reason,
        case
            when quiet.reason is not null then 'quiet'
            when expected is null then 'too_few'
            when change <> 0 and coalesce(z > threshold, true) and abs(change) > least_change
                and abs(change) > least_relative_change * abs(expected)
                and (direction = 'both' or (direction = 'drops') = (change < 0)) then 'anomaly'
            else 'normal'
        end as said,
        case when expected is not null then expected - allowed end as low,
        case when expected is not null then expected + allowed end as high
    from measured
    join times on times.slot = measured.slot
    left join quiet on quiet.series = measured.series and quiet.slot = measured.slot
)

select {JUDGED} from told
"""


def rows(con: duckdb.DuckDBPyConnection, query: str, parameters: object = None) -> list[dict[str, Any]]:
    """What `query` answers, a dictionary a row; times are aware UTC."""
    found: list[dict[str, Any]] = con.execute(query, parameters).to_arrow_table().to_pylist()
    for row in found:
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = value.astimezone(UTC)
    return found


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def how_unusual(
    con: duckdb.DuckDBPyConnection, odd: Sequence[Mapping[str, Any]], values: str, season: Season, grain: Grain
) -> dict[tuple[str, str, int], str]:
    """How unusual each of the anomalies `odd` (rows of JUDGED) is, in words, by metric, segment and slot.

    `values` is a query as `judged_sql` takes it, of as much history as there is.
    """
    table = pa.Table.from_pylist(
        [{name: row[name] for name in _ODD.names if name != "is_low"} | {"is_low": _is_low(row)} for row in odd],
        schema=_ODD,
    )
    con.register("anomaly_odd", table)
    try:
        found = rows(con, _UNUSUAL.format(values=values, season=season.slots))
    finally:
        con.unregister("anomaly_odd")
    return {
        (row["metric_name"], row["segment"], row["slot"]): wording.unusual(
            row["is_low"], row["began_at"], grain, row["weeks"], row["recorded"]
        )
        for row in found
    }


def _is_low(row: Mapping[str, Any]) -> bool:
    return bool(row["value"] < row["expected"])


_ODD: Final = pa.schema(
    [
        ("metric_name", pa.string()),
        ("segment", pa.string()),
        ("slot", pa.int64()),
        ("began_at", _TIME),
        ("value", pa.float64()),
        ("is_low", pa.bool_()),
    ]
)

_UNUSUAL: Final = """
select odd.metric_name, odd.segment, odd.slot, odd.began_at, odd.is_low, count(*) as recorded,
    min(odd.slot - past.slot) filter (
        case when odd.is_low then past.value <= odd.value else past.value >= odd.value end
    ) // {season} as weeks
from anomaly_odd as odd
join ({values}) as past
    on past.metric_name = odd.metric_name and past.segment = odd.segment
    and past.slot < odd.slot and (odd.slot - past.slot) % {season} = 0
group by all
"""
