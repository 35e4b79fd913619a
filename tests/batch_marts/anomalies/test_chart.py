"""The picture: of the right size, the same each time, with the values where they belong."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from batch_marts.anomalies.chart import Series, chart
from batch_marts.anomalies.incidents import Incident
from batch_marts.anomalies.record import draw, record
from sinks.warehouse import Warehouse
from tests.batch_marts.anomalies.made import DAY, NOON, office, verdict

RED, BLUE = (192, 0, 0), (31, 78, 121)


def series(days: int = 42, last: float = 7_200.0) -> Series:
    usual = [12_000.0 + 1_500.0 * ((n % 7) - 3) / 3 for n in range(days)]
    return Series(
        at=[DAY - timedelta(days=days - 1 - n) for n in range(days)],
        actual=[*usual[:-1], last],
        low=[value - 800 for value in usual],
        high=[value + 800 for value in usual],
        out=[False] * (days - 1) + [True],
        unit="views",
    )


def test_the_chart_of_an_incident_is_put_into_its_thread_once(tmp_path: Path) -> None:
    with Warehouse.open(tmp_path / "w.duckdb") as warehouse:
        (incident,) = record(warehouse, [verdict()], NOON, office())
        asked: list[str] = []

        def series_of(incident: Incident) -> Series:
            asked.append(incident.incident_id)
            return series()

        assert draw(warehouse, lambda _: None, NOON, office()) == []
        assert draw(warehouse, series_of, NOON, office()) == [incident.incident_id]
        assert draw(warehouse, series_of, NOON, office()) == []
        assert asked == [incident.incident_id]
        with warehouse.reader() as con:
            rows = con.execute("select item_id, payload, image from anomalies.outbox where kind = 'image'").fetchall()
    ((item_id, payload, image),) = rows
    assert item_id == f"{incident.incident_id}-chart"
    shows = "Chart: Traffic by page 40 % below expected"
    assert json.loads(payload) == {"name": f"incident-{incident.incident_id}.png", "shows": shows}
    assert image == chart(series(), "Traffic by page")


def pixels(image: bytes) -> np.ndarray:
    return (imread(io.BytesIO(image))[:, :, :3] * 255).round().astype(int)


def places(image: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    """(row, column) of all pixels of that colour."""
    return np.argwhere((pixels(image) == colour).all(axis=2))


def test_the_same_picture_each_time_as_large_as_a_telephone_shows() -> None:
    image = chart(series(), "Traffic by page")
    assert image == chart(series(), "Traffic by page")
    assert pixels(image).shape == (540, 960, 3)
    assert len(image) < 100_000
    assert image != chart(series(), "Sessions")


def test_the_value_out_of_range_is_the_last_and_lower_than_the_line() -> None:
    image = chart(series(), "Traffic by page")
    red, blue = places(image, RED), places(image, BLUE)
    assert red[:, 1].max() > 900, "at the right end"
    assert np.median(red[:, 0]) > blue[:, 0].min() + 80, "well below the others"
    none = chart(replace(series(), out=[False] * 42), "Traffic by page")
    assert len(places(none, RED)) == 0


def test_what_cannot_be_drawn_is_refused_and_little_is_drawn() -> None:
    with pytest.raises(ValueError, match="needs values"):
        chart(Series([], [], [], [], [], "views"), "Nothing")
    with pytest.raises(ValueError, match="needs values"):
        chart(replace(series(), low=[1.0]), "Uneven")
    one = Series([DAY], [5.0], [None], [None], [True], "USD")
    assert pixels(chart(one, "One")).shape == (540, 960, 3)
    gaps = series()
    gaps = replace(gaps, actual=[None if n % 5 == 0 else v for n, v in enumerate(gaps.actual)], low=[None] * 42)
    assert pixels(chart(gaps, "A very long name $of_ a metric {that} goes on and on until it does not fit any more"))[
        0, 0, 0
    ]
