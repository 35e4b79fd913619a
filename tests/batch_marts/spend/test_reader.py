"""One export of each platform, written by hand, with its values worked out by hand; and what is refused, and why."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from batch_marts.spend.export import Account, Given, SpendRow
from batch_marts.spend.reader import read_export
from stitchline.errors import FileRefused, FormUnknown, StitchlineError, TotalDiffers

GOOGLE = """\
Campaign report
"January 5, 2026 - January 6, 2026"
Day,Campaign,Campaign ID,Currency code,Cost,Impr.,Clicks,Conversions,Conv. value
2026-01-05,brand-search,11,USD,"1,234.50","10,000",500,12.50,"1,100.00"
2026-01-05,shopping-jackets,12,USD,65.50,900,40, --, --
2026-01-06,brand-search,11,USD,0.25,20,1,0.00,0.00
Total: Campaigns, --, --, --,"1,300.25","10,920",541,12.50,"1,100.00"
Total: Search, --, --, --,"1,234.75","10,020",501,12.50,"1,100.00"
Total: Account, --, --, --,"1,300.25","10,920",541,12.50,"1,100.00"
"""
META_DE = """\
Berichtsstart;Berichtsende;Tag;Kampagnenname;Name der Anzeigengruppe;Ausgegebener Betrag (EUR);Impressionen;\
Link-Klicks;Käufe;Conversion-Wert der Käufe
;;;;;1.010,75;2300;30;3;310,5
2026-01-05;2026-01-05;2026-01-05;Größe S;breit;1.000,25;2000;20;2;200
2026-01-05;2026-01-05;2026-01-05;Größe S;ähnlich;10,5;300;10;1;110,5
"""
MICROSOFT = """\
"Report Name: Campaigns"
"Report Time: 1/5/2026,1/13/2026"
"Time Zone: (GMT-08:00) Pacific Time (US & Canada); Tijuana"
"Rows: 2"

"Gregorian date","Account name","Campaign name","Spend","Currency code","Impressions","Clicks","Conversions"
"1/5/2026","Larkhill","boots-search","12.50","GBP","1000","30","--"
"1/13/2026","Larkhill","boots-search","1,002.00","GBP","9000","90","2.00"

"@2026 Microsoft Corporation. All rights reserved. "
"""
LINKEDIN = """\
Campaign Performance Report (in UTC)
"Report Start: January 5, 2026, 12:00 AM"
"Report End: January 6, 2026, 11:59 PM"
"Date Generated: January 7, 2026, 10:15 AM"

Start Date (in UTC)\tCampaign Group Name\tCampaign Name\tTotal Spent\tImpressions\tClicks
1/5/2026\tcorporate-gifts\tDE\t$1,100.10\t400\t3
1/5/2026\tcorporate-gifts\tFR\t$10.00\t100\t-
1/6/2026\tcorporate-gifts\tDE\t-\t-\t-
Total\t\t\t$1,110.10\t500\t3
"""
TIKTOK = """\
By Day,Campaign name,Ad group name,Cost,Currency,Impressions,Clicks (destination),Conversions
2026-01-05,hut-tour-clips,young,10.10,EUR,5000,50,1
2026-01-05,hut-tour-clips,old,0.20,EUR,100,1,0
Total of 2 results,-,-,10.30,-,5100,51,1
"""
X = """\
Time period,Campaign name,Impressions,Spend
2026-01-05 - 2026-01-05,storm-warning,1200,5.75
2026-01-06 - 2026-01-06,storm-warning,1300,6.00
"""
REDDIT = """\
Date,Campaign name,Ad group name,Ad name,Spend,Impressions,Clicks
2026-01-05,ultralight,r/ultralight,ad 1,$3.10,800,9
2026-01-05,ultralight,r/ultralight,ad 2,$1.15,200,1
Total,,,,$4.25,1000,10
"""
PINTEREST = """\
Date,Campaign name,Campaign ID,Spend in account currency,Impressions,Outbound clicks
2026-01-05,cosy-camp,7001,4.40,3000,21
"""
MON, TUE = date(2026, 1, 5), date(2026, 1, 6)


def read(text: str, encoding: str = "utf-8", **given: Any) -> Any:
    return read_export(text.encode(encoding), "the file.csv", Given(**given))


def row(day: date, campaign: str, spend: str, *counts: Any, campaign_id: str | None = None) -> SpendRow:
    impressions, clicks, conversions, value = (*counts, None, None, None, None)[:4]
    return SpendRow(
        day,
        campaign_id,
        campaign,
        Decimal(spend),
        impressions,
        clicks,
        Decimal(conversions) if conversions is not None else None,
        Decimal(value) if value is not None else None,
    )


class TestEachPlatform:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
    def test_google(self, encoding: str) -> None:
        export = read(GOOGLE, encoding)
        assert export.rows == (
            row(MON, "brand-search", "1234.50", 10_000, 500, "12.50", "1100", campaign_id="11"),
            row(MON, "shopping-jackets", "65.50", 900, 40, "0", "0", campaign_id="12"),
            row(TUE, "brand-search", "0.25", 20, 1, "0", "0", campaign_id="11"),
        )
        assert (export.platform, export.account, export.currency) == ("google", "default", "USD")
        assert (export.time_zone, export.lines, export.total) == (None, 3, Decimal("1300.25"))

    def test_google_in_millionths_and_by_tabs(self) -> None:
        lines = [
            "Day,Campaign,Currency code,cost_micros",
            "2026-01-05,brand,USD,1234567",
            "Total: Account,--,--,1234567",
        ]
        text = "\n".join(lines).replace(",", "\t")
        assert read(text, "utf-16").rows == (row(MON, "brand", "1.234567"),)

    @pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
    def test_meta(self, encoding: str) -> None:
        export = read(META_DE, encoding)
        assert export.rows == (row(MON, "Größe S", "1010.75", 2300, 30, "3", "310.5"),)
        assert (export.platform, export.currency, export.lines) == ("meta", "EUR", 2)

    def test_microsoft(self) -> None:
        export = read(MICROSOFT)
        assert export.rows == (
            row(MON, "boots-search", "12.50", 1000, 30, "0"),
            row(date(2026, 1, 13), "boots-search", "1002", 9000, 90, "2"),
        )
        assert (export.platform, export.account, export.currency) == ("microsoft", "Larkhill", "GBP")
        assert export.time_zone == "(GMT-08:00) Pacific Time (US & Canada); Tijuana"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_linkedin(self, encoding: str) -> None:
        export = read(LINKEDIN, encoding)
        assert export.rows == (
            row(MON, "corporate-gifts", "1110.10", 500, 3),
            row(TUE, "corporate-gifts", "0", 0, 0),
        )
        assert (export.platform, export.currency, export.time_zone) == ("linkedin", "USD", "UTC")
        assert export.exported_at == datetime(2026, 1, 7, 10, 15, tzinfo=UTC)

    def test_tiktok(self) -> None:
        assert read(TIKTOK).rows == (row(MON, "hut-tour-clips", "10.30", 5100, 51, "1"),)

    def test_x(self) -> None:
        export = read(X, currency="USD", account="@larkhill", time_zone="Europe/Paris")
        assert export.rows == (row(MON, "storm-warning", "5.75", 1200), row(TUE, "storm-warning", "6", 1300))
        assert (export.account, export.currency, export.time_zone) == ("@larkhill", "USD", "Europe/Paris")

    def test_what_is_known_of_the_platforms_account(self) -> None:
        usual = {"x": Account("@larkhill", "Europe/Paris", "EUR"), "reddit": Account("r", "UTC", "CAD")}
        export = read(X, usual=usual)
        assert (export.account, export.time_zone, export.currency) == ("@larkhill", "Europe/Paris", "EUR")
        assert read(X, usual=usual, currency="USD").currency == "USD"
        google = read(GOOGLE, usual=usual)
        assert (google.account, google.time_zone) == ("default", None)

    def test_whose_account_it_is(self) -> None:
        usual = {"microsoft": Account("usual")}
        assert read(MICROSOFT, usual=usual).account == "Larkhill", "as the file says"
        assert read(MICROSOFT, usual=usual, account="said").account == "said"

    def test_reddit(self) -> None:
        assert read(REDDIT).rows == (row(MON, "ultralight", "4.25", 1000, 10),)

    def test_a_dollar_is_whose_it_is_said_to_be(self) -> None:
        assert (read(REDDIT).currency, read(REDDIT, currency="CAD").currency) == ("USD", "CAD")
        assert read(REDDIT, currency="EUR").currency == "USD", "a dollar is no euro"

    def test_pinterest(self) -> None:
        export = read(PINTEREST, currency="CAD")
        assert export.rows == (row(MON, "cosy-camp", "4.40", 3000, 21, campaign_id="7001"),)


class TestWhatIsSettledByTheFile:
    GOOGLE_DAYS = "Day,Campaign,Currency code,Cost\n{},a,USD,1.00\n{},a,USD,2.00\nTotal: Account,,,3.00\n"

    @pytest.mark.parametrize(
        ("days", "found"),
        [
            (("5.1.2026", "6.1.2026"), (MON, TUE)),
            (("Jan 5, 2026", "6 January 2026"), (MON, TUE)),
            (("05/01/2026", "13/01/2026"), (MON, date(2026, 1, 13))),
            (("01/05/2026", "01/13/2026"), (MON, date(2026, 1, 13))),
            (("2026/01/05", "2026-01-06 00:00:00"), (MON, TUE)),
        ],
    )
    def test_days(self, days: tuple[str, str], found: tuple[date, date]) -> None:
        quoted = [f'"{day}"' for day in days]
        assert tuple(row.day for row in read(self.GOOGLE_DAYS.format(*quoted)).rows) == found

    def test_days_by_the_range_above_the_table(self) -> None:
        text = self.GOOGLE_DAYS.format("01/05/2026", "01/06/2026")
        assert read('"January 5, 2026 - January 6, 2026"\n' + text).rows[0].day == MON
        assert read("1. Mai 2026 – 1. Juni 2026\n" + text).rows[0].day == date(2026, 5, 1)

    def test_a_file_without_days_whose_range_is_one(self) -> None:
        text = "Campaign,Currency code,Cost\na,USD,1.00\nTotal: Account,,1.00\n"
        assert read('"January 5, 2026 - January 5, 2026"\n' + text).rows == (row(MON, "a", "1"),)
        with pytest.raises(FileRefused, match=r"no column of days, and its range is not one day. Export it by day"):
            read('"January 5, 2026 - January 6, 2026"\n' + text)

    def test_a_line_of_several_days_is_refused(self) -> None:
        head = "Reporting starts,Reporting ends,Campaign name,Amount spent (USD)\n"
        assert read(head + "2026-01-05,2026-01-05,a,1.00\n,,,1.00\n").rows == (row(MON, "a", "1"),)
        with pytest.raises(FileRefused, match="line 2: it covers the days from 2026-01-05 to 2026-01-06"):
            read(head + "2026-01-05,2026-01-06,a,1.00\n,,,1.00\n")

    AMOUNTS = "Day;Campaign;Currency code;Cost;Impr.\n{}\n"

    @pytest.mark.parametrize(
        ("amounts", "impressions", "currency", "found"),
        [
            (["1.234", "0,50"], ["", ""], "EUR", "1234.50"),
            (["1.234", "1.000"], ["12.000", ""], "EUR", "2234"),
            (["1,234", "1,000"], ["12", ""], "JPY", "2234"),
            (["1 234,5", "1"], ["", ""], "EUR", "1235.5"),
            (["1’234.50", "1"], ["", ""], "CHF", "1235.50"),
            (["1,23,456", "1"], ["", ""], "INR", "123457"),
            (["12345.678", "0.002"], ["", ""], "USD", "12345.68"),
            (["-1.50", "2.00"], ["", ""], "USD", "0.5"),
        ],
    )
    def test_decimal_marks(self, amounts: list[str], impressions: list[str], currency: str, found: str) -> None:
        lines = [
            f"2026-01-0{day};a;{currency};{amount};{shown}"
            for day, amount, shown in zip((5, 6), amounts, impressions, strict=True)
        ]
        text = self.AMOUNTS.format("\n".join(lines))
        assert read(text, without_total=True).spend == Decimal(found)


WRONG_TOTAL = GOOGLE.replace('"1,300.25"', '"1,300.26"')


class TestTotals:
    def test_a_wrong_total_is_named(self) -> None:
        with pytest.raises(TotalDiffers) as refused:
            read(WRONG_TOTAL)
        error = refused.value
        assert (error.file, error.line) == ("the file.csv", 7)
        assert error.reason == (
            "the total of 'Cost' (Total: Campaigns) is 1,300.26, but the 3 lines of data add up to 1,300.25"
        )
        assert str(error).startswith(f"the file.csv, line 7: {error.reason}. ")
        assert isinstance(error, StitchlineError)
        assert (error.facts["told"], error.facts["found"]) == (Decimal("1300.26"), Decimal("1300.25"))

    def test_what_rounding_explains_is_taken_if_asked(self) -> None:
        with pytest.raises(TotalDiffers, match="--rounding"):
            read(WRONG_TOTAL)
        assert read(WRONG_TOTAL, rounding=True).spend == Decimal("1300.25")
        with pytest.raises(TotalDiffers):
            read(GOOGLE.replace('"1,300.25"', '"1,300.28"'), rounding=True)
        with pytest.raises(TotalDiffers, match="'Clicks'"):
            read(GOOGLE.replace(",541,", ",542,"), rounding=True)

    def test_the_account_may_have_spent_more_than_the_campaigns_that_are_shown(self) -> None:
        filtered = GOOGLE.replace('Account, --, --, --,"1,300.25"', 'Account, --, --, --,"2,000.00"')
        assert read(filtered).total == Decimal("1300.25")
        alone = "".join(line for line in filtered.splitlines(True) if not line.startswith("Total: Campaigns"))
        with pytest.raises(TotalDiffers, match=r"is 2,000\.00"):
            read(alone)

    @pytest.mark.parametrize("text", [GOOGLE, META_DE, LINKEDIN, REDDIT])
    def test_without_its_total_nobody_can_tell_whether_it_is_whole(self, text: str) -> None:
        lines = text.splitlines(True)
        cut = "".join(line for line in lines if not line.startswith(("Total", ";;;")))
        with pytest.raises(FileRefused, match=r"no row of totals.* --without-total"):
            read(cut)
        assert read(cut, without_total=True).spend == read(text).spend

    def test_the_number_of_rows(self) -> None:
        with pytest.raises(FileRefused, match="says that it has 3 rows, but 2 are there"):
            read(MICROSOFT.replace("Rows: 2", "Rows: 3"))
        with pytest.raises(FileRefused, match="'Total of 3 results', but has 2 lines"):
            read(TIKTOK.replace("of 2", "of 3"))

    def test_without_any_total_the_last_line_has_to_be_ended(self) -> None:
        for whole in (X, PINTEREST):
            with pytest.raises(FileRefused, match="the last line is not ended"):
                read(whole.removesuffix("\n"), currency="USD")

    def test_a_line_that_is_there_twice(self) -> None:
        twice = PINTEREST + PINTEREST.splitlines()[1] + "\n"
        with pytest.raises(FileRefused, match="line 3: it is the same as line 2"):
            read(twice, currency="USD")
        two_ads = REDDIT.replace("ad 2,$1.15,200,1", "ad 1,$3.10,800,9").replace("$4.25,1000,10", "$6.20,1600,18")
        assert read(two_ads).spend == Decimal("6.20"), "where the total counts both, both count"


REFUSED: dict[str, tuple[str | bytes, int | None, str]] = {
    "empty": (b"", None, "empty"),
    "blank": (b" \r\n\n", None, "empty"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), 4, "CP1252"),
    "a workbook": (b"PK\x03\x04" + bytes(range(256)), None, "save the sheet as CSV"),
    "no export": ("name,age\nann,7\n", None, "none of its first 20 lines"),
    "a header too far below": ("\n".join(["x"] * 20) + "\n" + GOOGLE, None, "none of its first 20 lines"),
    "no line of data": (PINTEREST.splitlines()[0] + "\n", None, "no line of data"),
    "a NUL": (GOOGLE.replace("brand", "br\0nd"), 4, "U\\+0000"),
    "text that was encoded twice": (META_DE.encode().decode("cp1252"), 1, "encoded twice: .* was .*Käufe"),
    "an old Mac's encoding": (META_DE.replace("ß", "").encode("mac_roman"), 1, "western code page"),
    "a DOS box's encoding": (META_DE.encode("cp850"), 1, "no CP1252|western code page"),
    "a Cyrillic encoding": (REDDIT.replace("ultralight", "Скидка").encode("cp1251"), 2, "western code page"),
    "half a letter": (META_DE.encode("utf-16")[:-1], 4, "UTF-16"),
    "quotes that are not closed": (GOOGLE + '2026-01-06,"brand', 10, "malformed"),
    "a cell too many": (GOOGLE.replace("10,000", '10,000","1'), 4, "10 cells where the header has 9"),
    "a cell too few": (PINTEREST.replace(",21", ""), 2, "5 cells where the header has 6"),
    "two exports in one": (REDDIT + REDDIT, 5, "header is there twice"),
    "more below the end": (MICROSOFT + '"1/6/2026","Larkhill","x","1.00","GBP","1","1","1"\n', 11, "below the end"),
    "a day that is none": (REDDIT.replace("2026-01-05", "2026-02-30", 1), 2, "'2026-02-30', which is no day"),
    "an hour": (REDDIT.replace("2026-01-05", "2026-01-05 13:00", 1), 2, "no day"),
    "a day or a month": (REDDIT.replace("2026-01-05", "01/05/2026"), 2, "day or the month comes first"),
    "a day or a month, where documents say the month": (
        "Start Date (in UTC),Campaign Group Name,Total Spent\n"
        "01/02/2026,a,$1.00\n02/02/2026,a,$1.00\n03/02/2026,a,$1.00\nTotal,,$3.00\n",
        2,
        "day or the month comes first",
    ),
    "days in both orders": (
        REDDIT.replace("2026-01-05", "13/05/2026", 1).replace("2026-01-05", "05/13/2026"),
        None,
        "in some lines",
    ),
    "a day outside of the range": (GOOGLE.replace("2026-01-06,", "2026-02-06,"), None, "outside of the range"),
    "a number or a thousand": (
        REDDIT.replace("$3.10", "$3.105").replace("$1.15", "$1.145").replace("4.25", "4.250").replace("1000", "999"),
        2,
        "two numbers",
    ),
    "two decimal marks": (GOOGLE.replace("65.50", '"65,5"'), 5, "another decimal mark"),
    "an amount that is none": (REDDIT.replace("$1.15", "a lot"), 3, "'a lot' is no amount"),
    "a formula for an amount": (REDDIT.replace("$1.15", "=1+1"), 3, "'=1\\+1' is no amount"),
    "a count that is none": (REDDIT.replace("800", "8e2"), 2, "'8e2' is no count"),
    "an amount too large": (REDDIT.replace("$3.10", "$" + "9" * 30), 2, "no amount"),
    "an amount too fine": (REDDIT.replace("$3.10", "$3.1000001"), 2, "no amount"),
    "two currencies": (GOOGLE.replace("12,USD", "12,EUR"), 5, "'USD' and 'EUR'"),
    "a currency that is none": (META_DE.replace("EUR", "EUX"), 1, "no currency of ISO 4217"),
    "a sign of another currency": (REDDIT.replace("$1.15", "€1.15"), 3, "'€1.15' is not in USD"),
    "no currency": (X, 1, "does not say its currency. .*spend.accounts.x.currency"),
    "two accounts": (MICROSOFT.replace('13/2026","Lark', '13/2026","Bark'), 8, "'Larkhill' and 'Barkhill'"),
    "no campaign": (REDDIT.replace(",ultralight,r/ultralight,ad 2", ",,r/ultralight,ad 2"), 3, "names no campaign"),
    "no campaign's id": (GOOGLE.replace("jackets,12", "jackets,"), 5, "'Campaign ID' is empty"),
    "two names of a campaign": (GOOGLE.replace("jackets,12", "jackets,11"), 5, "campaign 11 is"),
    "two columns of spend": (
        TIKTOK.replace("Impressions", "Spend", 1),
        1,
        "'spend' is one of two columns with one meaning",
    ),
    "more clicks than impressions": (REDDIT.replace("Impressions,Clicks", "Clicks,Impressions"), None, "more clicks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    text, line, words = REFUSED[case]
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(FileRefused, match=words) as refused:
        read_export(data, "the file.csv")
    assert refused.value.file == "the file.csv"
    assert refused.value.line == line
    assert refused.value.facts["reason"] == refused.value.reason


class TestHostileFiles:
    def test_campaigns_are_text_whatever_they_say(self) -> None:
        names = ['=HYPERLINK("http://x")', "+1", "@SUM(A1)", "Total comfort", "two\nlines", "'; drop table x; --", "🥾"]
        text = (
            PINTEREST.splitlines()[0]
            + "\n"
            + "".join(
                f'2026-01-05,"{name.replace(chr(34), chr(34) * 2)}",{number},1.50,2,1\n'
                for number, name in enumerate(names)
            )
        )
        assert sorted(r.campaign for r in read(text, currency="USD").rows) == sorted(names)

    @pytest.mark.parametrize(
        "data",
        [
            b"x" * 100_000_000,
            GOOGLE.encode() + b'"' + b"y" * 30_000_000,
            b"Day,Campaign,Currency code,Cost\n2026-01-05," + b"z" * 30_000_000 + b",USD,1\nTotal: Account,,,1\n",
            PINTEREST.encode() + b'2026-01-05,a,1,"1' + b" " * 130_000 + b'x1",1,1\n',
            b"a " * 200_000 + b"\n" + GOOGLE.encode(),
            b"," * 5_000_000,
        ],
        ids=["one line of 100 MB", "an open quote", "a name of 30 MB", "spaces", "a long title", "commas"],
    )
    def test_what_is_large_is_answered_soon(self, data: bytes) -> None:
        began = time.monotonic()
        with pytest.raises(FileRefused):
            read_export(data, "large.csv", Given(currency="USD"))
        assert time.monotonic() - began < 20

    def test_a_form_that_is_not_known_says_which_are(self) -> None:
        with pytest.raises(FormUnknown, match="Google Ads, Meta, Microsoft, LinkedIn, TikTok, X, Reddit and Pinterest"):
            read("a,b\n1,2\n")
