"""Loads exports into the warehouse. A newer export of the same campaign and day replaces, and never adds.

Newer is the one that says that it was made later; where one of the two does not say it, the one that is loaded later.
The same bytes are loaded once. A campaign is the same if its id is, or if its name is and one of the two exports has no
ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal

import duckdb
import pyarrow as pa

from batch_marts.spend.export import DEFAULT_ACCOUNT, Export
from sinks.tables import registered
from stitchline.errors import FileRefused

AD_SPEND: Final = pa.schema(
    [
        ("platform", pa.string()),
        ("account", pa.string()),
        ("campaign_id", pa.string()),
        ("campaign", pa.string()),
        ("spend_date", pa.date32()),
        ("currency", pa.string()),
        ("spend", pa.decimal128(18, 6)),
        ("impressions", pa.int64()),
        ("clicks", pa.int64()),
        ("conversions", pa.float64()),
        ("conversion_value", pa.decimal128(18, 6)),
        ("file_id", pa.string()),
    ]
)
"""Of marketing.ad_spend."""

_SAME_CAMPAIGN: Final = (
    "s.platform = i.platform and s.spend_date = i.spend_date and (s.campaign_id = i.campaign_id "
    "or (s.campaign = i.campaign and (s.campaign_id is null or i.campaign_id is null)))"
)
_SAME: Final = f"{_SAME_CAMPAIGN} and s.account = i.account"

_BEFORE: Final = """
select file_name, platform, account, currency, time_zone, row_count, spend, from_date, to_date, loaded_at
from marketing.spend_files where file_id = ?
"""
_ELSEWHERE: Final = f"""
select s.campaign, s.spend_date, s.account, f.file_name
from incoming i join marketing.ad_spend s on {_SAME_CAMPAIGN}
join marketing.spend_files f on f.file_id = s.file_id
where s.account <> i.account and (s.campaign_id = i.campaign_id or $default in (s.account, i.account))
order by s.spend_date, s.campaign limit 1
"""
_NEWER_IS_THERE: Final = f"""
select i.spend_date, i.campaign_id, i.campaign
from incoming i where exists (
    from marketing.ad_spend s join marketing.spend_files f on f.file_id = s.file_id
    where {_SAME} and f.exported_at > $exported_at::timestamptz
)
"""
_DELETE: Final = f"delete from marketing.ad_spend s using incoming i where {_SAME}"
_INSERT: Final = f"insert into marketing.ad_spend ({', '.join(AD_SPEND.names)}) select * from incoming"
_INSERT_FILE: Final = """
insert into marketing.spend_files (file_id, file_name, platform, account, currency, time_zone, row_count, spend,
    from_date, to_date, exported_at, loaded_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of an export. Of its days of campaigns `added` are new, `replaced` were there, and `kept` were there
    out of an export that was made later."""

    outcome: Literal["loaded", "already loaded"]
    file_id: str
    file_name: str
    platform: str
    account: str
    currency: str
    time_zone: str | None
    lines: int
    spend: Decimal
    from_date: date
    to_date: date
    loaded_at: datetime
    """Of bytes that were loaded already: when they were, under `file_name`."""
    added: int = 0
    replaced: int = 0
    kept: int = 0


def file_id_of(data: bytes) -> str:
    """SHA-256 of the bytes, in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def loaded_before(con: duckdb.DuckDBPyConnection, file_id: str) -> Loaded | None:
    """What is known of a file that was loaded; None if it was not."""
    row = con.execute(_BEFORE, [file_id]).fetchone()
    return Loaded("already loaded", file_id, *row) if row is not None else None


def load_export(
    con: duckdb.DuckDBPyConnection,
    export: Export,
    file_id: str,
    file_name: str,
    now: datetime,
    *,
    account_is_sure: bool = False,
) -> Loaded:
    """Writes `export` inside the caller's transaction, and says what that changed. Loads nothing if it is there.

    Raises FileRefused where the same campaign and day is there under another account, so that it may be counted twice,
    unless `account_is_sure`.
    """
    before = loaded_before(con, file_id)
    if before is not None:
        return before
    incoming = _table(export, file_id)
    with registered(con, "incoming", incoming):
        if not account_is_sure:
            _refuse_elsewhere(con, export, file_name)
        kept = {tuple(row) for row in con.execute(_NEWER_IS_THERE, {"exported_at": export.exported_at}).fetchall()}
    keys = zip(*(incoming[name].to_pylist() for name in ("spend_date", "campaign_id", "campaign")), strict=True)
    incoming = incoming.filter(pa.array([key not in kept for key in keys], pa.bool_()))
    with registered(con, "incoming", incoming):
        replaced = _count(
            con, f"select count(*) from incoming i where exists (from marketing.ad_spend s where {_SAME})"
        )
        con.execute(_DELETE)
        con.execute(_INSERT)
    days = [row.day for row in export.rows]
    told = Loaded(
        outcome="loaded",
        file_id=file_id,
        file_name=file_name,
        platform=export.platform,
        account=export.account,
        currency=export.currency,
        time_zone=export.time_zone,
        lines=export.lines,
        spend=export.spend,
        from_date=min(days),
        to_date=max(days),
        loaded_at=now,
        added=incoming.num_rows - replaced,
        replaced=replaced,
        kept=len(kept),
    )
    con.execute(
        _INSERT_FILE,
        [
            *(file_id, file_name, told.platform, told.account, told.currency, told.time_zone, told.lines, told.spend),
            *(told.from_date, told.to_date, export.exported_at, now),
        ],
    )
    return told


def _table(export: Export, file_id: str) -> pa.Table:
    rows = [
        {
            "platform": export.platform,
            "account": export.account,
            "campaign_id": row.campaign_id,
            "campaign": row.campaign,
            "spend_date": row.day,
            "currency": export.currency,
            "spend": row.spend,
            "impressions": row.impressions,
            "clicks": row.clicks,
            "conversions": float(row.conversions) if row.conversions is not None else None,
            "conversion_value": row.conversion_value,
            "file_id": file_id,
        }
        for row in export.rows
    ]
    return pa.Table.from_pylist(rows, schema=AD_SPEND)


def _refuse_elsewhere(con: duckdb.DuckDBPyConnection, export: Export, file_name: str) -> None:
    found = con.execute(_ELSEWHERE, {"default": DEFAULT_ACCOUNT}).fetchone()
    if found is None:
        return
    campaign, day, account, other = found
    reason = (
        f"campaign {campaign!r} of {day} is there as account {account!r}, out of {other}, and would be there as "
        f"{export.account!r} besides"
    )
    advice = f"Name its account: --account {account!r} replaces what is there, another name adds to it."
    raise FileRefused(file_name, None, reason, advice)


def _count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    assert row is not None
    return int(row[0])
