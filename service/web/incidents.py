"""How incidents read on the page: their message as Slack would draw it, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from markupsafe import Markup

from service.web import wording

_LINK: Final = re.compile(r"<(https?://[^|>\s]+)(?:\|([^>]*))?>")
_TIME: Final = re.compile(r"<!date\^[^|>]+\|([^>]*)>")
_CALL: Final = re.compile(r"<[@!]([^|>]+)(?:\|([^>]*))?>")
_MARKS: Final = ((re.compile(r"(?<!\w)\*([^*\n]+)\*(?!\w)"), "strong"), (re.compile(r"(?<!\w)_([^_\n]+)_(?!\w)"), "em"))
_SIGN: Final = re.compile(r"^[^\w\s]+\s+")
"""Slack's picture of how bad it is; the page says it in a word."""
_CODE: Final = re.compile(r"`([^`\n]+)`")

CHANGES: Final[Mapping[str, str]] = {
    "opened": "Found",
    "joined": "More metrics joined",
    "worsened": "Got worse",
    "confirmed": "Confirmed by the nightly check",
    "reopened": "Out of range again",
    "escalated": "Called those on duty",
    "acknowledged": "Acknowledged",
    "snoozed": "Snoozed",
    "woke": "The snooze is over",
    "dismissed": "Not an anomaly",
    "resolved": "Back in range",
    "expired": "Given up: no values came in",
}


def drawn(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a message, each with its kind (header, text, small) and its HTML; buttons are left out."""
    found = []
    for block in message["blocks"]:
        match block["type"]:
            case "header":
                found.append({"kind": "header", "html": Markup(escape(_SIGN.sub("", block["text"]["text"])))})
            case "section":
                texts = [block["text"]] if "text" in block else block.get("fields", [])
                found += [{"kind": "text", "html": html_of(text["text"])} for text in texts]
            case "context":
                texts = [each["text"] for each in block["elements"] if "text" in each]
                found.append({"kind": "small", "html": Markup(" · ").join(map(html_of, texts))})
    return found


def html_of(mrkdwn: str) -> Markup:
    """Slack's markup as HTML. What came from outside is escaped in it already; nothing else gets through.

    >>> str(html_of("*Page views* of <https://x.example/?a=1|/p/1 &lt;b&gt;>"))
    '<strong>Page views</strong> of <a href="https://x.example/?a=1">/p/1 &lt;b&gt;</a>'
    """
    links: list[str] = []

    def kept(html: str) -> str:
        links.append(html)
        return f"\x00{len(links) - 1}\x00"

    text = mrkdwn.replace("\x00", "")
    text = _LINK.sub(lambda m: kept(f'<a href="{_plain(m[1])}">{_plain(m[2] or m[1])}</a>'), text)
    text = _TIME.sub(lambda m: kept(_plain(m[1])), text)
    text = _CALL.sub(lambda m: kept(f"<strong>@{_plain(m[2] or m[1])}</strong>"), text)
    text = _CODE.sub(lambda m: kept(f"<code>{_plain(m[1])}</code>"), text)
    text = _plain(text)
    for pattern, tag in _MARKS:
        text = pattern.sub(rf"<{tag}>\1</{tag}>", text)
    text = text.replace("\n", "<br>")
    return Markup(re.sub("\x00(\\d+)\x00", lambda m: links[int(m[1])], text))


def _plain(text: str) -> str:
    """Escapes what Slack's own three escapes leave: text in which `&amp;` stands for `&`."""
    for sign, told in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(sign, told)
    return escape(text)


def rows(incidents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Incidents as a table shows them."""
    return [
        dict(one)
        | {
            "href": f"/anomalies/{one['incident_id']}",
            "title": wording.clipped(one["title"], 200),
            "series": ", ".join(
                each["metric"] if each["segment"] == "all" else f"{each['metric']} ({each['segment']})"
                for each in one["metrics"][:6]
            ),
        }
        for one in incidents
    ]


def story(incident: Mapping[str, Any]) -> list[dict[str, str]]:
    """What became of an incident, in words: at, said, by, about."""
    return [
        {"at": one["at"], "said": CHANGES[one["what"]], "by": one["actor"], "about": one["about"]}
        for one in incident["changes"]
    ]
