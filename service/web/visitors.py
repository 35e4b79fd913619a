"""Who asks: somebody who may read, or one who may change things as well; known by a token or by a proxy's header."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from http.cookies import CookieError, SimpleCookie
from typing import Final

from fastapi import HTTPException
from starlette.datastructures import Headers

from stitchline.errors import SettingsError

COOKIE: Final = "stitchline_access"

HOW_TO_BE_ONE: Final = (
    "log in with the operators' token (web.token), or let whoever runs this service name you in web.operators"
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Role(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever asks. The `name` is what a proxy calls them; empty where a token alone is known."""

    role: Role
    name: str = ""

    @property
    def may_change(self) -> bool:
        """Whether more than reading is allowed."""
        return self.role is Role.OPERATOR


ANYBODY: Final = Visitor(Role.OPERATOR)
"""On loopback without tokens, whoever reaches the service is its own user."""

_STRANGER: Final = Visitor(Role.VIEWER)

_ASKING: ContextVar[Visitor] = ContextVar("visitor", default=_STRANGER)


def visitor() -> Visitor:
    """Who sent the request that is being answered."""
    return _ASKING.get()


def welcome(who: Visitor) -> None:
    """From here on, in this request, `visitor` says `who`."""
    _ASKING.set(who)


def for_operators(what: str) -> None:
    """Raises HTTPException 403 if whoever asks is a viewer."""
    if not visitor().may_change:
        raise HTTPException(403, f"{what} is for operators, and you are a viewer: {HOW_TO_BE_ONE}")


class Tokens:
    """One token for operators and one for viewers, either of which may be missing.

    Raises SettingsError for an empty one, and where both are the same.
    """

    def __init__(self, operators: str | None, viewers: str | None) -> None:
        for token, setting in ((operators, "web.token"), (viewers, "web.viewer_token")):
            if token is not None and not token.strip():
                raise SettingsError(
                    f"the page's token in {setting} is empty: give it a long random text, or none", setting=setting
                )
        if operators is not None and operators == viewers:
            raise SettingsError(
                "web.viewer_token is the same token as web.token, so viewers would be operators: give them another",
                setting="web.viewer_token",
            )
        pairs = ((operators, Role.OPERATOR), (viewers, Role.VIEWER))
        self._known = tuple((token.encode(), Visitor(role)) for token, role in pairs if token is not None)

    def __bool__(self) -> bool:
        return bool(self._known)

    def holder(self, token: str) -> Visitor | None:
        """Whose token that is; None if nobody's."""
        shown = token.encode(errors="surrogateescape")
        return next((who for known, who in self._known if hmac.compare_digest(shown, known)), None)

    def cookie_for(self, token: str) -> str:
        """What the cookie of a holder of `token` has: made from the token, but not the token."""
        return _cookie(token.encode(errors="surrogateescape"))

    def by_header(self, headers: Headers) -> Visitor | None:
        """Whose token the Authorization header shows."""
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        return self.holder(credentials.strip()) if scheme.lower() == "bearer" else None

    def by_cookie(self, headers: Headers) -> Visitor | None:
        """Whose token the cookie was made from."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        if cookie is None:
            return None
        shown = cookie.value.encode()
        return next((who for known, who in self._known if hmac.compare_digest(shown, _cookie(known).encode())), None)


@dataclass(frozen=True, slots=True)
class ProxyLogin:
    """A reverse proxy that logs people in and says in a header who they are.

    `believed` are the peers whose word counts; nobody else's does, as everybody can send a header. An operator is who
    is named in `operators`, or is in one of `operator_groups` by the `groups_header` (comma-separated); others view.
    """

    header: str
    believed: tuple[Network, ...]
    operators: frozenset[str] = frozenset()
    groups_header: str | None = None
    operator_groups: frozenset[str] = frozenset()

    def believes(self, peer: str) -> bool:
        """Whether the word of that address counts."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.believed)

    def is_told(self, headers: Headers) -> bool:
        """Whether a request has a header that only the proxy may send."""
        return self.header in headers or (self.groups_header is not None and self.groups_header in headers)

    def told(self, headers: Headers) -> Visitor | None:
        """Who the headers say it is; None if they do not, or say two things, as when a proxy adds to what was sent."""
        names = headers.getlist(self.header)
        groups = headers.getlist(self.groups_header) if self.groups_header is not None else []
        if len(names) != 1 or not names[0].strip() or len(groups) > 1:
            return None
        name = names[0].strip()
        member_of = {group.strip() for group in "".join(groups).split(",")}
        is_operator = name in self.operators or not member_of.isdisjoint(self.operator_groups)
        return Visitor(Role.OPERATOR if is_operator else Role.VIEWER, name)


def networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and ranges of them, as 10.0.0.5 or 10.0.0.0/8. Raises ValueError for what is neither."""
    return tuple(ipaddress.ip_network(each.strip()) for each in sorted(addresses))


def _cookie(token: bytes) -> str:
    return hmac.new(token, b"stitchline page", hashlib.sha256).hexdigest()
