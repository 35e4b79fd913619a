"""Experiments as people define them, in YAML: who was to see what, what it is judged by, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from stitchline.definition_files import read_definitions
from stitchline.definitions import Part, Since, Until
from stitchline.errors import DefinitionError

Kind = Literal["conversion", "mean"]
Role = Literal["metric", "guardrail"]

MetricName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text to YAML: put it in quotes")
    return value


Text = Annotated[str, BeforeValidator(_text), StringConstraints(min_length=1, max_length=200)]


class Metric(Part):
    """One value for each person: whether an event happened, or the sum of one of its properties."""

    name: MetricName
    event: Text
    sum: Text | None = None
    """A property, added up over the person's events; without it, the metric is whether there was one."""
    once_per: Text | None = None
    """A property: of a person's events with the same value of it, the first counts."""
    good: Literal["up", "down"] = "up"

    @property
    def kind(self) -> Kind:
        return "conversion" if self.sum is None else "mean"


class Experiment(Part):
    """What its exposures are judged by."""

    id: Text
    """The experiment_id of its exposures."""
    label: Text | None = None
    variations: dict[Text, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=2, max_length=20)
    """By variation_id, its part of the traffic: 1 and 1, or 90 and 10."""
    control: Text = "control"
    metrics: tuple[Metric, ...] = Field(min_length=1, max_length=20)
    """The first one decides."""
    guardrails: tuple[Metric, ...] = Field(default=(), max_length=20)
    """What must not get worse."""
    minimum_effect: float = Field(gt=0, le=10)
    """The smallest change of the first metric that is worth having, relative to the control: 0.05 is 5 %."""
    start: Since = None
    end: Until = None

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        if self.control not in self.variations:
            raise ValueError(
                f"the control {self.control!r} is none of the variations {', '.join(map(repr, self.variations))}: name "
                "one of them as `control`"
            )
        names = [metric.name for metric in self.measured]
        again = sorted({name for name in names if names.count(name) > 1})
        if again:
            raise ValueError(f"{again[0]!r} is the name of two metrics: give one of them another")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("it ends before it starts: move `start` or `end`")
        return self

    @property
    def measured(self) -> tuple[Metric, ...]:
        """Its metrics, then its guardrails."""
        return self.metrics + self.guardrails

    @property
    def arms(self) -> tuple[str, ...]:
        """Its variations, the control first."""
        return (self.control, *(name for name in self.variations if name != self.control))

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the traffic of each of `arms`; they add up to 1."""
        whole = sum(self.variations.values())
        return tuple(self.variations[name] / whole for name in self.arms)


class _Experiments(Part):
    experiments: tuple[Experiment, ...]


_FIELDS: Final = [*_Experiments.model_fields, *Experiment.model_fields, *Metric.model_fields]


def load_experiments(path: Path | None) -> list[Experiment]:
    """The experiments that a YAML file defines, or those of a folder, by file name; none without a path.

    Raises DefinitionError, naming the file, the experiment and the way out.
    """
    if path is None:
        return []
    files = sorted([*path.glob("*.yml"), *path.glob("*.yaml")]) if path.is_dir() else [path]
    found: dict[str, Path] = {}
    experiments = []
    for file in files:
        for experiment in read_definitions(file, "experiments", _Experiments, _FIELDS, _whose).experiments:
            if experiment.id in found:
                raise DefinitionError(
                    f"{file}: experiment {experiment.id!r} is in {found[experiment.id]} already: keep one of them.",
                    field="id",
                    source=file,
                )
            found[experiment.id] = file
            experiments.append(experiment)
    return experiments


def _whose(told: Any, place: tuple[int | str, ...]) -> str:
    """The experiment that a problem is in, as its author named it."""
    try:
        return f"experiment {told['experiments'][place[1]]['id']!r}"
    except (KeyError, IndexError, TypeError):
        return ""
