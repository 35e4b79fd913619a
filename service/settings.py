"""Every setting: from flags, environment (STITCHLINE_…), stitchline.toml and defaults, in this order; read once, here.

Nested names are joined with two underscores: STITCHLINE_KAFKA__BOOTSTRAP is kafka.bootstrap.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import time, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_origin
from zoneinfo import available_timezones

import psutil
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as NotJson

from batch_marts.changes import NOTICE
from batch_marts.spend.amounts import is_currency
from batch_marts.spend.forms import Platform
from flows.bots import BotRules
from flows.clock import DEFAULT_REORDER_WINDOW
from flows.rules import CheckpointLimits, FlowRules
from flows.session_rules import BACKGROUND_EVENTS, LOGOUT_EVENTS, SessionRules
from identity.claims import LinkRules
from identity.ids import LegalIds
from sinks.outbox import BASE_URL
from stitchline.durations import Duration
from stitchline.errors import SettingsError

PREFIX: Final = "STITCHLINE_"
CONFIG_VARIABLE: Final = "STITCHLINE_CONFIG"
DEFAULT_FILE: Final = Path("stitchline.toml")
_NOT_SETTINGS: Final = ("STITCHLINE_CONFIG", "STITCHLINE_WAREHOUSE", "STITCHLINE_TEST_", "STITCHLINE_PROVE")
_FROM_ENVIRONMENT: Final = "env:"


_absolute: Final = AfterValidator(Path.absolute)
"""dbt changes the working directory while it runs, so no place is meant from where one happens to be."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    bootstrap: str | None = Field(
        default=None, description="Brokers, host:port, comma-separated. Empty: a Kafka of Stitchline's own is started."
    )
    topic: str = Field(default="events", min_length=1, description="The topic of events.")
    create_topic_partitions: int | None = Field(
        default=None, ge=1, description="Make the topic, with so many partitions, if it is not there."
    )
    group: str = Field(default="stitchline", description="Consumer group that learns the offsets, for lag tools alone.")
    on_lost_records: Literal["stop", "skip"] = Field(
        default="stop",
        description="If Kafka deleted records before they were read: stop, or skip them and keep note of it.",
    )
    config: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="Any librdkafka setting (TLS, SASL, …). A value `env:NAME` is read from the environment.",
    )

    def client_config(self, bootstrap: str) -> dict[str, str]:
        """What librdkafka is given. Raises SettingsError if a variable that is referred to is not set."""
        config = {"bootstrap.servers": bootstrap, "group.id": self.group}
        for name, value in self.config.items():
            if value.startswith(_FROM_ENVIRONMENT):
                variable = value.removeprefix(_FROM_ENVIRONMENT)
                if variable not in os.environ:
                    raise SettingsError(
                        f"kafka.config.{name} is taken from the environment variable {variable}, which is not set.",
                        setting=f"kafka.config.{name}",
                    )
                value = os.environ[variable]
            config[name] = value
        return config


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("an address starts with redis://, rediss:// or unix://")
    return url


def _there(path: Path) -> Path:
    if not path.exists():
        raise ValueError("there is no such file or folder")
    return path


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)? ?([KMGT]i?B|%)", text, re.IGNORECASE):
        raise ValueError("a size is a number and a unit, like 1GB or 800MiB")
    return text


def _bytes(size: str) -> int:
    """What a `_size` is; a share is one of the machine's memory."""
    number, unit = re.fullmatch(r"([\d.]+) ?(\S+)", size).groups()  # type: ignore[union-attr]
    if unit == "%":
        return int(float(number) / 100 * psutil.virtual_memory().total)
    base = 1024 if "i" in unit.lower() else 1000
    return int(float(number) * base ** (1 + "KMGT".index(unit[0].upper())))


class RedisSettings(_Section):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None, description="redis://… or rediss://… address. Empty: a Valkey of Stitchline's own is started."
    )


class WarehouseSettings(_Section):
    path: Path = Field(
        default=Path(".stitchline/warehouse.duckdb"),
        description="The DuckDB file (also STITCHLINE_WAREHOUSE).",
    )
    memory_limit: Annotated[str, AfterValidator(_size)] = Field(
        default="400MB", description="What DuckDB may use, beside the flow's own memory."
    )
    memory_limit_alone: Annotated[str, AfterValidator(_size)] = Field(
        default="1200MB", description="The same for a command that opens the file itself, as no service holds it."
    )
    funnel_memory_limit: Annotated[str, AfterValidator(_size)] = Field(
        default="2GB",
        description="What the events may take that a service keeps in memory for funnels, 25 to 40 bytes each; twice "
        "as much while they are read, half as much for what conditions said. Beyond, and with 0MB, SQL answers.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="DuckDB's. Empty: half the cores; with all of them a checkpoint costs half as much CPU again.",
    )

    @property
    def funnel_bytes(self) -> int:
        return _bytes(self.funnel_memory_limit)


class SessionSettings(_Section):
    gap: Duration = Field(
        default=timedelta(minutes=30), description="A silence greater than this starts a new session."
    )
    gap_by_library: dict[str, Duration] = Field(
        default_factory=dict, description="Other gaps by context.library.name; the later event's library decides."
    )
    cap: Duration = Field(default=timedelta(hours=24), description="No event later than this after the start belongs.")
    logout_events: frozenset[str] = Field(default=LOGOUT_EVENTS, description="Each is its session's last event.")
    background_events: frozenset[str] = Field(
        default=BACKGROUND_EVENTS, description="Stored, but they never start, extend or end a session."
    )
    split_at_midnight: bool = Field(default=False, description="Also split where the UTC date changes.")
    split_on_campaign: bool = Field(default=False, description="Also split where another campaign arrives.")


class IdentitySettings(_Section):
    local_illegal_ids: frozenset[str] = Field(
        default=frozenset(), description="More ids that mean nobody, besides null, undefined, guest and their like."
    )
    look_back: Duration = Field(
        default=LinkRules().look_back, description="How far before a login anonymous events still belong to the user."
    )
    users_of_device: int = Field(
        default=LinkRules().users_of_device,
        ge=1,
        description="A device that more users claim within claim_window is shared: no login reaches back.",
    )
    devices_of_user: int = Field(
        default=LinkRules().devices_of_user,
        ge=1,
        le=200,
        description="Of the devices that a user claims within claim_window, so many link; the rest are held.",
    )
    claim_window: Duration = Field(
        default=LinkRules().within, description="The time in which users and devices are counted for these limits."
    )
    expire_after: Duration = Field(
        default=timedelta(days=400), description="Redis forgets a device without news for so long; the ledger does not."
    )


class FlowSettings(_Section):
    reorder_window: Duration = Field(
        default=DEFAULT_REORDER_WINDOW, description="How much event time records may arrive out of order."
    )
    future_skew: Duration = Field(
        default=timedelta(minutes=5), description="An event further ahead of its reception gets the reception's time."
    )
    commit_events: int = Field(default=250_000, ge=1, description="Events in one checkpoint at most.")
    commit_interval: Duration = Field(default=timedelta(seconds=1), description="Time between two checkpoints at most.")
    workers: int = Field(default=2, ge=1, le=64, description="Threads that read and decode.")


class BotSettings(_Section):
    events_per_minute: int = Field(
        default=BotRules().events_per_minute, ge=1, description="A device with more in one minute is a bot."
    )
    hours_per_day: int = Field(
        default=BotRules().hours_per_day, ge=1, le=24, description="A device active in more hours of one day is a bot."
    )


def _page_url(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("an address of the page starts with https:// or http://")
    return url.rstrip("/")


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ValueError("a header's name is letters, digits and hyphens, like X-Forwarded-User")
    return name


def _peer_addresses(addresses: frozenset[str]) -> frozenset[str]:
    for address in addresses:
        try:
            ip_network(address.strip())
        except ValueError as error:
            raise ValueError(f"{address!r} is no address and no range: write 10.0.0.5 or 10.0.0.0/24") from error
    return addresses


HeaderName = Annotated[str, AfterValidator(_header_name)]


class WebSettings(_Section):
    host: str = Field(default="127.0.0.1", description="Address of the page; any but loopback demands a login.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port of the page; 0 lets the system choose.")
    token: SecretStr | None = Field(
        default=None, description="What the page and the API ask for; whoever has it is an operator."
    )
    viewer_token: SecretStr | None = Field(
        default=None, description="Another token, for those who may read but change nothing."
    )
    login_header: HeaderName | None = Field(
        default=None, description="Header in which a reverse proxy says who is logged in, like X-Forwarded-User."
    )
    login_from: Annotated[frozenset[str], AfterValidator(_peer_addresses)] = Field(
        default=frozenset(), description="Addresses, or ranges of them, of the proxy that is believed; no others are."
    )
    operators: frozenset[str] = Field(
        default=frozenset(), description="Who of those that the proxy logs in are operators; the others are viewers."
    )
    groups_header: HeaderName | None = Field(
        default=None, description="Header in which the proxy says people's groups, comma-separated."
    )
    operator_groups: frozenset[str] = Field(default=frozenset(), description="Groups whose members are operators.")
    public_url: Annotated[str, AfterValidator(_page_url)] | None = Field(
        default=None,
        description="Where people reach the page, for links in messages. Empty: the address it listens on.",
    )


def _time_of_day(value: object) -> time | None:
    """A time of the day, UTC; None for "off"."""
    if value is None or value == "off":
        return None
    try:
        at = value if isinstance(value, time) else time.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        at = None
    if at is None or at.tzinfo is not None:
        raise ValueError(f"{value!r} is no time of day: write it as 03:00, or off")
    return at


TimeOfDay = Annotated[time | None, BeforeValidator(_time_of_day)]


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("a time zone is a name of the tz database, like Europe/Berlin or UTC")
    return name


TimeZone = Annotated[str, AfterValidator(_zone)]


class ScheduleSettings(_Section):
    reconcile_at: TimeOfDay = Field(
        default=time(3),
        description="When, each day, the service compares all sessions with the batch definition; or off.",
    )
    refresh_at: TimeOfDay = Field(
        default=time(2), description="When, each day, the service refreshes the marts; or off."
    )
    time_zone: TimeZone = Field(default="UTC", description="The zone of these times, like Europe/Berlin.")


class MartsSettings(_Section):
    metrics: Annotated[FilePath, _absolute] | None = Field(
        default=None, description="What each metric means, in YAML. Empty: the metrics of a shop."
    )
    project: Annotated[DirectoryPath, _absolute] | None = Field(
        default=None,
        description="A dbt project of one's own, made from Stitchline's batch_marts folder. Empty: that one.",
    )
    exposures: Annotated[FilePath, _absolute] | None = Field(
        default=None, description="More that reads the marts, as dbt exposures in YAML, beside those of the project."
    )
    notice: Duration = Field(
        default=NOTICE, description="How long what breaks something for those who read the marts waits, once announced."
    )
    own_hosts: frozenset[str] = Field(
        default=frozenset(), description="The site's own hosts: a visit that they refer to themselves is direct."
    )
    kept_builds: int = Field(default=7, ge=1, description="Builds that `marts rollback` can go back to.")
    memory_limit: Annotated[str, AfterValidator(_size)] = Field(
        default="2GB", description="What DuckDB may use while the marts are refreshed."
    )
    variables: dict[str, Any] = Field(
        default_factory=dict, description="Variables of the dbt project, such as order_event or look_back_days."
    )


def _currency(code: str) -> str:
    if not is_currency(code):
        raise ValueError("a currency is a code of ISO 4217, like EUR")
    return code


Currency = Annotated[str, AfterValidator(_currency)]


class AccountSettings(_Section):
    """What the exports of a platform do not say themselves."""

    name: str | None = Field(default=None, min_length=1, description="Of the advertising account.")
    time_zone: TimeZone | None = Field(default=None, description="In which the account's days are.")
    currency: Currency | None = Field(default=None, description="The account's.")


class SpendSettings(_Section):
    folder: Annotated[Path, _absolute] | None = Field(
        default=None, description="A folder that the service loads the exports of advertising platforms from."
    )
    accounts: dict[Platform, AccountSettings] = Field(
        default_factory=dict,
        description="By platform: name, time_zone and currency of exports that do not say theirs.",
    )
    rounding: bool = Field(
        default=False, description="Take an export whose total differs by what the rounding of its lines explains."
    )
    without_total: bool = Field(
        default=False, description="Take an export without the totals by which one can tell that it is whole."
    )


def _slack_url(url: str) -> str:
    if not url.startswith(("https://", "http://")) or not url.endswith("/"):
        raise ValueError("an address of Slack's Web API starts with https:// and ends with /")
    return url


class SlackSettings(_Section):
    token: SecretStr | None = Field(
        default=None, description="The app's bot token (xoxb-…). Empty: incidents are on the page and in the log alone."
    )
    app_token: SecretStr | None = Field(
        default=None, description="The app-level token (xapp-…) by which buttons are heard of through a socket."
    )
    signing_secret: SecretStr | None = Field(
        default=None, description="The app's signing secret, where buttons are sent to the page instead."
    )
    base_url: Annotated[str, AfterValidator(_slack_url)] = Field(
        default=BASE_URL, description="Slack's Web API; another one for a proxy, or a test."
    )
    timeout: Duration = Field(default=timedelta(seconds=10), description="How long an answer of Slack is waited for.")


class AnomalySettings(_Section):
    rolling: bool = Field(
        default=True, description="Judge what the stream counts while the day runs; else the days of the marts alone."
    )


def _tenant_url(url: str) -> str:
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError("the address of a tenant starts with https://: the API key is sent there")
    return url.rstrip("/")


class AtlanSettings(_Section):
    url: Annotated[str, AfterValidator(_tenant_url)] | None = Field(
        default=None, description="The address of the tenant, https://acme.atlan.com, for `catalog push atlan`."
    )
    api_key: SecretStr | None = Field(
        default=None, description="An API token of it whose persona may write the connection and the glossary."
    )
    connection: str = Field(
        default="Stitchline", min_length=1, description="The connection that the tables are below; made if need be."
    )
    glossary: str = Field(
        default="Stitchline metrics", min_length=1, description="The glossary of the metrics' terms; made if need be."
    )
    groups: dict[str, str] = Field(
        default_factory=dict, description="By team of the metrics, what its group is called there, where that differs."
    )


class LogSettings(_Section):
    format: Literal["text", "json"] = Field(
        default="text", description="text is for people, json for collectors of logs: one object a line."
    )


class Settings(BaseSettings):
    """All settings of Stitchline."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    sessions: SessionSettings = SessionSettings()
    bots: BotSettings = BotSettings()
    identity: IdentitySettings = IdentitySettings()
    flow: FlowSettings = FlowSettings()
    web: WebSettings = WebSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    marts: MartsSettings = MartsSettings()
    spend: SpendSettings = SpendSettings()
    anomalies: AnomalySettings = AnomalySettings()
    slack: SlackSettings = SlackSettings()
    atlan: AtlanSettings = AtlanSettings()
    log: LogSettings = LogSettings()
    funnels: Annotated[DirectoryPath, _absolute] | None = Field(
        default=None, description="A folder of funnel definitions (*.json) to show on the page."
    )
    experiments: Annotated[Path, AfterValidator(_there), _absolute] | None = Field(
        default=None, description="What experiments are judged by, in YAML: a file, or a folder of them."
    )
    owners: Annotated[FilePath, _absolute] | None = Field(
        default=None, description="Who is told of incidents, in YAML. Empty: the teams of a shop."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        # STITCHLINE_WAREHOUSE is a path, for `load_settings`, where this would expect a whole section.
        env_settings.env_vars = {k: v for k, v in env_settings.env_vars.items() if k != "stitchline_warehouse"}
        return env_settings, init_settings  # the file's values come in by init, and the environment goes above them

    def flow_rules(self) -> FlowRules:
        """The rules that decide about sessions and identity."""
        sessions = self.sessions
        return FlowRules(
            sessions=SessionRules(
                gap=sessions.gap,
                gap_by_library=sessions.gap_by_library,
                cap=sessions.cap,
                logout_events=sessions.logout_events,
                background_events=sessions.background_events,
                split_at_midnight=sessions.split_at_midnight,
                split_on_campaign=sessions.split_on_campaign,
            ),
            bots=BotRules(self.bots.events_per_minute, self.bots.hours_per_day),
            legal=LegalIds(frozenset(text.lower() for text in self.identity.local_illegal_ids)),
            links=LinkRules(
                look_back=self.identity.look_back,
                users_of_device=self.identity.users_of_device,
                devices_of_user=self.identity.devices_of_user,
                within=self.identity.claim_window,
            ),
            reorder_window=self.flow.reorder_window,
        )

    def checkpoint_limits(self) -> CheckpointLimits:
        return CheckpointLimits(events=self.flow.commit_events, interval=self.flow.commit_interval)


def load_settings(
    file: Path | None = None, warehouse: Path | None = None, flags: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """The settings, with `flags` (by section) and `warehouse` above all. `file`: instead of ./stitchline.toml.

    Raises SettingsError for a file that cannot be read, an unknown name or a bad value, in one message.
    """
    path = file or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    values = _read(path or DEFAULT_FILE, must_exist=path is not None)
    _refuse_unknown_variables()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path or DEFAULT_FILE), setting=_names(error)[0]) from None
    except NotJson:
        raise SettingsError(_explain_json(), setting="environment") from None
    changed: dict[str, Any] = {section: dict(wanted) for section, wanted in (flags or {}).items() if wanted}
    chosen = warehouse or (Path(os.environ["STITCHLINE_WAREHOUSE"]) if os.environ.get("STITCHLINE_WAREHOUSE") else None)
    if chosen is not None:
        changed.setdefault("warehouse", {})["path"] = chosen
    sections = {}
    for section, wanted in changed.items():
        current = getattr(settings, section)
        try:
            sections[section] = type(current)(**{**dict(current), **wanted})
        except ValidationError as error:
            raise SettingsError(_explain(error, None, section), setting=section) from None
    settings = settings.model_copy(update=sections)
    place = settings.warehouse.model_copy(update={"path": settings.warehouse.path.absolute()})
    return settings.model_copy(update={"warehouse": place})


def settings_table() -> list[tuple[str, str, str, str]]:
    """Every setting as (name, variable, default, meaning), for --help and the README."""
    rows = []
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            rows.append((section, PREFIX + section.upper(), _shown(field.default), field.description or ""))
            continue
        for name, inner in model.model_fields.items():
            default = inner.get_default(call_default_factory=True)
            variable = f"{PREFIX}{section.upper()}__{name.upper()}"
            rows.append((f"{section}.{name}", variable, _shown(default), inner.description or ""))
    return rows


def _shown(value: Any) -> str:
    from stitchline.durations import format_duration

    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, time):
        return value.isoformat("minutes")
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if value is None or value == {}:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"The settings file {path} is not there. Check the path.", file=path) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"The settings file {path} cannot be read: {error}. Mend it, or move it away.", file=path
        ) from None


def _refuse_unknown_variables() -> None:
    sections = set(Settings.model_fields)
    for variable in os.environ:
        if not variable.startswith(PREFIX) or variable.startswith(_NOT_SETTINGS):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name.split("__")[0] not in sections:
            raise SettingsError(
                f"{variable} names no setting. Settings start with {', '.join(sorted(sections))}; "
                "`stitchline doctor --settings` lists them all.",
                setting=variable,
            )


def _names(error: ValidationError) -> list[str]:
    return [".".join(map(str, problem["loc"])) for problem in error.errors()]


def _explain(error: ValidationError, path: Path | None, section: str | None = None) -> str:
    told = []
    for name, problem in zip(_names(error), error.errors(), strict=True):
        full = f"{section}.{name}" if section else name
        variable = PREFIX + full.upper().replace(".", "__")
        found = (
            "it is no setting" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
        )
        told.append(f"{full} ({variable}): {found}")
    where = f" in {path} or the environment" if path is not None else ""
    return f"Bad settings{where}: {'; '.join(told)}. `stitchline doctor --settings` lists all settings."


def _explain_json() -> str:
    """Which variable of a list or table, or of a whole section, is not JSON."""
    taken = set()
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = model.model_fields.items()
            names = [name for name, inner in fields if get_origin(inner.annotation) in (dict, frozenset)]
            taken |= {PREFIX + section.upper(), *(f"{PREFIX}{section}__{name}".upper() for name in names)}
    taken -= {"STITCHLINE_WAREHOUSE"}
    wrong = sorted(variable for variable in taken & set(os.environ) if not _is_json(os.environ[variable]))
    return (
        f'Bad settings in the environment: {", ".join(wrong)} must be JSON, a list like ["a", "b"] or a table like '
        '{"name": "value"}. `stitchline doctor --settings` lists all settings.'
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
