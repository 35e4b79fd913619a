"""The nightly check: the newest complete days of every metric of mart_daily_metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import duckdb

from batch_marts.anomalies import wording
from batch_marts.anomalies.judging import DAYS, NOTHING_LEFT_OUT, how_unusual, judged_sql, quoted, rows, settings_of
from batch_marts.anomalies.segments import Segment, explain
from batch_marts.anomalies.settings import Anomaly
from batch_marts.anomalies.verdicts import Part, Verdict
from batch_marts.metrics import WHOLE, Metric

MART: Final = "marts.mart_daily_metrics"
_GREATEST_OVER: Final = 28
"""Days by which the greatest segments are told."""
_MONDAY: Final = date(1970, 1, 5)

Row = dict[str, Any]


def daily_values(mart: str = MART, where: str = "true") -> str:
    """The values of complete days, as `judged_sql` takes them: a slot is a day, and a week begins on Monday."""
    return f"""
        select mart.metric_name, mart.dimension as segment, mart.metric_date - date '{_MONDAY}' as slot,
            cast(mart.metric_date as timestamp) at time zone 'UTC' as began_at, mart.metric_value as value
        from {mart} as mart
        join anomaly_rules as rule on rule.metric_name = mart.metric_name
        where mart.is_complete and {where}
    """


def check_days(
    con: duckdb.DuckDBPyConnection,
    metrics: Sequence[Metric],
    *,
    mart: str = MART,
    left_out: str = NOTHING_LEFT_OUT,
    days: int = 1,
    until: date | None = None,
) -> list[Verdict]:
    """A verdict on each of the newest `days` complete and settled days of each metric, and of its greatest segments if
    it asks for them, and on later days that they wait. By metric, segment and day.

    `mart` is a relation with the columns of mart_daily_metrics. `left_out` is a query of (metric_name, segment,
    began_at timestamptz): anomalies, confirmed by people, from which the seasonal rule does not learn. `until` is the
    last day that counts; without it, the newest.
    """
    settings = {one.shown_as: one.anomaly for one in metrics}
    newest = _newest(con, mart, until)
    if newest is None:
        return []
    last = f"date '{newest}' - rule.settled_after"
    learned_from = f"mart.metric_date <= {last} and mart.metric_date > {last} - {DAYS.history + days}"
    judged = f"(mart.dimension = '{WHOLE}' or (mart.metric_name, mart.dimension) in ({_greatest(mart, newest)}))"
    with settings_of(con, settings):
        values = daily_values(mart, f"{learned_from} and {judged}")
        found = rows(con, judged_sql(values, DAYS, left_out=left_out, newest=days))
        odd = [row for row in found if row["said"] == "anomaly"]
        words = how_unusual(con, odd, daily_values(mart), DAYS, "day") if odd else {}
        parts = _parts(con, mart, odd, metrics, left_out, days, learned_from) if odd else {}
        later = _waiting(con, mart, settings, newest, until)
    verdicts = [
        wording.verdict_of(
            row,
            settings[row["metric_name"]],
            "day",
            unusual=words.get((row["metric_name"], row["segment"], row["slot"]), ""),
            parts=parts.get((row["metric_name"], row["segment"], row["slot"]), ()),
        )
        for row in found
    ]
    return sorted(verdicts + later, key=lambda one: (one.metric, one.segment, one.at))


def _newest(con: duckdb.DuckDBPyConnection, mart: str, until: date | None) -> date | None:
    """The last of the days up to which all are complete."""
    row = con.execute(
        f"select max(metric_date) from {mart} where is_complete and ($1 is null or metric_date <= $1)", [until]
    ).fetchone()
    assert row is not None
    day: date | None = row[0]
    return day


def _greatest(mart: str, newest: date) -> str:
    """The query of the segments that are judged by themselves: (metric_name, dimension)."""
    return f"""
        select metric_name, dimension
        from {mart} join anomaly_rules as rule using (metric_name)
        where rule.segments > 0 and dimension <> '{WHOLE}' and is_complete
          and metric_date <= date '{newest}' and metric_date > date '{newest}' - {_GREATEST_OVER}
        group by metric_name, dimension, rule.segments
        qualify row_number() over (
            partition by metric_name order by sum(abs(metric_value)) desc, dimension
        ) <= rule.segments
    """


def _parts(
    con: duckdb.DuckDBPyConnection,
    mart: str,
    odd: Sequence[Row],
    metrics: Sequence[Metric],
    left_out: str,
    days: int,
    learned_from: str,
) -> dict[tuple[str, str, int], tuple[Part, ...]]:
    """What explains each change of a whole, by metric, segment and slot."""
    whole = [row for row in odd if row["segment"] == WHOLE]
    below = {one.shown_as: one.ratio[1] for one in metrics if one.ratio is not None}
    names = ", ".join(quoted(name) for name in sorted({row["metric_name"] for row in whole})) or "null"
    values = daily_values(mart, f"{learned_from} and mart.dimension <> '{WHOLE}' and mart.metric_name in ({names})")
    judged = rows(con, judged_sql(values, DAYS, left_out=left_out, newest=days))
    weights = _weights(con, mart, whole, below)
    found = {}
    for row in whole:
        name, slot = row["metric_name"], row["slot"]
        segments = [
            Segment(
                one["segment"],
                one["value"],
                one["expected"],
                weights.get((below[name], one["segment"], slot), 0.0) if name in below else 1.0,
            )
            for one in judged
            if (one["metric_name"], one["slot"]) == (name, slot) and one["expected"] is not None
        ]
        found[name, WHOLE, slot] = explain(segments, is_drop=row["value"] < row["expected"])
    return found


def _weights(
    con: duckdb.DuckDBPyConnection, mart: str, whole: Sequence[Row], below: Mapping[str, str]
) -> dict[tuple[str, str, int], float]:
    """What the segments of ratios were divided by, by metric, segment and slot."""
    wanted = sorted({(below[row["metric_name"]], row["slot"]) for row in whole if row["metric_name"] in below})
    if not wanted:
        return {}
    pairs = ", ".join(f"({quoted(name)}, {slot})" for name, slot in wanted)
    found = con.execute(
        f"select metric_name, dimension, metric_date - date '{_MONDAY}' as slot, metric_value from {mart} "
        f"where (metric_name, metric_date - date '{_MONDAY}') in ({pairs})"
    ).fetchall()
    return {(name, segment, slot): value for name, segment, slot, value in found}


def _waiting(
    con: duckdb.DuckDBPyConnection, mart: str, settings: Mapping[str, Anomaly], newest: date, until: date | None
) -> list[Verdict]:
    """The days after the last one that is judged."""
    found = rows(
        con,
        f"""
        select mart.metric_name, mart.dimension as segment, mart.metric_value, mart.is_complete, rule.rule,
            cast(mart.metric_date as timestamp) at time zone 'UTC' as began_at
        from {mart} as mart join anomaly_rules as rule on rule.metric_name = mart.metric_name
        where mart.dimension = '{WHOLE}' and mart.metric_date > date '{newest}' - rule.settled_after
          and ($1 is null or mart.metric_date <= $1)
        """,
        [until],
    )
    return [
        wording.waiting(
            row["metric_name"],
            row["segment"],
            "day",
            row["began_at"],
            row["rule"],
            row["metric_value"],
            _why(row, newest, settings[row["metric_name"]].settled_after),
        )
        for row in found
    ]


def _why(row: Row, newest: date, settled_after: int) -> str:
    if not row["is_complete"] or row["began_at"].date() > newest:
        return "The day is not complete: not all of its events are known."
    settled = row["began_at"].date() + timedelta(days=settled_after)
    return f"The day still grows for {settled_after} days: it is judged when {settled} is complete."
