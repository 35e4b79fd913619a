"""Who reads the marts: dbt exposures, each with the team that owns it and the channel where that team is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, Field, StringConstraints

from batch_marts.anomalies.owners import Owners, Text, channel_name
from batch_marts.metrics import DAILY
from batch_marts.refs import REF, shown_mart
from stitchline.definition_files import read_definitions
from stitchline.definitions import Part
from stitchline.errors import DefinitionError

EXPOSURES: Final = Path("models", "marts", "exposures.yml")
"""Where a project has them."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]


def _refs(text: str) -> str:
    if not REF.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is no mart: write ref('mart_daily_metrics')")
    return text.strip()


class _Owner(Part):
    name: Text
    email: str | None = None


class _Meta(Part):
    slack: Annotated[Text, AfterValidator(channel_name)] | None = None
    metrics: tuple[Text, ...] = ()
    columns: tuple[Annotated[str, StringConstraints(pattern=r"^\w+\.\w+$")], ...] = ()


class _Config(Part):
    meta: _Meta = _Meta()
    enabled: bool = True
    tags: tuple[str, ...] = ()


class _Exposure(Part):
    name: Name
    label: Text | None = None
    type: Literal["dashboard", "notebook", "analysis", "ml", "application"]
    maturity: Literal["high", "medium", "low"] | None = None
    url: str | None = None
    description: str = ""
    depends_on: tuple[Annotated[str, AfterValidator(_refs)], ...] = Field(min_length=1)
    owner: _Owner
    config: _Config = _Config()


class _Exposures(Part):
    version: int = 2
    exposures: tuple[_Exposure, ...] = ()


_FIELDS: Final = [name for model in (_Exposures, _Exposure, _Owner, _Meta, _Config) for name in model.model_fields]


@dataclass(frozen=True, slots=True)
class Consumer:
    """Something of somebody's that reads marts."""

    name: str
    label: str
    kind: str
    owner: str
    """A team."""
    channel: str | None
    """Where it is told; None: in the team's channel."""
    marts: frozenset[str]
    metrics: frozenset[str] = frozenset()
    """Those of mart_daily_metrics that it reads; none listed: all."""
    columns: frozenset[tuple[str, str]] = frozenset()
    """Mart and column, where it reads some columns of a mart alone."""
    url: str | None = None

    def reads(self, mart: str, column: str | None = None, metric: str | None = None) -> bool:
        """Whether a change of that mart, of a column of it or of a metric concerns it."""
        if mart not in self.marts:
            return False
        if metric is not None and self.metrics and mart == DAILY:
            return metric in self.metrics
        listed = {name for of, name in self.columns if of == mart}
        return column is None or not listed or column in listed


def load_consumers(project: Path, more: Path | None = None) -> list[Consumer]:
    """The consumers that a project names, and those of a file beside it, by name.

    Raises DefinitionError, naming the file, the exposure and the way out.
    """
    files = [each for each in (project / EXPOSURES, more) if each is not None and (each == more or each.exists())]
    found: dict[str, Consumer] = {}
    for file in files:
        told = read_definitions(file, "exposures", _Exposures, _FIELDS, _whose)
        for one in told.exposures:
            if one.name in found:
                raise DefinitionError(
                    f"{file}: exposure {one.name!r} is there twice. Give one another name.", source=file
                )
            if one.config.enabled:
                found[one.name] = _consumer(one)
    return sorted(found.values(), key=lambda one: one.name)


def check_consumers(
    consumers: Iterable[Consumer], marts: Collection[str], metrics: Collection[str], owners: Owners
) -> None:
    """Raises DefinitionError for a consumer whose team, mart or metric is not there."""
    for one in consumers:
        if one.owner not in owners.teams:
            raise DefinitionError(
                f"Exposure {one.name!r} is owned by {one.owner!r}, which is no team of owners.yml "
                f"({', '.join(sorted(owners.teams))}). Name one of them, or add the team.",
                field=one.name,
            )
        for what, named, there in (("mart", one.marts, marts), ("metric", one.metrics, metrics)):
            if unknown := sorted(set(named) - set(there)):
                raise DefinitionError(
                    f"Exposure {one.name!r} reads the {what} {unknown[0]!r}, which is not there. Name another, or "
                    "remove it.",
                    field=one.name,
                )


def downstream(
    consumers: Iterable[Consumer], mart: str, column: str | None = None, metric: str | None = None
) -> list[Consumer]:
    """Whom a change concerns."""
    return [one for one in consumers if one.reads(mart, column, metric)]


def channel_of(consumer: Consumer, owners: Owners) -> str:
    """Where a consumer's owner is told."""
    return consumer.channel or owners.team(consumer.owner).channel


def exposures_yaml(proposed: Sequence[Mapping[str, Any]]) -> str:
    """Exposures as they are written down, to be put into a file."""
    return yaml.safe_dump(
        {"exposures": [dict(one) for one in proposed]}, sort_keys=False, allow_unicode=True, width=110
    )


def _consumer(one: _Exposure) -> Consumer:
    refs = (REF.fullmatch(text) for text in one.depends_on)
    return Consumer(
        name=one.name,
        label=one.label or one.name,
        kind=one.type,
        owner=one.owner.name,
        channel=one.config.meta.slack,
        marts=frozenset(shown_mart(found[1], found[2]) for found in refs if found is not None),
        metrics=frozenset(one.config.meta.metrics),
        columns=frozenset((of, name) for of, _, name in (each.partition(".") for each in one.config.meta.columns)),
        url=one.url,
    )


def _whose(told: Any, place: tuple[int | str, ...]) -> str:
    """The name of the exposure that a place in the file belongs to."""
    if len(place) > 1 and place[0] == "exposures" and isinstance(place[1], int):
        try:
            return f"exposure {told['exposures'][place[1]]['name']!r}"
        except (KeyError, TypeError, IndexError):
            return f"exposure {place[1] + 1}"
    return ""
