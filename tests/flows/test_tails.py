"""How sessions ended, against a plain dictionary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from flows.tails import NOBODY, Tails, hashes_of_users
from stitchline.hashing import hash_texts

START = datetime(2026, 1, 1, tzinfo=UTC)
DEVICES = [f"d{i}" for i in range(40)]
SCHEMA = pl.Schema(
    {
        "anonymous_id": pl.String(),
        "user_id": pl.String(),
        "ended_at": pl.Datetime("us", "UTC"),
        "end_reason": pl.String(),
    }
)
ENDINGS = st.tuples(
    st.sampled_from([None, "u", "v"]), st.integers(0, 1000), st.sampled_from(["gap", "logout", None, "cap"])
)


@given(st.lists(st.dictionaries(st.sampled_from(DEVICES), ENDINGS), max_size=5))
def test_the_last_one_put_is_what_is_known(turns: list[dict[str, tuple[str | None, int, str | None]]]) -> None:
    tails, model = Tails(), dict[str, tuple[str | None, int, str | None]]()
    for turn in turns:
        rows = [(device, user, START + timedelta(seconds=at), why) for device, (user, at, why) in turn.items()]
        tails.put(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
        model |= turn
        told = tails.of(hash_texts(pl.Series(DEVICES).to_arrow()))
        assert told.found.tolist() == [device in model for device in DEVICES]
        for i, device in enumerate(DEVICES):
            if device in model:
                user, at, why = model[device]
                assert told.ended_at[i] == (START + timedelta(seconds=at)).timestamp() * 1_000_000
                assert told.user[i] == hashes_of_users(pl.Series([user], dtype=pl.String))[0]
                assert told.by_logout[i] == (why == "logout")


@given(st.lists(st.lists(st.tuples(st.sampled_from(DEVICES), ENDINGS)), max_size=5))
def test_in_any_order_the_last_to_end_is_what_is_known(
    turns: list[list[tuple[str, tuple[str | None, int, str | None]]]],
) -> None:
    tails, latest = Tails(), dict[str, int]()
    for turn in turns:
        rows = [(device, user, START + timedelta(seconds=at), why) for device, (user, at, why) in turn]
        ties = tails.put_latest(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
        expected = []
        for device, (_, at, _) in turn:
            expected += [device] if latest.get(device) == at else []
            latest[device] = max(at, latest.get(device, at))
        assert ties.to_list() == expected
    told = tails.of(hash_texts(pl.Series(DEVICES).to_arrow()))
    assert told.found.tolist() == [device in latest for device in DEVICES]
    for i, device in enumerate(DEVICES):
        if device in latest:
            assert told.ended_at[i] == (START + timedelta(seconds=latest[device])).timestamp() * 1_000_000


def test_no_user_is_nobody_and_no_user_is_taken_for_nobody() -> None:
    hashes = hashes_of_users(pl.Series([None, "", "u", "v"]))
    assert hashes[0] == NOBODY
    assert len(set(hashes.tolist())) == 4
