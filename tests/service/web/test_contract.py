"""The API holds to its OpenAPI document: whatever is asked, no failure, and what the document says that it answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from flows.reconcile import Reconciliation, reconcile
from identity.rebuild import Judged
from service import people
from service.web.access import Access
from service.web.app import create_app
from service.web.models import PersonChange
from tests.service.web.marts import publish
from tests.service.web.shop import PURCHASE, Server, Shop

CONTRACT = (
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


FUNNEL = PURCHASE.model_dump(mode="json")
SIGNED_UP = "5e551011" * 4
DAYS = {"metric": "orders", "from": "2026-01-01", "to": "2026-01-30"}

ANSWERED: dict[str, dict[str, Any]] = {
    "GET /api/anomalies": {"query": {"all": True}},
    "GET /api/anomalies/backtest": {"query": DAYS},
    "GET /api/anomalies/backtest.png": {"query": DAYS},
    "GET /api/dead-letters": {"query": {"raw": True}},
    "GET /api/events": {},
    "GET /api/events/fields": {"query": {"event": "Page Viewed"}},
    "GET /api/events/values": {"query": {"event": "Page Viewed", "field": "properties.price"}},
    "GET /api/catalog/search": {"query": {"q": "customer cost"}},
    "GET /api/experiments": {},
    "GET /api/experiments/looks": {},
    "GET /api/funnel": {"query": {"definition": PURCHASE.model_dump_json()}},
    "GET /api/funnel/sql": {"query": {"definition": PURCHASE.model_dump_json()}},
    "GET /api/funnel.png": {"query": {"definition": PURCHASE.model_dump_json()}},
    "GET /api/funnels": {},
    "GET /api/health": {},
    "GET /api/identity": {"query": {"id": "u1"}},
    "GET /api/identity/audit": {},
    "GET /api/identity/refused": {},
    "GET /api/marts": {},
    "GET /api/marts/changes": {},
    "GET /api/marts/consumers": {},
    "GET /api/marts/history": {},
    "GET /api/marts/tables": {},
    "GET /api/marts/tables/{mart}": {"path_parameters": {"mart": "dim_person"}},
    "GET /api/marts/tables/{mart}/rows": {"path_parameters": {"mart": "dim_person"}},
    "GET /api/metrics": {"query": {"q": "cost"}},
    "GET /api/metrics/{name}": {"path_parameters": {"name": "orders"}},
    "GET /api/metrics/{name}/values": {"path_parameters": {"name": "orders"}, "query": {"format": "csv"}},
    "GET /api/overview": {},
    "GET /api/sessions": {},
    "GET /api/sessions/{session_id}": {"path_parameters": {"session_id": SIGNED_UP}},
    "GET /api/spend": {"query": {"format": "arrow"}},
    "GET /api/state": {},
    "GET /api/trust": {},
    "GET /health/live": {},
    "GET /health/ready": {},
    "GET /metrics": {},
    "POST /api/anomalies/check": {},
    "POST /api/funnel": {"body": FUNNEL},
    "POST /api/funnel/next": {"body": {"definition": FUNNEL, "step": 1}},
    "POST /api/funnel/people": {"body": {"definition": FUNNEL, "step": 1}},
    "POST /api/identity/change": {
        "body": {
            "kind": "merge",
            "person": "u1",
            "other": "anon:d2",
            "because": "a test",
            "actor": "me",
            "dry_run": True,
        }
    },
    "POST /api/identity/rebuild": {},
    "POST /api/marts/changes": {"body": {"changes": [], "by": "ada"}},
    "POST /api/marts/changes/withdrawn": {"body": {"change_ids": ["0123456789abcdef"]}},
    "POST /api/reconcile": {"body": {"since": "2026-01-01T00:00:00Z"}},
    "POST /api/retention": {
        "body": {"start": {"event": "Page Viewed"}, "back": {"event": "Signed Up"}, "since": "2026-01-01"}
    },
    "POST /api/sql": {"body": {"sql": "select * from stream.sessions"}},
    "POST /api/trend": {"body": {"events": [{"event": "Page Viewed"}], "since": "2026-01-30"}},
}
"""A question to each operation that is there to be answered."""

NOT_ANSWERED = {
    "GET /api/anomalies/{incident_id}",  # nothing is out of range here
    "GET /api/anomalies/{incident_id}/chart.png",
    "POST /api/anomalies/{incident_id}",
    "POST /api/anomalies/test",  # the following are for those who know the owner's key
    "POST /api/backup",
    "POST /api/identity/forget",
    "POST /api/marts/refresh",
    "POST /api/marts/rollback",
    "POST /api/spend/files",
    "POST /api/spend/rates",
}


class WritingShop(Shop):
    """A shop whose persons and sessions change as asked."""

    def change_persons(self, change: PersonChange) -> dict[str, Any]:
        return people.change(self.warehouse, self.definitions, change)

    def rebuild(self) -> Judged:
        return people.rebuild(self.warehouse, self.rules())

    def reconcile(self, since: datetime | None, *, mend: bool) -> Reconciliation:
        return reconcile(self.warehouse, self.rules(), since=since, mend=mend)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a filled shop, asked by an operator who does not know the owner's key."""
    shop = WritingShop(tmp_path_factory.mktemp("contract") / "warehouse.duckdb")
    shop.fill()
    publish(shop)
    server = Server()
    server.start(create_app(shop, access=Access(key="the owner's key")))
    yield schemathesis.openapi.from_url(f"{server.url}/api/openapi.json")
    server.stop()
    shop.warehouse.close()


_ENDLESS = "/api/live"
"""A stream, which nobody can read to its end."""

_LONGEST = 4000
"""Characters of an address, each of which may be twelve in it. Above 64 kB the server hangs up."""

_THRIFTY = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_what_is_there_is_answered_as_the_document_says(document: Any) -> None:
    operations = {found.ok().label: found.ok() for found in document.exclude(path=_ENDLESS).get_all_operations()}
    assert set(operations) == set(ANSWERED) | NOT_ANSWERED
    for label, question in ANSWERED.items():
        sent = question | ({"media_type": "application/json"} if "body" in question else {})
        answer = operations[label].Case(**sent).call_and_validate(checks=list(CONTRACT), timeout=60)
        assert answer.status_code == 200, (label, answer.text)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_so_is_whatever_else_is_asked(document: Any, mode: schemathesis.GenerationMode) -> None:
    """To questions that fit the document, and to those that do not."""
    broken = []
    for found in document.exclude(path=_ENDLESS).get_all_operations():
        operation = found.ok()

        @_THRIFTY
        @given(operation.as_strategy(generation_mode=mode))
        def holds(case: schemathesis.Case) -> None:
            assume(len(str(case.query)) + len(str(case.path_parameters)) < _LONGEST)
            case.call_and_validate(checks=list(CONTRACT), timeout=60)

        try:
            holds()
        except (AssertionError, FailureGroup) as error:
            told = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            broken.append(f"{operation.label}: {told}")
        except Unsatisfiable:  # nothing that is asked there can be wrong
            assert mode is schemathesis.GenerationMode.NEGATIVE
    assert not broken, "\n\n".join(broken)
