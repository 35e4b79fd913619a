"""Slack's Web API, as far as it is used, through Slack's own client. Each call has one of five ends: it returns, or
raises SlackBusy (try later), SlackUnsure (Slack may have done it), SlackRefused (somebody has to mend it), MessageGone.

What is posted carries metadata by which it is found again in the channel's history. The app needs the scopes
chat:write, files:write, channels:read, channels:history, and groups:read, groups:history for private channels.
"""

from __future__ import annotations

import http.client
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.web import SlackResponse

from sinks.outbox import BASE_URL
from stitchline.errors import MessageGone, SlackBusy, SlackRefused, SlackUnsure

INCIDENT, CHANGE = "stitchline_incident", "stitchline_change"
"""The event_type of a message's and of a reply's metadata."""

_quiet: Final = logging.getLogger(f"{__name__}.client")
_quiet.setLevel(logging.CRITICAL)  # what goes wrong is raised, and told by whoever asked
_PAGE: Final = 200
_CLOCKS: Final = timedelta(minutes=5)
"""How far Slack's clock and ours may differ."""
_GONE: Final = ("message_not_found", "thread_not_found", "cant_update_message")
_UNSURE: Final = ("fatal_error", "internal_error", "request_timeout", "service_unavailable")
"""Of these Slack says that some of what was asked may have been done."""
_BUSY: Final = ("ratelimited", "rate_limited", "message_limit_exceeded")
_WORD: Final = re.compile("[a-z0-9_]+")
"""What Slack's errors are; anything else is an answer that could not be read."""
_PAUSE: Final = timedelta(seconds=30)
"""Where Slack does not say how long it wants to be left alone."""

_OF_THE_TOKEN: Final = {
    "invalid_auth": "Put the app's bot token (xoxb-…) into slack.token",
    "not_authed": "Put the app's bot token (xoxb-…) into slack.token",
    "account_inactive": "The app or its workspace is gone: install it anew and put its bot token into slack.token",
    "token_revoked": "Install the app anew and put its bot token into slack.token",
    "token_expired": "Install the app anew and put its bot token into slack.token",
    "missing_scope": "Give the app the scopes that docs/anomalies.md lists, install it anew, and use its new token",
    "no_permission": "Give the app the scopes that docs/anomalies.md lists, install it anew, and use its new token",
    "ekm_access_denied": "Ask the workspace's administrators: they have suspended posting",
}
_OF_THE_CHANNEL: Final = {
    "channel_not_found": "Check the channel in owners.yml; to a private one the app has to be invited",
    "not_in_channel": "Invite the app: /invite @stitchline in the channel",
    "is_archived": "Take the channel out of the archive, or name another one in owners.yml",
    "restricted_action": "Let the app post there, or name another channel in owners.yml",
    "restricted_action_read_only_channel": "Let the app post there, or name another channel in owners.yml",
}
OF_THE_BLOCKS: Final = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long")


class Slack:
    """A workspace, by an app's bot token."""

    def __init__(self, token: str, *, base_url: str = BASE_URL, timeout: timedelta = timedelta(seconds=10)) -> None:
        self.timeout = timeout
        # Nothing is tried again by the client itself: it would post twice where an answer was lost.
        self.client = WebClient(
            token, base_url=base_url, timeout=cast(int, timeout.total_seconds()), retry_handlers=[], logger=_quiet
        )
        self._ids: dict[str, str] = {}

    def channel_id(self, channel: str) -> str:
        """The id of a channel that is named `#name`; an id is returned as it is."""
        if not channel.startswith("#"):
            return channel
        if channel not in self._ids:
            kinds = "public_channel,private_channel"
            for page in self._pages("conversations.list", exclude_archived=True, types=kinds, limit=_PAGE):
                self._ids.update({f"#{found['name']}": found["id"] for found in page["channels"]})
        if channel not in self._ids:
            raise _refused("conversations.list", "channel_not_found", channel)
        return self._ids[channel]

    def post(
        self,
        channel_id: str,
        payload: Mapping[str, Any],
        metadata: Mapping[str, Any],
        thread_ts: str | None = None,
    ) -> str:
        """Posts a message, or a reply in a thread, and returns its ts.

        Slack turns a reply to a deleted message into a message of its own, without a word: that is taken back.
        """
        told = self._call(
            "chat.postMessage",
            channel_id,
            channel=channel_id,
            **payload,
            metadata=dict(metadata),
            thread_ts=thread_ts,
            unfurl_links=False,
            unfurl_media=False,
        )
        ts = str(told["ts"])
        if thread_ts is not None and (told.get("message") or {}).get("thread_ts") != thread_ts:
            self.delete(channel_id, ts)
            raise MessageGone("The message of the thread is gone.", method="chat.postMessage", ts=thread_ts)
        return ts

    def update(self, channel_id: str, ts: str, payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Lets a message say something else. Raises MessageGone if somebody deleted it."""
        self._call("chat.update", channel_id, channel=channel_id, ts=ts, **payload, metadata=dict(metadata))

    def delete(self, channel_id: str, ts: str) -> None:
        """Takes a message back, if it is still there."""
        try:
            self._call("chat.delete", channel_id, channel=channel_id, ts=ts)
        except MessageGone:
            return

    def find(self, channel_id: str, event_type: str, key: str, value: str, since: datetime) -> str | None:
        """The ts of the message in the channel, posted since then, whose metadata say so; None if there is none."""
        oldest = f"{(since - _CLOCKS).timestamp():.6f}"
        pages = self._pages(
            "conversations.history", channel=channel_id, oldest=oldest, include_all_metadata=True, limit=_PAGE
        )
        return _found((message for page in pages for message in page["messages"]), event_type, key, value)

    def find_reply(self, channel_id: str, thread_ts: str, value: str) -> str | None:
        """The ts of the reply in a thread that tells of the change with that id; None if there is none."""
        return _found(self._thread(channel_id, thread_ts), CHANGE, "change_id", value)

    def find_image(self, channel_id: str, thread_ts: str, name: str) -> str | None:
        """The id of the file of that name in a thread; None if there is none."""
        for message in self._thread(channel_id, thread_ts):
            for file in message.get("files") or ():
                if file.get("name") == name:
                    return str(file["id"])
        return None

    def upload(self, channel_id: str, thread_ts: str, image: bytes, name: str, shows: str) -> str:
        """Puts a picture into a thread and returns the file's id."""
        told = self._asked(
            "files.completeUploadExternal",
            channel_id,
            lambda: self.client.files_upload_v2(
                channel=channel_id, thread_ts=thread_ts, content=image, filename=name, title=shows, alt_txt=shows
            ),
        )
        return str(told["files"][0]["id"])

    def _thread(self, channel_id: str, thread_ts: str) -> Iterator[dict[str, Any]]:
        pages = self._pages(
            "conversations.replies", channel=channel_id, ts=thread_ts, include_all_metadata=True, limit=_PAGE
        )
        for page in pages:
            yield from page["messages"]

    def _pages(self, method: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            page = self._call(method, arguments.get("channel", ""), **arguments, cursor=cursor)
            yield page
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return

    def _call(self, method: str, where: str, **arguments: Any) -> dict[str, Any]:
        given = {name: value for name, value in arguments.items() if value is not None}
        if method.startswith("conversations."):  # these take no JSON
            return self._asked(method, where, lambda: self.client.api_call(method, params=given))
        return self._asked(method, where, lambda: self.client.api_call(method, json=given))

    def _asked(self, method: str, where: str, ask: Any) -> dict[str, Any]:
        try:
            response: SlackResponse = ask()
        except SlackApiError as error:
            raise _meant(method, where, error.response) from error
        except (OSError, http.client.HTTPException, SlackRequestError, ValueError) as error:
            raise SlackUnsure(
                f"Slack did not answer {method}: {error or type(error).__name__}", method=method
            ) from error
        return cast(dict[str, Any], response.data)


def _meant(method: str, where: str, response: SlackResponse) -> Exception:
    """What Slack means with an answer that is no `ok`."""
    data = response.data if isinstance(response.data, dict) else {}
    error = str(data.get("error") or f"HTTP status {response.status_code}")
    if response.status_code == 429 or error in _BUSY:
        headers = {name.lower(): value for name, value in response.headers.items()}
        told = str(headers.get("retry-after", ""))
        pause = timedelta(seconds=int(told)) if told.isdecimal() else _PAUSE
        return SlackBusy(f"Slack asks for a pause of {pause}", method=method, retry_after=pause)
    if response.status_code >= 500 or response.status_code != 200 or error in _UNSURE or not _WORD.fullmatch(error):
        return SlackUnsure(f"Slack answered {method} with {error.splitlines()[0][:200]}", method=method)
    if error in _GONE:
        return MessageGone(f"Somebody deleted the message ({error})", method=method)
    return _refused(method, error, where)


def _refused(method: str, error: str, where: str) -> SlackRefused:
    scope: Literal["all", "channel", "item"] = "item"
    place, advice = where, "See docs/runbook.md"
    if error in _OF_THE_TOKEN:
        scope, place, advice = "all", "every channel", _OF_THE_TOKEN[error]
        if error == "missing_scope" and method.startswith("files."):  # words are said without pictures
            scope, place = "item", where
    elif error in _OF_THE_CHANNEL:
        scope, advice = "channel", _OF_THE_CHANNEL[error]
    message = f"Slack refuses {method} for {place} ({error}). {advice}. What was to be said is kept and sent then."
    return SlackRefused(message, method=method, error=error, scope=scope)


def _found(messages: Iterator[dict[str, Any]], event_type: str, key: str, value: str) -> str | None:
    for message in messages:
        metadata = message.get("metadata") or {}
        if metadata.get("event_type") == event_type and (metadata.get("event_payload") or {}).get(key) == value:
            return str(message["ts"])
    return None
