"""Advertising exports through a running service: by the command, and out of the folder that it looks into."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import httpx

from demo.exports import shop_exports
from tests.whole.runs import Run, event

REDDIT = """\
Date,Campaign name,Ad group name,Ad name,Spend,Impressions,Clicks
2026-01-05,ultralight,all,ad 1,$3.10,800,9
2026-01-06,ultralight,all,ad 1,$1.15,200,1
Total,,,,$4.25,1000,10
"""
FIRST_DAY, DAYS = date(2026, 1, 1), 3


def put(file: Path, data: bytes) -> None:
    """As if it was written a minute ago."""
    file.write_bytes(data)
    os.utime(file, (time.time() - 60,) * 2)


def test_through_a_running_service(kafka_run: Callable[..., Run], tmp_path: Path) -> None:
    run = kafka_run()
    watched, reddit = tmp_path / "watched", tmp_path / "reddit.csv"
    watched.mkdir()
    made = shop_exports(FIRST_DAY, DAYS)
    for export in made:
        put(watched / export.file_name, export.data)
    put(watched / "wrong.csv", REDDIT.replace("$4.25", "$4.52").encode())
    put(reddit, REDDIT.encode())
    run.settings["SPEND__FOLDER"] = str(watched)
    run.settings["SPEND__ACCOUNTS"] = '{"x": {"currency": "USD"}, "pinterest": {"currency": "CAD"}}'
    with run.serving() as service:
        service.until("select count(*) from marketing.spend_files", len(made), 60)
        service.log.until("wrong.csv, line 4: the total of 'Spend' is 4.52", 10)
        (told,) = json.loads(run.command("spend", "load", str(reddit), "--account", "Larkhill", "--json"))
        assert (told["outcome"], told["spend"], told["added"]) == ("loaded", 4.25, 2)
        upload = {"name": "r.csv", "content": base64.b64encode(REDDIT.encode()).decode()}
        for path, body in (("files", {"files": [upload]}), ("rates", upload)):
            answer = httpx.post(f"{service.url}/api/spend/{path}", json=body)
            assert answer.status_code == 403, "nobody but the service's user, who has the key"
            assert "use `stitchline spend" in answer.json()["error"]
        (tmp_path / "rates.csv").write_text("rate_date,currency,usd\n2026-01-01,EUR,1.17\n")
        assert json.loads(run.command("spend", "rates", str(tmp_path / "rates.csv"), "--json"))["added"] == 1
        run.produce([event("a", "10:00:00")])
        service.until("select count(*) from stream.events", 1, 60)
    by_platform = "select platform, sum(spend) from marketing.ad_spend where spend_date < '2026-01-04' group by all"
    assert dict(run.rows(by_platform)) == {export.platform: sum(row.spend for row in export.rows) for export in made}
    assert run.value("select sum(spend)::double from marketing.ad_spend where account = 'Larkhill'") == 4.25
