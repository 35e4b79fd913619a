"""Who may see and change what: own names, a login, the same origin only, and the headers that browsers obey."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.settings import WebSettings
from service.web.models import KEY_HEADER
from service.web.visitors import ANYBODY, HOW_TO_BE_ONE, ProxyLogin, Role, Tokens, Visitor, networks, welcome
from stitchline.errors import SettingsError

_OPEN_PATHS: Final = ("/health/live", "/health/ready", "/login", "/static/", "/favicon.ico", "/slack/actions")
"""What needs no token: the probes, the way in and what that is made of, and what Slack signs."""

_READING_METHODS: Final = ("GET", "HEAD", "OPTIONS")

_QUESTIONS: Final = frozenset(
    (
        "/api/funnel",
        "/api/funnel/next",
        "/api/funnel/people",
        "/api/reconcile",  # its route keeps `repair` for operators
        "/api/retention",
        "/api/sql",
        "/api/trend",
    )
)
"""What is asked by POST because the question is long, and changes nothing. All else that is posted is for operators, so
that a new route is closed to viewers until somebody opens it."""

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

    Whoever shows one of the tokens, or comes through the `proxy`, gets in, each with a role; whoever shows the
    owner's `key` is the service's own user. Without tokens and proxy the service must be on loopback, and everybody is
    an operator. Where no token is shown, the Host header must be a loopback name, `host`, or that of `public_url`: a
    page of another site that points its own name at 127.0.0.1 is turned away (DNS rebinding). Raises SettingsError for
    an address beyond loopback without a way to log in.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        token: str | None = None,
        viewer_token: str | None = None,
        proxy: ProxyLogin | None = None,
        public_url: str | None = None,
        key: str | None = None,
    ) -> None:
        self.tokens = Tokens(token, viewer_token)
        self.key = key
        self._proxy = proxy
        if not self.demands_login and not is_loopback(host):
            raise SettingsError(
                f"the page would listen on {host} for everybody: set web.token to a long random text, web.login_header "
                "to what a reverse proxy says people's names in, or web.host to 127.0.0.1",
                setting="web.token",
            )
        public = urlsplit(public_url or "")
        self._public_origin = public.netloc.lower()
        self._names = {host.strip("[]").lower(), (public.hostname or "").lower()} - {""}

    @classmethod
    def by(cls, web: WebSettings, key: str | None = None) -> Access:
        """As the settings say. Raises SettingsError if they contradict each other."""
        proxy = None
        if web.login_header is not None:
            if not web.login_from:
                raise SettingsError(
                    f"web.login_header believes {web.login_header} of nobody: name the proxy's addresses in "
                    "web.login_from, as 10.0.0.5 or 10.0.0.0/24",
                    setting="web.login_from",
                )
            proxy = ProxyLogin(
                web.login_header, networks(web.login_from), web.operators, web.groups_header, web.operator_groups
            )
        elif web.login_from or web.groups_header is not None or web.operators or web.operator_groups:
            raise SettingsError(
                "web.login_from, web.groups_header, web.operators and web.operator_groups are about a proxy that logs "
                "people in: name the header that it says their names in, as X-Forwarded-User, in web.login_header",
                setting="web.login_header",
            )
        token, viewer_token = (
            None if secret is None else secret.get_secret_value() for secret in (web.token, web.viewer_token)
        )
        return cls(web.host, token=token, viewer_token=viewer_token, proxy=proxy, public_url=web.public_url, key=key)

    @property
    def demands_login(self) -> bool:
        """Whether anybody has to say who they are."""
        return bool(self.tokens) or self._proxy is not None

    def admit(self, scope: Scope) -> Visitor | Response:
        """Who sent a request; or the answer to one that may not pass."""
        headers, path = Headers(scope=scope), scope["path"]
        reads = scope["method"] in _READING_METHODS
        who = self._owner(headers) or self.tokens.by_header(headers)
        if self._proxy is not None and self._proxy.is_told(headers):
            peer = (scope.get("client") or ("",))[0]
            if not self._proxy.believes(peer):
                return _refused(
                    403, f"only a proxy that web.login_from names may say who asks, and {peer or 'the sender'} is none"
                )
            if not self._is_own_name(headers):
                return _wrong_name(headers)
            who = who or self._proxy.told(headers)
        who = who or self.tokens.by_cookie(headers)
        if not self.demands_login:
            if not self._is_own_name(headers):
                return _wrong_name(headers)
            who = ANYBODY
        if not reads and not self._same_origin(headers):
            return _refused(403, "this request comes from another site's page: use the service's own")
        if path.startswith(_OPEN_PATHS):
            return who or Visitor(Role.VIEWER)
        if who is None:
            return self._who_are_you(scope, headers)
        if not reads and not who.may_change and path not in _QUESTIONS:
            return _refused(403, f"this changes something, and you are a viewer: {HOW_TO_BE_ONE}")
        return who

    def _owner(self, headers: Headers) -> Visitor | None:
        shown = headers.get(KEY_HEADER, "").encode(errors="surrogateescape")
        return ANYBODY if self.key and hmac.compare_digest(shown, self.key.encode()) else None

    def _who_are_you(self, scope: Scope, headers: Headers) -> Response:
        if not self.tokens:
            return _refused(401, "nobody says who you are: come through the proxy that logs people in")
        if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            return RedirectResponse("/login", 303)
        refused = _refused(401, "a token is needed: send `Authorization: Bearer TOKEN`, or open /login?token=TOKEN")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused

    def _is_own_name(self, headers: Headers) -> bool:
        try:
            name = (urlsplit(f"//{headers.get('host', '')}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or is_loopback(name)

    def _same_origin(self, headers: Headers) -> bool:
        """No browser, or a page of this very service. A browser lets no page set either header itself.

        A proxy may send another Host on than the browser asked for, so `public_url` counts as well.
        """
        fetched_from, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if fetched_from is not None:
            return fetched_from in ("same-origin", "none")
        if origin is None:
            return True
        try:
            asked_by = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        return asked_by != "" and asked_by in (headers.get("host", "").lower(), self._public_origin)


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

        admitted = self._access.admit(scope)
        if isinstance(admitted, Response):
            await admitted(scope, receive, send_with_headers)
            return
        welcome(admitted)
        await self._app(scope, receive, send_with_headers)


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


def _wrong_name(headers: Headers) -> Response:
    name = headers.get("host", "")[:200]
    return _refused(
        421,
        f"this service does not answer to the name {name!r}: use 127.0.0.1 or localhost, or set web.public_url to "
        "where people reach it",
    )


def _refused(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)
