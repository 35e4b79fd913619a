"""Who may see the page: loopback names or a token, the same origin only, and the headers that browsers obey."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stitchline.errors import SettingsError

COOKIE = "stitchline_access"

_OPEN_PATHS = ("/health/live", "/health/ready", "/login", "/static/", "/favicon.ico", "/slack/actions")
"""What needs no token: the probes, the way in and what that is made of, and what Slack signs."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """The rules of admission for one service.

    Without a token the service must be on loopback, and the Host header must be a loopback name (or `host`): a page
    of another site that points its own name at 127.0.0.1 is turned away (DNS rebinding). Raises SettingsError for an
    address beyond loopback without a token.
    """

    def __init__(self, token: str | None, host: str) -> None:
        if token is not None and not token.strip():
            raise SettingsError("the page's token is empty: give it a long random text, or none", setting="web.token")
        if token is None and not is_loopback(host):
            raise SettingsError(
                f"the page would listen on {host} for everybody: set web.token to a long random text, or web.host to "
                "127.0.0.1",
                setting="web.token",
            )
        self._token = token.encode() if token is not None else None
        self._host = host.strip("[]").lower()

    @property
    def demands_token(self) -> bool:
        """Whether anybody has to show one."""
        return self._token is not None

    def knows(self, token: str) -> bool:
        """Whether `token` is the right one."""
        return self._token is not None and hmac.compare_digest(token.encode(errors="surrogateescape"), self._token)

    def cookie_value(self) -> str:
        """What the cookie holds: made from the token, but not the token."""
        return hmac.new(self._token or b"", b"stitchline page", hashlib.sha256).hexdigest()

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass; None for one that may."""
        headers, path = Headers(scope=scope), scope["path"]
        if self._token is None and not self._is_own_name(headers.get("host", "")):
            name = headers.get("host", "")[:200]
            return _refused(421, f"this service does not answer to the name {name!r}: use 127.0.0.1 or localhost")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not _same_origin(headers):
            return _refused(403, "this request comes from another site's page: use the service's own")
        if self._token is None or path.startswith(_OPEN_PATHS) or self._shows_token(headers):
            return None
        if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            return RedirectResponse("/login", 303)
        refused = _refused(401, "a token is needed: send `Authorization: Bearer TOKEN`, or open /login?token=TOKEN")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused

    def _is_own_name(self, host_header: str) -> bool:
        try:
            name = (urlsplit(f"//{host_header}").hostname or "").lower()
        except ValueError:
            return False
        return name == self._host or is_loopback(name)

    def _shows_token(self, headers: Headers) -> bool:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(credentials.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.cookie_value().encode())


class AccessMiddleware:
    """Asks `access` about every request, and puts the security headers on every answer.

    Plain ASGI: Starlette's BaseHTTPMiddleware would hold a stream's chunks back.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                static = scope["path"].startswith("/static/")
                headers.setdefault(
                    "Cache-Control", "no-cache" if static else "no-store"
                )  # no-cache: ask again, by ETag
            await send(message)

        answer: ASGIApp = self._access.refusal(scope) or self._app
        await answer(scope, receive, send_with_headers)


def is_loopback(host: str) -> bool:
    """Whether `host` can only mean this machine.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0", "127.0.0.1.example.org")]
    [True, True, True, True, False, False]
    """
    bare = host.strip("[]").lower()
    try:
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _same_origin(headers: Headers) -> bool:
    """No browser, or a page of this very service."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _refused(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)
