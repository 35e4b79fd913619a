"""Slack's blocks within Slack's limits: text is escaped, and cut where it would be refused. Pure.

https://docs.slack.dev/reference/block-kit/blocks
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

Block = dict[str, Any]

HEADER: Final = 150
SECTION: Final = 3000
BUTTON: Final = 75
FALLBACK: Final = 1000
"""A notification shows far less; Slack takes 4,000 without a word."""
_MORE: Final = "…"


def escape(text: str) -> str:
    """`text` as it is, where Slack reads mrkdwn: &, < and > would be links, mentions or worse."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clip(text: str, most: int) -> str:
    """`text`, escaped, in at most so many characters; never cut within an escape.

    >>> clip("a < b", 6), clip("a < b", 8)
    ('a …', 'a &lt; b')
    """
    escaped = escape(text)
    if len(escaped) <= most:
        return escaped
    kept = text[: most - len(_MORE)]
    while len(escape(kept)) > most - len(_MORE):
        kept = kept[:-1]
    return escape(kept) + _MORE


def code(text: str) -> str:
    """A name that may hold anything, such as a path, as it is.

    >>> code("path=/a_b*c"), code("a`b")
    ('`path=/a_b*c`', "`a'b`")
    """
    return f"`{clip(text.replace('`', chr(39)).replace(chr(10), ' ') or ' ', 120)}`"


def link(url: str, text: str) -> str:
    """A link; what would end it early in the address is percent-encoded."""
    for sign, encoded in (("<", "%3C"), (">", "%3E"), ("|", "%7C"), (" ", "%20")):
        url = url.replace(sign, encoded)
    return f"<{url.replace('&', '&amp;')}|{escape(text).replace('|', '/')}>"


def header(text: str) -> Block:
    """The first line, in large letters: plain text, no mrkdwn."""
    kept = text if len(text) <= HEADER else text[: HEADER - 1] + _MORE
    return {"type": "header", "text": {"type": "plain_text", "text": kept, "emoji": True}}


def section(lines: Iterable[str]) -> Block:
    """Lines of mrkdwn, escaped already; those that do not fit are counted instead."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": _fitting(list(lines))}}


def context(lines: Iterable[str]) -> Block:
    """The same, in small letters."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": _fitting(list(lines))}]}


def button(text: str, action_id: str, value: str, style: str | None = None) -> Block:
    """A button that sends `value`."""
    told: Block = {
        "type": "button",
        "text": {"type": "plain_text", "text": text[:BUTTON], "emoji": True},
        "action_id": action_id,
        "value": value,
    }
    return told if style is None else told | {"style": style}


def actions(buttons: Sequence[Block]) -> Block:
    """Buttons in a row."""
    return {"type": "actions", "elements": list(buttons)}


def _fitting(lines: list[str]) -> str:
    room = SECTION - len("\n… and 10,000 more")
    kept: list[str] = []
    for number, line in enumerate(lines):
        if sum(map(len, kept)) + len(kept) + len(line) > room:
            return "\n".join([*kept, f"{_MORE} and {len(lines) - number:,} more"])
        kept.append(line)
    return "\n".join(kept)
