"""A notice of changes as a Slack message: what changes, when, before and after, where more stands, a button. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from batch_marts.anomalies.blocks import FALLBACK, Block, actions, button, clip, code, context, header, link, section
from batch_marts.changes import AnnouncedChange, Notice

SEEN: Final = "change_seen"
"""The action_id of the button; its value is the notice's id."""

_LISTED: Final = 20
"""Changes in one message; Slack takes 50 blocks."""
_TEXT: Final = 300
"""Letters of what was and what comes."""


def notice_message(notice: Notice, page: str = "") -> dict[str, Any]:
    """`text` and `blocks` of the message, as the notice is now. `page` is the address of the service."""
    title = _title(notice)
    blocks = [header(f"{'💥' if _breaks(notice) else '📐'} {title}"), section([_concerns(notice)])]
    blocks += [_change(one) for one in notice.changes[:_LISTED]]
    if len(notice.changes) > _LISTED:
        blocks.append(section([f"… and {len(notice.changes) - _LISTED} more"]))
    reasons = dict.fromkeys(one.because for one in notice.changes if one.because)
    if reasons:
        told = clip("; ".join(reasons), 1000)
        blocks.append(section([f"*This does not wait for the notice period:* {told}"]))
    if links := _links(notice, page):
        blocks.append(section([" · ".join(links)]))
    blocks.append(context([_standing(notice)]))
    if notice.seen_by is None:
        blocks.append(actions([button("Seen", SEEN, notice.notice_id, "primary")]))
    first = notice.changes[0]
    return {"text": clip(f"{title}. {first.says} From {_day(first.in_force_at)}.", FALLBACK), "blocks": blocks}


def _title(notice: Notice) -> str:
    many = len(notice.changes)
    what = "A breaking change" if many == 1 and _breaks(notice) else "A change" if many == 1 else f"{many} changes"
    return f"{what} to what {notice.owner} reads"


def _breaks(notice: Notice) -> bool:
    return any(one.is_breaking for one in notice.changes)


def _concerns(notice: Notice) -> str:
    return f"It concerns {clip(', '.join(notice.consumers), 1000)}."


def _change(one: AnnouncedChange) -> Block:
    lines = [f"*{clip(one.says, 600)}*", f"From {_local(one.in_force_at)}"]
    if one.before is not None or one.after is not None:
        lines.append(f"Before: {_shown(one.before)} · after: {_shown(one.after)}")
    return section(lines)


def _shown(text: str | None) -> str:
    return "nothing" if text is None else code(text[:_TEXT])


def _links(notice: Notice, page: str) -> list[str]:
    links = [link(each, "The change") for each in dict.fromkeys(one.link for one in notice.changes) if each]
    if page:
        marts = dict.fromkeys(f"metrics/{one.metric}" if one.metric else f"marts/{one.mart}" for one in notice.changes)
        links += [link(f"{page}/{mart}", mart.rpartition("/")[2]) for mart in list(marts)[:5]]
    return links


def _standing(notice: Notice) -> str:
    by = clip(notice.changes[0].announced_by, 100)
    if notice.seen_by is None:
        return f"Announced by {by}. Nobody of {clip(notice.owner, 100)} has seen it yet."
    assert notice.seen_at is not None
    return f"Announced by {by}. Seen by {clip(notice.seen_by, 100)} {_local(notice.seen_at)}."


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def _local(at: datetime) -> str:
    """A time as Slack shows it by each reader's own clock; in UTC where it cannot."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC>"
