"""What on-call reads: the right words, within Slack's limits, whatever the names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_marts.anomalies.blocks import escape
from batch_marts.anomalies.health import CHECKS, Observed, judged
from batch_marts.anomalies.incidents import Act, Deed, Incident, perform
from batch_marts.anomalies.message import ACTIONS, Subject, Telling, change_reply, incident_message
from batch_marts.anomalies.verdicts import Part, Verdict
from tests.batch_marts.anomalies.made import (
    DAY,
    FIVE,
    HOUR,
    METRICS,
    NOON,
    ONE_DAY,
    PLACES,
    TELLING,
    lived,
    run,
    verdict,
)
from tests.slack import problems

PARTS = (Part("path=/", 3_000.0, 7_800.0, 1.0), Part("device=mobile", 4_100.0, 8_000.0, 0.81))
TUESDAY = verdict(at=DAY, grain="day", z=4.1, parts=PARTS, unusual="lowest Tuesday in 9 weeks")
NIGHT = DAY + ONE_DAY + 2 * HOUR


def lines(incident: Incident, telling: Telling = TELLING) -> list[str]:
    """All that the message shows, in order; it is one that Slack takes."""
    message = incident_message(incident, telling)
    assert list(problems(message)) == []
    shown = []
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else block["elements"]
        shown += [line for each in texts for line in _text(each).split("\n")]
    return shown


def _text(element: Mapping[str, Any]) -> str:
    told = element["text"]
    return str(told["text"] if isinstance(told, dict) else told)


def replies(incident: Incident) -> list[str]:
    told = [change_reply(incident, change, TELLING) for change in incident.changes]
    assert all(list(problems(reply)) == [] for reply in told if reply is not None)
    return [reply["text"] for reply in told if reply is not None]


def did(incident: Incident, deed: Deed, at: Any = NOON) -> Incident:
    return perform(incident, Act(deed, incident.incident_id, deed, "ada", at))


def test_a_day_as_on_call_reads_it() -> None:
    (incident,) = lived([TUESDAY], NIGHT)
    assert incident_message(incident, TELLING)["text"] == (
        "Major: Traffic by page 40 % below expected. "
        "7,200 views, expected 11,200 to 12,800 views; Tue 24 Nov, lowest Tuesday in 9 weeks."
    )
    found = "<!date^1795572000^{date_short_pretty} {time}|Wed 25 Nov 02:00 UTC>"
    key = incident.incident_id
    assert lines(incident) == [
        "🟠 Traffic by page 40 % below expected",
        "*7,200 views*, expected 11,200 to 12,800 views (Tue 24 Nov)",
        "Lowest Tuesday in 9 weeks · z = 4.1",
        "*Where it comes from*",
        "• `path=/`: 3,000 instead of 7,800 views, 100 % of the change",
        "• `device=mobile`: 4,100 instead of 8,000 views, 81 % of the change",
        "Page and screen views by people, counted on the UTC day on which they happened by the device's corrected "
        "clock.",
        f"<https://stitchline.example/anomalies#{key}|Chart and history> · "
        "<https://stitchline.example/metrics#page_views|What “Traffic by page” means> · "
        "<https://stitchline.example/runbook#anomaly|What to do>",
        "*Open* · major · product",
        f"Since Tue 24 Nov, found {found} by the seasonal rule",
        "Acknowledge",
        "Snooze 4 h",
        "Not an anomaly",
    ]
    assert replies(incident) == [], "the opening is the message itself"


def test_buttons_carry_the_incident() -> None:
    (incident,) = lived([TUESDAY], NIGHT)
    buttons = incident_message(incident, TELLING)["blocks"][-1]["elements"]
    assert [button["action_id"] for button in buttons] == list(ACTIONS.values())
    assert {button["value"] for button in buttons} == {incident.incident_id}
    assert [line for line in lines(did(incident, "acknowledge")) if line == "Acknowledge"] == []
    assert lines(did(incident, "not_anomaly"))[-1].startswith("Since"), "nothing is left to do"


def test_over_it_says_how_long_and_how_much() -> None:
    incidents = lived(run(NOON, NOON + HOUR + 7 * FIVE))
    (over,) = lived(run(NOON + HOUR + 7 * FIVE, NOON + 4 * HOUR, "normal"), NOON + 4 * HOUR, incidents)
    told = (
        "Out of range for 1 h 35 min, from Tue 24 Nov 12:00 UTC; at worst 7,200 views, 40 % below what is expected. "
        "In all 91,200 views fewer than expected."  # 19 times 4,800
    )
    assert replies(over) == [told]
    assert lines(over)[:2] == ["✅ Traffic by page back in range", told]
    assert incident_message(over, TELLING)["text"] == f"Resolved: Traffic by page back in range. {told}"


def test_a_rate_adds_up_to_nothing() -> None:
    low: dict[str, Any] = {"actual": 0.021, "expected": 0.042, "low": 0.038, "high": 0.047}
    (over,) = lived([verdict("conversion", **low), *run(NOON + FIVE, NOON + 2 * HOUR, "normal", "conversion")], NOON)
    assert replies(over) == [
        "Out of range for 5 min, from Tue 24 Nov 12:00 UTC; at worst 2.1 %, 50 % below what is expected."
    ]


def test_the_whole_life_in_the_thread() -> None:
    (incident,) = lived(run(NOON, NOON + HOUR))
    incident = did(did(incident, "acknowledge"), "snooze")
    (incident,) = lived([verdict(at=NOON + HOUR, z=7.0), TUESDAY], NOON + 5 * HOUR, [incident])
    assert replies(did(incident, "not_anomaly")) == [
        "ada has acknowledged it.",
        "ada has snoozed it until <!date^1795536000^{date_short_pretty} {time}|Tue 24 Nov 16:00 UTC>.",
        "Tue 24 Nov as a whole shows it, too: 7,200 views, 40 % below what is expected (11,200 to 12,800 views).",
        "The snooze is over, and it goes on. 7,200 views, expected 11,200 to 12,800 views; "
        "the five minutes from Tue 24 Nov 13:00 UTC. <@U012ABCDEF>",
        "It is *critical* now. 7,200 views, expected 11,200 to 12,800 views; "
        "the five minutes from Tue 24 Nov 13:00 UTC.",
        "ada says that this is no anomaly. Its values stay in the baseline.",
    ]


def test_several_metrics_in_one_message() -> None:
    verdicts = [verdict(metric.shown_as, z=3 + n / 4) for n, metric in enumerate(METRICS) if metric.unit == "people"]
    verdicts += [verdict("orders", z=9.5, actual=210.0, low=300.0, high=340.0, expected=320.0)]
    (incident,) = lived(verdicts)
    shown = lines(incident)
    assert shown[0] == f"🔴 {len(verdicts)} metrics out of range together"
    assert shown[1] == "• *Orders*: 210 orders, expected 300 to 340 orders (34 % below, z = 9.5)"
    assert len([line for line in shown if line.startswith("• ")]) == len(verdicts)
    assert incident_message(incident, TELLING)["text"].startswith(
        f"Critical: {len(verdicts)} metrics out of range together."
    )


def test_thousands_of_metrics_fit() -> None:
    (incident,) = lived([verdict(f"metric_{n:04}") for n in range(2_000)])
    shown = lines(incident)
    kept = len([line for line in shown if line.startswith("• ")])
    assert f"… and {2_000 - kept:,} more" in shown


def test_late_data_is_no_fall() -> None:
    waiting = [verdict(name, DAY, "waiting", "day", because="the flow is 3 h behind") for name in ("orders", "revenue")]
    (incident,) = lived(waiting, NIGHT)
    shown = lines(incident)
    assert shown[0] == "⏳ Data late: 2 metrics, Tue 24 Nov"
    assert "Nothing is wrong with the metrics" in shown[1]
    assert "The flow is 3 h behind." in shown[1]
    assert shown[2:4] == ["• Orders: Tue 24 Nov", "• Revenue: Tue 24 Nov"]
    assert "Not an anomaly" not in shown
    assert "<https://stitchline.example/runbook#late|What to do>" in shown[4]
    (there,) = lived([replace(each, said="normal") for each in waiting], NIGHT + HOUR, [incident])
    assert lines(there)[:2] == [
        "✅ Data is there: 2 metrics, Tue 24 Nov",
        "The data has come in; the metrics are judged again.",
    ]


def test_stitchline_s_own_troubles_lead_to_the_runbook() -> None:
    observed = Observed(NOON, flow="down", flow_detail="Redis does not answer")
    (incident,) = lived(judged(observed))
    shown = lines(incident)
    assert shown[0] == "🟠 Stitchline's flow: the flow is down: Redis does not answer"
    assert shown[1] == CHECKS["stitchline_flow"].definition
    assert "runbook#flow" in shown[2]


def test_what_never_changed_and_did() -> None:
    (incident,) = lived([verdict("refunds", z=None, actual=9_000.0, expected=0.0, low=0.0, high=0.0)])
    assert lines(incident)[:3] == [
        "🟠 Refunds above expected",
        "*$9,000*, expected $0 (the five minutes from Tue 24 Nov 12:00 UTC)",
        "no z, as it never changed before",
    ]


HOSTILE = st.text(st.sampled_from('<>&|*_`~@!#\n\\ aé漢🙂’"{}'), max_size=200) | st.text(max_size=4_000)
NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@given(HOSTILE, HOSTILE, HOSTILE, st.lists(NUMBERS, min_size=5, max_size=5), st.sampled_from(["share", "USD", "views"]))
def test_slack_takes_whatever_the_names_and_figures_are(
    name: str, definition: str, actor: str, numbers: list[float | None], unit: str
) -> None:
    actual, expected, low, high, z = numbers
    values: dict[str, Any] = {"actual": actual, "expected": expected, "low": low, "high": high, "unusual": definition}
    parts = tuple(Part(name, actual or 0.0, expected or 0.0, 0.5) for _ in range(8))
    telling = Telling({"m": Subject(name, definition, unit)}, PLACES, "<!here>")
    made: Verdict = verdict(
        "m", segment=name, because=definition, parts=parts, z=abs(z) if z == z and z else None, **values
    )
    (incident,) = lived([made])
    for deed in ("acknowledge", "snooze", "not_anomaly"):
        message = incident_message(incident, telling)
        assert list(problems(message)) == []
        assert message == incident_message(incident, telling)
        json.dumps(message)
        incident = perform(incident, Act(deed, incident.incident_id, deed, actor, NOON))
    for change in incident.changes:
        reply = change_reply(incident, change, telling)
        assert reply is None or list(problems(reply)) == []


@pytest.mark.parametrize("text", ["<!channel>", "<@U012ABCDEF>", "<https://evil.example|click>"])
def test_names_call_nobody_and_are_no_links(text: str) -> None:
    telling = Telling({"m": Subject(text, text, "views")}, PLACES)
    (incident,) = lived([verdict("m", segment=f"path={text}", unusual=text, parts=(Part(text, 1.0, 2.0, 1.0),))])
    incident = perform(incident, Act("a", incident.incident_id, "acknowledge", text, NOON))
    message = incident_message(incident, telling)
    told = json.dumps([message["text"], message["blocks"][1:]], ensure_ascii=False)  # a header is plain text
    assert text not in told
    assert escape(text).split("|")[0] in told
    reply = change_reply(incident, incident.changes[-1], telling)
    assert reply is not None
    assert text not in reply["text"]
