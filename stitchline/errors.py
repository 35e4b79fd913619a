"""The errors that Stitchline raises, all of them.

StitchlineError
├── SettingsError          a setting is unknown or has a bad value
├── UsageError             a command was called wrongly (exit status 2)
├── SourceError            a source of events cannot be read
│   ├── TopicMissing       the Kafka topic does not exist
│   └── RecordsLost        Kafka no longer has what the warehouse would go on with
├── WarehouseError         the warehouse cannot be used
│   ├── WarehouseHeld      another process holds the file
│   ├── WarehouseTooNew    the schema is newer than this version knows
│   └── WarehouseUnwritable  there is no room, or no right, to write to it
├── BackupError            a backup cannot be made, or is not one to restore
├── IdentityStoreError     Redis cannot be used
├── EmbeddedError          an embedded service did not start
├── DefinitionError        a definition, of a funnel, metrics, experiments or owners, cannot be read
├── SlackError             Slack was not told
│   ├── SlackBusy          it asks to be left alone for a while
│   ├── SlackUnsure        it may have been told or not: there was no answer, or none to rely on
│   ├── SlackRefused       it refuses, until somebody mends the token, the channel or the message
│   └── MessageGone        somebody deleted the message
├── CatalogError           another catalogue, Atlan, was not told
├── RequestRefused         a request that says it is Slack's is not, or is not new
└── FileRefused            a file of spend or of currency rates cannot be read for certain
    ├── FormUnknown        it is the export of no known platform
    └── TotalDiffers       what it adds up to is not what it says itself

Every message says what was wrong, where, and what to do; the facts are attributes as well.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal


class StitchlineError(Exception):
    """Root of the tree. `facts` holds what the message was made of, by name."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class SettingsError(StitchlineError):
    """A setting is unknown or has a bad value; facts: setting."""


class UsageError(StitchlineError):
    """A command was called wrongly; the process exits with status 2."""


class SourceError(StitchlineError):
    """A source of events cannot be read; facts: topic or file."""


class TopicMissing(SourceError):
    """The Kafka topic does not exist; facts: topic, bootstrap."""


class RecordsLost(SourceError):
    """Kafka no longer has the records that the warehouse would go on with; facts: topic, and partition, offset, first
    and end, or offsets by partition where the topic was made anew."""


class WarehouseError(StitchlineError):
    """The warehouse cannot be used; facts: path."""


class WarehouseHeld(WarehouseError):
    """Another process holds the warehouse file; facts: path."""


class WarehouseTooNew(WarehouseError):
    """The warehouse's schema is newer than this version knows; facts: path, found, known."""


class WarehouseUnwritable(WarehouseError):
    """The warehouse cannot be written to now: the last commit stands, and this one can be tried again; facts: path."""


class BackupError(StitchlineError):
    """A backup cannot be made, or is not one to restore; facts: folder."""


class IdentityStoreError(StitchlineError):
    """Redis cannot be used; facts: url."""


class EmbeddedError(StitchlineError):
    """An embedded service did not start; facts: service, log."""


class DefinitionError(StitchlineError):
    """A definition, of a funnel, metrics, experiments or owners, cannot be read; facts: field, source."""


class SlackError(StitchlineError):
    """Slack was not told; facts: method."""


class SlackBusy(SlackError):
    """Slack asks to be left alone for a while; facts: method, retry_after (a timedelta)."""

    def __init__(self, message: str, *, method: str, retry_after: timedelta) -> None:
        super().__init__(message, method=method, retry_after=retry_after)
        self.retry_after = retry_after


class SlackUnsure(SlackError):
    """Slack did not answer, or not so that one knows whether it did what it was asked; facts: method."""


class SlackRefused(SlackError):
    """Slack refuses, and will until somebody mends it; facts: method, error (Slack's word), scope."""

    def __init__(self, message: str, *, method: str, error: str, scope: Literal["all", "channel", "item"]) -> None:
        """`scope`: whether nothing can be said, nothing in that channel, or only this."""
        super().__init__(message, method=method, error=error, scope=scope)
        self.error = error
        self.scope = scope


class MessageGone(SlackError):
    """Somebody deleted the message; facts: method, ts."""


class CatalogError(StitchlineError):
    """Another catalogue was not told, or not of everything; facts: url, and status where there was an answer."""


class RequestRefused(StitchlineError):
    """A request that says it is Slack's is forged, old, seen before, or nothing that can be read; facts: reason."""


class FileRefused(StitchlineError):
    """A file of spend or of currency rates cannot be read for certain, and nothing of it is taken; facts: file, line
    (counted from 1; None where it is the whole file), reason."""

    def __init__(self, file: str, line: int | None, reason: str, advice: str, **facts: object) -> None:
        """`reason` and `advice`, what to do, are put into one message after the place."""
        where = file if line is None else f"{file}, line {line}"
        super().__init__(f"{where}: {reason}. {advice}", file=file, line=line, reason=reason, **facts)
        self.file = file
        self.line = line
        self.reason = reason


class FormUnknown(FileRefused):
    """The file is the export of no known platform, or has not the columns that are needed."""


class TotalDiffers(FileRefused):
    """What the file adds up to is not what it says itself; facts: also column, told, found."""
