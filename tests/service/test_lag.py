"""How far behind a partition is, and when a word is said about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.lag import Ends
from sinks.warehouse import Progress

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def place(next_offset: int, last_kafka_at: datetime | None = None, partition: int = 0) -> Progress:
    return Progress("events", partition, next_offset, last_kafka_at=last_kafka_at)


def test_before_the_first_look_nothing_is_known_to_wait() -> None:
    assert Ends().lag(place(7, at(-100)), NOON) == (0, timedelta())
    assert Ends().of(place(7)) == 7


def test_a_backlog_at_the_start_has_waited_since_the_last_record_committed() -> None:
    ends = Ends()
    assert ends.look(place(7, at(-100)), 50, NOON) == "behind"
    assert ends.lag(place(7, at(-100)), at(20)) == (43, timedelta(seconds=120))
    assert ends.lag(place(30, at(-60)), at(20)) == (20, timedelta(seconds=80))


def test_a_partition_never_read_has_waited_since_the_first_look() -> None:
    ends = Ends()
    ends.look(place(0), 50, NOON)
    assert ends.lag(place(0), at(20)) == (50, timedelta(seconds=20))


def test_a_record_after_a_long_silence_is_not_late() -> None:
    ends = Ends()
    ends.look(place(7, at(-3600)), 7, NOON)
    assert ends.look(place(7, at(-3600)), 8, at(1)) is None
    assert ends.lag(place(7, at(-3600)), at(1)) == (1, timedelta(seconds=1))


def test_a_word_is_said_when_the_standing_changes_and_does_not_waver() -> None:
    ends = Ends()
    looks = [  # next offset, Kafka's time of the record before it, end, time of the look, what is said
        (0, None, 100, 0, None),  # how old they are nobody knows
        (0, None, 100, 11, "behind"),
        (50, 3, 100, 12, None),
        (90, 6, 100, 13, None),  # 7 s behind
        (95, 8, 100, 13, "at its end"),
        (95, 8, 200, 17, None),  # 9 s behind
        (95, 8, 200, 19, "behind"),
        (200, 18, 200, 20, "at its end"),
        (200, 18, 900, 25, None),
    ]
    said = [
        ends.look(place(offset, at(kafka_at) if kafka_at is not None else None), end, at(now))
        for offset, kafka_at, end, now, _ in looks
    ]
    assert said == [expected for *_, expected in looks]


def test_partitions_stand_by_themselves() -> None:
    ends = Ends()
    assert ends.look(place(1, at(-1)), 1, NOON) == "at its end"
    assert ends.look(place(1, at(-50), partition=1), 9, NOON) == "behind"
    assert (ends.of(place(1)), ends.of(place(1, partition=1)), ends.total()) == (1, 9, 10)
