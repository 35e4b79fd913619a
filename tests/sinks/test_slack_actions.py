"""Buttons: what is Slack's and new is heard, by a signed request or by a socket; anything else is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from batch_marts.anomalies.message import ACTIONS
from batch_marts.anomalies.record import act_of
from sinks.slack_actions import Press, SignedRequests, SocketListener, presses_of
from stitchline.errors import RequestRefused
from tests.slack import APP_TOKEN, TOKEN, slack_server

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def payload(action_id: str = "stitchline_acknowledge", trigger: str = "13345224609.738474920") -> dict[str, Any]:
    """As Slack's documentation shows it: https://docs.slack.dev/reference/interaction-payloads/block_actions-payload"""
    return {
        "type": "block_actions",
        "trigger_id": trigger,
        "user": {"id": "U012ABCDEF", "username": "ada", "name": "ada", "team_id": "T9TK3CUKW"},
        "container": {"type": "message", "message_ts": "1548261231.000200", "channel_id": "CBR2V3XEX"},
        "actions": [
            {
                "type": "button",
                "action_id": action_id,
                "value": "0cfe8959fe9a7cd7",
                "action_ts": "1548426417.840180",
                "block_id": "b1",
            }
        ],
    }


def body_of(told: object) -> bytes:
    return urlencode({"payload": json.dumps(told)}).encode()


def signed(body: bytes, at: datetime = NOW, secret: str = SECRET) -> dict[str, str]:
    """Headers as Slack signs them, worked out anew: v0=HMAC-SHA256(secret, "v0:timestamp:body")."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": f"v0={digest}"}


def requests() -> SignedRequests:
    return SignedRequests(SECRET, lambda: NOW)


def test_a_signed_request_is_an_act() -> None:
    body = body_of(payload())
    (press,) = requests().presses(body, signed(body))
    assert (press.value, press.user_id, press.user_name) == ("0cfe8959fe9a7cd7", "U012ABCDEF", "ada")
    acted = act_of(press, NOW)
    assert acted is not None
    assert (acted.incident_id, acted.deed, acted.actor, acted.at) == ("0cfe8959fe9a7cd7", "acknowledge", "ada", NOW)


@pytest.mark.parametrize(("deed", "action_id"), ACTIONS.items())
def test_each_button(deed: str, action_id: str) -> None:
    (press,) = presses_of(payload(action_id))
    acted = act_of(press, NOW)
    assert acted is not None
    assert acted.deed == deed


def test_the_same_press_has_the_same_id_and_another_one_another() -> None:
    first, again = presses_of(payload()) + presses_of(payload())
    assert first == again
    assert presses_of(payload(trigger="another"))[0].press_id != first.press_id


@pytest.mark.parametrize("away", [-timedelta(seconds=301), timedelta(seconds=301), timedelta(days=400)])
def test_an_old_request_and_one_of_the_future_are_refused(away: timedelta) -> None:
    body = body_of(payload())
    with pytest.raises(RequestRefused, match="not of now"):
        requests().presses(body, signed(body, NOW + away))
    assert requests().presses(body, signed(body, NOW - timedelta(seconds=299)))


def test_a_request_that_came_before_is_refused_however_it_is_signed() -> None:
    body = body_of(payload())
    heard = requests()
    assert heard.presses(body, signed(body))
    for at in (NOW, NOW + timedelta(seconds=60)):
        with pytest.raises(RequestRefused, match="came before"):
            heard.presses(body, signed(body, at))


@pytest.mark.parametrize(
    "change",
    [
        lambda body, headers: (body + b"&x=1", headers),
        lambda body, headers: (body, headers | {"X-Slack-Signature": "v0=" + "0" * 64}),
        lambda body, headers: (body, headers | {"X-Slack-Signature": ""}),
        lambda body, headers: (body, headers | {"X-Slack-Request-Timestamp": str(int(NOW.timestamp()) - 1)}),
        lambda body, headers: (body, headers | {"X-Slack-Request-Timestamp": "now"}),
        lambda body, headers: (body, headers | {"X-Slack-Request-Timestamp": "9" * 40}),
        lambda body, headers: (body, headers | {"X-Slack-Request-Timestamp": "²"}),
        lambda body, headers: (body, headers | {"X-Slack-Signature": "v0=²"}),
        lambda body, headers: (b"\xff", headers),
        lambda body, headers: (body, {}),
        lambda body, headers: (body, signed(body, secret="another")),
    ],
)
def test_a_forged_request_is_refused_and_does_not_count_as_seen(change: Any) -> None:
    body = body_of(payload())
    heard = requests()
    with pytest.raises(RequestRefused):
        heard.presses(*change(body, signed(body)))
    assert len(heard.presses(body, signed(body))) == 1


@pytest.mark.parametrize("body", [b"", b"payload=", b"payload=%7B", b"payload=%FF", b"other=1"])
def test_a_signed_request_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused, match="no payload"):
        requests().presses(body, signed(body))


@pytest.mark.parametrize(
    "told",
    [{"type": "view_submission"}, [], 1, None, {"type": "block_actions"}, {"type": "block_actions", "actions": []}],
)
def test_what_is_no_button_is_none(told: object) -> None:
    assert presses_of(told) == []
    assert act_of(Press("p", "somebody_else_s_button", "v", "U1", "ada"), NOW) is None


def test_buttons_through_a_socket() -> None:
    heard: queue.Queue[Press] = queue.Queue()
    with slack_server() as server, socket.create_server(("127.0.0.1", 0)) as listening:
        server.websocket = f"ws://127.0.0.1:{listening.getsockname()[1]}/link?ticket=1"
        confirmed: queue.Queue[Any] = queue.Queue()
        envelope = {"type": "interactive", "envelope_id": "e1", "payload": payload(), "accepts_response_payload": True}
        serving = threading.Thread(target=_serve, args=(listening, json.dumps(envelope), confirmed), daemon=True)
        serving.start()
        listener = SocketListener(APP_TOKEN, TOKEN, heard.put, base_url=server.base_url)
        try:
            listener.start()
            assert listener.is_connected()
            assert heard.get(timeout=20) == presses_of(payload())[0]
            assert confirmed.get(timeout=20) == {"envelope_id": "e1"}
        finally:
            listener.close()
            serving.join(20)


def _serve(listening: socket.socket, text: str, confirmed: queue.Queue[Any]) -> None:
    """One WebSocket connection (RFC 6455): sends `text`, and puts what the client answers into `confirmed`."""
    connection, _ = listening.accept()
    with connection:
        connection.settimeout(20)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = next(
            line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        data = text.encode()
        connection.sendall(b"\x81" + (bytes([126]) + struct.pack(">H", len(data))) + data)
        while True:
            first, second = _exactly(connection, 2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", _exactly(connection, 2))
            mask = _exactly(connection, 4)
            told = bytes(octet ^ mask[n % 4] for n, octet in enumerate(_exactly(connection, length)))
            if first & 15 == 1:
                confirmed.put(json.loads(told))
                return
            if first & 15 == 9:
                connection.sendall(bytes([0x8A, len(told)]) + told)


def _exactly(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        more = connection.recv(count - len(read))
        assert more, "the client went away"
        read += more
    return read
