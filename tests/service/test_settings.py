"""Where settings come from, which of them wins, and what is said about a wrong one."""

from __future__ import annotations

import json
import logging
from datetime import time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings, load_settings, settings_table
from stitchline.errors import SettingsError

SECRET = "hunter2-must-not-be-seen"


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables of ours, and a folder without a settings file."""
    import os

    for variable in [name for name in os.environ if name.startswith("STITCHLINE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "stitchline.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_design() -> None:
    settings = load_settings()
    assert settings.kafka.bootstrap is None
    assert settings.kafka.topic == "events"
    assert settings.redis.url is None
    assert settings.warehouse.path == Path(".stitchline/warehouse.duckdb").absolute()
    assert settings.web.host == "127.0.0.1"
    assert settings.sessions.gap == timedelta(minutes=30)
    assert settings.sessions.cap == timedelta(hours=24)
    assert settings.identity.look_back == timedelta(days=30)
    assert settings.flow.reorder_window == timedelta(seconds=60)
    assert settings.flow.future_skew == timedelta(minutes=5)
    assert settings.flow.commit_events == 250_000
    assert settings.flow.commit_interval == timedelta(seconds=1)
    assert settings.sessions.logout_events == {"Signed Out", "Logged Out", "Logout", "User Signed Out"}


class TestPrecedence:
    """Flags above the environment above the file above the defaults, value by value."""

    def test_file_above_default(self) -> None:
        write('[web]\nport = 1\n[sessions]\ngap = "10 minutes"\n')
        settings = load_settings()
        assert (settings.web.port, settings.sessions.gap) == (1, timedelta(minutes=10))
        assert settings.web.host == "127.0.0.1"

    def test_environment_above_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write('[web]\nport = 1\nhost = "::1"\n')
        monkeypatch.setenv("STITCHLINE_WEB__PORT", "2")
        settings = load_settings()
        assert (settings.web.port, settings.web.host) == (2, "::1")

    def test_flag_above_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write('[web]\nport = 1\nhost = "::1"\n')
        monkeypatch.setenv("STITCHLINE_WEB__PORT", "2")
        settings = load_settings(flags={"web": {"port": 3}})
        assert (settings.web.port, settings.web.host) == (3, "::1")

    def test_the_warehouse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write('[warehouse]\npath = "file.duckdb"\nmemory_limit = "2GB"\n')
        assert load_settings().warehouse.path == Path("file.duckdb").absolute()
        monkeypatch.setenv("STITCHLINE_WAREHOUSE__PATH", "section.duckdb")
        assert load_settings().warehouse.path == Path("section.duckdb").absolute()
        monkeypatch.setenv("STITCHLINE_WAREHOUSE", "short.duckdb")
        assert load_settings().warehouse.path == Path("short.duckdb").absolute()
        settings = load_settings(warehouse=Path("flag.duckdb"))
        assert (settings.warehouse.path, settings.warehouse.memory_limit) == (Path("flag.duckdb").absolute(), "2GB")

    def test_another_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write("[web]\nport = 1\n")
        write("[web]\nport = 2\n", "second.toml")
        write("[web]\nport = 3\n", "third.toml")
        assert load_settings().web.port == 1
        monkeypatch.setenv("STITCHLINE_CONFIG", "second.toml")
        assert load_settings().web.port == 2
        assert load_settings(Path("third.toml")).web.port == 3

    def test_dictionaries_and_lists_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STITCHLINE_KAFKA__CONFIG", '{"security.protocol": "SSL"}')
        monkeypatch.setenv("STITCHLINE_SESSIONS__LOGOUT_EVENTS", '["Bye"]')
        monkeypatch.setenv("STITCHLINE_SESSIONS__GAP_BY_LIBRARY", '{"ios": "5 minutes"}')
        settings = load_settings()
        assert settings.kafka.config == {"security.protocol": "SSL"}
        assert settings.sessions.logout_events == {"Bye"}
        assert settings.flow_rules().sessions.gap_by_library == {"ios": timedelta(minutes=5)}


class TestSecrets:
    """Passwords reach the client alone."""

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setenv("KAFKA_PASSWORD", SECRET)
        monkeypatch.setenv("STITCHLINE_REDIS__URL", f"redis://:{SECRET}@localhost:1")
        monkeypatch.setenv("STITCHLINE_WEB__TOKEN", SECRET)
        write('[kafka.config]\n"sasl.password" = "env:KAFKA_PASSWORD"\n"sasl.username" = "me"\n')
        with caplog.at_level(logging.DEBUG):
            settings = load_settings()
            config = settings.kafka.client_config("broker:9092")
        assert config == {
            "bootstrap.servers": "broker:9092",
            "group.id": "stitchline",
            "sasl.password": SECRET,
            "sasl.username": "me",
        }
        assert settings.redis.url is not None
        assert settings.redis.url.get_secret_value() == f"redis://:{SECRET}@localhost:1"
        for shown in (repr(settings), str(settings), settings.model_dump_json(), caplog.text, repr(settings.kafka)):
            assert SECRET not in shown

    def test_written_in_the_file_it_is_not_shown_either(self) -> None:
        write(f'[kafka.config]\n"sasl.password" = "{SECRET}"\n')
        assert SECRET not in repr(load_settings())

    def test_a_variable_that_is_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KAFKA_PASSWORD", raising=False)
        write('[kafka.config]\n"sasl.password" = "env:KAFKA_PASSWORD"\n')
        with pytest.raises(SettingsError, match=r"kafka\.config\.sasl\.password .* KAFKA_PASSWORD, which is not set"):
            load_settings().kafka.client_config("broker:9092")

    def test_a_bad_setting_beside_it_does_not_tell_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STITCHLINE_WEB__TOKEN", SECRET)
        monkeypatch.setenv("STITCHLINE_WEB__PORT", "many")
        with pytest.raises(SettingsError) as raised:
            load_settings()
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[web]\nprot = 1\n", "web.prot (STITCHLINE_WEB__PROT): it is no setting"),
        ("[wbe]\nport = 1\n", "wbe (STITCHLINE_WBE): it is no setting"),
        ("[web]\nport = 70000\n", "web.port (STITCHLINE_WEB__PORT): Input should be less than or equal to 65535"),
        ('[sessions]\ngap = "30"\n', "sessions.gap (STITCHLINE_SESSIONS__GAP): '30' is no duration"),
        ("[sessions]\ngap = 1800\n", "sessions.gap (STITCHLINE_SESSIONS__GAP): 1800 is no duration"),
        ("[flow]\ncommit_events = 0\n", "flow.commit_events (STITCHLINE_FLOW__COMMIT_EVENTS)"),
        ("[web]\nport = 70000\nprot = 1\n", "web.prot (STITCHLINE_WEB__PROT): it is no setting"),
        ("[web\n", "The settings file stitchline.toml cannot be read"),
    ],
)
def test_a_bad_file_is_one_clear_error(text: str, told: str) -> None:
    write(text)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert told in str(raised.value)
    assert "stitchline.toml" in str(raised.value)
    assert "\n" not in str(raised.value).replace(text, "")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("STITCHLINE_KAFAK__TOPIC", "t", "STITCHLINE_KAFAK__TOPIC names no setting"),
        ("STITCHLINE_PORT", "1", "STITCHLINE_PORT names no setting"),
        ("STITCHLINE_KAFKA__TOPIK", "t", "kafka.topik (STITCHLINE_KAFKA__TOPIK): it is no setting"),
        ("STITCHLINE_WEB__PORT", "many", "web.port (STITCHLINE_WEB__PORT)"),
        ("STITCHLINE_FLOW__COMMIT_INTERVAL", "1", "'1' is no duration"),
        ("STITCHLINE_KAFKA__CONFIG", "{", "environment: STITCHLINE_KAFKA__CONFIG must be JSON"),
        ("STITCHLINE_SESSIONS__LOGOUT_EVENTS", "Bye", "environment: STITCHLINE_SESSIONS__LOGOUT_EVENTS must be JSON"),
        ("STITCHLINE_EXPERIMENTS", "none.yml", "experiments (STITCHLINE_EXPERIMENTS): there is no such file or folder"),
        ("STITCHLINE_WEB", "8080", "web (STITCHLINE_WEB)"),
        ("STITCHLINE_WEB", "all", "environment: STITCHLINE_WEB must be JSON"),
    ],
)
def test_a_bad_variable_is_one_clear_error(
    variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STITCHLINE_KAFKA__GROUP", "not to blame")
    monkeypatch.setenv("STITCHLINE_WAREHOUSE", "not to blame")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert told in str(raised.value)
    assert "GROUP" not in str(raised.value)
    assert "WAREHOUSE" not in str(raised.value)


def test_a_bad_flag_is_one_clear_error() -> None:
    with pytest.raises(SettingsError, match=r"web\.port \(STITCHLINE_WEB__PORT\): Input should be less than"):
        load_settings(flags={"web": {"port": 70_000}})


def test_a_file_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"The settings file nowhere\.toml is not there"):
        load_settings(Path("nowhere.toml"))
    monkeypatch.setenv("STITCHLINE_CONFIG", "elsewhere.toml")
    with pytest.raises(SettingsError, match=r"The settings file elsewhere\.toml is not there"):
        load_settings()


def test_every_setting_is_described_and_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = settings_table()
    assert len(rows) > 20
    for name, variable, default, meaning in rows:
        assert meaning.strip(), name
        assert default.strip(), name
        assert variable == "STITCHLINE_" + name.upper().replace(".", "__")
    assert {name.split(".")[0] for name, *_ in rows} == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("text", "at"),
    [('"04:30"', time(4, 30)), ("04:30:00", time(4, 30)), ('"off"', None), ('"23:59:59"', time(23, 59, 59))],
)
def test_a_time_of_day(text: str, at: time | None) -> None:
    assert load_settings().schedule.reconcile_at == time(3)
    write(f"[schedule]\nreconcile_at = {text}\n")
    assert load_settings().schedule.reconcile_at == at


@pytest.mark.parametrize("text", ['"25:00"', '"soon"', '"03:00+01:00"', "3", '""'])
def test_no_time_of_day(text: str) -> None:
    write(f"[schedule]\nreconcile_at = {text}\n")
    with pytest.raises(SettingsError, match=r"schedule\.reconcile_at .* is no time of day: write it as 03:00, or off"):
        load_settings()


@given(st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=365)))
def test_any_duration_goes_through_json(value: timedelta) -> None:
    whole = timedelta(milliseconds=max(value // timedelta(milliseconds=1), 1))
    settings = load_settings(flags={"sessions": {"gap": whole}})
    told = json.loads(settings.model_dump_json(include={"sessions"}))["sessions"]
    assert Settings(sessions=told).sessions.gap == whole
