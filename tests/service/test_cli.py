"""The command line as people and scripts see it: help, JSON alone on standard output, exit statuses, no tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import typer

from service.cli import cli
from tests.whole.forks import called
from tests.whole.runs import Run, event


def commands(command: Any = None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group, by its words."""
    command = command or typer.main.get_command(cli)
    found = [path]
    for name, inner in getattr(command, "commands", {}).items():
        found += commands(inner, (*path, name))
    return found


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command said that was started as people start it."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments], capture_output=True, text=True, timeout=240
    )


@pytest.fixture
def run(tmp_path: Path, redis_url: str) -> Run:
    return Run(tmp_path / "warehouse.duckdb", redis_url)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Run:
    """A warehouse with two events of one session and a dead letter."""
    folder = tmp_path_factory.mktemp("held")
    held = Run(folder / "warehouse.duckdb", redis_url)
    visit = event("a", "10:00:00", event="Visit", properties={"note": "[red]höflich[/red]", "n": 1e300})
    (folder / "events.jsonl").write_bytes(visit + b"\n" + event("b", "10:05:00", event="Order") + b"\nbad\n")
    held.replay(folder / "events.jsonl")
    steps = [{"event": "Visit"}, {"event": "Order"}]
    day = {"since": "2026-01-01", "interval": "day"}
    for name, definition in (
        ("f", {"name": "f", "steps": steps, "window": "1 day", "by": "person"}),
        ("trend", {"events": steps, **day}),
        ("retention", {"start": steps[0], "back": steps[1], "periods": 1, **day}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(definition))
    return held


def test_all_commands_of_the_design_are_there() -> None:
    names = {" ".join(path) for path in commands()}
    assert names >= {
        "up",
        "demo",
        "replay",
        "sql",
        "funnel",
        "trends",
        "retention",
        "sessions",
        "dead-letters list",
        "spend load",
        "spend rates",
        "reconcile",
        "doctor",
        "experiments",
        "backup",
        "restore",
    }


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    command: Any = typer.main.get_command(cli)
    for name in path:
        command = command.commands[name]
    assert command.help, "what it does, in a sentence"
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", f"{parameter.name} is not explained"
    with click.Context(command, info_name=" ".join(("stitchline", *path))) as context:
        assert "--help" in command.get_help(context)


def test_help_is_an_answer_and_not_an_error() -> None:
    for arguments in (["--help"], ["dead-letters", "list", "--help"]):
        told = started(*arguments)
        assert told.returncode == 0, arguments
        assert "Usage: " in told.stdout
        assert told.stderr == ""


def test_the_version() -> None:
    told = started("--version")
    assert (told.returncode, told.stdout.split()[0]) == (0, "stitchline")


WRONG = {
    "unknown command": ["fly"],
    "unknown subcommand": ["dead-letters", "bury"],
    "unknown option": ["sql", "select 1", "--loudly"],
    "missing argument": ["sql"],
    "too many arguments": ["sql", "select", "1"],
    "port that is no number": ["up", "--port", "many"],
    "port out of range": ["up", "--port", "70000"],
    "nothing to replay": ["replay"],
    "files and a topic": ["replay", "a.jsonl", "--topic", "events"],
    "settings file that is not there": ["sql", "select 1", "--config", "nowhere.toml"],
    "definition that is not there": ["funnel", "--definition", "nowhere.json"],
    "trend that is not there": ["trends", "--definition", "nowhere.json"],
    "days out of range": ["demo", "--days", "0"],
    "limit out of range": ["dead-letters", "list", "--limit", "0"],
}


@pytest.mark.parametrize("case", WRONG)
def test_used_wrongly(case: str, tmp_path: Path) -> None:
    told = called(*WRONG[case], folder=tmp_path)
    assert told.returncode == 2
    assert told.stdout == ""
    assert "Error" in told.stderr
    assert "Traceback" not in told.stderr
    assert not list(tmp_path.iterdir()), "nothing is made by a command that was used wrongly"


def test_used_wrongly_as_people_start_it() -> None:
    told = started("sql")
    assert (told.returncode, told.stdout) == (2, "")
    assert "Error" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_wrong_setting(tmp_path: Path) -> None:
    told = called("doctor", folder=tmp_path, STITCHLINE_KAFAK__TOPIC="t")
    assert told.returncode == 2
    assert "STITCHLINE_KAFAK__TOPIC names no setting" in " ".join(told.stderr.split())
    (tmp_path / "stitchline.toml").write_text('[sessions]\ngap = "30"\n')
    told = called("sql", "select 1", folder=tmp_path)
    assert told.returncode == 2
    assert "sessions.gap (STITCHLINE_SESSIONS__GAP): '30' is no duration" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr


def test_no_warehouse(tmp_path: Path) -> None:
    for arguments in (["sql", "select 1"], ["sessions", "x"], ["dead-letters", "list"]):
        told = called(*arguments, "--json", folder=tmp_path)
        assert told.returncode == 1
        assert told.stdout == ""
        assert "There is no warehouse at .stitchline/warehouse.duckdb" in " ".join(told.stderr.split())
    assert not list(tmp_path.iterdir())


class TestJson:
    """One document on standard output, and nothing else."""

    def asked(self, run: Run, *arguments: str, status: int = 0) -> Any:
        process = run.start(*arguments, "--json")
        out, err = process.communicate()
        assert process.returncode == status, err
        assert out.count("\n") == 1
        assert "Traceback" not in err
        return json.loads(out)

    def test_replay(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "events.jsonl").write_bytes(event("a", "10:00:00") + b"\nbad\n")
        told = self.asked(run, "-v", "replay", str(tmp_path / "events.jsonl"))
        assert {name: told[name] for name in ("consumed", "stored", "duplicates", "dead")} == {
            "consumed": 2,
            "stored": 1,
            "duplicates": 0,
            "dead": 1,
        }

    def test_sql(self, held: Run) -> None:
        told = self.asked(held, "sql", "select message_id, event_at, properties from stream.events order by event_at")
        assert told == [
            {
                "message_id": "a",
                "event_at": "2026-01-01T10:00:00.000000Z",
                "properties": {"note": "[red]höflich[/red]", "n": 1e300},
            },
            {"message_id": "b", "event_at": "2026-01-01T10:05:00.000000Z", "properties": None},
        ]
        assert self.asked(held, "sql", "select 1 where false") == []

    def test_funnel(self, held: Run) -> None:
        told = self.asked(held, "funnel", "--definition", str(held.warehouse.with_name("f.json")))
        assert [step["count"] for step in told["steps"]] == [1, 1]
        assert told["steps"][1]["median_seconds"] == 300
        assert told["as_of"] == "2026-01-01T10:05:00Z"

    def test_a_funnel_as_sql(self, held: Run) -> None:
        asked = ("funnel", "--definition", str(held.warehouse.with_name("f.json")), "--sql")
        statement = self.asked(held, *asked)["sql"]
        assert held.command(*asked) == statement + "\n"
        rows = self.asked(held, "sql", statement)
        assert [(row["step"], row["count"]) for row in rows] == [("Visit", 1), ("Order", 1)]

    def test_trends_and_retention(self, held: Run) -> None:
        told = self.asked(held, "trends", "--definition", str(held.warehouse.with_name("trend.json")))
        assert [(one["event"], one["total"]) for one in told["series"]] == [("Visit", 1), ("Order", 1)]
        told = self.asked(held, "retention", "--definition", str(held.warehouse.with_name("retention.json")))
        assert [(cohort["size"], cohort["back"]) for cohort in told["cohorts"]] == [(1, [None, None])]

    def test_sessions(self, held: Run) -> None:
        session_id = held.value("select session_id from stream.sessions")
        told = self.asked(held, "sessions", session_id)
        assert told["session"]["session_id"] == session_id
        assert [each["message_id"] for each in told["events"]] == ["a", "b"]

    def test_dead_letters(self, held: Run) -> None:
        told = self.asked(held, "dead-letters", "list")
        assert told["by_reason"] == {"not_json": 1}
        assert [letter["text"] for letter in told["dead_letters"]] == ["bad"]
        assert self.asked(held, "dead-letters", "list", "--reason", "no_id")["dead_letters"] == []

    def test_reconcile(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "events.jsonl").write_bytes(event("a", "10:00:00") + b"\n" + event("b", "12:00:00") + b"\n")
        run.replay(tmp_path / "events.jsonl")
        assert self.asked(run, "reconcile")["differing"] == 0
        with duckdb.connect(str(run.warehouse)) as con:
            con.execute("update stream.closed_sessions set event_count = 7, person_id = 'x' where end_reason = 'gap'")
        told = self.asked(run, "reconcile", status=1)
        assert [(each["what"], each["columns"]) for each in told["differences"]] == [
            ("changed", ["event_count", "person_id"])
        ] * 2
        assert self.asked(run, "reconcile", "--since", "2026-01-01T11:00", status=1)["differing"] == 1
        assert self.asked(run, "reconcile", "--repair")["repaired"]
        assert self.asked(run, "reconcile")["differing"] == 0
        assert self.asked(run, "sql", "select distinct revision from stream.sessions") == [{"revision": 2}]

    def test_settings(self, held: Run) -> None:
        told = self.asked(held, "doctor", "--settings")
        assert {"kafka.bootstrap", "warehouse.path", "sessions.gap"} <= {row["setting"] for row in told}

    def test_doctor(self, held: Run, tmp_path: Path, redis_url: str) -> None:
        told = self.asked(held, "doctor")
        assert all(finding["ok"] for finding in told)
        assert {finding["what"] for finding in told} == {"settings", "warehouse", "flow", "kafka", "redis"}
        away = Run(tmp_path / "w.duckdb", "redis://127.0.0.1:1/0")
        told = self.asked(away, "doctor", status=1)
        (redis,) = (finding for finding in told if finding["what"] == "redis")
        assert not redis["ok"]
        assert "does not answer" in redis["found"]


def test_for_people(held: Run) -> None:
    out = held.command("sql", "select properties->>'note' as note, null as nothing from stream.events order by 1")
    assert "[red]höflich[/red]" in out, "what an event says is no markup"
    assert "2 rows" in out
    assert "not_json" in held.command("dead-letters", "list")
    for report in ("f", "trend", "retention"):
        command = {"f": "funnel", "trend": "trends"}.get(report, report)
        said = held.command(command, "--definition", str(held.warehouse.with_name(f"{report}.json")))
        assert ("2026-01-01" if report == "retention" else "Order") in said
    assert "a" in held.command("sessions", held.value("select session_id from stream.sessions"))
    assert "sessions.gap" in held.command("doctor", "--settings")


def test_questions_that_are_wrong(held: Run) -> None:
    for arguments in (
        ["sql", "selekt 1"],
        ["sql", "select * from nowhere"],
        ["sql", "delete from stream.events"],
        ["sql", "select 1; select 2"],
        ["sessions", "no-such-session"],
    ):
        said = held.command(*arguments, exits=2)
        assert "Error" in said
        assert "Traceback" not in said
    assert held.value("select count(*) from stream.events") == 2


def test_a_bad_definition(held: Run, tmp_path: Path) -> None:
    for text in (
        "{",
        "[]",
        '{"name": "f", "steps": []}',
        '{"name": "f", "steps": [{"event": "a"}], "windows": "1 day"}',
    ):
        (tmp_path / "bad.json").write_text(text)
        said = held.command("funnel", "--definition", str(tmp_path / "bad.json"), exits=2)
        assert "Error" in said
        assert "bad.json" in said
        assert "Traceback" not in said


def test_questions_leave_the_warehouse_free(held: Run) -> None:
    held.command("sql", "select 1")
    with duckdb.connect(str(held.warehouse)) as con:
        assert con.execute("select count(*) from stream.events").fetchone() == (2,)
