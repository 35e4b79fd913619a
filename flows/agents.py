"""What a user agent says: device type, browser, operating system, and whether it is a known bot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import polars as pl
import ua_parser


class Agent(NamedTuple):
    device_type: str | None  # mobile, tablet, desktop
    browser: str | None
    os: str | None
    is_bot: bool


_MOBILE_SYSTEMS = frozenset({"iOS", "Android", "Windows Phone", "KaiOS", "BlackBerry OS"})


@lru_cache(maxsize=50_000)
def agent_of(text: str) -> Agent:
    """What `text` says, by the uap-core rules (https://github.com/ua-parser/uap-core)."""
    found = ua_parser.parse(text[:2000])
    system = found.os.family if found.os else None
    family = found.device.family if found.device else None
    if family == "Spider":
        return Agent(None, found.user_agent.family if found.user_agent else None, system, is_bot=True)
    if family == "iPad" or "Tablet" in text or (system == "Android" and "Mobile" not in text):
        device: str | None = "tablet"
    elif system in _MOBILE_SYSTEMS:
        device = "mobile"
    else:
        device = "desktop" if system else None
    return Agent(device, found.user_agent.family if found.user_agent else None, system, is_bot=False)


def with_agents(events: pl.DataFrame) -> pl.DataFrame:
    """`events` with `browser` and `is_bot`, and with `device_type` and `os` where the event did not say them itself.

    Takes the columns user_agent, device_type, os. Each distinct user agent is looked at once.
    """
    agents = events["user_agent"].to_arrow().dictionary_encode()
    told = [agent_of(text) for text in agents.dictionary.to_pylist()]
    which = pl.Series(agents.indices)

    def of(values: Sequence[str | None]) -> pl.Series:
        return (
            pl.Series(values, dtype=pl.String).gather(which)
            if values
            else pl.Series([None] * len(which), dtype=pl.String)
        )

    return events.with_columns(
        device_type=pl.coalesce("device_type", of([agent.device_type for agent in told])),
        browser=of([agent.browser for agent in told]),
        os=pl.coalesce("os", of([agent.os for agent in told])),
        is_bot=of(["bot" if agent.is_bot else None for agent in told]).is_not_null(),
    )
