"""What all tests share: the services and Hypothesis's settings."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from stitchline.absent import do_not_look_for_pandas
from tests.services import kafka, redis_url

__all__ = ["kafka", "redis_url"]

PROVE = "prove"
"""The long form of every property, by STITCHLINE_PROVE=1 or --hypothesis-profile=prove."""
LONG = int(os.environ.get("STITCHLINE_PROVE_EXAMPLES") or 100_000)
"""Examples of each property in its long form; fewer to see how long it would take."""


LONGEST = (
    "tests/flows/test_any_arrival.py",
    "tests/batch_marts/test_marts.py",
    "tests/whole/test_marts.py",
    "tests/whole/test_anomalies.py",
    "tests/faults/test_kills.py",
    "tests/faults/test_kafka_away.py",
    "tests/batch_marts/test_defects.py",
    "tests/batch_marts/impact/test_tour.py",
)
"""They come first, or one process has them still to do when the others have nothing left."""

do_not_look_for_pandas()

# The machine is busy: slowness is for `timeout` to judge. The same examples each time: what turns red was changed.
settings.register_profile(
    "default",
    max_examples=500,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
settings.register_profile(PROVE, parent=settings.get_profile("default"), max_examples=LONG, derandomize=False)
settings.load_profile(PROVE if os.environ.get("STITCHLINE_PROVE") == "1" else "default")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is: one more than there are cores, for many tests wait most of their time; and not more than four,
    because each has a Redis and a browser of its own."""
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    """A hundred thousand examples take hours, and more examples of one property are no sign that it hangs."""
    if PROVE in (config.getoption("--hypothesis-profile", None), settings.get_current_profile_name()):
        config.option.timeout = 0
