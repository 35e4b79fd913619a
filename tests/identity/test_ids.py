"""Which ids may say who somebody is."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.ids import MAX_ID_LENGTH, LegalIds, device_person
from tests.flows.reference import is_legal

REFUSED: dict[str, list[str | None]] = {
    "empty": ["", " ", "\t\n", None],
    "means nobody": [
        "null",
        "NULL",
        "none",
        "None",
        "nil",
        "NaN",
        "undefined",
        "Anonymous",
        "guest",
        "GUEST",
        "unknown",
        "true",
        "False",
        "0",
        "-1",
        "[object Object]",
        "distinct_id",
        "distinctid",
        " null ",
    ],
    "all zeros": ["00", "0000000000000000", "00000000-0000-0000-0000-000000000000"],
    "starts with anon:": ["anon:", "anon:d", "ANON:d", " Anon:d"],
    "longer than 200 characters": ["x" * 201, "é" * 201],
}
REFUSALS = [(text, why) for why, texts in REFUSED.items() for text in texts]

LEGAL = [
    "u",
    "U",
    "1",
    "00000001",
    "10",
    "nullo",
    "none of us",
    "guest-7",
    "anon",
    "anonymous-7",
    "true-7",
    "-2",
    "x" * 200,
    "é" * 200,
    "😀",
    "\0",
    "a@example.org",
    "[object Object]s",
    "my anon:d",
]


@pytest.mark.parametrize(("text", "why"), REFUSALS)
def test_what_means_nobody(text: str | None, why: str) -> None:
    assert LegalIds().why_not(text) == why


@pytest.mark.parametrize("text", LEGAL)
def test_what_may_link(text: str) -> None:
    assert LegalIds().why_not(text) is None


def test_a_list_of_ones_own_adds_to_it() -> None:
    ids = LegalIds(frozenset({"testuser", "n/a"}))
    assert ids.why_not("TestUser") == "means nobody"
    assert ids.why_not("N/A") == "means nobody"
    assert ids.why_not("guest") == "means nobody"
    assert ids.why_not("testuser2") is None


def test_a_column_of_ids() -> None:
    ids = pl.Series("user_id", ["u", None, "guest", "U", "", "u"])
    legal = LegalIds().legal(ids)
    assert legal.to_list() == ["u", None, None, "U", None, "u"], "kept as they are, case and all"
    assert legal.name == "user_id"
    assert LegalIds().legal(pl.Series("user_id", [], dtype=pl.String)).to_list() == []
    assert LegalIds().legal(pl.Series("user_id", [None], dtype=pl.String)).to_list() == [None]


near_misses = st.sampled_from([text for text, _ in REFUSALS if text is not None] + LEGAL)
texts = st.one_of(
    st.text(max_size=12),
    near_misses,
    st.builds(lambda text, pad: pad + text + pad, near_misses, st.sampled_from([" ", "\t", ""])),
    st.builds(str.swapcase, near_misses),
)


@given(st.lists(st.one_of(st.none(), texts)))
def test_one_by_one_and_as_a_column_are_the_same(ids: list[str | None]) -> None:
    legal = LegalIds()
    assert legal.legal(pl.Series("ids", ids, dtype=pl.String)).to_list() == [
        text if legal.why_not(text) is None else None for text in ids
    ]


@given(st.text(alphabet="0123x:anoulgesANOULGES-", max_size=12))
def test_the_rule_as_it_reads(text: str) -> None:
    if set(text) == {"-"}:
        return  # the rule says zeros, and nothing of dashes alone
    assert (LegalIds().why_not(text) is None) == is_legal(text)


def test_a_device_of_its_own() -> None:
    assert device_person("d") == "anon:d"
    assert LegalIds().why_not(device_person("d")) is not None, "no user id can be mistaken for it"
    assert MAX_ID_LENGTH == 200
