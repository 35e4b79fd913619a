"""Atlan itself, through pyatlan: what is there, and the writing of what differs.

Nothing is kept between two pushes: each one reads what is there first, so that one which was cut off is gone on with by
the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
from httpx_retries import Retry
from pyatlan.client.atlan import AtlanClient
from pyatlan.errors import AtlanError
from pyatlan.model.assets import (
    Asset,
    AtlasGlossary,
    AtlasGlossaryTerm,
    Column,
    Connection,
    Database,
    Process,
    Schema,
    Table,
)
from pyatlan.model.enums import (
    AnnouncementType,
    AtlanConnectionCategory,
    AtlanConnectorType,
    CertificateStatus,
    EntityStatus,
    SaveSemantic,
)
from pyatlan.model.fluent_search import FluentSearch

from batch_marts.atlan.changes import Plan, Write, plan
from batch_marts.atlan.entries import ANNOUNCEMENT, CERTIFICATE, Entry, Found
from stitchline.errors import CatalogError

CONNECTOR: Final = "duckdb"
_ADMIN: Final = "$admin"
_AT_ONCE: Final = 50
"""Assets in one request: Atlan takes a request as a whole or not at all."""
_PAGE: Final = 300
_TRIES: Final = 4
"""Of a request that Atlan is too busy for (429) or cannot answer now (5xx); it says itself how long to wait."""
_LONGEST: Final = timedelta(minutes=2)

_READ: Final = (
    *("name", "qualifiedName", "description", "usage", "abbreviation", "dataType", "order", "rowCount"),
    *("sourceUpdatedAt", "ownerGroups", "lastSyncRun", "lastSyncWorkflowName", "meanings", *CERTIFICATE, *ANNOUNCEMENT),
)
_TOLD: Final = {
    401: "the API key is not known there: make one in Atlan (Admin → API tokens) and put it into atlan.api_key",
    403: "the API key may not do that: give its persona the right to read and to write the connection and the glossary",
    404: "what was asked for is not there: is atlan.url the address of your tenant, and was something removed "
    "meanwhile? Push again",
    409: "somebody has made an asset of that name meanwhile, or Atlan's search lags behind: push again in a minute",
    429: "it is asked too much, also after waiting as long as it said: push again later",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in Atlan the catalogue is."""

    url: str
    api_key: str = field(repr=False)
    connection: str
    glossary: str


@dataclass(slots=True)
class Pushed:
    """What became of a push."""

    plan: Plan
    connection: str | None
    """Its qualified name; None as long as there is none."""
    written: int = 0
    archived: int = 0


@contextmanager
def _asking(url: str, done: str) -> Iterator[None]:
    """Says in words what Atlan answers. Raises CatalogError."""
    try:
        yield
    except AtlanError as error:
        status = error.error_code.http_error_code
        said = _TOLD.get(status, f"it says: {error.error_code.error_message}")
        raise CatalogError(
            f"Atlan at {url} answered {status} to {done}: {said}. What was written stays, and the next push goes on.",
            url=url,
            status=status,
        ) from error
    except (httpx.HTTPError, TypeError) as error:  # after 503s pyatlan reads nothing, as if it were an answer
        raise CatalogError(
            f"Atlan at {url} cannot be reached to {done} ({error}). What was written stays, and the next push goes on.",
            url=url,
        ) from error


class Atlan:
    """A tenant, by its URL and an API key."""

    def __init__(self, place: Place, wait: float = 1.0) -> None:
        """`wait`, in seconds, is how long the first pause is after an answer that says nothing of it."""
        self._place = place
        self._url = place.url.rstrip("/")
        retry = Retry(
            total=_TRIES,
            backoff_factor=wait,
            max_backoff_wait=_LONGEST.total_seconds(),
            status_forcelist=[429, 500, 502, 503, 504],
            allowed_methods=["GET", "POST", "DELETE"],
            respect_retry_after_header=True,
        )
        self._client = AtlanClient(base_url=self._url, api_key=place.api_key, retry=retry)

    def push(self, wanted: Sequence[Entry], *, dry_run: bool = False) -> Pushed:
        """Makes Atlan say what is wanted, by as few writes as that takes; with `dry_run` by none.

        Raises CatalogError, and then some of it may be done: the next push does the rest.
        """
        connection = self._connection(dry_run=dry_run)
        glossary = self._glossary(dry_run=dry_run)
        found = [*self._below(connection), *self._terms(glossary)]
        todo = plan(wanted, found)
        pushed = Pushed(todo, connection)
        if dry_run or not todo:
            return pushed
        assert connection is not None
        assert glossary is not None
        writer = _Writer(connection, glossary, {one.key: one.guid for one in found if one.kind == "AtlasGlossaryTerm"})
        for batch in _batches(todo.writes):
            names = f"{batch[0].entry.key} and {len(batch) - 1} more" if len(batch) > 1 else batch[0].entry.key
            with _asking(self._url, f"the writing of {batch[0].entry.kind} {names}"):
                answer = self._client.asset.save([writer.asset(write) for write in batch])
                writer.learn(batch, answer)
            pushed.written += len(batch)
        for batch_of in _lots(todo.archives):
            with _asking(self._url, f"the archiving of {batch_of[0].qualified_name} and {len(batch_of) - 1} more"):
                self._client.asset.delete_by_guid([one.guid for one in batch_of])
            pushed.archived += len(batch_of)
        return pushed

    def _connection(self, *, dry_run: bool) -> str | None:
        """The qualified name of the connection, which is made if there is none."""
        with _asking(self._url, "the search for the connection"):
            search = FluentSearch().where(Asset.TYPE_NAME.eq("Connection")).where(Asset.NAME.eq(self._place.connection))
            search = search.where(FluentSearch.active_assets())
            for asset in self._client.asset.search(search.to_request()):
                if (asset.qualified_name or "").startswith(f"default/{CONNECTOR}/"):
                    return asset.qualified_name
            if dry_run:
                return None
            role = self._client.role_cache.get_id_for_name(_ADMIN)
        with _asking(self._url, "the making of the connection"):
            made = Connection.creator(
                client=self._client,
                name=self._place.connection,
                connector_type=AtlanConnectorType.CREATE_CUSTOM("DUCKDB", CONNECTOR, AtlanConnectionCategory.DATABASE),
                admin_roles=[role],
            )
            self._client.asset.save(made)
        return made.qualified_name

    def _glossary(self, *, dry_run: bool) -> tuple[str, str] | None:
        """Qualified name and guid of the glossary, which is made if there is none."""
        with _asking(self._url, "the search for the glossary"):
            search = FluentSearch().where(Asset.TYPE_NAME.eq("AtlasGlossary"))
            search = search.where(Asset.NAME.eq(self._place.glossary)).where(FluentSearch.active_assets())
            for asset in self._client.asset.search(search.include_on_results("qualifiedName").to_request()):
                return str(asset.qualified_name), asset.guid
        if dry_run:
            return None
        with _asking(self._url, "the making of the glossary"):
            answer = self._client.asset.save(AtlasGlossary.creator(name=self._place.glossary))
            made = answer.assets_created(AtlasGlossary)[0]
        return str(made.qualified_name), made.guid

    def _below(self, connection: str | None) -> Iterator[Found]:
        if connection is not None:
            search = FluentSearch().where(Asset.CONNECTION_QUALIFIED_NAME.eq(connection))
            yield from self._found(search, "the search for what is below the connection")

    def _terms(self, glossary: tuple[str, str] | None) -> Iterator[Found]:
        if glossary is not None:
            search = FluentSearch().where(Asset.TYPE_NAME.eq("AtlasGlossaryTerm"))
            search = search.where(AtlasGlossaryTerm.ANCHOR.eq(glossary[0]))
            yield from self._found(search, "the search for the terms")

    def _found(self, search: FluentSearch, done: str) -> list[Found]:
        for name in _READ:
            search = search.include_on_results(name)
        with _asking(self._url, done):
            return [_found(asset) for asset in self._client.asset.search(search.page_size(_PAGE).to_request())]


def _batches(writes: Sequence[Write]) -> Iterator[list[Write]]:
    """Some of one kind at a time: what an asset refers to is there before it, and terms have their guids."""
    batch: list[Write] = []
    for write in writes:
        if batch and (batch[0].entry.kind != write.entry.kind or len(batch) == _AT_ONCE):
            yield batch
            batch = []
        batch.append(write)
    if batch:
        yield batch


def _lots(found: Sequence[Found]) -> Iterator[Sequence[Found]]:
    for at in range(0, len(found), _AT_ONCE):
        yield found[at : at + _AT_ONCE]


def _python(name: str) -> str:
    """pyatlan's name of one of Atlan's attributes.

    >>> _python("certificateStatusMessage")
    'certificate_status_message'
    """
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _found(asset: Asset) -> Found:
    attributes = {name: _plain(getattr(asset, _python(name), None)) for name in _READ if name != "meanings"}
    terms = {term.guid for term in asset.assigned_terms or ()} | {one.term_guid for one in asset.meanings or ()}
    return Found(
        kind=asset.type_name,
        guid=asset.guid,
        qualified_name=str(asset.qualified_name),
        name=str(asset.name),
        is_archived=asset.status is EntityStatus.DELETED,
        attributes=attributes,
        owners=frozenset(asset.owner_groups or ()),
        links=frozenset(guid for guid in terms if guid is not None),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    return getattr(value, "value", value)


class _Writer:
    """Assets as pyatlan has them, below one connection and in one glossary."""

    def __init__(self, connection: str, glossary: tuple[str, str], terms: dict[str, str]) -> None:
        self._connection = connection
        self._glossary = glossary[1]
        self._terms = terms
        """Guids, by key."""

    def learn(self, batch: Sequence[Write], answer: Any) -> None:
        """Takes the guids of terms that were made out of Atlan's answer."""
        made = {term.name: term.guid for term in answer.assets_created(AtlasGlossaryTerm)}
        self._terms |= {one.entry.key: made[one.entry.name] for one in batch if one.entry.name in made}

    def asset(self, write: Write) -> Asset:
        """What is to be sent of it."""
        asset = self._new(write.entry) if write.found is None else self._known(write.entry, write.found)
        for name, value in write.attributes.items():
            setattr(asset, _python(name), _typed(name, value))
        if write.deed == "restore":
            asset.status = EntityStatus.ACTIVE
        if write.link or write.unlink:
            linked = [self._terms[key] for key in sorted(write.link) if key in self._terms]
            asset.assigned_terms = [
                *(AtlasGlossaryTerm.ref_by_guid(guid, semantic=SaveSemantic.APPEND) for guid in linked),
                *(AtlasGlossaryTerm.ref_by_guid(guid, semantic=SaveSemantic.REMOVE) for guid in sorted(write.unlink)),
            ]
        if isinstance(asset, Process):
            asset.inputs = [Table.ref_by_qualified_name(self._place(key)) for key in write.entry.reads]
            asset.outputs = [Table.ref_by_qualified_name(self._place(write.entry.makes))]
        return asset

    def _place(self, key: str) -> str:
        return f"{self._connection}/{key}"

    def _known(self, entry: Entry, found: Found) -> Asset:
        match entry.kind:
            case "AtlasGlossaryTerm":
                return AtlasGlossaryTerm.updater(
                    qualified_name=found.qualified_name, name=entry.name, glossary_guid=self._glossary
                )
            case "Process":
                return Process.updater(qualified_name=found.qualified_name, name=entry.name)
            case "Column":
                return Column.updater(qualified_name=found.qualified_name, name=entry.name)
            case "Table":
                return Table.updater(qualified_name=found.qualified_name, name=entry.name)
            case "Schema":
                return Schema.updater(qualified_name=found.qualified_name, name=entry.name)
        return Database.updater(qualified_name=found.qualified_name, name=entry.name)

    def _new(self, entry: Entry) -> Asset:
        place, connection = self._place(entry.key), self._connection
        parent = place.rpartition("/")[0]
        match entry.kind:
            case "AtlasGlossaryTerm":
                return AtlasGlossaryTerm.creator(name=entry.name, glossary_guid=self._glossary)
            case "Process":
                outputs = [Table.ref_by_qualified_name(self._place(entry.makes))]
                inputs = [Table.ref_by_qualified_name(self._place(key)) for key in entry.reads]
                return Process.creator(
                    name=entry.name,
                    connection_qualified_name=connection,
                    process_id=entry.key,
                    inputs=list(inputs),
                    outputs=list(outputs),
                )
            case "Column":
                return Column.creator(
                    name=entry.name, parent_qualified_name=parent, parent_type=Table, order=int(entry.own["order"])
                )
            case "Table":
                return Table.creator(name=entry.name, schema_qualified_name=parent)
            case "Schema":
                return Schema.creator(name=entry.name, database_qualified_name=parent)
        return Database.creator(name=entry.name, connection_qualified_name=connection)


def _typed(name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "certificateStatus":
            return CertificateStatus(value)
        case "announcementType":
            return AnnouncementType(value)
        case "ownerGroups":
            return set(value)
        case "sourceUpdatedAt":
            return datetime.fromtimestamp(value / 1000, UTC)
    return value
