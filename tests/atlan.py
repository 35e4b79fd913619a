"""An Atlan of one's own on loopback: the endpoints that pyatlan calls to find, write and archive assets, with a state,
and with Atlan's ways to refuse. A request is taken as a whole or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

KEY: Final = "atlan-test-key"

_RELATIONS: Final = frozenset(
    {"anchor", "atlanSchema", "database", "table", "inputs", "outputs", "meanings", "categories"}
)
_FIELDS: Final = {
    "__typeName.keyword": "typeName",
    "__state": "status",
    "__glossary": "glossary",
    "name.keyword": "name",
}
_CERTIFICATES: Final = (None, "VERIFIED", "DRAFT", "DEPRECATED")
_ANNOUNCEMENTS: Final = (None, "information", "warning", "issue")


class _Refused(Exception):
    def __init__(self, status: int, code: str, says: str) -> None:
        super().__init__(says)
        self.status, self.code = status, code


@dataclass
class Kept:
    """An asset."""

    guid: str
    kind: str
    attributes: dict[str, Any]
    terms: set[str] = field(default_factory=set)
    relations: dict[str, Any] = field(default_factory=dict)
    glossary: str | None = None
    is_archived: bool = False
    versions: int = 1

    @property
    def status(self) -> str:
        return "DELETED" if self.is_archived else "ACTIVE"

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


@dataclass
class Fault:
    """What is answered instead, to the next requests of that kind."""

    status: int
    method: str = "POST"
    path: str = "entity/bulk"
    after: int = 0
    """So many are answered as they should be before it."""
    times: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)


class AtlanStandIn:
    """A tenant."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.assets: dict[str, Kept] = {}
        self.faults: list[Fault] = []
        self.writes: list[list[dict[str, Any]]] = []
        """The entities of each request that was taken."""
        self.archived: list[list[str]] = []
        self.requests: list[tuple[str, str]] = []
        self._numbers = count(1)
        self._lock = threading.Lock()

    # What people see and do

    def one(self, kind: str, name: str) -> Kept:
        (found,) = [one for one in self.assets.values() if (one.kind, one["name"]) == (kind, name)]
        return found

    def all(self, kind: str) -> list[Kept]:
        return [one for one in self.assets.values() if one.kind == kind and not one.is_archived]

    def add(self, kind: str, glossary: str | None = None, **attributes: Any) -> Kept:
        """What somebody makes by hand."""
        guid = f"guid-{next(self._numbers)}"
        attributes.setdefault("qualifiedName", f"{guid}@{glossary}" if glossary else guid)
        self.assets[guid] = Kept(guid, kind, attributes, glossary=glossary)
        return self.assets[guid]

    # What pyatlan calls

    def answer(self, method: str, path: str, body: Any, key: str) -> tuple[int, Any, Mapping[str, str]]:
        parts = urlsplit(path)
        with self._lock:
            self.requests.append((method, parts.path))
            try:
                if key != f"Bearer {KEY}":
                    raise _Refused(401, "ATLAS-401", "unauthorized")
                if (fault := self._fault(method, parts.path)) is not None:
                    told = {"errorCode": f"ATLAS-{fault.status}", "errorMessage": "as the test wants it"}
                    return fault.status, told, fault.headers
                return 200, self._do(method, parts.path.rstrip("/"), parse_qs(parts.query), body), {}
            except _Refused as refused:
                return refused.status, {"errorCode": refused.code, "errorMessage": str(refused)}, {}

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.path in path:
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    def _do(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> Any:
        match method, path:
            case "POST", "/api/meta/search/indexsearch":
                return self._search(body)
            case "POST", "/api/meta/entity/bulk":
                return self._save(body["entities"])
            case "DELETE", "/api/meta/entity/bulk":
                return self._archive(query["guid"], query["deleteType"])
            case "GET", "/api/service/roles":
                return {"totalRecord": 1, "filterRecord": 1, "records": [{"id": "role-1", "name": "$admin"}]}
            case "GET", _ if path.startswith("/api/meta/entity/guid/"):
                return {"entity": self._told(self._known(path.rpartition("/")[2]), None)}
        raise AssertionError(f"nobody has thought of {method} {path}")

    def _known(self, guid: str) -> Kept:
        if guid not in self.assets:
            raise _Refused(404, "ATLAS-404-00-005", f"Given instance guid {guid} is invalid/not found")
        return self.assets[guid]

    def _search(self, asked: dict[str, Any]) -> Any:
        dsl = asked["dsl"]
        found = [one for one in self.assets.values() if _matches(dsl["query"], one)]
        found.sort(key=lambda one: one.guid)
        page = found[dsl["from"] : dsl["from"] + dsl["size"]]
        told = [self._told(one, asked.get("attributes", [])) for one in page]
        return {"searchParameters": asked, "approximateCount": len(found)} | ({"entities": told} if told else {})

    def _told(self, one: Kept, names: Iterable[str] | None) -> dict[str, Any]:
        wanted = {*one.attributes} if names is None else {"name", "qualifiedName", *names}
        told = {name: value for name, value in one.attributes.items() if name in wanted}
        live = [self.assets[guid] for guid in sorted(one.terms) if not self.assets[guid].is_archived]
        if "meanings" in wanted:
            told["meanings"] = [{"typeName": term.kind, "guid": term.guid} for term in live]
        return {
            "typeName": one.kind,
            "guid": one.guid,
            "status": one.status,
            "attributes": told,
            "meanings": [{"termGuid": term.guid, "displayText": term["name"]} for term in live],
        }

    def _save(self, entities: list[dict[str, Any]]) -> Any:
        there = [self._held(entity) for entity in entities]
        made: list[dict[str, Any]] = []
        updated: list[dict[str, Any]] = []
        assigned = {}
        for entity, known in zip(entities, there, strict=True):
            one = known if known is not None else self._new(entity)
            assigned[entity["guid"]] = one.guid
            self._take(one, entity)
            (updated if known is not None else made).append(self._told(one, ["name"]))
        self.writes.append(entities)
        return {"mutatedEntities": {"CREATE": made, "UPDATE": updated}, "guidAssignments": assigned}

    def _held(self, entity: Mapping[str, Any]) -> Kept | None:
        """The asset that is to be changed, None if it is new. Raises for what Atlan would refuse."""
        attributes, kind = entity["attributes"], entity["typeName"]
        if attributes.get("certificateStatus") not in _CERTIFICATES:
            raise _Refused(400, "ATLAS-400-00-08D", "invalid value of certificateStatus")
        if attributes.get("announcementType") not in _ANNOUNCEMENTS:
            raise _Refused(400, "ATLAS-400-00-08D", "invalid value of announcementType")
        for name in ("atlanSchema", "table", "inputs", "outputs"):
            refers = attributes.get(name) or []
            for each in refers if isinstance(refers, list) else [refers]:
                if self._by_name(each["typeName"], each["uniqueAttributes"]["qualifiedName"]) is None:
                    raise _Refused(404, "ATLAS-404-00-009", f"{name} of {attributes['name']} is not there")
        relations = (entity.get(f"{act}RelationshipAttributes", {}).get("meanings", []) for act in ("append", "remove"))
        for each in (one for some in relations for one in some):
            self._known(each["guid"])
        known = self._by_name(kind, attributes["qualifiedName"])
        if known is None and kind == "AtlasGlossaryTerm":
            glossary = self._known(attributes["anchor"]["guid"])["qualifiedName"]
            names = {one["name"] for one in self.all(kind) if one.glossary == glossary}
            if attributes["name"] in names:
                raise _Refused(409, "ATLAS-409-00-009", f"Glossary Term {attributes['name']} is there already")
        return known

    def _by_name(self, kind: str, name: str) -> Kept | None:
        found = [one for one in self.assets.values() if (one.kind, one["qualifiedName"]) == (kind, name)]
        return found[0] if found else None

    def _new(self, entity: Mapping[str, Any]) -> Kept:
        guid, attributes = f"guid-{next(self._numbers)}", {}
        glossary = None
        if entity["typeName"] == "AtlasGlossary":
            attributes["qualifiedName"] = f"glossary-{guid}"
        if entity["typeName"] == "AtlasGlossaryTerm":
            glossary = self._known(entity["attributes"]["anchor"]["guid"])["qualifiedName"]
            attributes["qualifiedName"] = f"{guid}@{glossary}"
        self.assets[guid] = Kept(guid, entity["typeName"], attributes, glossary=glossary, versions=0)
        return self.assets[guid]

    def _take(self, one: Kept, entity: Mapping[str, Any]) -> None:
        for name, value in entity["attributes"].items():
            if name in _RELATIONS:
                one.relations[name] = value
            elif name != "qualifiedName" or "qualifiedName" not in one.attributes:
                one.attributes[name] = value
        if "meanings" in entity["attributes"]:
            one.terms = {each["guid"] for each in entity["attributes"]["meanings"]}
        one.terms |= {each["guid"] for each in entity.get("appendRelationshipAttributes", {}).get("meanings", [])}
        one.terms -= {each["guid"] for each in entity.get("removeRelationshipAttributes", {}).get("meanings", [])}
        if entity.get("status") == "ACTIVE":
            one.is_archived = False
        one.versions += 1

    def _archive(self, guids: list[str], how: list[str]) -> Any:
        assert how == ["SOFT"], "nothing is ever deleted for good"
        assets = [self._known(guid) for guid in guids]
        for one in assets:
            one.is_archived = True
        self.archived.append(guids)
        return {"mutatedEntities": {"DELETE": [self._told(one, ["name"]) for one in assets]}}


def _matches(query: Mapping[str, Any], one: Kept) -> bool:
    ((kind, told),) = query.items()
    match kind:
        case "bool":
            every = [*told.get("filter", ()), *told.get("must", ())]
            never = told.get("must_not", ())
            return all(_matches(each, one) for each in every) and not any(_matches(each, one) for each in never)
        case "term":
            ((name, value),) = told.items()
            return bool(_value(one, name) == value["value"])
    raise AssertionError(f"nobody has thought of {kind} in a search")


def _value(one: Kept, name: str) -> Any:
    match _FIELDS.get(name, name):
        case "typeName":
            return one.kind
        case "status":
            return one.status
        case "glossary":
            return one.glossary
        case attribute:
            return one[attribute]


@contextmanager
def atlan() -> Iterator[AtlanStandIn]:
    """A tenant that answers as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, told, headers = tenant.answer(self.command, self.path, body, self.headers.get("authorization", ""))
            sent = json.dumps(told).encode()
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(sent)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tenant = AtlanStandIn(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield tenant
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
