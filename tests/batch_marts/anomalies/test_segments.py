"""Where a change comes from: by hand, by properties, and over a mart."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_marts.anomalies import Anomaly, Part
from batch_marts.anomalies.days import check_days
from batch_marts.anomalies.segments import AT_MOST, Segment, explain
from batch_marts.metrics import Metric
from tests.batch_marts.anomalies.worlds import mart_of, weekly


def test_the_one_that_fell() -> None:
    found = explain([Segment("path=/", 60, 100), Segment("path=/a", 51, 50), Segment("path=/b", 29, 30)], is_drop=True)
    assert found == (Part("path=/", 60, 100, share=1.0),)


def test_the_fewest_that_explain_most() -> None:
    """Of a fall of 100: 50, 25, 15 and 10. Three are 90 %, two were 75 %."""
    falls = {"a": 10.0, "b": 50.0, "c": 15.0, "d": 25.0}
    found = explain([Segment(f"path={name}", 100 - fall, 100) for name, fall in falls.items()], is_drop=True)
    assert [(part.segment, part.share) for part in found] == [("path=b", 0.5), ("path=d", 0.25), ("path=c", 0.15)]


def test_a_rise_is_not_explained_by_what_fell() -> None:
    segments = [Segment("channel=google", 150, 100), Segment("channel=email", 80, 100)]
    assert [part.segment for part in explain(segments, is_drop=False)] == ["channel=google"]
    assert explain(segments, is_drop=True) == ()
    assert explain([], is_drop=True) == ()


def test_at_most_five_of_many_alike() -> None:
    found = explain([Segment(f"path={number}", 90, 100) for number in range(10)], is_drop=True)
    assert [part.share for part in found] == [pytest.approx(0.1)] * AT_MOST


def test_the_dimension_that_says_something() -> None:
    """The whole fall is on one of four pages, on both devices as they are used anyway, and in one of two countries."""
    segments = [
        *(Segment(f"path={name}", 100 - fall, 100) for name, fall in (("/", 80), ("/a", 0), ("/b", 0), ("/c", 0))),
        Segment("device=mobile", 192, 240),
        Segment("device=desktop", 128, 160),
        Segment("country=DE", 120, 200),
        Segment("country=FR", 200, 200),
    ]
    assert [part.segment for part in explain(segments, is_drop=True)] == ["country=DE", "path=/"]


def test_of_a_ratio_each_counts_by_its_weight() -> None:
    """A channel of few sessions fell by half, one of many by a tenth."""
    found = explain(
        [Segment("channel=x", 0.02, 0.04, weight=10), Segment("channel=google", 0.036, 0.04, weight=900)], is_drop=True
    )
    assert [part.segment for part in found] == ["channel=google"]
    assert found[0].share == pytest.approx(3.6 / 3.8)


sizes = st.floats(0, 1e6)


@given(st.lists(st.tuples(st.sampled_from(["path", "device"]), sizes, sizes), max_size=12))
def test_what_is_named_explains_it(given_sizes: list[tuple[str, float, float]]) -> None:
    segments = [
        Segment(f"{dimension}={number}", actual, expected)
        for number, (dimension, actual, expected) in enumerate(given_sizes)
    ]
    whole = {name: sum(one.change for one in segments if one.dimension == name) for name in ("path", "device")}
    for is_drop in (True, False):
        found = explain(segments, is_drop)
        assert len(found) <= AT_MOST
        assert [part.share for part in found] == sorted((part.share for part in found), reverse=True)
        for part in found:
            change = whole[part.segment.partition("=")[0]]
            assert (change < 0) == is_drop
            assert part.share >= 0.05
            assert part.actual - part.expected == pytest.approx(part.share * change, rel=1e-6, abs=1e-6)
        if any((change < 0) == is_drop and change != 0 for change in whole.values()):
            assert (
                found
                or max((one.change / whole[one.dimension] for one in segments if whole[one.dimension]), default=0)
                < 0.05
                or len(segments) > AT_MOST
            )


def metric(name: str, **fields: object) -> Metric:
    told = {"label": name, "definition": "What the tests of anomalies judge, day by day.", "owner": "product"}
    source = {} if "ratio" in fields else {"value": "select 1"}
    return Metric.model_validate(told | {"name": name, "unit": "things", "good": "up"} | source | fields)


def test_the_drill_down_of_a_day() -> None:
    """Sessions of two channels, of which one loses half on the last day; orders and conversion go with it."""
    google, email = weekly(80, 600, seed=3, noise=0.02), weekly(80, 400, seed=4, noise=0.02)
    ordering = {"google": [0.04 * value for value in google], "email": [0.05 * value for value in email]}
    google[79] *= 0.5
    ordering["email"][79] *= 0.4
    sessions = [sum(pair) for pair in zip(google, email, strict=True)]
    orders = [sum(pair) for pair in zip(*ordering.values(), strict=True)]
    metrics = [
        metric("sessions", dimension="channel"),
        metric("ordering", dimension="channel"),
        metric("conversion", ratio=["ordering", "sessions"]),
        metric("plain"),
    ]
    with duckdb.connect() as con:
        mart_of(
            con,
            {
                ("sessions", "all"): sessions,
                ("sessions", "channel=google"): google,
                ("sessions", "channel=email"): email,
                ("ordering", "all"): orders,
                ("ordering", "channel=google"): ordering["google"],
                ("ordering", "channel=email"): ordering["email"],
                ("conversion", "all"): [o / s for o, s in zip(orders, sessions, strict=True)],
                ("conversion", "channel=google"): [o / s for o, s in zip(ordering["google"], google, strict=True)],
                ("conversion", "channel=email"): [o / s for o, s in zip(ordering["email"], email, strict=True)],
                ("plain", "all"): [*[7.0] * 79, 3.0],
            },
        )
        found = {one.metric: one for one in check_days(con, metrics, mart="mart")}
    assert {one.said for one in found.values() if one.metric != "conversion"} == {"anomaly"}
    assert [part.segment for part in found["sessions"].parts] == ["channel=google"]
    assert found["sessions"].parts[0].actual == google[79]
    assert [part.segment for part in found["ordering"].parts] == ["channel=email"]
    assert found["plain"].parts == ()


def test_a_ratio_is_explained_by_what_it_is_divided_by() -> None:
    sessions = {"google": [1000.0] * 80, "x": [10.0] * 80}
    ordering = {"google": [*[50.0] * 79, 30.0], "x": [*[1.0] * 79, 0.0]}
    series: dict[tuple[str, str], list[float]] = {}
    for name, made in (("sessions", sessions), ("ordering", ordering)):
        series |= {(name, f"channel={channel}"): values for channel, values in made.items()}
        series[name, "all"] = [sum(pair) for pair in zip(*made.values(), strict=True)]
    for part in ("all", "channel=google", "channel=x"):
        series["conversion", part] = [
            o / s for o, s in zip(series["ordering", part], series["sessions", part], strict=True)
        ]
    metrics = [
        metric("sessions", dimension="channel"),
        metric("ordering", dimension="channel"),
        metric("conversion", ratio=["ordering", "sessions"]),
    ]
    with duckdb.connect() as con:
        mart_of(con, series)
        found = {one.metric: one for one in check_days(con, metrics, mart="mart")}
    assert found["conversion"].said == "anomaly"
    assert [part.segment for part in found["conversion"].parts] == ["channel=google"]
    assert found["conversion"].parts[0].share == pytest.approx(20 / 21)


def test_the_greatest_segments_are_judged_by_themselves() -> None:
    main, other, small = weekly(80, 300, seed=1, noise=0.02), weekly(80, 2000, seed=2), weekly(80, 5, seed=3)
    main[79] *= 0.6
    views = metric("views", dimension="path", anomaly=Anomaly(segments=2))
    with duckdb.connect() as con:
        mart_of(
            con,
            {
                ("views", "all"): [sum(three) for three in zip(main, other, small, strict=True)],
                ("views", "path=/"): main,
                ("views", "path=/other"): other,
                ("views", "path=/small"): small,
            },
        )
        found = {one.segment: one for one in check_days(con, [views], mart="mart")}
    assert {segment: one.said for segment, one in found.items()} == {
        "all": "normal",
        "path=/": "anomaly",
        "path=/other": "normal",
    }
    assert found["path=/"].parts == ()
