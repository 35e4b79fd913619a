"""`stitchline spend` on a warehouse that no service runs on, and the folder that a service looks into."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import spend
from service.settings import SpendSettings
from service.spend_folder import SpendFolder
from service.web.models import SpendFiles
from sinks.warehouse import Warehouse
from stitchline.errors import UsageError
from tests.sinks.test_unusable import AS_ANYBODY
from tests.whole.runs import Run

REDDIT = """\
Date,Campaign name,Ad group name,Ad name,Spend,Impressions,Clicks
2026-01-05,ultralight,all,ad 1,$3.10,800,9
2026-01-06,ultralight,all,ad 1,$1.15,200,1
Total,,,,$4.25,1000,10
"""
WRONG = REDDIT.replace("$4.25", "$4.52")
X = "Time period,Campaign name,Impressions,Spend\n2026-01-05,storm-warning,1200,5.75\n"
TOLD = "select platform, account, currency, time_zone, row_count, spend::double from marketing.spend_files order by all"


@pytest.fixture
def run(tmp_path: Path, redis_url: str) -> Run:
    run = Run(tmp_path / "warehouse.duckdb", redis_url)
    with Warehouse.open(run.warehouse):
        pass
    return run


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """A folder of one good file, one with a wrong total, and files that are no exports."""
    folder = tmp_path / "exports"
    (folder / "more").mkdir(parents=True)
    (folder / "more" / "reddit.csv").write_text(REDDIT)
    (folder / "wrong.csv").write_text(WRONG)
    (folder / "notes.md").write_text("not an export")
    (folder / ".reddit.csv.part").write_text("half")
    return folder


def loaded(run: Run, *arguments: object, exits: int = 0) -> Any:
    process = run.start("spend", "load", *map(str, arguments), "--json")
    out, err = process.communicate("", 240)
    assert process.returncode == exits, err
    return json.loads(out)


def test_a_folder_is_loaded_and_what_is_wrong_is_refused(run: Run, exports: Path) -> None:
    told = {Path(outcome["file"]).name: outcome for outcome in loaded(run, exports, exits=1)}
    assert set(told) == {"reddit.csv", "wrong.csv"}
    good, wrong = told["reddit.csv"], told["wrong.csv"]
    assert (good["outcome"], good["platform"], good["lines"], good["days"]) == ("loaded", "reddit", 2, 2)
    assert (good["spend"], good["currency"], good["added"], good["replaced"]) == (4.25, "USD", 2, 0)
    assert (wrong["outcome"], wrong["line"]) == ("refused", 4)
    assert wrong["reason"] == "the total of 'Spend' is 4.52, but the 2 lines of data add up to 4.25"
    assert run.rows(TOLD) == [("reddit", "default", "USD", None, 2, 4.25)]
    assert run.value("select sum(spend)::double from marketing.ad_spend") == 4.25


def test_what_people_see(run: Run, exports: Path) -> None:
    said = run.command("spend", "load", str(exports), exits=1)
    assert "2 new" in said
    assert "refused, line 4" in said
    assert "the total of 'Spend' is 4.52" in said
    again = run.command("spend", "load", str(exports / "more"))
    assert "already loaded" in again
    assert "1 of 1 files are in the warehouse" in again


def test_what_is_said_of_the_account(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(X)
    (refused,) = loaded(run, tmp_path / "x.csv", exits=1)
    assert "does not say its currency" in refused["reason"]
    run.settings["SPEND__ACCOUNTS"] = '{"x": {"currency": "EUR", "time_zone": "Europe/Paris"}}'
    loaded(run, tmp_path / "x.csv", "--account", "@larkhill")
    assert run.rows(TOLD) == [("x", "@larkhill", "EUR", "Europe/Paris", 1, 5.75)]
    (tmp_path / "later.csv").write_text(X.replace("5.75", "6.75"))
    (told,) = loaded(run, tmp_path / "later.csv", "--account", "@larkhill", "--currency", "USD", "--time-zone", "UTC")
    assert (told["currency"], told["time_zone"], told["replaced"]) == ("USD", "UTC", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time-zone", "Mars/Olympus"], "'Mars/Olympus' is no time zone"),
        (["--currency", "EURO"], "'EURO' is no currency"),
        ([], "Missing argument"),
    ],
)
def test_used_wrongly(run: Run, tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "x.csv").write_text(X)
    files = [str(tmp_path / "x.csv")] if options else []
    assert words in run.command("spend", "load", *files, *options, exits=2)


def test_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    empty, large, binary = tmp_path / "empty.csv", tmp_path / "large.csv", tmp_path / "binary.csv"
    empty.write_bytes(b"")
    with large.open("wb") as file:
        file.truncate(100_000_000)
    binary.write_bytes(bytes(range(256)) * 10)
    good = tmp_path / "good.csv"
    good.write_text(REDDIT)
    told = loaded(run, empty, large, binary, tmp_path / "nowhere.csv", good, exits=1)
    assert [outcome["outcome"] for outcome in told] == ["refused"] * 4 + ["loaded"]
    reasons = [outcome["reason"] for outcome in told[:4]]
    assert reasons[0] == "the file is empty"
    assert reasons[1].startswith("the file has 100,000,000 bytes")
    assert reasons[3] == "it cannot be read (No such file or directory)"
    (tmp_path / "nothing").mkdir()
    assert "has no .csv" in run.command("spend", "load", str(tmp_path / "nothing"), exits=2)


def test_a_file_that_may_not_be_read(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(REDDIT)
    secret.chmod(0)
    command = [*AS_ANYBODY, sys.executable, "-m", "service.cli", "spend", "load", str(secret), "--json"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=run.environment(), cwd=root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)[0]["reason"] == "it cannot be read (Permission denied)"


def test_rates(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("rate_date,currency,usd\n2026-01-01,EUR,1.17\n")
    assert "1 rates are new, 0 replaced" in run.command("spend", "rates", str(file))
    assert json.loads(run.command("spend", "rates", str(file), "--json"))["replaced"] == 1
    assert run.rows("select currency, usd::double from marketing.currency_rates") == [("EUR", 1.17)]
    file.write_text("rate_date,currency,usd\n2026-01-01,EUR,-1\n")
    assert "line 2: '-1' is no rate" in run.command("spend", "rates", str(file), exits=1)
    assert "No such file" in run.command("spend", "rates", str(tmp_path / "nowhere.csv"), exits=1)


class TestTheFolder:
    @pytest.fixture
    def warehouse(self, tmp_path: Path) -> Iterator[Warehouse]:
        with Warehouse.open(tmp_path / "warehouse.duckdb") as opened:
            yield opened

    @pytest.fixture
    def folder(self, warehouse: Warehouse, exports: Path) -> SpendFolder:
        def load(files: SpendFiles) -> list[spend.Outcome]:
            return spend.load(warehouse, SpendSettings(), files)

        for path in exports.rglob("*.csv"):
            age(path, 60)
        return SpendFolder(exports, load, threading.Event())

    def test_what_is_new_is_loaded_and_what_is_refused_is_told_once(
        self, folder: SpendFolder, exports: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            assert sorted(outcome["outcome"] for outcome in folder.look()) == ["loaded", "refused"]
            assert folder.look() == []
        assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == ["ERROR"]
        assert "wrong.csv, line 4: the total of 'Spend' is 4.52" in caplog.text
        (exports / "wrong.csv").write_text(WRONG.replace("4.52", "4.53"))
        assert folder.look() == [], "it may still be written"
        age(exports / "wrong.csv", 30)
        (outcome,) = folder.look()
        assert "is 4.53" in outcome["reason"]

    def test_a_folder_that_is_away_is_told_once_and_found_again(
        self, folder: SpendFolder, exports: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        exports.rename(exports.with_name("away"))
        assert folder.look() == folder.look() == []
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
        exports.with_name("away").rename(exports)
        assert len(folder.look()) == 2

    def test_it_ends_when_the_service_does(self, folder: SpendFolder) -> None:
        folder._stopping.set()
        assert folder.look() == []


def test_a_wrong_zone_is_the_askers_mistake(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as opened, pytest.raises(UsageError, match="no time zone"):
        spend.load(opened, SpendSettings(), SpendFiles(files=[], time_zone="nowhere"))


def age(path: Path, seconds: float) -> None:
    """As if it was written so long ago."""
    os.utime(path, (time.time() - seconds,) * 2)
