"""A Slack of one's own on loopback: the calls of the Web API that are used, with its limits, and its ways to fail.

Payloads are held to what docs.slack.dev publishes: what Slack would refuse is refused, what it would cut off as well.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

TOKEN: Final = "xoxb-1-test"
APP_TOKEN: Final = "xapp-1-test"

Fault = Literal[
    "429", "500_before", "500_after", "drop_before", "drop_after", "slow", "internal_error", "not_json", "none"
]
"""`_before` it is done, or `_after`. `slow`: it is done, and answered when nobody waits any more."""

SAFE_TEXT: Final = 4_000
"""Characters of `text`: longer ones Slack advises against, and cuts from 40,000 on."""


@dataclass
class Posted:
    """A message. `thread_ts` is its own ts or None for one of the channel, else that of the message it replies to."""

    ts: str
    body: dict[str, Any]
    thread_ts: str | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    edits: int = 0

    def shown(self, with_metadata: bool) -> dict[str, Any]:
        told = {"type": "message", "ts": self.ts, "text": self.body.get("text", ""), "bot_id": "B1"}
        if self.thread_ts is not None:
            told["thread_ts"] = self.thread_ts
        if self.body.get("blocks"):
            told["blocks"] = self.body["blocks"]
        if self.files:
            told["files"] = self.files
        if with_metadata and "metadata" in self.body:
            told["metadata"] = self.body["metadata"]
        return told


@dataclass
class Channel:
    """A channel and all that is in it, in order."""

    channel_id: str
    name: str
    messages: dict[str, Posted] = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    """Deleted messages that still have a thread."""

    def top(self) -> list[Posted]:
        return [each for each in self.messages.values() if each.thread_ts in (None, each.ts)]

    def thread(self, ts: str) -> list[Posted]:
        return [each for each in self.messages.values() if each.thread_ts == ts and each.ts != ts]

    def replies(self) -> list[Posted]:
        return [each for each in self.messages.values() if each.thread_ts not in (None, each.ts)]


class SlackServer:
    """The workspace. `faults` says, for each call, what goes wrong with it."""

    def __init__(self, faults: Callable[[str], Fault] = lambda _: "none") -> None:
        self.faults = faults
        self.retry_after = 1
        self.slowness = 1.0  # seconds
        self.page = 100
        self.errors: dict[str, str] = {}
        """By channel id, method or token: the error that every call about it ends with."""
        self.calls: list[tuple[float, str, dict[str, Any]]] = []
        self.refusals: list[str] = []
        """Why payloads were refused."""
        self.channels: dict[str, Channel] = {}
        self.websocket = ""
        self._uploads: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._clock = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"{self.url}api/"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def channel(self, name: str) -> Channel:
        """The channel of that name, made if it is not there."""
        with self._lock:
            for channel in self.channels.values():
                if channel.name == name:
                    return channel
            made = Channel(f"C{len(self.channels):010d}", name)
            self.channels[made.channel_id] = made
            return made

    def delete(self, channel: Channel, ts: str) -> None:
        """Somebody deletes a message."""
        with self._lock:
            del channel.messages[ts]
            if channel.thread(ts):
                channel.tombstones.add(ts)

    def called(self, method: str) -> list[dict[str, Any]]:
        return [body for _, name, body in self.calls if name == method]

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"] or 0))
        path = urlsplit(request.path).path
        method = "upload" if path.startswith("/upload/") else path.removeprefix("/api/")
        fault = self.faults(method)
        if fault == "429":
            return _answer(request, 429, {"ok": False, "error": "ratelimited"}, {"Retry-After": str(self.retry_after)})
        if fault == "500_before":
            return _answer(request, 503, b"<html>Service Unavailable</html>")
        if fault == "drop_before":
            return _drop(request)
        with self._lock:
            given = {} if method == "upload" else _body(request.headers, body)
            self.calls.append((time.monotonic(), method, given))
            told: dict[str, Any] | bytes
            if method == "upload":
                told = self._uploaded(path, body)
            else:
                told = self._do(method, given, (request.headers["Authorization"] or "").removeprefix("Bearer "))
        if fault == "500_after":
            return _answer(request, 500, b"Internal Server Error")
        if fault == "drop_after":
            return _drop(request)
        if fault == "internal_error":
            return _answer(request, 200, {"ok": False, "error": "internal_error"})
        if fault == "not_json":
            return _answer(request, 200, b"<html>Almost")
        if fault == "slow":
            time.sleep(self.slowness)
        return _answer(request, 200, told)

    def _do(self, method: str, given: dict[str, Any], token: str) -> dict[str, Any]:
        if method == "apps.connections.open":
            return {"ok": True, "url": self.websocket} if token == APP_TOKEN else _not_ok("invalid_auth")
        if token != TOKEN or TOKEN in self.errors:
            return _not_ok(self.errors.get(TOKEN, "invalid_auth"))
        if method in self.errors:
            return _not_ok(self.errors[method])
        if method == "conversations.list":
            return self._list(given)
        if method == "files.getUploadURLExternal":
            return self._upload_url(given)
        channel = self.channels.get(str(given.get("channel") or given.get("channel_id") or ""))
        if channel is None:
            return _not_ok("channel_not_found")
        if channel.channel_id in self.errors:
            return _not_ok(self.errors[channel.channel_id])
        if method in ("chat.postMessage", "chat.update"):
            wrong = list(problems(given))
            if wrong:
                self.refusals += wrong
                return _not_ok("invalid_blocks") | {"response_metadata": {"messages": wrong}}
        match method:
            case "chat.postMessage":
                return self._post(channel, given)
            case "chat.update":
                return self._update(channel, given)
            case "chat.delete":
                if given["ts"] not in channel.messages:
                    return _not_ok("message_not_found")
                self.delete(channel, given["ts"])
                return {"ok": True}
            case "conversations.history":
                return self._history(channel, given)
            case "conversations.replies":
                return self._replies(channel, given)
            case "files.completeUploadExternal":
                return self._complete(channel, given)
        return _not_ok("unknown_method")

    def _post(self, channel: Channel, given: dict[str, Any]) -> dict[str, Any]:
        wanted = given.get("thread_ts")
        thread_ts = wanted if wanted in channel.messages or wanted in channel.tombstones else None
        if thread_ts is not None and thread_ts in channel.messages:
            channel.messages[thread_ts].thread_ts = thread_ts
        posted = Posted(self._now(), _kept(given), thread_ts)  # else it stands for itself, without a word
        channel.messages[posted.ts] = posted
        return {"ok": True, "channel": channel.channel_id, "ts": posted.ts, "message": posted.shown(False)}

    def _update(self, channel: Channel, given: dict[str, Any]) -> dict[str, Any]:
        posted = channel.messages.get(given["ts"])
        if posted is None:
            return _not_ok("message_not_found")
        posted.body = {**{k: v for k, v in posted.body.items() if k == "metadata"}, **_kept(given)}
        posted.edits += 1
        return {"ok": True, "channel": channel.channel_id, "ts": posted.ts, "text": given.get("text", "")}

    def _history(self, channel: Channel, given: dict[str, Any]) -> dict[str, Any]:
        oldest = float(given.get("oldest") or 0)
        found = [each for each in channel.top() if float(each.ts) >= oldest]
        found.sort(key=lambda each: float(each.ts), reverse=True)
        return self._paged("messages", [each.shown(_is_true(given)) for each in found], given)

    def _replies(self, channel: Channel, given: dict[str, Any]) -> dict[str, Any]:
        ts = given["ts"]
        if ts in channel.tombstones:
            first: dict[str, Any] = {"type": "message", "subtype": "tombstone", "ts": ts, "thread_ts": ts}
        elif ts in channel.messages:
            first = channel.messages[ts].shown(_is_true(given))
        else:
            return _not_ok("thread_not_found")
        thread = [first, *(each.shown(_is_true(given)) for each in channel.thread(ts))]
        return self._paged("messages", thread, given)

    def _list(self, given: dict[str, Any]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [{"id": each.channel_id, "name": each.name} for each in self.channels.values()]
        return self._paged("channels", rows, given)

    def _paged(self, name: str, rows: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
        first = int(str(given.get("cursor") or "0"))
        last = first + min(int(given.get("limit") or 100), self.page)
        cursor = str(last) if last < len(rows) else ""
        return {"ok": True, name: rows[first:last], "response_metadata": {"next_cursor": cursor}}

    def _upload_url(self, given: dict[str, Any]) -> dict[str, Any]:
        file_id = f"F{len(self._uploads):010d}"
        self._uploads[file_id] = {"id": file_id, "name": given["filename"], "size": int(given["length"]), "data": None}
        return {"ok": True, "upload_url": f"{self.url}upload/v1/{file_id}", "file_id": file_id}

    def _uploaded(self, path: str, data: bytes) -> bytes:
        file = self._uploads[path.rsplit("/", 1)[1]]
        assert len(data) == file["size"], "not as long as it was said to be"
        file["data"] = data
        return f"OK - {len(data)}".encode()

    def _complete(self, channel: Channel, given: dict[str, Any]) -> dict[str, Any]:
        told = given["files"] if isinstance(given["files"], list) else json.loads(given["files"])
        files = [self._uploads.get(each["id"]) for each in told]
        if any(file is None or file["data"] is None for file in files):
            return _not_ok("file_not_found")
        shown = [{"id": f["id"], "name": f["name"], "size": f["size"]} for f in files if f is not None]
        self._post(channel, {"text": "", "thread_ts": given.get("thread_ts")})
        list(channel.messages.values())[-1].files = shown
        return {"ok": True, "files": shown}

    def image(self, name: str) -> bytes:
        """The picture of that name, as it was uploaded."""
        return next(file["data"] for file in self._uploads.values() if file["name"] == name and file["data"])

    def _now(self) -> str:
        self._clock = max(self._clock + 1, time.time_ns() // 1000)
        return f"{self._clock // 1_000_000}.{self._clock % 1_000_000:06d}"


@contextmanager
def slack_server(faults: Callable[[str], Fault] = lambda _: "none") -> Iterator[SlackServer]:
    """A workspace for as long as the block lasts."""
    server = SlackServer(faults)
    try:
        yield server
    finally:
        server.close()


def at_random(rng: random.Random, share: float, kinds: Sequence[Fault]) -> Callable[[str], Fault]:
    """Faults of these kinds in that share of all calls."""
    lock = threading.Lock()

    def fault(_: str) -> Fault:
        with lock:
            return rng.choice(kinds) if rng.random() < share else "none"

    return fault


def problems(body: Mapping[str, Any]) -> Iterator[str]:
    """What Slack would refuse or cut in a message. https://docs.slack.dev/reference/block-kit/blocks"""
    text, blocks = body.get("text"), body.get("blocks") or []
    if not text:
        yield "no text: a notification would be empty"
    elif len(text) > SAFE_TEXT:
        yield f"text of {len(text)} characters"
    if len(blocks) > 50:
        yield f"{len(blocks)} blocks"
    ids = Counter(block["block_id"] for block in blocks if "block_id" in block)
    yield from (f"block_id {key} twice" for key, count in ids.items() if count > 1)
    for block in blocks:
        yield from (f"{block.get('type')}: {problem}" for problem in _of_block(block))
    metadata = body.get("metadata")
    if metadata is not None and not (
        re.fullmatch(r"[a-z0-9_]+", metadata.get("event_type", "")) and isinstance(metadata.get("event_payload"), dict)
    ):
        yield "metadata is no event_type with an event_payload"


def _of_block(block: Mapping[str, Any]) -> Iterator[str]:
    if len(block.get("block_id", "")) > 255:
        yield "block_id is too long"
    match block.get("type"):
        case "header":
            yield from _of_text(block.get("text"), 150, ["plain_text"])
        case "section":
            if "text" in block:
                yield from _of_text(block["text"], 3000, ["mrkdwn", "plain_text"])
            fields = block.get("fields", [])
            if "text" not in block and not fields:
                yield "neither text nor fields"
            if len(fields) > 10:
                yield f"{len(fields)} fields"
            for each in fields:
                yield from _of_text(each, 2000, ["mrkdwn", "plain_text"])
        case "context":
            if not 1 <= len(block.get("elements", [])) <= 10:
                yield "not 1 to 10 elements"
            for each in block.get("elements", []):
                yield from _of_text(each, 3000, ["mrkdwn", "plain_text"])
        case "actions":
            if not 1 <= len(block.get("elements", [])) <= 25:
                yield "not 1 to 25 elements"
            for each in block.get("elements", []):
                yield from _of_button(each)
            ids = Counter(each.get("action_id") for each in block.get("elements", []))
            yield from (f"action_id {key} twice" for key, count in ids.items() if count > 1)
        case "divider":
            pass
        case other:
            yield f"a block of type {other}"


def _of_button(button: Mapping[str, Any]) -> Iterator[str]:
    if button.get("type") != "button":
        yield f"an element of type {button.get('type')}"
    yield from _of_text(button.get("text"), 75, ["plain_text"])
    for name, most in (("action_id", 255), ("value", 2000), ("url", 3000)):
        if len(button.get(name, "")) > most:
            yield f"{name} is too long"
    if button.get("style") not in (None, "primary", "danger"):
        yield f"style {button['style']}"
    if (confirm := button.get("confirm")) is not None:
        for name, most in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
            yield from _of_text(confirm.get(name), most, ["plain_text", "mrkdwn"])


def _of_text(text: Any, most: int, kinds: Sequence[str]) -> Iterator[str]:
    if not isinstance(text, dict) or text.get("type") not in kinds:
        yield f"{text!r} is not of {kinds}"
    elif not 1 <= len(text.get("text", "")) <= most:
        yield f"text of {len(text.get('text', ''))} characters, not 1 to {most}"
    elif text["type"] == "mrkdwn" and (
        loose := re.search(r"&(?!amp;|lt;|gt;)|<(?![@#!]|https?://|mailto:)", text["text"])
    ):
        yield f"not escaped: {text['text'][loose.start() :][:20]!r}"


def _kept(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("text", "blocks", "metadata") if name in given}


def _is_true(given: dict[str, Any]) -> bool:
    return str(given.get("include_all_metadata", "0")).lower() in ("1", "true")


def _not_ok(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}


def _body(headers: Headers, body: bytes) -> dict[str, Any]:
    kind = headers.get("Content-Type", "")
    if kind.startswith("application/json"):
        return dict(json.loads(body))
    return dict(parse_qsl(body.decode())) if kind.startswith("application/x-www-form-urlencoded") else {}


def _drop(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


def _answer(
    request: BaseHTTPRequestHandler, status: int, body: dict[str, Any] | bytes, headers: Mapping[str, str] | None = None
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if isinstance(body, bytes) else "application/json; charset=utf-8"
    try:
        request.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)
    except OSError:  # nobody waits for it any more
        request.close_connection = True
