"""What the catalogue says of an asset in Atlan, and what was found there. Pure.

Three kinds of things are on an asset. What only machines write (`own`: types, a term's definition, how many rows) is
made what it should be. What people may write as well (certificate, announcement, owners, links to terms) is changed
only where it still is what was pushed the last time, which each asset remembers in its field `lastSyncRun`. All else
(people's descriptions, notes, tags, terms) is not even read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Kind = Literal["Database", "Schema", "Table", "Column", "Process", "AtlasGlossaryTerm"]

IN_ORDER: Final[tuple[Kind, ...]] = ("Database", "Schema", "AtlasGlossaryTerm", "Table", "Column", "Process")
"""An asset after all that it refers to."""

MARK: Final = "stitchline"
"""In `lastSyncWorkflowName` of everything that was pushed: what has another, or none, is somebody else's."""

CERTIFICATE: Final = ("certificateStatus", "certificateStatusMessage")
ANNOUNCEMENT: Final = ("announcementType", "announcementTitle", "announcementMessage")
SHARED: Final[Mapping[str, tuple[str, ...]]] = {"certificate": CERTIFICATE, "announcement": ANNOUNCEMENT}
"""What people write as well, each as a whole."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An asset as it should be."""

    kind: Kind
    key: str
    """Where it is below the connection, as database/schema/table/column; of a term its metric. It never changes."""
    name: str
    own: Mapping[str, Any] = field(default_factory=dict)
    """By Atlan's name of the attribute."""
    shared: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    """By group of SHARED its values; all None: it should not be there."""
    owners: frozenset[str] = frozenset()
    """Atlan's groups."""
    links: frozenset[str] = frozenset()
    """The keys of the terms that say what is in it."""
    reads: tuple[str, ...] = ()
    """Of a process: the keys of the tables that it reads."""
    makes: str = ""
    """Of a process: the key of the table that it makes."""

    def memory(self) -> str:
        """What it has to remember to tell later what people changed."""
        told: dict[str, Any] = {"key": self.key}
        told |= {group: digest(values) for group, values in sorted(self.shared.items()) if any(values)}
        for name in ("owners", "links"):
            if getattr(self, name):
                told[name] = sorted(getattr(self, name))
        if self.reads:
            told["reads"] = digest((*self.reads, self.makes))
        return json.dumps(told, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Found:
    """An asset as it is in Atlan."""

    kind: str
    guid: str
    qualified_name: str
    name: str
    is_archived: bool
    attributes: Mapping[str, Any]
    """By Atlan's name; what is not set is None or missing."""
    owners: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    """The guids of its terms."""

    @property
    def is_ours(self) -> bool:
        return self.attributes.get("lastSyncWorkflowName") == MARK

    @property
    def remembered(self) -> Mapping[str, Any]:
        """What was pushed the last time; empty if that cannot be told."""
        try:
            told = json.loads(self.attributes.get("lastSyncRun") or "{}")
        except ValueError:
            return {}
        return told if self.is_ours and isinstance(told, dict) else {}

    @property
    def key(self) -> str:
        return str(self.remembered.get("key", ""))

    def group(self, name: str) -> tuple[str | None, ...]:
        """The values of a group of SHARED."""
        return tuple(self.attributes.get(attribute) or None for attribute in SHARED[name])


def digest(values: tuple[str | None, ...]) -> str:
    """Short, and another one for other values; spaces at the ends of lines do not count."""
    text = json.dumps([" ".join(value.split()) if value else value for value in values])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
