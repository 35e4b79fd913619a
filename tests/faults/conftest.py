"""What the faults need: the runs of the whole way, and how much of each fault this run of the tests has time for."""

from __future__ import annotations

import os

import pytest

from tests.whole.conftest import kafka_run, replayed, run, shop

__all__ = ["kafka_run", "replayed", "run", "shop"]


@pytest.fixture(scope="session")
def proving() -> bool:
    """Whether this is the long form (`make prove`)."""
    return os.environ.get("STITCHLINE_PROVE") == "1"
