"""What all tests share: the services and Hypothesis's settings."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.services import kafka, redis_url

__all__ = ["kafka", "redis_url"]

PROVE = "prove"
"""The long form of every property, by STITCHLINE_PROVE=1 or --hypothesis-profile=prove."""
LONG = int(os.environ.get("STITCHLINE_PROVE_EXAMPLES") or 100_000)
"""Examples of each property in its long form; fewer to see how long it would take."""


class WithoutPandas:
    """Tells at once that pandas is not there. DuckDB looks for it at every parameter of every statement, Arrow at every
    table, which is a tenth of the time of a small commit and of a funnel's question."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not installed", name=name)


if importlib.util.find_spec("pandas") is None:
    sys.meta_path.insert(0, WithoutPandas)

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
    """What `-n auto` is: as many as there are cores, for tests start processes that want some of them, too; and not
    more than four, because each has a Kafka of its own."""
    return min(os.cpu_count() or 1, 4)


def pytest_configure(config: pytest.Config) -> None:
    """A hundred thousand examples take hours, and more examples of one property are no sign that it hangs."""
    if PROVE in (config.getoption("--hypothesis-profile", None), settings.get_current_profile_name()):
        config.option.timeout = 0
