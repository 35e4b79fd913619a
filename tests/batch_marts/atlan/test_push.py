"""Pushes to a tenant of one's own: what is written, what is left alone, and how it goes on after each refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_marts.atlan.wanted import wanted
from batch_marts.builds import Build
from batch_marts.catalogue import Catalogue, load_catalogue
from batch_marts.changes import AnnouncedChange
from batch_marts.dbt import PROJECT, Finding
from batch_marts.metrics import METRICS
from batch_marts.trust import Known
from service.trust import told_of_all
from stitchline.errors import CatalogError
from tests.atlan import KEY, AtlanStandIn, Fault, atlan

if TYPE_CHECKING:
    from batch_marts.atlan.client import Pushed

NIGHT = datetime(2026, 1, 31, 2, tzinfo=UTC)
FCT = "fct_conversions"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(PROJECT, METRICS)


@pytest.fixture
def known(catalogue: Catalogue) -> Known:
    counts = dict.fromkeys(catalogue.marts, 10)
    build = Build(1, "build_0001", "full", "published", NIGHT, NIGHT, NIGHT, row_counts=counts)
    return Known(NIGHT + timedelta(hours=6), build, build, (), NIGHT.date() - timedelta(days=1), {}, (), None, ())


@pytest.fixture
def tenant() -> Iterator[AtlanStandIn]:
    with atlan() as tenant:
        yield tenant


def push(tenant: AtlanStandIn, known: Known, catalogue: Catalogue, key: str = KEY, *, dry_run: bool = False) -> Pushed:
    from batch_marts.atlan.client import Atlan, Place  # seconds to import, for each process that looks for tests

    place = Place(tenant.url, key, "Shop", "Shop metrics")
    entries = wanted(catalogue, told_of_all(known, catalogue, {}), "shop", {"marketing": "growth-marketing"})
    return Atlan(place, wait=0.01).push(entries, dry_run=dry_run)


def without(catalogue: Catalogue, metric: str) -> Catalogue:
    return replace(catalogue, metrics={name: one for name, one in catalogue.metrics.items() if name != metric})


def redefined(catalogue: Catalogue, metric: str, **update: Any) -> Catalogue:
    metrics = dict(catalogue.metrics)
    metrics[metric] = metrics[metric].model_copy(update=update)
    return replace(catalogue, metrics=metrics)


def sent(tenant: AtlanStandIn, since: int) -> list[dict[str, Any]]:
    """The entities written by the requests after the first `since`."""
    return [entity for batch in tenant.writes[since:] for entity in batch]


def changed_by(entity: dict[str, Any]) -> set[str]:
    """What a write has of its own, besides what says which asset it is."""
    return set(entity["attributes"]) - {"name", "qualifiedName", "anchor", "lastSyncRun", "lastSyncWorkflowName"}


def test_everything_is_there_and_a_second_push_writes_nothing(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue
) -> None:
    pushed = push(tenant, known, catalogue)
    assert pushed.written == len(pushed.plan.writes) > 180
    tables = {one["name"]: one for one in tenant.all("Table")}
    assert set(catalogue.marts) < set(tables)
    assert {"events", "sessions", "ad_spend"} < set(tables)
    table = tables[FCT]
    assert table["qualifiedName"].endswith(f"/shop/marts/{FCT}")
    assert table["certificateStatus"] == "VERIFIED"
    assert table["ownerGroups"] == ["growth-marketing"]
    assert table["rowCount"] == 10
    columns = [one for one in tenant.all("Column") if one["qualifiedName"].startswith(table["qualifiedName"] + "/")]
    assert [one["name"] for one in sorted(columns, key=lambda one: one["order"])] == [
        column.name for column in catalogue.marts[FCT].columns
    ]
    (cac,) = [one for one in tenant.all("AtlasGlossaryTerm") if one["abbreviation"] == "cac"]
    assert cac["name"] == "Customer acquisition cost"
    assert cac["description"] == catalogue.metrics["cac"].definition
    assert cac["usage"].startswith("Version 1; in USD per customer")
    assert cac.guid in table.terms
    assert cac.guid in tables["mart_daily_metrics"].terms
    (process,) = [one for one in tenant.all("Process") if one["name"] == "dbt builds mart_acquisition"]
    reads = {one["uniqueAttributes"]["qualifiedName"].rpartition("/")[2] for one in process.relations["inputs"]}
    assert {FCT, "fct_ad_spend_daily"} <= reads

    writes = len(tenant.writes)
    again = push(tenant, known, catalogue)
    assert not again.plan
    assert len(tenant.writes) == writes
    assert not tenant.archived
    third = len(tenant.requests)
    push(tenant, known, catalogue)
    assert {path for _, path in tenant.requests[third:]} == {"/api/meta/search/indexsearch"}, "it only reads"


def test_a_new_definition_changes_one_term(tenant: AtlanStandIn, known: Known, catalogue: Catalogue) -> None:
    push(tenant, known, catalogue)
    writes = len(tenant.writes)
    new = "Ad spend of the day, fees of agencies included, divided by the day's new customers. In US dollars."
    push(tenant, known, redefined(catalogue, "cac", definition=new))
    (entity,) = sent(tenant, writes)
    assert changed_by(entity) == {"description"}
    assert tenant.one("AtlasGlossaryTerm", "Customer acquisition cost")["description"] == new


def test_a_new_label_keeps_the_term_and_a_new_version_is_a_term_of_its_own(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue
) -> None:
    push(tenant, known, catalogue)
    old = tenant.one("AtlasGlossaryTerm", "Customer acquisition cost")
    relabelled = redefined(catalogue, "cac", label="Cost of a customer")
    push(tenant, known, relabelled)
    assert tenant.one("AtlasGlossaryTerm", "Cost of a customer").guid == old.guid
    both = dict(relabelled.metrics)
    both["cac_v2"] = both["cac"].model_copy(update={"version": 2})
    writes = len(tenant.writes)
    push(tenant, known, replace(relabelled, metrics=both))
    made = tenant.one("AtlasGlossaryTerm", "Cost of a customer (version 2)")
    assert made["usage"].startswith("Version 2")
    assert not old.is_archived
    changed = {entity["attributes"]["name"]: changed_by(entity) for entity in sent(tenant, writes)}
    assert set(changed) == {made["name"], "mart_daily_metrics", FCT, "fct_ad_spend_daily"}
    assert made.guid in tenant.one("Table", FCT).terms


def test_what_people_added_survives(tenant: AtlanStandIn, known: Known, catalogue: Catalogue) -> None:
    push(tenant, known, catalogue)
    table, term = tenant.one("Table", FCT), tenant.one("AtlasGlossaryTerm", "Customer acquisition cost")
    glossary = term.glossary
    own = tenant.add("AtlasGlossaryTerm", glossary, name="Payback period", description="Ours.")
    note = {"userDescription": "Ask Ada before you quote it.", "readme": "# Notes", "isFeatured": True}
    table.attributes |= note
    table.terms.add(own.guid)
    table.attributes["ownerGroups"] = ["growth-marketing", "board"]
    table.attributes |= {
        "announcementType": "issue",
        "announcementTitle": "Audit",
        "announcementMessage": "Do not use.",
    }
    term.attributes |= note | {"certificateStatus": "DEPRECATED", "certificateStatusMessage": "Use payback."}
    mine = tenant.add("Table", name="mine", connectionQualifiedName=table["connectionQualifiedName"])

    change = _change(FCT)
    failed = replace(known.published, build_id=2, status="failed", published_at=None)
    later = replace(known, last=failed, findings=[Finding("t", FCT, "it is wrong")], pending=[change])
    meant_otherwise = redefined(catalogue, "cac", definition="Something else altogether, in forty letters.")
    pushed = push(tenant, later, meant_otherwise)

    assert table.attributes | note == table.attributes
    assert own.guid in table.terms
    assert term.guid in table.terms
    assert set(table["ownerGroups"]) == {"board", "growth-marketing"}
    assert table["announcementTitle"] == "Audit"
    assert table["certificateStatus"] == "DRAFT", "that one was ours"
    assert (term["certificateStatus"], term["userDescription"]) == ("DEPRECATED", note["userDescription"])
    assert term["description"].startswith("Something else")
    assert own["description"] == "Ours."
    assert [mine.is_archived, own.is_archived] == [False, False]
    said = " ".join(pushed.plan.left_alone)
    assert f"Table shop/marts/{FCT}: its announcement is somebody's own (issue)" in said
    assert "AtlasGlossaryTerm cac: its certificate is somebody's own (DEPRECATED)" in said
    assert not push(
        tenant, later, redefined(catalogue, "cac", definition="Something else altogether, in forty letters.")
    ).plan


def test_a_term_that_somebody_has_already_is_left_alone(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue
) -> None:
    push(tenant, known, without(catalogue, "cac"))
    glossary = tenant.all("AtlasGlossary")[0]["qualifiedName"]
    own = tenant.add("AtlasGlossaryTerm", glossary, name="Customer acquisition cost", description="Ours.")
    pushed = push(tenant, known, catalogue)
    assert "the term 'Customer acquisition cost' of the glossary is somebody's own" in " ".join(pushed.plan.left_alone)
    assert (own["description"], own.versions) == ("Ours.", 1)
    assert not push(tenant, known, catalogue).plan, "nothing is tried over and over"
    own.attributes["name"] = "CAC, as finance has it"
    push(tenant, known, catalogue)
    assert tenant.one("AtlasGlossaryTerm", "Customer acquisition cost").guid != own.guid


def test_what_is_gone_is_archived_and_what_comes_back_restored(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue
) -> None:
    push(tenant, known, catalogue)
    term = tenant.one("AtlasGlossaryTerm", "Return on ad spend")
    term.attributes["userDescription"] = "Remember me."
    mart = catalogue.marts[FCT]
    fewer = replace(mart, columns=mart.columns[:-1])
    pushed = push(tenant, known, replace(without(catalogue, "roas"), marts={**catalogue.marts, FCT: fewer}))
    assert {one.key for one in pushed.plan.archives} == {"roas", f"shop/marts/{FCT}/{mart.columns[-1].name}"}
    assert term.status == "DELETED"
    assert not push(tenant, known, replace(without(catalogue, "roas"), marts={**catalogue.marts, FCT: fewer})).plan
    push(tenant, known, catalogue)
    assert term.status == "ACTIVE"
    assert term["userDescription"] == "Remember me."
    assert not push(tenant, known, catalogue).plan


def test_only_what_passed_its_last_tests_is_verified(tenant: AtlanStandIn, known: Known, catalogue: Catalogue) -> None:
    push(tenant, known, catalogue)
    failed = replace(known.published, build_id=2, status="failed", published_at=None)
    finding = Finding("shares_of_a_conversion_add_up", FCT, "the shares do not add up")
    push(tenant, replace(known, last=failed, findings=[finding]), catalogue)
    assert {one["certificateStatus"] for one in tenant.all("Table") if one["rowCount"]} == {"DRAFT"}
    assert {one["certificateStatus"] for one in tenant.all("AtlasGlossaryTerm")} == {"DRAFT"}
    said = tenant.one("Table", FCT)["certificateStatusMessage"]
    assert "shares of a conversion add up: the shares do not add up" in said
    passed = replace(known.published, build_id=3)
    push(tenant, replace(known, published=passed, last=passed), catalogue)
    assert {one["certificateStatus"] for one in tenant.all("Table") if one["rowCount"]} == {"VERIFIED"}


def _change(mart: str, metric: str | None = None, *, says: str = "share is renamed to weight") -> AnnouncedChange:
    soon = NIGHT + timedelta(days=14)
    return AnnouncedChange("c1", mart, metric, "share", "column_renamed", True, says, "share", "weight",
                           "https://example.org/1", NIGHT, "ada", soon, None)  # fmt: skip


def test_a_change_to_come_is_announced_until_it_is_there(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue
) -> None:
    push(tenant, known, catalogue)
    table = tenant.one("Table", FCT)
    push(tenant, replace(known, pending=[_change(FCT)]), catalogue)
    assert (table["announcementType"], table["announcementTitle"]) == ("warning", "A change comes on 2026-02-14")
    assert table["announcementMessage"] == "2026-02-14: share is renamed to weight https://example.org/1"
    push(tenant, replace(known, pending=[_change(FCT, says="share goes")]), catalogue)
    assert table["announcementMessage"].startswith("2026-02-14: share goes")
    push(tenant, known, catalogue)
    assert (table["announcementType"], table["announcementTitle"], table["announcementMessage"]) == (None, None, None)


def test_a_dry_run_writes_nothing_and_says_what_the_push_does(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue
) -> None:
    dry = push(tenant, known, catalogue, dry_run=True)
    assert (tenant.writes, tenant.assets) == ([], {})
    wet = push(tenant, known, catalogue)
    assert [one.entry for one in wet.plan.writes] == [one.entry for one in dry.plan.writes]
    assert (dry.written, wet.written) == (0, len(dry.plan.writes))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(403), "answered 403 to the writing of .*: the API key may not do that"),
        (Fault(404), "answered 404 .*: what was asked for is not there"),
        (Fault(409), "answered 409 .*: somebody has made an asset of that name"),
        (Fault(429, times=9), "answered 429 .*: it is asked too much"),
        (Fault(500, times=9), "answered 500 .*: it says"),
        (Fault(503, times=9), "cannot be reached to the writing of"),
        (Fault(403, path="indexsearch"), "answered 403 to the search for the connection"),
        (Fault(429, path="indexsearch", times=9), "answered 429 to the search"),
        (Fault(503, path="indexsearch", times=9), "cannot be reached to the search"),
    ],
    ids=lambda value: f"{value.status}-{value.path}" if isinstance(value, Fault) else "",
)
def test_a_refusal_is_told_and_the_next_push_goes_on(
    tenant: AtlanStandIn, known: Known, catalogue: Catalogue, fault: Fault, says: str
) -> None:
    fault = replace(fault)
    if fault.path == "entity/bulk":
        fault.after = 6  # all but the columns and the lineage is there by then
    tenant.faults.append(fault)
    with pytest.raises(CatalogError, match=says) as error:
        push(tenant, known, catalogue)
    assert "the next push goes on" in str(error.value)
    assert KEY not in str(error.value)
    tenant.faults.clear()
    written = sum(map(len, tenant.writes))
    pushed = push(tenant, known, catalogue)
    missing = 2 if fault.path == "indexsearch" else 0  # the connection and the glossary
    assert sum(map(len, tenant.writes)) - written == pushed.written + missing
    assert pushed.written < 180 or fault.path == "indexsearch", "what was written is not written again"
    assert not push(tenant, known, catalogue).plan


def test_a_key_that_is_not_known_is_said_to_be(tenant: AtlanStandIn, known: Known, catalogue: Catalogue) -> None:
    with pytest.raises(CatalogError, match=r"answered 401 .*: the API key is not known there: .* atlan\.api_key"):
        push(tenant, known, catalogue, key="old")
    assert not tenant.assets


def test_it_waits_as_long_as_atlan_asks_for(tenant: AtlanStandIn, known: Known, catalogue: Catalogue) -> None:
    tenant.faults.append(Fault(429, after=3, headers={"Retry-After": "1"}))
    assert push(tenant, known, catalogue).written > 180
    assert not tenant.faults


def test_nobody_there_is_told(known: Known, catalogue: Catalogue) -> None:
    with atlan() as tenant:
        pass
    with pytest.raises(CatalogError, match="cannot be reached"):
        push(tenant, known, catalogue)
