"""Event time: how far the watermark of a partition has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flows.clock import DEFAULT_REORDER_WINDOW, PartitionClock

MINUTE = timedelta(minutes=1)
NEVER_USED = PartitionClock()


def at(clock_time: str) -> datetime:
    """That time of one day."""
    return datetime.fromisoformat(f"2024-05-06T{clock_time}+00:00")


def after(*event_times: str) -> PartitionClock:
    """The clock after batches whose greatest events were of these times."""
    clock = NEVER_USED
    for event_time in event_times:
        clock = clock.saw(at(event_time), MINUTE)
    return clock


def test_the_reorder_window_is_a_minute_unless_set() -> None:
    assert DEFAULT_REORDER_WINDOW == MINUTE


def test_nothing_is_known_before_the_first_event() -> None:
    assert NEVER_USED.greatest_event_at is None
    assert NEVER_USED.watermark is None


def test_the_watermark_is_the_greatest_event_minus_the_reorder_window() -> None:
    assert after("12:00:00.000001") == PartitionClock(at("12:00:00.000001"), at("11:59:00.000001"))


def test_older_events_do_not_move_it_back() -> None:
    assert after("12:00:00", "11:00:00", "11:59:59") == PartitionClock(at("12:00:00"), at("11:59:00"))


def test_newer_events_move_it() -> None:
    assert after("12:00:00", "12:00:01").watermark == at("11:59:01")


def test_a_wider_reorder_window_than_before_does_not_move_it_back() -> None:
    clock = after("12:00:00").saw(at("12:01:00"), timedelta(hours=1))
    assert clock == PartitionClock(at("12:01:00"), at("11:59:00"))


def test_at_the_end_of_the_partition_it_moves_with_the_time_since_the_last_record() -> None:
    live = after("12:00:00")
    assert live.at_end(now=at("12:00:10"), last_kafka_at=at("12:00:02"), reorder_window=MINUTE).watermark == at(
        "11:59:08"
    )
    assert live.at_end(now=at("12:45:02"), last_kafka_at=at("12:00:02"), reorder_window=MINUTE).watermark == at(
        "12:44:00"
    )


def test_the_greatest_event_stays_what_it_was_while_time_passes() -> None:
    clock = after("12:00:00").at_end(now=at("12:45:00"), last_kafka_at=at("12:00:00"), reorder_window=MINUTE)
    assert clock.greatest_event_at == at("12:00:00")


def test_time_that_passed_is_kept_when_older_events_follow() -> None:
    clock = after("12:00:00").at_end(now=at("12:45:00"), last_kafka_at=at("12:00:00"), reorder_window=MINUTE)
    assert clock.saw(at("12:01:00"), MINUTE) == PartitionClock(at("12:01:00"), at("12:44:00"))
    assert clock.saw(at("12:50:00"), MINUTE).watermark == at("12:49:00")


def test_a_paused_backfill_of_old_events_is_not_made_late() -> None:
    """Sixty days old events were produced until 12:00; after ten minutes they go on where they stopped."""
    backfill = NEVER_USED.saw(datetime(2024, 3, 7, 8, 0, tzinfo=UTC), MINUTE)
    paused = backfill.at_end(now=at("12:10:00"), last_kafka_at=at("12:00:00"), reorder_window=MINUTE)
    assert paused.watermark == datetime(2024, 3, 7, 8, 9, tzinfo=UTC)


def test_it_never_passes_now_minus_the_reorder_window() -> None:
    ahead_of_kafka = after("12:05:00")  # as far above its record's time as is believed
    clock = ahead_of_kafka.at_end(now=at("12:30:00"), last_kafka_at=at("12:00:00"), reorder_window=MINUTE)
    assert clock.watermark == at("12:29:00")


def test_the_end_of_the_partition_does_not_move_it_back() -> None:
    ahead_of_the_clock = after("12:05:00")
    clock = ahead_of_the_clock.at_end(now=at("12:00:30"), last_kafka_at=at("12:00:30"), reorder_window=MINUTE)
    assert clock.watermark == at("12:04:00")


def test_a_wall_clock_that_jumps_back_does_not_move_it_back() -> None:
    later = after("12:00:00").at_end(now=at("12:30:00"), last_kafka_at=at("12:00:00"), reorder_window=MINUTE)
    back = later.at_end(now=at("11:00:00"), last_kafka_at=at("12:00:00"), reorder_window=MINUTE)
    assert back == later


def test_a_record_from_ahead_of_the_wall_clock_counts_as_just_now() -> None:
    clock = after("12:00:00").at_end(now=at("12:10:00"), last_kafka_at=at("12:20:00"), reorder_window=MINUTE)
    assert clock.watermark == at("11:59:00")


def test_a_partition_never_used_counts_as_now_minus_the_reorder_window() -> None:
    clock = NEVER_USED.at_end(now=at("12:00:00"), last_kafka_at=None, reorder_window=MINUTE)
    assert clock == PartitionClock(None, at("11:59:00"))
    assert clock.at_end(now=at("12:00:05"), last_kafka_at=None, reorder_window=MINUTE).watermark == at("11:59:05")
    assert clock.at_end(now=at("11:00:00"), last_kafka_at=None, reorder_window=MINUTE).watermark == at("11:59:00")


def test_without_kafka_time_nothing_moves_at_the_end() -> None:
    assert after("12:00:00").at_end(now=at("18:00:00"), last_kafka_at=None, reorder_window=MINUTE) == after("12:00:00")


@pytest.mark.parametrize(
    ("event_at", "watermark"),
    [
        (datetime(1, 1, 1, 0, 0, 30, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
        (datetime(1, 1, 1, 0, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
        (datetime(9999, 12, 31, 23, 59, tzinfo=UTC), datetime(9999, 12, 31, 23, 58, tzinfo=UTC)),
    ],
)
def test_the_ends_of_the_calendar_hold(event_at: datetime, watermark: datetime) -> None:
    assert NEVER_USED.saw(event_at, MINUTE).watermark == watermark


def test_quiet_time_beyond_the_end_of_the_calendar_is_held_at_now() -> None:
    clock = NEVER_USED.saw(datetime(9999, 12, 31, tzinfo=UTC), timedelta())
    later = clock.at_end(now=at("12:00:00"), last_kafka_at=datetime(1970, 1, 1, tzinfo=UTC), reorder_window=MINUTE)
    assert later.watermark == datetime(9999, 12, 31, tzinfo=UTC)


def test_with_no_reorder_window_the_watermark_is_the_greatest_event() -> None:
    assert NEVER_USED.saw(at("12:00:00"), timedelta()).watermark == at("12:00:00")
