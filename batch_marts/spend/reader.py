"""Reads an advertising export for certain, or refuses it whole.

What may be read in two ways (a day, a decimal mark, a currency, a code page) is settled by the file itself, or by what
is given with it; what adds up to something else than the file's own totals say is refused. TikTok's, X's and
Pinterest's exports may have no total to be held to: they are taken if the last line is complete and no line is there
twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

from batch_marts.spend.amounts import MICROS, Mark, amount
from batch_marts.spend.export import DEFAULT_ACCOUNT, Export, Given, SpendRow
from batch_marts.spend.forms import Header, Role, plain
from batch_marts.spend.preamble import preamble_of
from batch_marts.spend.settled import COUNTS, currency_of, days_of, decimal_mark
from batch_marts.spend.sheet import Record, decoded, records
from batch_marts.spend.table import Table, find_header
from batch_marts.spend.totals import SUMMED, TotalRow, is_nothing, is_total_word, reconcile, slack_of


def read_export(data: bytes, file: str, given: Given | None = None) -> Export:
    """The export that `data` is; `file` is what refusals call it, and `given` counts where it says nothing itself.

    Raises FileRefused, with the line and the reason, if it cannot be read for certain: FormUnknown if it is no export
    of a known platform, TotalDiffers if it adds up to something else than it says itself.
    """
    text = decoded(file, data)
    header, delimiter = find_header(file, text)
    everything = records(file, text, delimiter)
    above = [record for record in everything if record.line < header.line]
    table = Table(file, header, preamble_of(above), given or Given())
    table.sort([record for record in everything if record.line > header.line])
    if not table.data:
        table.refuse(None, "it has no line of data", "Is it the right file? Export it again.")
    return _read(table, ends_with_line=text.endswith(("\n", "\r")))


def _read(table: Table, *, ends_with_line: bool) -> Export:
    days = days_of(table)
    currency = currency_of(table)
    mark = decimal_mark(table, currency)
    values = {role: _amounts(table, role, mark) for role in SUMMED if table.has(role)}
    total = _reconciled(table, values, mark)
    if total is None:
        _refuse_doubtful(table, ends_with_line=ends_with_line)
    if "spend" not in values:
        values["spend"] = [value * MICROS for value in values["micros"]]
        total = total * MICROS if total is not None else None
    preamble, given, usual = table.preamble, table.given, table.usual
    return Export(
        platform=table.header.form.platform,
        account=given.account or table.only("account") or preamble.account or usual.name or DEFAULT_ACCOUNT,
        currency=currency,
        time_zone=preamble.time_zone or _zone_of(table.header) or given.time_zone or usual.time_zone,
        rows=_added_up(table, days, values),
        lines=len(table.data),
        total=total,
        exported_at=preamble.exported_at,
    )


def _amounts(table: Table, role: Role, mark: Mark) -> list[Decimal]:
    return [_amount(table.cell(record, role), role, mark) for record in table.data]


def _amount(text: str, role: Role, mark: Mark) -> Decimal:
    value = amount(text, mark, whole=role in COUNTS)
    assert value is not None, "the mark was chosen so that all are amounts"
    return value


def _reconciled(table: Table, values: Mapping[Role, Sequence[Decimal]], mark: Mark) -> Decimal | None:
    """The file's own total of spend, as it says it, which its lines add up to."""
    sums: dict[Role, Decimal] = {role: sum(of, Decimal(0)) for role, of in values.items()}
    rounded = [role for role in values if role not in COUNTS] if table.given.rounding else []
    totals = [_total(table, record, values, mark) for record in table.totals]
    total = reconcile(
        table.file,
        totals,
        sums,
        len(table.data),
        names={role: table.header.name(role) for role in values},
        slack={role: slack_of(values[role]) for role in rounded},
    )
    said = table.preamble.rows
    if said is not None and said != len(table.data):
        table.refuse(None, f"it says that it has {said:,} rows, but {len(table.data):,} are there")
    if "impressions" in sums and sums.get("clicks", Decimal(0)) > sums["impressions"]:
        table.refuse(None, "it has more clicks than impressions: are its columns mixed up?")
    return total


def _total(table: Table, record: Record, roles: Mapping[Role, object], mark: Mark) -> TotalRow:
    texts = {role: table.cell(record, role) for role in roles}
    said = {
        role: text
        for role, text in texts.items()
        if not is_total_word(text) and (role in ("spend", "micros") or not is_nothing(text))  # no spend is 0
    }
    return TotalRow(record.line, table.label(record), {role: _amount(text, role, mark) for role, text in said.items()})


def _refuse_doubtful(table: Table, *, ends_with_line: bool) -> None:
    """Refuses a file without a total that should have one, or that looks cut off or pasted together."""
    form, counted = table.header.form, table.preamble.rows is not None
    if form.held_to is not None and not counted and not table.given.without_total:
        what = "row of totals" if form.held_to == "total" else "line that says how many rows it has"
        reason = f"it has no {what}, as exports of {form.platform} have, so that nobody can tell whether it is whole"
        advice = "Export it with that, or take it with --without-total (setting spend.without_total)."
        table.refuse(None, reason, advice)
    seen: dict[tuple[str, ...], int] = {}
    for record in table.data if not counted else ():
        if record.cells in seen:
            reason = f"it is the same as line {seen[record.cells]}, and no total says whether both count"
            table.refuse(record.line, reason, "Export it again, with a row of totals.")
        seen[record.cells] = record.line
    if not ends_with_line and not table.has_end:
        reason = "the last line is not ended, and no total says whether it is whole"
        table.refuse(table.data[-1].line, reason, "Export it again; if it is whole, end its last line.")


def _zone_of(header: Header) -> str | None:
    return "UTC" if any("(in utc)" in plain(cell) for cell in header.cells) else None


def _added_up(table: Table, days: Sequence[date], values: Mapping[Role, Sequence[Decimal]]) -> tuple[SpendRow, ...]:
    """One row for each campaign, by its id where it has one, and day."""
    groups: dict[tuple[date, str], list[int]] = {}
    for position, (key, day) in enumerate(zip(_campaigns(table), days, strict=True)):
        groups.setdefault((day, key), []).append(position)

    def added(role: Role, of: list[int]) -> Decimal | None:
        return sum((values[role][position] for position in of), Decimal(0)) if role in values else None

    def count(role: Role, of: list[int]) -> int | None:
        return int(sum(values[role][position] for position in of)) if role in values else None

    rows = [
        SpendRow(
            day=day,
            campaign_id=key if table.has("campaign_id") else None,
            campaign=table.cell(table.data[of[0]], "campaign"),
            spend=added("spend", of) or Decimal(0),
            impressions=count("impressions", of),
            clicks=count("clicks", of),
            conversions=added("conversions", of),
            conversion_value=added("conversion_value", of),
        )
        for (day, key), of in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.day, row.campaign, row.campaign_id or "")))


def _campaigns(table: Table) -> list[str]:
    """By which campaign each line of data is added up: its id, else its name."""
    keys: list[str] = []
    names: dict[str, tuple[str, int]] = {}
    for record in table.data:
        campaign = table.cell(record, "campaign")
        if is_nothing(campaign):
            table.refuse(record.line, "it names no campaign")
        if not table.has("campaign_id"):
            keys.append(campaign)
            continue
        key = table.cell(record, "campaign_id")
        if is_nothing(key):
            table.refuse(record.line, f"{table.header.name('campaign_id')!r} is empty")
        name, line = names.setdefault(key, (campaign, record.line))
        if name != campaign:
            table.refuse(record.line, f"campaign {key} is {campaign!r} here, and {name!r} in line {line}")
        keys.append(key)
    return keys
