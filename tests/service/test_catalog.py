"""`stitchline catalog`: what it says, what it writes, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.atlan import KEY, AtlanStandIn, atlan
from tests.service.web.marts import publish
from tests.service.web.shop import Shop
from tests.whole import forks


@pytest.fixture
def tenant() -> Iterator[AtlanStandIn]:
    with atlan() as tenant:
        yield tenant


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    shop = Shop(tmp_path / "shop.duckdb")
    publish(shop)
    shop.warehouse.close()
    return tmp_path / "shop.duckdb"


def called(warehouse: Path, *arguments: str, **settings: str) -> forks.Called:
    told = {f"STITCHLINE_ATLAN__{name.upper()}": value for name, value in settings.items()}
    return forks.called("catalog", *arguments, "--warehouse", str(warehouse), folder=warehouse.parent, **told)


def test_a_push_says_what_it_did_and_the_next_one_that_there_is_nothing(warehouse: Path, tenant: AtlanStandIn) -> None:
    settings = {"url": tenant.url, "api_key": KEY, "groups": '{"marketing": "growth"}'}
    first = called(warehouse, "push", "atlan", "--json", **settings)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["written"] == len(told["writes"]) == sum(map(len, tenant.writes)) - 2, "and connection and glossary"
    assert {"deed": "create", "kind": "AtlasGlossaryTerm", "key": "cac"}.items() <= next(
        one.items() for one in told["writes"] if one["key"] == "cac"
    )
    assert tenant.one("Table", "fct_conversions")["qualifiedName"].endswith("/shop/marts/fct_conversions")
    assert tenant.one("Table", "fct_conversions")["ownerGroups"] == ["growth"]
    again = called(warehouse, "push", "atlan", **settings)
    assert (again.returncode, again.stdout) == (0, "Atlan says all of it already.\n"), again.stderr


def test_a_key_that_is_refused_is_one_sentence(warehouse: Path, tenant: AtlanStandIn) -> None:
    refused = called(warehouse, "push", "atlan", url=tenant.url, api_key="old-key")
    assert refused.returncode == 1
    assert "the API key is not known there" in " ".join(refused.stderr.split())
    assert "old-key" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_missing_is_asked_for(warehouse: Path) -> None:
    unset = called(warehouse, "push", "atlan")
    assert (unset.returncode, "STITCHLINE_ATLAN__API_KEY" in unset.stderr) == (2, True)
    plain = called(warehouse, "push", "atlan", url="http://acme.atlan.com", api_key="k")
    assert (plain.returncode, "starts with https://" in plain.stderr) == (2, True)
    files = called(warehouse, "files", "out")
    assert (files.returncode, "There are no artifacts of dbt" in " ".join(files.stderr.split())) == (2, True)
