"""What somebody pressed in Slack, by a signed request or a socket: the same payload, and the same Press of it.

https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from slack_sdk import WebClient
from slack_sdk.signature import Clock, SignatureVerifier
from slack_sdk.socket_mode.builtin.client import SocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from sinks.outbox import BASE_URL
from stitchline.errors import RequestRefused

log = logging.getLogger(__name__)

OLD: Final = timedelta(minutes=5)
"""A request signed longer ago than this, or for later than this, is refused: Slack's own advice."""


@dataclass(frozen=True, slots=True)
class Press:
    """A button that somebody pressed."""

    press_id: str
    """The same for the same press, however often and by whichever road it comes."""
    action_id: str
    value: str
    user_id: str
    user_name: str


class SignedRequests:
    """Tells which requests are Slack's, and new. Threads may share it.

    What was seen is remembered in this process, as long as it would not be old: whoever acts on a Press has to do so
    once for each `press_id`.
    """

    def __init__(self, signing_secret: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._verifier = SignatureVerifier(signing_secret, _ClockOf(clock))
        self._seen: dict[bytes, datetime] = {}
        self._lock = threading.Lock()

    def presses(self, body: bytes, headers: Mapping[str, str]) -> list[Press]:
        """What was pressed, by the body of an HTTP request and its headers.

        Raises RequestRefused for one that is not signed by Slack, old, seen before, or nothing that can be read.
        """
        told = {name.lower(): value for name, value in headers.items()}
        signed_at = told.get("x-slack-request-timestamp", "")
        if not signed_at.isascii() or not signed_at.isdecimal() or len(signed_at) > 12:
            raise _refused("it is not signed")
        if abs(self._clock() - datetime.fromtimestamp(int(signed_at), UTC)) > OLD:
            raise _refused("it is not of now")
        try:
            text = body.decode()
            is_signed = self._verifier.is_valid(text, signed_at, told.get("x-slack-signature", ""))
        except (UnicodeDecodeError, TypeError) as error:  # the verifier takes neither other octets nor other letters
            raise _refused("it is no text") from error
        if not is_signed:
            raise _refused("it is not signed by Slack with the secret in slack.signing_secret")
        digest = hashlib.sha256(body).digest()
        with self._lock:
            now = self._clock()
            self._seen = {key: at for key, at in self._seen.items() if now - at <= 2 * OLD}
            if digest in self._seen:
                raise _refused("it came before")
            self._seen[digest] = now
        try:
            payload = json.loads(parse_qs(text, strict_parsing=True)["payload"][0])
        except (ValueError, KeyError) as error:
            raise _refused("it has no payload") from error
        return presses_of(payload)


def presses_of(payload: Any) -> list[Press]:
    """The buttons that a payload tells of; none if it is about something else."""
    if not isinstance(payload, dict) or payload.get("type") != "block_actions":
        return []
    user = payload.get("user") or {}
    found = []
    for pressed in payload.get("actions") or ():
        if pressed.get("type") != "button":
            continue
        parts = [payload.get("trigger_id"), pressed.get("action_id"), pressed.get("value"), pressed.get("action_ts")]
        found.append(
            Press(
                press_id=hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32],
                action_id=str(pressed.get("action_id", "")),
                value=str(pressed.get("value", "")),
                user_id=str(user.get("id", "")),
                user_name=str(user.get("name") or user.get("username") or user.get("id") or ""),
            )
        )
    return found


class SocketListener:
    """Hears of buttons through a socket to Slack, where no address of ours can be reached from outside.

    A press is confirmed once `on_press` has returned; Slack sends one again that is not.
    """

    def __init__(
        self, app_token: str, bot_token: str, on_press: Callable[[Press], object], *, base_url: str = BASE_URL
    ) -> None:
        self._on_press = on_press
        web = WebClient(bot_token, base_url=base_url, retry_handlers=[])
        self._client = SocketModeClient(app_token, web_client=web, concurrency=1)
        self._client.socket_mode_request_listeners.append(self._heard)

    def start(self) -> None:
        """Connects, and stays connected until `close`. Raises SlackApiError or OSError if it cannot."""
        self._client.connect()

    def is_connected(self) -> bool:
        """Whether buttons are heard of now."""
        return self._client.is_connected()

    def close(self) -> None:
        """Lets go of the socket."""
        self._client.close()

    def _heard(self, client: BaseSocketModeClient, request: SocketModeRequest) -> None:
        if request.type == "interactive":
            for press in presses_of(request.payload):
                self._on_press(press)
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))


class _ClockOf(Clock):
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._now = clock

    def now(self) -> float:
        return self._now().timestamp()


def _refused(reason: str) -> RequestRefused:
    return RequestRefused(f"A request to Slack's buttons is refused: {reason}.", reason=reason)
