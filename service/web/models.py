"""What the API answers, as the OpenAPI document tells it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, Field

from identity.operators import Kind

KEY_HEADER: Final = "X-Stitchline-Key"
"""What only the owner of the service may ask for is asked for with the owner's key."""


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="What was wrong, where, and what to do.")


def _refusal(description: str) -> dict[str, Any]:
    """With a reference to the model: FastAPI would make one anew for each refusal of each route, for 0.1 s."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: _refusal("The body is no text in UTF-8."),
    401: _refusal("Nobody says who asks: send a token, or come through the proxy."),
    403: _refusal("Whoever asks may not do that, or another site's page asks."),
    421: _refusal("The service does not answer to this name."),
    422: _refusal("The question is wrong."),
    503: _refusal("Too many questions at once, something is away, or nothing is published."),
    504: _refusal("The answer took too long."),
}
"""How any request may be refused, for the OpenAPI document, which has the model by PICTURE."""

PICTURE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"image/png": {}}, "description": "A picture."},
    404: {"model": Problem, "description": "There is nothing to draw."},
}
"""For the OpenAPI document."""


class ReconcileQuestion(BaseModel):
    since: AwareDatetime | None = Field(default=None, description="Only sessions that began then or later.")
    repair: bool = Field(default=False, description="Rewrite what differs.")


class PersonChange(BaseModel):
    """What an operator wants to be done about two persons."""

    kind: Kind = Field(description="merge, or unmerge, which takes a merge back.")
    person: str = Field(description="Who stays: a user id, or anon: and an anonymous id.", min_length=1)
    other: str = Field(description="Who counts to that person from now on, or no longer.", min_length=1)
    because: str = Field(description="Why; kept in the ledger.", min_length=1, max_length=2000, pattern=r"\S")
    actor: str = Field(description="Who does it; kept in the ledger.", min_length=1, max_length=200, pattern=r"\S")
    dry_run: bool = Field(default=False, description="Say what it would change, and change nothing.")


class PersonToForget(BaseModel):
    """A person who is to be forgotten."""

    person: str = Field(description="A user id, or anon: and an anonymous id.", min_length=1)
    because: str = Field(
        description="Why, without an id of the person; it is kept.", min_length=1, max_length=2000, pattern=r"\S"
    )
    actor: str = Field(description="Who does it; it is kept.", min_length=1, max_length=200, pattern=r"\S")
    dry_run: bool = Field(default=False, description="Say what it would remove, and remove nothing.")


class RefreshQuestion(BaseModel):
    full: bool = Field(default=False, description="Work out every day anew, also those that nothing happened to.")
    because: str | None = Field(
        default=None,
        description="Why to publish also what breaks readers who were not told in time; they are told.",
        min_length=1,
        max_length=2000,
        pattern=r"\S",
    )
    by: str = Field(default="somebody", description="Who wants it.", min_length=1, max_length=200)


class RollbackQuestion(BaseModel):
    build_id: int | None = Field(default=None, description="Which build; the one before the published one if null.")


class UploadedFile(BaseModel):
    name: str = Field(description="What refusals call it.", min_length=1, max_length=4096)
    content: Base64Bytes = Field(description="Its bytes, in base64.")


class SpendFiles(BaseModel):
    """Exports of advertising platforms."""

    files: list[UploadedFile] = Field(description="In the order in which they are loaded.", max_length=1000)
    account: str | None = Field(
        default=None, min_length=1, max_length=200, description="The account, whatever the files say."
    )
    time_zone: str | None = Field(default=None, description="In which the days are, of a file that does not say it.")
    currency: str | None = Field(default=None, description="ISO 4217, of a file that does not say it.")
    rounding: bool = Field(default=False, description="A total may differ by what the rounding of its lines explains.")
    without_total: bool = Field(default=False, description="A file may be without totals by which it is seen whole.")


class BackupQuestion(BaseModel):
    directory: str = Field(
        description="Absolute path of a new or empty folder on the service's machine.", pattern="^/", max_length=4096
    )


class SqlQuestion(BaseModel):
    """One statement that reads."""

    sql: str = Field(
        description="One SELECT (also WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW TABLES, EXPLAIN) in DuckDB's SQL.",
        max_length=1_000_000,
        examples=["select name, count(*) as events from stream.events group by name order by events desc limit 10"],
    )


class Session(BaseModel):
    """A stitched session; its person as known now."""

    session_id: str = Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])
    anonymous_id: str = Field(description="The device.")
    user_id: str | None = Field(description="The user that was known in the session.")
    person_id: str = Field(description="The user, or `anon:` and the device.")
    started_at: datetime
    ended_at: datetime
    event_count: int
    page_count: int
    entry_path: str | None
    exit_path: str | None
    referrer: str | None
    utm_source: str | None
    utm_medium: str | None
    utm_campaign: str | None
    device_type: str | None
    browser: str | None
    os: str | None
    start_reason: str = Field(description="first, logout, user_switch, gap or cap.")
    end_reason: str | None = Field(description="Why it ended; null while it is open.")
    is_open: bool
    is_bot: bool
    revision: int = Field(description="Grows with each rewriting by late events.")
    first_message_id: str
    last_message_id: str


class SessionEvent(BaseModel):
    """An event of a session."""

    message_id: str
    type: str = Field(examples=["track"])
    name: str = Field(examples=["Viewed Product"])
    user_id: str | None
    event_at: datetime
    received_at: datetime
    path: str | None
    properties: Any = Field(description="As sent.")
    context: Any = Field(description="As sent.")
    is_background: bool = Field(description="In the session's span, but outside its counts.")
    clock_skewed: bool


class SessionChange(BaseModel):
    """A session that late events made part of another."""

    session_id: str
    superseded_by: str | None = Field(description="The session that has its first event since; null for none.")
    revision: int = Field(description="The last one that it had.")
    changed_at: datetime


class SessionWithEvents(BaseModel):
    """A session and what happened in it, in order."""

    session: Session
    events: list[SessionEvent]
    more: bool = Field(description="Whether there are events beyond `limit`.")
    changes: list[SessionChange] = Field(description="What late events did, in the order in which it happened.")


class Sessions(BaseModel):
    """Sessions, the ones that began last first."""

    sessions: list[Session]
    next: str | None = Field(description="What to ask for as `after` to get the next page; null on the last one.")


class DeadLetter(BaseModel):
    """A record that is no acceptable event."""

    topic: str
    partition: int
    offset: int
    reason: str = Field(description="A word, to count by.", examples=["not_json"])
    detail: str = Field(description="A sentence, to mend by.")
    key: str | None = Field(description="The record's key as text; what is no UTF-8 shows as U+FFFD.")
    text: str | None = Field(description="The first 4,096 bytes of the record as text; null for a null value.")
    size: int | None = Field(description="Of the record, in bytes.")
    raw_base64: str | None = Field(description="The whole record, when asked for with `raw=true`.")
    kafka_at: datetime | None
    dead_at: datetime


class DeadLetters(BaseModel):
    """What was not acceptable, the last ones first."""

    total: int = Field(description="All dead letters, listed here or not.")
    by_reason: dict[str, int]
    dead_letters: list[DeadLetter]


class IncidentAct(BaseModel):
    """What somebody does about an incident."""

    deed: Literal["acknowledge", "snooze", "not_anomaly"]
    actor: str = Field(min_length=1, max_length=200, description="Who does it.")


class ChannelToTest(BaseModel):
    """Where a sample is to be posted."""

    channel: str = Field(min_length=1, max_length=200, description="A #name, or Slack's id of the channel.")


class PartitionAnswer(BaseModel):
    """Where the flow stands in a partition."""

    topic: str
    partition: int
    next_offset: int
    end_offset: int
    watermark: datetime | None
    lag_records: int


class Totals(BaseModel):
    """Since the warehouse began: stored + duplicates + dead = consumed."""

    consumed: int
    stored: int
    duplicates: int
    dead: int
    late: int = Field(description="Of the stored ones: older than the watermark; their sessions were cut again.")
    foreign_keys: int = Field(description="Records whose message key was not their anonymousId.")
    closed_sessions: int
    open_sessions: int


class State(BaseModel):
    """What the flow is doing now."""

    status: str = Field(description="running, waiting, stopped or catching up.")
    detail: str
    events_per_second: float
    lag_records: int
    lag_seconds: float
    partitions: list[PartitionAnswer]
    totals: Totals


class Readiness(BaseModel):
    """Whether the flow does its work."""

    status: str = Field(examples=["ready", "not ready"])
    reasons: list[str] = Field(description="Why it is not ready, in plain words.")


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["alive"])
