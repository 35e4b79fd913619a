"""While the day runs: counts of the stream over some minutes or an hour, against the same time of the weeks before.

Nothing is kept for it. What is read are the events around the same time of day, of nine weeks: a twelfth of them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb

from batch_marts.anomalies import wording
from batch_marts.anomalies.arrival import Late, late_data
from batch_marts.anomalies.judging import NOTHING_LEFT_OUT, Season, how_unusual, judged_sql, quoted, rows, settings_of
from batch_marts.anomalies.segments import Segment, explain
from batch_marts.anomalies.settings import Anomaly
from batch_marts.anomalies.verdicts import Grain, Part, Verdict
from batch_marts.metrics import WHOLE, Metric

Row = dict[str, Any]
Key = tuple[str, str, int]

_WEEKS: Final = 9
_DAYS: Final = 7 * _WEEKS
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT_VALUES: Final = 30
"""Values of a dimension that may explain a change; the others are `other`."""
_SLACK: Final = timedelta(minutes=3)
"""How long after its end a span's events may come before it is said to wait for them."""
_CATCH_UP: Final = timedelta(hours=1)
"""How far back spans are judged that nobody looked at in time."""


@dataclass(frozen=True, slots=True)
class Count:
    """Events that are counted: all, or those of some names. The metric's name is that of metrics.yml, if it has one."""

    metric: str
    events: tuple[str, ...] | None = None
    by_path: bool = False
    """Whether its greatest paths may be judged by themselves."""

    @property
    def condition(self) -> str:
        """Of a row of stream.events, in SQL."""
        return "true" if self.events is None else f"name in ({', '.join(map(quoted, self.events))})"


COUNTS: Final = (
    Count("page_views", ("Page Viewed", "Screen Viewed"), by_path=True),
    Count("events"),
    Count("sign_ups", ("Signed Up",)),
    Count("orders", ("Order Completed",)),
)
"""What a shop counts; one that calls its events otherwise has others."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often is judged, and what."""

    grain: Grain
    step: timedelta
    width: timedelta
    """Of the span that is counted: it ends with each step."""
    around: int
    """Steps before and after the same time of day from which level and deviation are learned, too."""

    @property
    def places(self) -> int:
        """Spans of a day."""
        return 2 * self.around + 1

    @property
    def season(self) -> Season:
        return Season(slots=7 * self.places, level_weeks=1, spread_weeks=2)

    def floor(self, at: datetime) -> datetime:
        """The last end of a span that is not after `at`."""
        return at - (at - _EPOCH) % self.step


FIVE_MINUTES: Final = Pace("five_minutes", timedelta(minutes=5), timedelta(minutes=10), around=12)
"""Ten minutes each five: what falls by 40 % is seen in full by a span that is over 15 minutes later, or before."""
HOUR: Final = Pace("hour", timedelta(hours=1), timedelta(hours=1), around=1)


def check_rolling(
    con: duckdb.DuckDBPyConnection,
    metrics: Sequence[Metric],
    now: datetime,
    *,
    pace: Pace = FIVE_MINUTES,
    counts: Sequence[Count] = COUNTS,
    since: datetime | None = None,
    left_out: str = NOTHING_LEFT_OUT,
) -> list[Verdict]:
    """A verdict on each count (and its greatest paths, as its metric asks for them) over each span that the flow has
    passed since `since` and within the hour, without it the last one; and one that waits where a later span is due.

    A verdict's `at` is when the last step of its span began. `now` is aware; `left_out` is as in `check_days`.
    """
    now = now.astimezone(UTC)
    told = {one.shown_as: one.anomaly for one in metrics}
    settings = {one.metric: rule for one in counts if (rule := _rolling(told.get(one.metric, Anomaly()))) is not None}
    counts = [one for one in counts if one.metric in settings]
    known_until = _known_until(con)
    due = pace.floor(now - _SLACK)
    if known_until is None or not counts:
        return []
    end = pace.floor(min(known_until, now))
    spans = 1 if since is None else min(max((end - pace.floor(since)) // pace.step, 0), _CATCH_UP // pace.step)
    found: list[Verdict] = []
    if spans:
        late = late_data(con, now)
        found = _judge(con, counts, settings, pace, end, min(spans, pace.around + 1), left_out)
        found = [_or_waiting(one, late) for one in found]
    if end < due:
        why = f"The flow is behind: events are known up to {known_until:%H:%M} UTC of {known_until:%d %B}."
        at = due - pace.step
        found += [wording.waiting(one.metric, WHOLE, pace.grain, at, "seasonal", None, why) for one in counts]
    return sorted(found, key=lambda one: (one.metric, one.segment, one.at))


def _rolling(anomaly: Anomaly) -> Anomaly | None:
    """How the counts of a metric are judged that is judged so by day."""
    if anomaly.rolling is None or anomaly.rule == "none":
        return None
    return anomaly.model_copy(
        update={
            "rule": "seasonal",
            "counts": True,
            "threshold": anomaly.rolling.threshold,
            "least_change": anomaly.rolling.least_change,
            "least_relative_change": anomaly.rolling.least_relative_change,
        }
    )


def _known_until(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The lowest watermark of the partitions that have one."""
    row = con.execute("select epoch_us(min(watermark)) from stream.progress").fetchone()
    return None if row is None or row[0] is None else _EPOCH + timedelta(microseconds=row[0])


def _or_waiting(verdict: Verdict, late: Sequence[Late]) -> Verdict:
    """A fall while a partition is silent is no fall yet."""
    silent = [one for one in late if one.kind == "idle"]
    if not silent or verdict.said != "anomaly" or verdict.actual is None or verdict.expected is None:
        return verdict
    if verdict.actual > verdict.expected:
        return verdict
    return replace(verdict, said="waiting", because=f"{silent[0].because} {verdict.because}", unusual="", parts=())


def _judge(
    con: duckdb.DuckDBPyConnection,
    counts: Sequence[Count],
    settings: Mapping[str, Anomaly],
    pace: Pace,
    end: datetime,
    spans: int,
    left_out: str,
) -> list[Verdict]:
    with settings_of(con, settings):
        with _values(con, pace, end, _counted(counts, settings), "name, path") as values:
            query = judged_sql(values, pace.season, left_out=left_out, newest=spans)
            found = rows(con, query)
            odd = [row for row in found if row["said"] == "anomaly"]
            words = how_unusual(con, odd, values, pace.season, pace.grain) if odd else {}
        parts = {_key(row): _parts(con, row, counts, pace, end, left_out) for row in odd}
    return [
        wording.verdict_of(
            row,
            settings[row["metric_name"]],
            pace.grain,
            unusual=words.get(_key(row), ""),
            parts=parts.get(_key(row), ()),
        )
        for row in found
    ]


def _key(row: Row) -> Key:
    return row["metric_name"], row["segment"], row["slot"]


@contextmanager
def _values(con: duckdb.DuckDBPyConnection, pace: Pace, end: datetime, counted: str, columns: str) -> Iterator[str]:
    """Within it, the query of the values of the spans up to `end`, as `judged_sql` takes them: a slot for each place
    around the time of day. The events are read once.

    `counted` is a query over `recent`, the events that matter with these `columns`, of (metric_name, segment, step, n):
    how many there were in the step with that number.
    """
    last = (end - _EPOCH) // pace.step
    a_day, wide = _DAY // pace.step, pace.width // pace.step
    query = _VALUES.format(
        columns=columns,
        recent="\nunion all\n".join(_recent(pace, end, days) for days in range(_DAYS)),
        step=pace.step // timedelta(microseconds=1),
        counted=counted,
        days=_DAYS,
        around=pace.around,
        places=pace.places,
        last=last,
        a_day=a_day,
        wide=wide,
    )
    con.register("anomaly_values", con.execute(query).to_arrow_table())
    try:
        yield "select * from anomaly_values"
    finally:
        con.unregister("anomaly_values")


def _recent(pace: Pace, end: datetime, days: int) -> str:
    """The events of around the same time, so many days before. A range of its own for each day: DuckDB then reads only
    what may lie in it."""
    around = pace.around * pace.step
    first = end - days * _DAY - around - pace.width
    last = end - days * _DAY + (around if days else timedelta())
    return f"from stream.events where event_at >= timestamptz '{first}' and event_at < timestamptz '{last}'"


_VALUES: Final = """
with recent as materialized (
    select epoch_us(event_at) // {step} as step, {columns}
    from (
{recent}
    )
    where not is_bot and (anonymous_id is null or anonymous_id not in (select anonymous_id from stream.bot_devices))
),

counted as materialized (
{counted}
),

spans as (
    select ({days} - days) * {places} + place as slot, {last} - days * {a_day} + place - {around} as end_step
    from range({days}) as before (days), range({places}) as places (place)
    where days > 0 or place <= {around}
),

steps as (
    select slot, end_step, end_step - 1 - back as step from spans, range({wide}) as wide (back)
),

-- Before the first event there was nothing to count.
begun as (
    select epoch_us(min(event_at)) // {step} + 1 as first_step from stream.events
),

series as (
    select distinct metric_name, segment from counted
)

select series.metric_name, series.segment, steps.slot,
    make_timestamptz((steps.end_step - 1) * {step}) as began_at,
    cast(coalesce(sum(counted.n), 0) as double) as value
from series
cross join steps
join begun on steps.end_step - {wide} >= begun.first_step
left join counted
    on counted.metric_name = series.metric_name and counted.segment = series.segment and counted.step = steps.step
group by all
"""


def _counted(counts: Sequence[Count], settings: Mapping[str, Anomaly]) -> str:
    """Of each count, in a step of any span even where there was none."""
    parts = []
    for one in counts:
        name = quoted(one.metric)
        parts.append(f"select {name} as metric_name, '{WHOLE}' as segment, 0 as step, 0 as n")
        parts.append(f"select {name}, '{WHOLE}', step, count(*) from recent where {one.condition} group by step")
        most = settings[one.metric].segments
        if one.by_path and most:
            parts.append(
                f"select {name}, 'path=' || path, step, count(*) from recent where {one.condition} and path in ("
                f"select path from recent where {one.condition} and path is not null "
                f"group by path order by count(*) desc, path limit {most}) group by path, step"
            )
    return "\nunion all\n".join(parts)


def _parts(
    con: duckdb.DuckDBPyConnection, row: Row, counts: Sequence[Count], pace: Pace, end: datetime, left_out: str
) -> tuple[Part, ...]:
    """Which path, source, device or country explains the change of one count."""
    name, segment = row["metric_name"], row["segment"]
    condition = next(one.condition for one in counts if one.metric == name)
    dimensions = dict(_DIMENSIONS)
    if segment != WHOLE:
        condition += f" and path = {quoted(segment.partition('=')[2])}"
        del dimensions["path"]
    told = ", ".join(f"'{word}=' || coalesce({value}, '(none)')" for word, value in dimensions.items())
    counted = f"""
        with split as (
            select step, unnest([{told}]) as segment from recent where {condition}
        ),
        greatest_values as (
            select segment from split group by segment
            qualify row_number() over (
                partition by split_part(segment, '=', 1) order by count(*) desc, segment
            ) <= {_KEPT_VALUES}
        )
        select {quoted(name)} as metric_name,
            case when segment in (from greatest_values) then segment
                else split_part(segment, '=', 1) || '=other' end as segment,
            step, count(*) as n
        from split group by all
    """
    behind = (end - pace.step - row["began_at"]) // pace.step
    with _values(con, pace, end, counted, "name, path, utm_source, device_type, context") as values:
        judged = rows(con, judged_sql(values, pace.season, left_out=left_out, newest=behind + 1))
    segments = [
        Segment(one["segment"], one["value"], one["expected"])
        for one in judged
        if one["slot"] == row["slot"] and one["expected"] is not None
    ]
    return explain(segments, is_drop=row["value"] < row["expected"])


_DIMENSIONS: Final = {
    "path": "path",
    "source": "utm_source",
    "device": "device_type",
    "country": "json_extract_string(context, '$.location.country')",
}
