"""Who is told, and when somebody is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_marts.anomalies.owners import OWNERS, Team, load_owners
from batch_marts.metrics import load_metrics
from stitchline.errors import DefinitionError

BERLIN = {"from": "09:00", "to": "18:00", "time_zone": "Europe/Berlin"}
GOOD: dict[str, Any] = {"product": {"channel": "#product"}, "platform": {"channel": "C024BE91L"}}


def file_of(folder: Path, teams: object) -> Path:
    file = folder / "owners.yml"
    file.write_text(yaml.safe_dump({"teams": teams}), encoding="utf-8")
    return file


def team(**values: Any) -> Team:
    return Team.model_validate({"channel": "#product"} | values)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_every_owner_of_the_shop_s_metrics_is_a_team() -> None:
    owners = load_owners(OWNERS, {metric.name: metric.owner for metric in load_metrics()})
    assert set(owners.teams) == {"product", "growth", "finance", "marketing", "platform"}
    assert owners.team("growth").channel == "#growth-alerts"
    assert owners.team("growth").escalate_after == timedelta(minutes=30)


def test_what_concerns_several_teams_is_the_platform_s() -> None:
    owners = load_owners()
    assert owners.of_metrics(["growth", "growth"]) == "growth"
    assert owners.of_metrics(["growth", "finance"]) == "platform"
    assert owners.of_metrics(["nobody we know"]) == "platform"
    assert owners.team("nobody we know") == owners.team("platform")


@pytest.mark.parametrize(
    ("teams", "says"),
    [
        ({"product": {"channel": "#product"}}, "there is no team `platform`"),
        ({}, "teams"),
        ([], "teams"),
        (GOOD | {"product": {"channel": "product"}}, "teams.product.channel: a channel is a #name"),
        (GOOD | {"product": {}}, "teams.product.channel: is missing"),
        (GOOD | {"product": {"channel": "#p", "chanel": "#q"}}, "did you mean channel?"),
        (GOOD | {"product": {"channel": "#p", "escalate_after": 30}}, "30 is no duration"),
        (GOOD | {"product": {"channel": "#p", "on_duty": [{"name": "Ada", "slack": "ada"}]}}, "on_duty[0].slack"),
        (GOOD | {"product": {"channel": "#p", "working_hours": {"from": 570, "to": "18:00"}}}, "570 is no time of day"),
        (GOOD | {"product": {"channel": "#p", "working_hours": BERLIN | {"to": "08:00"}}}, "swap `from` and `to`"),
        (GOOD | {"product": {"channel": "#p", "working_hours": BERLIN | {"time_zone": "Berlin"}}}, "tz database"),
        (GOOD | {"product": {"channel": "#p", "working_hours": BERLIN | {"time_zone": "Europe"}}}, "tz database"),
        (GOOD | {"product": {"channel": "#p", "working_hours": BERLIN | {"time_zone": "../etc"}}}, "tz database"),
        (GOOD | {"product": {"channel": "#p", "working_hours": BERLIN | {"days": ["monday"]}}}, "days[0]"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, teams: object, says: str) -> None:
    file = file_of(tmp_path, teams)
    with pytest.raises(DefinitionError) as refused:
        load_owners(file)
    assert str(file) in str(refused.value)
    assert says in str(refused.value)


def test_an_owner_without_a_team(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="metric 'orders' is owned by 'finance', which is none of its teams"):
        load_owners(file_of(tmp_path, GOOD), {"orders": "finance"})
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_owners(tmp_path / "missing.yml")


@pytest.mark.parametrize(
    ("opened", "called"),
    [
        ("2026-11-25T10:00", "2026-11-25T10:30"),  # a Wednesday; Berlin is at 11:00
        ("2026-11-25T16:45", "2026-11-26T08:00"),  # 17:45 there: half an hour later nobody works, until 9:00
        ("2026-11-25T02:00", "2026-11-25T08:30"),  # at night: half an hour after they begin
        ("2026-11-27T20:00", "2026-11-30T08:30"),  # Friday evening: on Monday
        ("2026-03-28T12:00", "2026-03-30T07:30"),  # over the change to summer time, 9:00 there is 7:00 UTC
    ],
)
def test_people_are_called_in_their_working_hours(opened: str, called: str) -> None:
    weekdays = team(working_hours=BERLIN)
    assert weekdays.escalates_at(at(opened), critical=False) == at(called)
    assert weekdays.escalates_at(at(opened), critical=True) == at(opened) + timedelta(minutes=30)


def test_without_working_hours_people_are_called_around_the_clock_and_without_escalation_never() -> None:
    night = at("2026-11-29T03:00")
    assert team().escalates_at(night, critical=False) == night + timedelta(minutes=30)
    assert team(escalate_after=None).escalates_at(night, critical=True) is None
    quiet = team(working_hours=BERLIN, escalate_critical=False)
    assert quiet.escalates_at(night, critical=True) == at("2026-11-30T08:30")


def test_how_people_are_called() -> None:
    people = [{"name": "Ada", "slack": "U012ABCDEF"}, {"name": "Grace"}]
    assert team(on_duty=people).mention == "<@U012ABCDEF> Grace"
    assert team().mention == "<!here>"
