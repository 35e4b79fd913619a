"""The life of an incident: what opens, changes and ends it, and that nothing happens twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_marts.anomalies.incidents import Act, Deed, Incident, LifeRules, advance, fires, perform
from batch_marts.anomalies.record import act, draw, record
from batch_marts.anomalies.store import incidents_on_record
from batch_marts.anomalies.verdicts import Part, Verdict
from sinks.warehouse import Warehouse
from tests.batch_marts.anomalies.made import DAY, FIVE, HOUR, NOON, ONE_DAY, everybody, lived, office, run, verdict


def said(incident: Incident) -> list[str]:
    return [change.what for change in incident.changes]


def pressed(incident: Incident, deed: str, at: datetime = NOON, act_id: str = "a") -> Incident:
    return perform(incident, Act(act_id, incident.incident_id, deed, "Ada", at))  # type: ignore[arg-type]


def test_an_incident_opens_is_acknowledged_and_is_over_an_hour_after_it_is_back_in_range() -> None:
    (found,) = lived([verdict()])
    assert (found.status, found.severity, found.since, found.team) == ("open", 1, NOON, "product")
    (found,) = lived(run(NOON + FIVE, NOON + HOUR), NOON + HOUR, [pressed(found, "acknowledge")])
    assert (found.status, found.acted_by) == ("acknowledged", "Ada")
    (found,) = lived(run(NOON + HOUR, NOON + HOUR + 11 * FIVE, "normal"), NOON + 2 * HOUR, [found])
    assert found.status == "acknowledged", "back in range for 55 minutes"
    (found,) = lived([verdict(at=NOON + HOUR + 11 * FIVE, said="normal")], NOON + 2 * HOUR, [found])
    assert (found.status, found.ended_at, found.until) == ("resolved", NOON + HOUR, NOON + HOUR)
    assert said(found) == ["opened", "acknowledged", "resolved"]


def test_the_same_verdicts_again_change_nothing() -> None:
    verdicts = run(NOON, NOON + HOUR)
    incidents = lived(verdicts)
    for again in (verdicts, verdicts[::-1], verdicts[:3]):
        assert advance(incidents, again, NOON + FIVE, everybody) == []
    ended = lived(run(NOON + HOUR, NOON + 3 * HOUR, "normal"), NOON + 3 * HOUR, incidents)
    assert said(ended[0]) == ["opened", "resolved"]
    assert advance(ended, verdicts, NOON + 4 * HOUR, everybody) == []


def test_out_of_range_again_within_the_hour_it_goes_on() -> None:
    incidents = lived([verdict()])
    incidents = lived([verdict(at=NOON + FIVE, said="normal")], NOON, incidents)
    incidents = lived([verdict(at=NOON + 2 * FIVE)], NOON, incidents)
    (found,) = lived(run(NOON + 3 * FIVE, NOON + HOUR + 2 * FIVE, "normal"), NOON, incidents)
    assert found.status == "open"


def test_out_of_range_soon_after_it_was_over_is_the_same_incident_later_a_new_one() -> None:
    over = lived([verdict(), *run(NOON + FIVE, NOON + 2 * HOUR, "normal")], NOON + 2 * HOUR)
    assert over[0].status == "resolved"
    (again,) = lived([verdict(at=NOON + 3 * HOUR)], NOON + 3 * HOUR, over)
    assert (again.status, said(again)) == ("open", ["opened", "resolved", "reopened"])
    later = lived([verdict(at=NOON + 7 * HOUR)], NOON + 7 * HOUR, over)
    assert [incident.status for incident in later] == ["resolved", "open"]


def test_what_the_rolling_rule_found_the_nightly_one_finds_again_in_the_same_incident() -> None:
    night = DAY + ONE_DAY + 2 * HOUR
    going_on = lived(run(NOON, NOON + HOUR))
    (one,) = lived([verdict(at=DAY, grain="day")], night, going_on)
    assert said(one) == ["opened", "confirmed"]
    over = lived(run(NOON + HOUR, NOON + 3 * HOUR, "normal"), NOON + 3 * HOUR, going_on)
    (one,) = lived([verdict(at=DAY, grain="day")], night, over)
    assert (one.status, said(one)) == ("resolved", ["opened", "resolved", "confirmed"])
    assert lived([verdict(at=DAY, grain="day")], night, [one]) == [one]
    (other_way,) = lived(run(NOON, NOON + HOUR), night, lived([verdict(at=DAY, grain="day")], night))
    assert other_way.status == "open"


def test_an_hour_in_range_says_nothing_of_a_day_that_is_not() -> None:
    night = DAY + ONE_DAY + 2 * HOUR
    incidents = lived([verdict(at=DAY, grain="day")], night)
    (found,) = lived(run(DAY + ONE_DAY, night, "normal"), night, incidents)
    assert found.status == "open"
    (found,) = lived([verdict(at=DAY + ONE_DAY, grain="day", said="normal")], night + ONE_DAY, [found])
    assert found.status == "resolved"


def test_severity_rises_with_z_and_with_time_and_never_falls() -> None:
    incidents = lived([verdict(z=3.0)])
    (major,) = lived([verdict(at=NOON + FIVE, z=4.5)], NOON + FIVE, incidents)
    assert (major.severity, said(major)) == (2, ["opened", "worsened"])
    (still,) = lived([verdict(at=NOON + 2 * FIVE, z=2.6)], NOON + 2 * FIVE, [major])
    assert still.severity == 2
    (critical,) = lived([verdict(at=NOON + 6 * HOUR, z=2.6)], NOON + 6 * HOUR, [still])
    assert (critical.severity, said(critical)[1:]) == (3, ["worsened", "worsened"])
    assert lived([verdict(z=None)])[0].severity == 2, "what never changed and did is major"
    assert lived([verdict(z=9.0)])[0].severity == 3


def test_a_snooze_is_silent_for_four_hours_and_then_calls() -> None:
    snoozed = pressed(lived([verdict()])[0], "snooze")
    assert snoozed.snoozed_until == NOON + 4 * HOUR
    (quiet,) = lived(run(NOON + FIVE, NOON + 3 * HOUR, z=9.0), NOON + 3 * HOUR, [snoozed])
    assert (quiet.status, quiet.severity, said(quiet)) == ("snoozed", 3, ["opened", "snoozed"])
    (awake,) = lived([verdict(at=NOON + 4 * HOUR)], NOON + 4 * HOUR, [quiet])
    assert (awake.status, said(awake)) == ("open", ["opened", "snoozed", "woke"])


def test_no_anomaly_is_silent_until_it_is_back_in_range_and_then_a_new_one_may_open() -> None:
    none = pressed(lived([verdict()])[0], "not_anomaly")
    (none,) = lived(run(NOON + FIVE, NOON + HOUR, z=9.0), NOON + HOUR, [none])
    assert (none.status, none.ended_at, said(none)) == ("dismissed", None, ["opened", "dismissed"])
    (none,) = lived(run(NOON + HOUR, NOON + 3 * HOUR, "normal"), NOON + 3 * HOUR, [none])
    assert (none.ended_at, said(none)) == (NOON + HOUR, ["opened", "dismissed"])
    later = lived([verdict(at=NOON + 3 * HOUR)], NOON + 3 * HOUR, [none])
    assert [incident.status for incident in later] == ["dismissed", "open"]


def test_acts_are_done_once_and_not_after_the_end() -> None:
    (found,) = lived([verdict()])
    acknowledged = pressed(found, "acknowledge")
    assert pressed(acknowledged, "acknowledge") is acknowledged
    assert pressed(acknowledged, "acknowledge", act_id="b") is acknowledged
    snoozed = pressed(acknowledged, "snooze", act_id="c")
    assert pressed(snoozed, "acknowledge") is snoozed, "the same press as before"
    (over,) = lived(run(NOON + FIVE, NOON + 2 * HOUR, "normal"), NOON + 2 * HOUR, [found])
    assert pressed(over, "snooze") is over


def test_nobody_watches_what_nothing_is_heard_of() -> None:
    (found,) = lived([verdict()])
    waiting = [verdict(at=NOON + FIVE, said="waiting"), verdict(at=NOON + FIVE, said="quiet")]
    assert advance([found], waiting, NOON + 3 * ONE_DAY, everybody, rules=LifeRules(late_after=9 * ONE_DAY)) == []
    (gone,) = lived([], NOON + 3 * ONE_DAY + FIVE, [found])
    assert (gone.status, said(gone)) == ("expired", ["opened", "expired"])


def test_more_than_five_metrics_of_one_cause_are_one_incident() -> None:
    at_once = [verdict(f"metric_{n}") for n in range(6)]
    assert len(lived(at_once[:5])) == 5
    (together,) = lived(at_once)
    assert [metric for metric, _ in together.members] == [f"metric_{n}" for n in range(6)]
    (more,) = lived([verdict("metric_7", NOON)], NOON + FIVE, [together])
    assert (said(more), more.changes[-1].about) == (["opened", "joined"], "metric_7")
    some = lived(run(NOON + FIVE, NOON + 3 * HOUR, "normal", "metric_1"), NOON + 3 * HOUR, [more])
    assert [incident.status for incident in some] == ["open"]
    others = [v for n in (0, 2, 3, 4, 5, 7) for v in run(NOON + FIVE, NOON + 2 * HOUR, "normal", f"metric_{n}")]
    (over,) = lived(others, NOON + 3 * HOUR, some)
    assert over.status == "resolved"


def test_those_that_come_in_after_some_fired_alone_are_one() -> None:
    alone = lived([verdict(f"metric_{n}") for n in range(4)])
    later = lived([verdict(f"metric_{n}") for n in range(4, 9)], NOON + FIVE, alone)
    assert [len(incident.members) for incident in later] == [1, 1, 1, 1, 5]


def test_other_rules_grains_and_times_are_no_one_cause() -> None:
    verdicts = [verdict(f"metric_{n}", rule="base" if n < 3 else "seasonal") for n in range(6)]
    assert len(lived(verdicts)) == 6
    verdicts = [verdict(f"metric_{n}", NOON + FIVE * n) for n in range(6)]
    assert len(lived(verdicts, NOON + HOUR)) == 6


def test_data_that_is_late_is_one_incident_of_its_own_and_over_when_it_is_there() -> None:
    waiting = [verdict(f"metric_{n}", DAY, "waiting", "day") for n in range(3)]
    assert lived(waiting, DAY + ONE_DAY + HOUR - FIVE) == [], "it may still come"
    (late,) = lived(waiting, DAY + ONE_DAY + HOUR)
    assert (late.kind, len(late.members), late.severity) == ("late", 3, 1)
    there = [replace(each, said="normal") for each in waiting]
    (still,) = lived(there[:2], DAY + ONE_DAY + 2 * HOUR, [late])
    assert still.status == "open"
    found = lived([there[0], there[1], verdict("metric_2", DAY, "anomaly", "day")], DAY + ONE_DAY + 2 * HOUR, [still])
    assert [(each.kind, each.status) for each in found] == [("late", "resolved"), ("anomaly", "open")]


def test_a_verdict_that_is_corrected_ends_what_it_began() -> None:
    found = lived([verdict(at=DAY, grain="day")], DAY + ONE_DAY)
    (none,) = lived([verdict(at=DAY, grain="day", said="normal")], DAY + ONE_DAY + HOUR, found)
    assert (none.status, none.firing) == ("resolved", [])


def test_those_on_duty_are_called_once_if_nobody_acts() -> None:
    def half_an_hour(incident: Incident) -> datetime:
        return incident.opened_at + timedelta(minutes=30)

    (found,) = lived([verdict()])
    assert advance([found], [], NOON + 29 * timedelta(minutes=1), everybody, half_an_hour) == []
    (called,) = advance([found], [], NOON + timedelta(minutes=30), everybody, half_an_hour)
    assert said(called) == ["opened", "escalated"]
    assert advance([called], [], NOON + HOUR, everybody, half_an_hour) == []
    assert advance([pressed(found, "acknowledge")], [], NOON + HOUR, everybody, half_an_hour) == []


SERIES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])
VERDICTS = st.lists(
    st.builds(
        lambda metric, n, said, z, day: (
            verdict(metric, DAY + (n // 288) * ONE_DAY, said, "day", z)
            if day
            else verdict(metric, DAY + n * FIVE, said, "five_minutes", z)
        ),
        SERIES,
        st.integers(0, 800),
        st.sampled_from(["anomaly", "normal", "waiting", "quiet", "too_few"]),
        st.one_of(st.none(), st.floats(2.5, 12)),
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda v: (v.metric, v.grain, v.at),
)


@given(VERDICTS, st.data())
def test_whatever_comes_in_whatever_order_and_however_often(verdicts: list[Verdict], data: st.DataObject) -> None:
    in_time = data.draw(st.booleans())
    if in_time:
        verdicts = sorted(verdicts, key=lambda v: v.at)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(verdicts)), max_size=4)))
    batches = [verdicts[a:b] for a, b in zip([0, *cuts], [*cuts, len(verdicts)], strict=True)]
    incidents: list[Incident] = []
    now = DAY + 4 * ONE_DAY
    for number, batch in enumerate(batches):
        now += HOUR
        before = {incident.incident_id: incident for incident in incidents}
        incidents = lived(batch, now, incidents)
        for again in (batch, batch[::-1], [v for earlier in batches[: number + 1] for v in earlier if in_time]):
            assert advance(incidents, again, now, everybody) == [], "nothing is new"
        for incident in incidents:
            known = before.get(incident.incident_id)
            if known is not None:
                assert incident.severity >= known.severity
                assert incident.changes[: len(known.changes)] == known.changes, "what was said stays said"
        if data.draw(st.booleans()) and incidents:
            which = data.draw(st.integers(0, len(incidents) - 1))
            deed = data.draw(st.sampled_from(["acknowledge", "snooze", "not_anomaly"]))
            incidents[which] = pressed(incidents[which], deed, now, str(number))
    fired = {(v.metric, v.grain, v.at) for v in verdicts if v.said == "anomaly"}
    held = [(v.metric, v.grain, v.at) for i in incidents if i.kind == "anomaly" for v in i.verdicts if fires(v, i.kind)]
    assert sorted(held) == sorted(fired), "each value out of range belongs to one incident"
    going_on = [(i.kind, series) for i in incidents if i.ended_at is None for series in i.members]
    assert len(going_on) == len(set(going_on)), "one incident of a series goes on"
    assert len({incident.incident_id for incident in incidents}) == len(incidents)
    for incident in incidents:
        assert said(incident)[0] == "opened"
        ids = [change.change_id for change in incident.changes]
        assert ids == [f"{incident.incident_id}-{n}" for n in range(len(ids))]
        assert said(incident).count("dismissed") <= 1
        ends = [what for what in said(incident) if what in ("resolved", "expired", "reopened")]
        assert ends[::2].count("reopened") == 0
        assert ends[1::2].count("reopened") == len(ends[1::2]), "over, then out of range again, then over"
        assert incident.is_over or incident.ended_at is None


@given(VERDICTS, st.randoms(use_true_random=False))
def test_the_order_within_a_batch_says_nothing(verdicts: list[Verdict], random: object) -> None:
    shuffled = sorted(verdicts, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert lived(shuffled, DAY + 5 * ONE_DAY) == lived(verdicts, DAY + 5 * ONE_DAY)


def test_on_record_they_are_what_they_were(tmp_path: Path) -> None:
    parts = (Part("path=/", 1_000.0, 5_000.0, 0.83), Part("path=/a`b", 2.0, 3.0, 0.1))
    verdicts = [verdict(parts=parts, unusual="lowest Tuesday in 9 weeks"), verdict("orders", z=None, low=None)]
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        made = record(warehouse, verdicts, NOON, office())
        views = next(each for each in made if each.members == [("page_views", "all")])
        deed = Act("press-1", views.incident_id, "not_anomaly", "Ada", NOON + FIVE)
        dismissed = act(warehouse, deed, office())
        assert dismissed is not None
        assert act(warehouse, deed, office()) == dismissed
        assert act(warehouse, replace(deed, incident_id="none"), office()) is None
        assert record(warehouse, verdicts, NOON + HOUR, office(in_slack=False))[0].changes[-1].what == "escalated"
        with warehouse.reader() as con:
            kept = incidents_on_record(con)
            assert {each.incident_id: each for each in kept}[dismissed.incident_id] == dismissed
            assert con.execute("select metric, segment, grain, began_at from anomalies.left_out").fetchall() == [
                ("orders", "all", "five_minutes", NOON)
            ], "what is no anomaly stays in the baseline"
            said_in_slack = con.execute(
                "select kind, count(*) from anomalies.outbox group by all order by all"
            ).fetchall()
            assert said_in_slack == [("message", 2), ("reply", 1)]


def test_on_record_is_what_was_worked_out_after_each_step(tmp_path: Path) -> None:
    steps = [
        run(NOON, NOON + HOUR),
        [verdict(at=DAY, grain="day", z=5.0)],
        [verdict(at=DAY, grain="day", said="normal")],  # corrected
        run(NOON + HOUR, NOON + 3 * HOUR, "normal"),
        [verdict(f"metric_{n}", NOON + 3 * HOUR) for n in range(8)],
    ]
    worked_out: list[Incident] = []
    desk = office(in_slack=False)
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse, warehouse.reader() as con:
        for number, step in enumerate(steps):
            now = NOON + number * HOUR
            record(warehouse, step, now, desk)
            known = {incident.incident_id: incident for incident in worked_out}
            for incident in advance(worked_out, step, now, desk.team_of, desk.escalates_at):
                known[incident.incident_id] = incident
            worked_out = list(known.values())
            assert incidents_on_record(con) == sorted(worked_out, key=lambda each: (each.opened_at, each.incident_id))
            rows = con.execute("select count(*) from anomalies.verdicts").fetchone()
            assert rows == (sum(len(each.verdicts) for each in worked_out),)


def test_an_act_that_changed_nothing_changes_nothing_later_either(tmp_path: Path) -> None:
    desk = office(in_slack=False)
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        (found,) = record(warehouse, [verdict()], NOON, desk)
        deeds: list[tuple[str, Deed]] = [("1", "acknowledge"), ("2", "acknowledge"), ("3", "snooze")]
        acts = [Act(act_id, found.incident_id, deed, "Ada", NOON) for act_id, deed in deeds]
        for each in acts:
            act(warehouse, each, desk)
        (awake,) = record(warehouse, [], NOON + 4 * HOUR, desk)
        assert said(awake)[-2:] == ["woke", "escalated"]
        assert [act(warehouse, each, desk) for each in acts] == [awake] * 3


def test_without_slack_the_incidents_are_the_same(tmp_path: Path) -> None:
    told = []
    for in_slack in (True, False):
        with Warehouse.open(tmp_path / f"{in_slack}.duckdb") as warehouse:
            record(warehouse, [verdict(), verdict("orders")], NOON, office(in_slack=in_slack))
            draw(warehouse, lambda _: None, NOON, office(in_slack=in_slack))
            with warehouse.reader() as con:
                told.append(incidents_on_record(con))
                counted = con.execute("select count(*) from anomalies.outbox").fetchone()
                assert counted == (2 if in_slack else 0,)
    assert told[0] == told[1]


@pytest.mark.parametrize("kind", ["anomaly", "late"])
def test_the_team_is_the_owner_s_or_the_platform(kind: str) -> None:
    team_of = office().team_of
    assert team_of(["page_views", "sessions"], kind) == ("product" if kind == "anomaly" else "platform")  # type: ignore[arg-type]
    assert team_of(["page_views", "revenue"], "anomaly") == "platform"
