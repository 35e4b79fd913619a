"""How the exports of the eight platforms look: what each calls its columns, and what its layout says besides.

Names are compared as `plain` makes them. Google and Meta translate theirs; the others are English. Layouts by the
vendors' documentation for Microsoft (Campaign performance report) and LinkedIn, by public parsers for the others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

Platform = Literal["google", "meta", "microsoft", "linkedin", "tiktok", "x", "reddit", "pinterest"]
PLATFORMS: Final[tuple[Platform, ...]] = get_args(Platform)

Role = Literal[
    "day", "from", "to", "campaign", "campaign_id", "spend", "micros", "currency", "account",
    "impressions", "clicks", "conversions", "conversion_value",
]  # fmt: skip
"""What a column is to us. `from` and `to` are the range that a row covers, `micros` is spend in millionths."""


@dataclass(frozen=True, slots=True)
class Form:
    """The export of one platform."""

    platform: Platform
    columns: Mapping[Role, tuple[str, ...]]
    """By role, what the column may be called; where a file has several of them, the first one counts."""
    telling: frozenset[str] = frozenset()
    """Columns of which the header has to have one, if others have the same roles under the same names."""
    foreign: frozenset[str] = frozenset()
    """Columns that say that it is another's."""
    month_first: bool = False
    """Whether days are documented as M/D/YYYY."""
    held_to: Literal["total", "rows"] | None = None
    """What its exports say of themselves, and a file that was cut off does not: a row of totals, or how many rows."""
    needs_day: bool = True
    """Whether each row has to say its day; otherwise the range in the preamble may, where that is one day."""


@dataclass(frozen=True, slots=True)
class Header:
    """The line of names, as found."""

    form: Form
    line: int
    cells: tuple[str, ...]
    columns: Mapping[Role, int] = field(default_factory=dict)
    """By role, which cell."""
    currency: str | None = None
    """If the name of the spend column has it: `Amount spent (EUR)`."""

    def name(self, role: Role) -> str:
        """What the file calls the column."""
        return self.cells[self.columns[role]]


def plain(name: str) -> str:
    """`name` as names are compared: in lower case, with single spaces and straight apostrophes.

    >>> plain("  Amount  Spent (USD) ")
    'amount spent (usd)'
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("’", "'").split())


def _columns(**names: str) -> Mapping[Role, tuple[str, ...]]:
    """Names by role, separated by bars; `from_` stands for `from`, which is a word of Python's."""
    return MappingProxyType({role.rstrip("_"): tuple(text.split("|")) for role, text in names.items()})  # type: ignore[misc]


GOOGLE: Final = Form(
    "google",
    _columns(
        day="day|tag|jour|día",
        campaign="campaign|kampagne|campagne|campaña",
        campaign_id="campaign id|kampagnen-id|id de la campagne|id campagne|id de campaña|id de la campaña",
        spend="cost|kosten|coût|coste|costo",
        micros="cost_micros|cost (micros)|metrics.cost_micros",
        currency="currency code|currency|währungscode|währung|code de devise|code devise|código de moneda|moneda",
        account="account|account name|konto|kontoname|compte|nom du compte|cuenta|nombre de la cuenta",
        impressions="impr.|impressions|impressionen|impresiones",
        clicks="clicks|klicks|clics",
        conversions="conversions|conversiones",
        conversion_value="conv. value|conversion value|conv.-wert|conversion-wert|val. conv.|valeur de conv.|"
        "valeur conv.|valor de conv.|valor conv.",
    ),
    held_to="total",
    needs_day=False,
)
META: Final = Form(
    "meta",
    _columns(
        day="day|tag|jour|día",
        from_="reporting starts|berichtsstart|début des rapports|inicio del informe",
        to="reporting ends|berichtsende|fin des rapports|fin del informe",
        campaign="campaign name|kampagnenname|name der kampagne|nom de la campagne|nombre de la campaña",
        campaign_id="campaign id|kampagnen-id|id de campagne|id de la campagne|identificador de la campaña",
        spend="amount spent|ausgegebener betrag|montant dépensé|importe gastado",
        currency="currency|währung|devise|divisa",
        account="account name|kontoname|nom du compte|nombre de la cuenta",
        impressions="impressions|impressionen|impresiones",
        clicks="link clicks|link-klicks|clics sur un lien|clics sur le lien|clics en el enlace|"
        "clicks (all)|klicks (alle)|clics (tous)|clics (todos)",
        conversions="purchases|käufe|achats|compras|results|ergebnisse|résultats|resultados",
        conversion_value="purchases conversion value|conversion-wert der käufe|conversion-wert für käufe|"
        "valeur de conversion des achats|valor de conversión de compras",
    ),
    held_to="total",
)
MICROSOFT: Final = Form(
    "microsoft",
    _columns(
        day="gregorian date",
        campaign="campaign name|campaign",
        campaign_id="campaign id",
        spend="spend",
        currency="currency code|currency",
        account="account name|account",
        impressions="impressions",
        clicks="clicks",
        conversions="conversions",
        conversion_value="revenue",
    ),
    telling=frozenset({"gregorian date"}),
    month_first=True,
    held_to="rows",
)
LINKEDIN: Final = Form(
    "linkedin",
    _columns(
        from_="start date (in utc)",
        to="end date (in utc)",
        campaign="campaign group name",  # what the others call a campaign
        campaign_id="campaign group id",
        spend="total spent",
        currency="currency",
        account="account name",
        impressions="impressions",
        clicks="clicks",
        conversions="conversions",
        conversion_value="total conversion value",
    ),
    month_first=True,
    held_to="total",
    needs_day=False,
)
TIKTOK: Final = Form(
    "tiktok",
    _columns(
        day="by day|date",
        campaign="campaign name",
        campaign_id="campaign id",
        spend="cost|spend",
        currency="currency",
        account="advertiser name|account name",
        impressions="impressions",
        clicks="clicks (destination)|clicks (all)|clicks",
        conversions="conversions",
        conversion_value="total purchase value|total complete payment value|conversion value",
    ),
    telling=frozenset({"by day", "cost", "clicks (destination)"}),
)
X: Final = Form(
    "x",
    _columns(
        day="time period",
        campaign="campaign name",
        campaign_id="campaign id",
        spend="spend",
        micros="billed_charge_local_micro|spend (micros)",
        currency="currency|account currency",
        account="account name|ads account",
        impressions="impressions",
        clicks="link clicks|clicks",
        conversions="purchases|conversions",
        conversion_value="purchases - sale amount|conversion value",
    ),
)
REDDIT: Final = Form(
    "reddit",
    _columns(
        day="date",
        campaign="campaign name",
        campaign_id="campaign id",
        spend="spend",
        currency="currency",
        account="account name",
        impressions="impressions",
        clicks="clicks",
        conversions="purchases|conversions",
        conversion_value="purchase value|conversion value",
    ),
    telling=frozenset({"clicks"}),
    foreign=frozenset({"clicks (destination)", "clicks (all)", "cost", "by day", "outbound clicks", "time period"}),
    held_to="total",
)
PINTEREST: Final = Form(
    "pinterest",
    _columns(
        day="date",
        campaign="campaign name",
        campaign_id="campaign id",
        spend="spend in account currency",
        micros="spend_in_micro_account_currency|spend in micro account currency",
        currency="currency|account currency",
        account="ad account name|account name",
        impressions="impressions",
        clicks="outbound clicks|clicks",
        conversions="total conversions (checkout)|total conversions|conversions",
        conversion_value="total conversion value (checkout)|total conversion value|conversion value",
    ),
)
FORMS: Final = (GOOGLE, META, MICROSOFT, LINKEDIN, TIKTOK, X, REDDIT, PINTEREST)

_DAYS: Final[tuple[Role, ...]] = ("day", "from")
_IN_BRACKETS: Final = re.compile(r"(.+) \(([a-z]{3})\)")


def header_of(form: Form, line: int, cells: Sequence[str]) -> Header | None:
    """The header that a line of `cells` is, if it is one of `form`."""
    names = [plain(cell) for cell in cells]
    currency = None
    for position, name in enumerate(names):
        named = _IN_BRACKETS.fullmatch(name)
        if named is not None and named[1] in form.columns["spend"]:
            names[position], currency = named[1], named[2].upper()
    if (form.telling and form.telling.isdisjoint(names)) or not form.foreign.isdisjoint(names):
        return None
    columns: dict[Role, int] = {}
    for role, candidates in form.columns.items():
        found = next((name for name in candidates if name in names), None)
        if found is not None:
            columns[role] = names.index(found)
    has_spend = "spend" in columns or "micros" in columns
    has_day = not form.needs_day or any(role in columns for role in _DAYS)
    if not has_spend or not has_day or "campaign" not in columns:
        return None
    return Header(form, line, tuple(cells), columns, currency)


def named_twice(header: Header) -> str | None:
    """A name of a column that we take, if another has it too, or a second spend column; then neither is certain."""
    names = [plain(cell) for cell in header.cells]
    for position in header.columns.values():
        if names.count(names[position]) > 1:
            return header.cells[position]
    if "spend" in header.columns and "micros" in header.columns:
        return header.name("micros")
    spends = [name for name in names if _without_currency(name) in header.form.columns["spend"]]
    return spends[1] if len(spends) > 1 else None


def _without_currency(name: str) -> str:
    named = _IN_BRACKETS.fullmatch(name)
    return named[1] if named is not None else name
