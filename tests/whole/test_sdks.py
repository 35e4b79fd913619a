"""What unmodified SDKs of the Segment spec send, put on the topic event by event: stored and linked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.identity.worlds import PERSONS_NOW
from tests.whole.runs import Run

SENT = Path(__file__).parent.parent / "data" / "sdk_requests.json"

# By SDK: what its requests hold, by type; and which facts link a1 to u1.
EXPECTED = {
    "segment": ({"track": 1, "identify": 1, "page": 1, "alias": 1, "group": 1}, {"claim", "alias"}),
    "rudder": ({"track": 1, "identify": 1}, {"claim"}),
    "segment_node": ({"track": 1, "identify": 1, "page": 1, "alias": 1, "group": 1}, {"claim", "alias"}),
    "rudder_node": ({"track": 1, "identify": 1}, {"claim"}),
}


def sent_by(sdk: str) -> list[bytes]:
    requests = json.loads(SENT.read_text())[sdk]["requests"]
    return [json.dumps(event).encode() for request in requests for event in json.loads(request["body"])["batch"]]


@pytest.mark.parametrize("sdk", EXPECTED)
def test_all_that_an_sdk_sends_is_stored_and_linked(sdk: str, kafka_run: Callable[..., Run]) -> None:
    types, facts = EXPECTED[sdk]
    events = sent_by(sdk)
    assert Counter(json.loads(event)["type"] for event in events) == types
    run = kafka_run(partitions=2)
    run.produce(events)
    run.replay()

    assert run.counts() == (len(events), len(events), 0, 0)
    assert dict(run.rows("select type, count(*) from stream.events group by type")) == types
    assert {row[0] for row in run.rows("select kind from stream.identity_facts")} == facts
    assert run.rows("select distinct anonymous_id, user_id from stream.identity_facts") == [("a1", "u1")]
    assert run.rows("select * from stream.identities order by all") == [
        ("anonymous", "a1", "u1"),
        ("user", "u1", "u1"),
    ]
    assert {person for _, _, person in run.rows(PERSONS_NOW)} == {"u1"}
    assert run.rows("select distinct anonymous_id, person_id from stream.sessions") == [("a1", "u1")]
    assert run.rows("select * from stream.identity_verdicts") == []


def test_an_alias_alone_links(kafka_run: Callable[..., Run]) -> None:
    """The alias of analytics-python after a visit that nobody had claimed; it carries no anonymousId."""
    (alias,) = [event for event in sent_by("segment") if json.loads(event)["type"] == "alias"]
    visit = {"messageId": "v", "type": "page", "anonymousId": "a1", "timestamp": "2026-11-24T09:00:00Z"}
    run = kafka_run()
    run.produce([json.dumps(visit).encode(), alias])
    run.replay()
    assert run.counts() == (2, 2, 0, 0)
    assert run.rows("select kind, anonymous_id, user_id from stream.identity_facts") == [("alias", "a1", "u1")]
    assert {person for _, _, person in run.rows(PERSONS_NOW)} == {"u1"}
    assert ("anonymous", "a1", "u1") in run.rows("select * from stream.identities")
