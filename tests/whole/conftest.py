"""Runs on warehouses of their own, and the shop's events."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services import Kafka
from tests.whole.runs import Run

SHOP = Path(__file__).parent.parent / "data" / "shop_events.jsonl.gz"


@pytest.fixture(scope="session")
def shop() -> list[bytes]:
    """31,106 events of 600 devices of a web shop, in order of time: 3,605 sessions."""
    return gzip.decompress(SHOP.read_bytes()).splitlines()


@pytest.fixture
def run(tmp_path: Path, redis_url: str) -> Run:
    """Without Kafka."""
    return Run(tmp_path / "warehouse.duckdb", redis_url)


@pytest.fixture
def kafka_run(tmp_path: Path, redis_url: str, kafka: Kafka) -> Callable[..., Run]:
    """Makes a run with a topic of its own: kafka_run(partitions=4, FLOW__COMMIT_EVENTS="1000")."""
    made = 0

    def make(partitions: int = 1, **settings: str) -> Run:
        nonlocal made
        made += 1
        run = Run(tmp_path / f"warehouse-{made}.duckdb", redis_url, kafka, settings=settings)
        kafka.create_topic(run.topic, partitions)
        kafka.create_topic(f"{run.topic}.dead", 1)
        return run

    return make


@pytest.fixture(scope="session")
def replayed(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Run:
    """The shop's file replayed once in the plain way: what every other road is held to."""
    run = Run(tmp_path_factory.mktemp("replayed") / "warehouse.duckdb", redis_url)
    run.replay(SHOP)
    return run
