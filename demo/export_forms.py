"""The layouts of eight advertising platforms' CSV exports, as they write them. Made up without any reader in mind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from demo.export_files import AdDay, Form, Style, Value


def _google(style: Style) -> Form:
    names = {
        "en": "Campaign report|Day|Campaign|Campaign ID|Currency code|Cost|Impr.|Clicks|Conversions|Conv. value|"
        "Account",
        "de": "Kampagnenbericht|Tag|Kampagne|Kampagnen-ID|Währungscode|Kosten|Impressionen|Klicks|Conversions|"
        "Conv.-Wert|Konto",
        "fr": "Rapport sur les campagnes|Jour|Campagne|ID de la campagne|Code de devise|Coût|Impr.|Clics|Conversions|"
        "Valeur de conv.|Compte",
        "es": "Informe de campañas|Día|Campaña|ID de campaña|Código de moneda|Coste|Impr.|Clics|Conversiones|"
        "Valor de conv.|Cuenta",
    }
    title, day, campaign, campaign_id, currency, cost, impressions, clicks, conversions, value, account = names[
        style.language
    ].split("|")
    columns: dict[str, Value] = {day: lambda line: style.day(line.day), campaign: lambda line: line.campaign}
    if style.with_ids:
        columns[campaign_id] = lambda line: line.campaign_id
    if style.account is not None:
        columns[account] = lambda line: style.account or ""
    columns[currency] = lambda line: style.currency
    spend = "cost_micros" if style.micros else cost
    columns[spend] = _micros if style.micros else lambda line: style.or_nothing(line.spend, style.money(line.spend))
    columns[impressions] = lambda line: style.count(line.impressions)
    columns[clicks] = lambda line: style.count(line.clicks)
    if style.extra_columns:
        columns["CTR"] = lambda line: style.number(Decimal(line.clicks * 100) / max(line.impressions, 1), 2) + "%"
    columns[conversions] = lambda line: style.or_nothing(line.conversions, style.number(line.conversions, 2))
    columns[value] = lambda line: style.money(line.conversion_value)
    of = {"en": "Total: Campaigns|Total: Account", "de": "Gesamt: Kampagnen|Gesamt: Konto"}
    of |= {"fr": "Total\u00a0: Campagnes|Total\u00a0: Compte", "es": "Total: Campañas|Total: Cuenta"}

    def above(lines: Sequence[AdDay]) -> list[list[str]]:
        first, last = min(line.day for line in lines), max(line.day for line in lines)
        return [[title], [f"{style.long_day(first)} - {style.long_day(last)}"]] if style.preamble else []

    return Form(
        columns,
        totalled=frozenset({spend, impressions, clicks, conversions, value}),
        total_labels=[(text, style.nothing) for text in of[style.language].split("|")] if style.totals else [],
        above=above,
        has_account=style.account is not None,
        has_ids=style.with_ids,
        has_groups=False,
    )


def _meta(style: Style) -> Form:
    names = {
        "en": "Reporting starts|Reporting ends|Day|Campaign name|Ad set name|Ad name|Amount spent|Impressions|"
        "Link clicks|Purchases|Purchases conversion value|Campaign ID|Account name",
        "de": "Berichtsstart|Berichtsende|Tag|Kampagnenname|Name der Anzeigengruppe|Anzeigenname|Ausgegebener Betrag|"
        "Impressionen|Link-Klicks|Käufe|Conversion-Wert der Käufe|Kampagnen-ID|Kontoname",
        "fr": "Début des rapports|Fin des rapports|Jour|Nom de la campagne|Nom de l’ensemble de publicités|"
        "Nom de la publicité|Montant dépensé|Impressions|Clics sur un lien|Achats|Valeur de conversion des achats|"
        "ID de campagne|Nom du compte",
        "es": "Inicio del informe|Fin del informe|Día|Nombre de la campaña|Nombre del conjunto de anuncios|"
        "Nombre del anuncio|Importe gastado|Impresiones|Clics en el enlace|Compras|Valor de conversión de compras|"
        "Identificador de la campaña|Nombre de la cuenta",
    }
    (*(starts, ends, day, campaign, group, ad, spent, impressions, clicks, purchases, value, campaign_id, account),) = (
        names[style.language].split("|")
    )
    columns: dict[str, Value] = {starts: lambda line: style.day(line.day), ends: lambda line: style.day(line.day)}
    if style.preamble:  # which Meta has none of: the column is there or not
        columns[day] = lambda line: style.day(line.day)
    columns[campaign] = lambda line: line.campaign
    if style.with_ids:
        columns[campaign_id] = lambda line: line.campaign_id
    if style.account is not None:
        columns[account] = lambda line: style.account or ""
    if style.by_ad:
        columns |= {group: lambda line: line.group, ad: lambda line: line.ad}
    spend = f"{spent} ({style.currency})"
    columns[spend] = lambda line: style.money(line.spend)
    columns[impressions] = lambda line: style.count(line.impressions)
    columns[clicks] = lambda line: str(line.clicks) if line.clicks else ""
    columns[purchases] = lambda line: style.or_nothing(line.conversions, style.number(line.conversions, 2))
    columns[value] = lambda line: style.money(line.conversion_value)
    return Form(
        columns,
        totalled=frozenset({spend, impressions, clicks, purchases, value}),
        total_labels=[("", "")] if style.totals else [],
        has_account=style.account is not None,
        has_ids=style.with_ids,
    )


def _microsoft(style: Style) -> Form:
    columns: dict[str, Value] = {"Gregorian date": lambda line: style.day(line.day, "%-m/%-d/%Y")}
    if style.account is not None:
        columns["Account name"] = lambda line: style.account or ""
    columns["Campaign name"] = lambda line: line.campaign
    if style.with_ids:
        columns["Campaign ID"] = lambda line: line.campaign_id
    if style.by_ad:
        columns |= {"Ad group": lambda line: line.group, "Ad title": lambda line: line.ad}
    columns["Currency code"] = lambda line: style.currency
    columns["Spend"] = lambda line: style.or_nothing(line.spend, style.money(line.spend))
    columns["Impressions"] = lambda line: style.count(line.impressions)
    columns["Clicks"] = lambda line: style.count(line.clicks)
    if style.extra_columns:
        columns["CTR"] = lambda line: "--" if not line.impressions else f"{100 * line.clicks / line.impressions:.2f}%"
    columns["Conversions"] = lambda line: style.or_nothing(line.conversions, style.number(line.conversions, 2))
    columns["Revenue"] = lambda line: style.money(line.conversion_value)

    def above(lines: Sequence[AdDay]) -> list[list[str]]:
        first, last = min(line.day for line in lines), max(line.day for line in lines)
        said = [
            "Report Name: Campaign performance, daily",
            f"Report Time: {first:%-m/%-d/%Y},{last:%-m/%-d/%Y}",
            "Time Zone: (GMT-08:00) Pacific Time (US & Canada); Tijuana",
            "Last Completed Available Day: 1/2/2027 9:00:00 AM (GMT)",
            "Report Aggregation: Daily",
            "Report Filter: ",
            "Potential Incomplete Data: false",
            f"Rows: {len(lines)}",
        ]
        return [*([text] for text in said), []]

    return Form(
        columns,
        above=above,
        below=[[], ["@2027 Microsoft Corporation. All rights reserved. "]],
        has_account=style.account is not None,
        has_ids=style.with_ids,
    )


def _linkedin(style: Style) -> Form:
    columns: dict[str, Value] = {"Start Date (in UTC)": lambda line: style.day(line.day, "%-m/%-d/%Y")}
    if style.extra_columns:
        columns["End Date (in UTC)"] = lambda line: style.day(line.day, "%-m/%-d/%Y")
    if style.account is not None:
        columns["Account Name"] = lambda line: style.account or ""
    says = style.names_currency or not style.symbol_is_certain
    if says:
        columns["Currency"] = lambda line: style.currency
    columns["Campaign Group Name"] = lambda line: line.campaign
    if style.with_ids:
        columns["Campaign Group ID"] = lambda line: line.campaign_id
    columns |= {"Campaign Name": lambda line: line.group, "Creative Name": lambda line: line.ad}
    columns["Total Spent"] = lambda line: style.or_nothing(line.spend, style.with_symbol(style.money(line.spend)))
    columns["Impressions"] = lambda line: style.count(line.impressions)
    columns["Clicks"] = lambda line: str(line.clicks) if line.clicks else "-"
    columns["Conversions"] = lambda line: style.or_nothing(line.conversions, style.number(line.conversions, 2))
    columns["Total Conversion Value"] = lambda line: style.with_symbol(style.money(line.conversion_value))
    generated = style.generated_at

    def above(lines: Sequence[AdDay]) -> list[list[str]]:
        first, last = min(line.day for line in lines), max(line.day for line in lines)
        said = [["Campaign Performance Report (in UTC)"], [f"Report Start: {style.long_day(first)}, 12:00 AM"]]
        said += [[f"Report End: {style.long_day(last)}, 11:59 PM"]]
        said += [[f"Date Generated: {generated:%B %-d, %Y, %I:%M %p}"]] if generated is not None else []
        return [*said, []] if style.preamble else []

    return Form(
        columns,
        totalled=frozenset({"Total Spent", "Impressions", "Clicks", "Conversions", "Total Conversion Value"}),
        total_labels=[("Total",)] if style.totals else [],
        above=above,
        has_account=style.account is not None,
        says_currency=says or style.symbol_is_certain,
        has_ids=style.with_ids,
    )


def _tiktok(style: Style) -> Form:
    columns: dict[str, Value] = {"By Day" if style.preamble else "Date": lambda line: style.day(line.day)}
    columns["Campaign name"] = lambda line: line.campaign
    if style.with_ids:
        columns["Campaign ID"] = lambda line: line.campaign_id
    columns["Ad group name"] = lambda line: line.group
    if style.by_ad:
        columns["Ad name"] = lambda line: line.ad
    spend = "Cost" if style.symbols else "Spend"
    columns[spend] = lambda line: style.money(line.spend)
    if style.names_currency:
        columns["Currency"] = lambda line: style.currency
    columns["Impressions"] = lambda line: style.count(line.impressions)
    columns["Clicks (destination)"] = lambda line: style.count(line.clicks)
    if style.extra_columns:
        columns["CPC (destination)"] = lambda line: style.money(line.spend / max(line.clicks, 1))
    columns["Conversions"] = lambda line: style.number(line.conversions, 2)
    return Form(
        columns,
        totalled=frozenset({spend, "Impressions", "Clicks (destination)", "Conversions"}),
        total_labels=[("Total of {count} results", "-")] if style.totals else [],
        says_currency=style.names_currency,
        has_ids=style.with_ids,
        has_value=False,
    )


def _x(style: Style) -> Form:
    columns: dict[str, Value] = {"Time period": lambda line: style.day(line.day)}
    columns["Campaign name"] = lambda line: line.campaign
    if style.with_ids:
        columns["Campaign ID"] = lambda line: line.campaign_id
    columns |= {"Ad group name": lambda line: line.group, "Ad name": lambda line: line.ad}
    if style.names_currency:
        columns["Currency"] = lambda line: style.currency
    columns["Impressions"] = lambda line: style.count(line.impressions)
    if style.micros:
        columns["billed_charge_local_micro"] = _micros
    else:
        columns["Spend"] = lambda line: style.money(line.spend)
    if style.extra_columns:
        columns["Link clicks"] = lambda line: style.count(line.clicks)
    return Form(
        columns,
        says_currency=style.names_currency,
        has_ids=style.with_ids,
        has_clicks=style.extra_columns,
        has_conversions=False,
        has_value=False,
    )


def _reddit(style: Style) -> Form:
    columns: dict[str, Value] = {"Date": lambda line: style.day(line.day)}
    columns["Campaign name"] = lambda line: line.campaign
    if style.with_ids:
        columns["Campaign ID"] = lambda line: line.campaign_id
    columns |= {"Ad group name": lambda line: line.group, "Ad name": lambda line: line.ad}
    says = style.names_currency and not style.symbol_is_certain
    if says:
        columns["Currency"] = lambda line: style.currency
    columns["Spend"] = lambda line: style.with_symbol(style.money(line.spend))
    columns["Impressions"] = lambda line: style.count(line.impressions)
    columns["Clicks"] = lambda line: style.count(line.clicks)
    return Form(
        columns,
        totalled=frozenset({"Spend", "Impressions", "Clicks"}),
        total_labels=[("Total",)] if style.totals else [],
        says_currency=says or style.symbol_is_certain,
        has_ids=style.with_ids,
        has_conversions=False,
        has_value=False,
    )


def _pinterest(style: Style) -> Form:
    columns: dict[str, Value] = {"Date": lambda line: style.day(line.day)}
    if style.with_ids:
        columns["Campaign ID"] = lambda line: line.campaign_id
    columns["Campaign name"] = lambda line: line.campaign
    if style.by_ad:
        columns |= {"Ad group name": lambda line: line.group, "Ad name": lambda line: line.ad}
    if style.names_currency:
        columns["Currency"] = lambda line: style.currency
    if style.micros:
        columns["SPEND_IN_MICRO_ACCOUNT_CURRENCY"] = _micros
    else:
        columns["Spend in account currency"] = lambda line: style.money(line.spend)
    columns["Impressions"] = lambda line: style.count(line.impressions)
    columns["Outbound clicks"] = lambda line: style.count(line.clicks)
    columns["Total conversions (Checkout)"] = lambda line: style.number(line.conversions, 2)
    columns["Total conversion value (Checkout)"] = lambda line: style.money(line.conversion_value)
    return Form(columns, says_currency=style.names_currency, has_ids=style.with_ids)


def _micros(line: AdDay) -> str:
    return str(int(line.spend * 1_000_000))


FORMS: Final[dict[str, Callable[[Style], Form]]] = {
    "google": _google,
    "meta": _meta,
    "microsoft": _microsoft,
    "linkedin": _linkedin,
    "tiktok": _tiktok,
    "x": _x,
    "reddit": _reddit,
    "pinterest": _pinterest,
}
