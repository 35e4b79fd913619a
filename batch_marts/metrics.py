"""Metrics as code: what `metrics.yml` says, checked; the SQL of `mart_daily_metrics` and its documentation from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from batch_marts.anomalies.settings import Anomaly, Quiet, Rolling
from stitchline.definition_files import read_definitions
from stitchline.definitions import Part
from stitchline.errors import DefinitionError

DAILY: Final = "mart_daily_metrics"
"""The mart of the metrics, which has no file of its own."""

METRICS: Final = Path(__file__).with_name("metrics.yml")
"""The metrics of a shop, for whoever has none of their own."""

WHOLE: Final = "all"
"""The dimension of a metric's total."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Synonym = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=60)]


class Metric(Part):
    """One meaning: a version of a metric."""

    name: Name
    version: int = Field(default=1, ge=1)
    label: Text
    synonyms: tuple[Synonym, ...] = Field(default=(), max_length=20)
    definition: Annotated[Text, StringConstraints(min_length=40)]
    owner: Text
    unit: Text
    good: Literal["up", "down"]
    dimension: Name | None = None
    top: int | None = Field(default=None, ge=1, le=1000)
    value: Text | None = None
    ratio: tuple[str, str] | None = None
    retired: date | None = None
    anomaly: Anomaly = Anomaly()

    @model_validator(mode="after")
    def _has_one_source(self) -> Metric:
        if (self.value is None) == (self.ratio is None):
            raise ValueError("a metric has either `value`, a SQL statement, or `ratio`, two metrics")
        if self.ratio is not None and (self.dimension is not None or self.top is not None):
            raise ValueError("a ratio has the dimension that both its metrics share: leave `dimension` and `top` out")
        if self.top is not None and self.dimension is None:
            raise ValueError("`top` says how many values of a `dimension` are kept, and there is none")
        return self

    @model_validator(mode="after")
    def _has_synonyms_that_say_more(self) -> Metric:
        known = {self.name.casefold(), self.label.casefold()}
        for synonym in self.synonyms:
            if synonym.casefold() in known:
                raise ValueError(f"the synonym {synonym!r} is said already: by the name, the label or another synonym")
            known.add(synonym.casefold())
        return self

    @property
    def shown_as(self) -> str:
        """Its metric_name in mart_daily_metrics."""
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"


class _Metrics(Part):
    metrics: tuple[Metric, ...] = Field(min_length=1)
    quiet: tuple[Quiet, ...] = ()
    """For all of them."""


_FIELDS: Final = [name for model in (Metric, _Metrics, Anomaly, Quiet, Rolling) for name in model.model_fields]


def load_metrics(path: Path = METRICS) -> list[Metric]:
    """The metrics that a file defines and that are not retired, those that others are divided by first.

    Raises DefinitionError, naming the file, the metric and the way out.
    """
    today = datetime.now(UTC).date()
    shown = [metric for metric in every_metric(path) if metric.retired is None or metric.retired > today]
    by_name: dict[str, Metric] = {}
    for metric in shown:
        if metric.shown_as in by_name:
            raise DefinitionError(
                f"{path}: metric {metric.name!r} has version {metric.version} twice. A changed meaning is a "
                "new version.",
                field=metric.name,
                source=path,
            )
        by_name[metric.shown_as] = metric
    _refuse_borrowed_names(path, shown)
    for metric in shown:
        for part in metric.ratio or ():
            if part not in by_name or by_name[part].ratio is not None:
                raise DefinitionError(
                    f"{path}: metric {metric.name!r} is a ratio of {part!r}, which is no metric with a `value`.",
                    path=path,
                    metric=metric.name,
                )
    return shown


def every_metric(path: Path = METRICS) -> list[Metric]:
    """The metrics that a file defines, those that are retired, too. Raises DefinitionError as `load_metrics` does."""
    checked = read_definitions(path, "metrics", _Metrics, _FIELDS)
    return [_also_quiet(metric, checked.quiet) for metric in checked.metrics]


def _refuse_borrowed_names(path: Path, metrics: Sequence[Metric]) -> None:
    """A synonym that is another metric's own name would lead people to the wrong number."""
    owners = {text.casefold(): metric.name for metric in metrics for text in (metric.name, metric.label)}
    for metric in metrics:
        for synonym in metric.synonyms:
            if owners.get(synonym.casefold(), metric.name) != metric.name:
                raise DefinitionError(
                    f"{path}: metric {metric.name!r} has the synonym {synonym!r}, which is what metric "
                    f"{owners[synonym.casefold()]!r} is called. Leave it to that one.",
                    path=path,
                    metric=metric.name,
                )


def _also_quiet(metric: Metric, times: tuple[Quiet, ...]) -> Metric:
    if not times:
        return metric
    return metric.model_copy(
        update={"anomaly": metric.anomaly.model_copy(update={"quiet": metric.anomaly.quiet + times})}
    )


def daily_metrics_sql(metrics: Sequence[Metric]) -> str:
    """The dbt model `mart_daily_metrics`: a row for each metric, each of its parts and each day of the calendar."""
    parts = [f"{metric.shown_as}__told as (\n{metric.value}\n)" for metric in metrics if metric.value is not None]
    told = "\nunion all\n".join(_told(metric) for metric in metrics if metric.value is not None)
    ratios = "\nunion all\n".join(_ratio(metric) for metric in metrics if metric.ratio is not None)
    return _MODEL.format(parts=",\n\n".join(parts), told=told, ratios=f"union all\n{ratios}" if ratios else "")


def _told(metric: Metric) -> str:
    name = f"{metric.shown_as}__told"
    whole = f"select metric_date, '{metric.shown_as}' as metric_name, '{WHOLE}' as dimension, "
    whole += f"cast(sum(metric_value) as double) as metric_value from {name} group by metric_date"
    if metric.dimension is None:
        return whole
    value = "coalesce(cast(dimension as varchar), '(none)')"
    if metric.top is not None:
        value = (
            f"case when dimension in (select dimension from {name} group by dimension "
            f"order by sum(metric_value) desc, dimension limit {metric.top}) then {value} else 'other' end"
        )
    split = f"select metric_date, '{metric.shown_as}', '{metric.dimension}=' || {value}, "
    return f"{whole}\nunion all\n{split}cast(sum(metric_value) as double) from {name} group by all"


def _ratio(metric: Metric) -> str:
    assert metric.ratio is not None
    above, below = metric.ratio
    return (
        f"select below.metric_date, '{metric.shown_as}', below.dimension, "
        "coalesce(above.metric_value / nullif(below.metric_value, 0), 0)\n"
        "from filled as below\n"
        f"left join filled as above on above.metric_name = '{above}' and above.metric_date = below.metric_date "
        "and above.dimension = below.dimension\n"
        f"where below.metric_name = '{below}'"
    )


_MODEL: Final = """\
with {parts},

told as (
{told}
),

series as (
    select distinct metric_name, dimension from told
),

filled as (
    select days.calendar_date as metric_date, series.metric_name, series.dimension,
        coalesce(told.metric_value, 0) as metric_value
    from {{{{ ref('int_calendar') }}}} as days
    cross join series
    left join told
        on told.metric_date = days.calendar_date
        and told.metric_name = series.metric_name
        and told.dimension = series.dimension
),

every as (
    select metric_date, metric_name, dimension, metric_value from filled
    {ratios}
)

select every.metric_date, every.metric_name, every.dimension, every.metric_value, days.is_complete
from every
join {{{{ ref('int_calendar') }}}} as days on days.calendar_date = every.metric_date
"""


def metrics_markdown(metrics: Sequence[Metric]) -> str:
    """The documentation of the metrics: what each means, for people who never open the code."""
    rows = []
    for metric in metrics:
        facts = [f"also called {', '.join(metric.synonyms)}"] if metric.synonyms else []
        facts += [f"owner: {metric.owner}", f"unit: {metric.unit}", f"good: {metric.good}", f"version {metric.version}"]
        if metric.dimension is not None:
            facts.append(f"split by {metric.dimension}")
        if metric.ratio is not None:
            facts.append(f"{metric.ratio[0]} / {metric.ratio[1]}")
        rows.append(f"**{metric.label}** (`{metric.shown_as}`): {metric.definition} *{', '.join(facts)}*")
    return "\n\n".join(rows)
