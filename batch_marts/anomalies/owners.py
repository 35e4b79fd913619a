"""Who is told: `owners.yml`, checked. A metric's owner is a team; a team has a channel, people, and working hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from stitchline.definition_files import read_definitions
from stitchline.definitions import Part
from stitchline.durations import Duration
from stitchline.errors import DefinitionError

OWNERS: Final = Path(__file__).parents[1] / "owners.yml"
"""The teams of a shop, for whoever has none of their own."""
PLATFORM: Final = "platform"
"""The team that answers for the data itself: late data, Stitchline's own troubles, and what is no one team's."""

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEK: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _time(value: object) -> time:
    """A time of the day. YAML reads 9:30 as a number of minutes (570), so it is asked for as a text."""
    try:
        at = time.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is not None:
        raise ValueError(f'{value!r} is no time of day: write it in quotes, as "09:00"')
    return at


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:  # a folder of the database is no file
        raise ValueError("a time zone is a name of the tz database, like Europe/Berlin or UTC") from error
    return name


def channel_name(name: str) -> str:
    """The name, if Slack has channels of such names; raises ValueError."""
    if not (name.startswith("#") and len(name) > 1) and not (name[0] in "CG" and name[1:].isalnum() and name.isupper()):
        raise ValueError("a channel is a #name or Slack's id of it, like C024BE91L")
    return name


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Person(Part):
    """Somebody on duty. Without Slack's id of them (profile → Copy member ID) they are named, and not called."""

    name: Text
    slack: Annotated[str, StringConstraints(pattern=r"^[UW][A-Z0-9]{5,}$")] | None = None

    @property
    def mention(self) -> str:
        """As Slack calls them, else their name."""
        return f"<@{self.slack}>" if self.slack else self.name


class WorkingHours(Part):
    """When somebody can be expected to look: from `from` to `to`, by the clock on their wall."""

    days: tuple[Day, ...] = Field(default=("mon", "tue", "wed", "thu", "fri"), min_length=1)
    start: Annotated[time, BeforeValidator(_time)] = Field(alias="from")
    end: Annotated[time, BeforeValidator(_time)] = Field(alias="to")
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"

    @model_validator(mode="after")
    def _begin_before_they_end(self) -> WorkingHours:
        if self.start >= self.end:
            raise ValueError("working hours end after they begin, on the same day: swap `from` and `to`")
        return self

    def include(self, at: datetime) -> bool:
        """Whether somebody works then; `at` is aware."""
        local = at.astimezone(ZoneInfo(self.time_zone))
        return _WEEK[local.weekday()] in self.days and self.start <= local.time() < self.end

    def next(self, at: datetime) -> datetime:
        """The first moment from `at` on at which somebody works."""
        if self.include(at):
            return at
        zone = ZoneInfo(self.time_zone)
        day = at.astimezone(zone).date()
        for after in range(8):
            start = datetime.combine(day + timedelta(days=after), self.start, zone)
            if _WEEK[start.weekday()] in self.days and start >= at:
                return start.astimezone(at.tzinfo)
        raise AssertionError("a week has one of the days")


Reviewer = Annotated[str, StringConstraints(pattern=r"^@[A-Za-z0-9][A-Za-z0-9-]*(/[A-Za-z0-9._-]+)?$")]
"""A login or a group, as the code's host writes them: `@ada`, `@company/finance`."""


class Team(Part):
    """A team: where it is told, and who is called if nobody acts."""

    channel: Annotated[Text, AfterValidator(channel_name)]
    reviewers: tuple[Reviewer, ...] = ()
    """Who approves changes to what the team owns."""
    on_duty: tuple[Person, ...] = ()
    working_hours: WorkingHours | None = None
    """None: around the clock."""
    escalate_after: Duration | None = timedelta(minutes=30)
    """So long unacknowledged, and the people on duty are called; `null`: never."""
    escalate_critical: bool = True
    """Whether for what is critical they are called outside working hours as well."""

    def escalates_at(self, opened_at: datetime, *, critical: bool) -> datetime | None:
        """When they are called, if nobody has acted by then: in working hours only, but for what is critical."""
        if self.escalate_after is None:
            return None
        at = opened_at + self.escalate_after
        if self.working_hours is None or (critical and self.escalate_critical):
            return at
        return max(at, self.working_hours.next(opened_at) + self.escalate_after, self.working_hours.next(at))

    @property
    def mention(self) -> str:
        """How the people on duty are called in Slack; who is there in the channel, where none are named."""
        return " ".join(person.mention for person in self.on_duty) or "<!here>"


class Owners(Part):
    """All teams, by name."""

    teams: dict[Text, Team] = Field(min_length=1)

    @model_validator(mode="after")
    def _have_a_platform(self) -> Owners:
        if PLATFORM not in self.teams:
            raise ValueError(
                f"there is no team `{PLATFORM}`: it is told of late data and of Stitchline's own troubles, so name it"
            )
        return self

    def team(self, name: str) -> Team:
        """The team of that name; the platform team in the place of one that is not in the file."""
        return self.teams.get(name) or self.teams[PLATFORM]

    def of_metrics(self, owners: Sequence[str]) -> str:
        """The team that is told of metrics with these owners: their own, or the platform team if they are several's."""
        found = set(owners)
        return next(iter(found)) if len(found) == 1 and found <= set(self.teams) else PLATFORM


def load_owners(path: Path = OWNERS, metrics: Mapping[str, str] | None = None) -> Owners:
    """The teams that a file names. `metrics`: the owner of each metric, each of which has to be one of the teams.

    Raises DefinitionError, naming the file, the team and the way out.
    """
    names = [*Owners.model_fields, *Team.model_fields, *Person.model_fields, "days", "from", "to", "time_zone"]
    owners = read_definitions(path, "owners", Owners, names)
    for metric, owner in (metrics or {}).items():
        if owner not in owners.teams:
            raise DefinitionError(
                f"{path}: metric {metric!r} is owned by {owner!r}, which is none of its teams "
                f"({', '.join(sorted(owners.teams))}). Add the team, or name another owner in metrics.yml.",
                field=f"teams.{owner}",
                source=path,
            )
    return owners
