"""What runs in containers is what the tests run, and what is embedded."""

from __future__ import annotations

from pathlib import Path

from jgo.env import LockFile

from service.kafka_jars import LOCK
from tests.services import KAFKA_IMAGE, REDIS_IMAGE

COMPOSE = Path(__file__).parents[1] / "docker-compose.yml"


def test_the_tests_run_the_images_that_compose_names() -> None:
    images = [line.split()[1] for line in COMPOSE.read_text().splitlines() if line.strip().startswith("image:")]
    assert images[:2] == [KAFKA_IMAGE, REDIS_IMAGE]


def test_the_embedded_kafka_is_of_the_version_of_the_image() -> None:
    assert LockFile.load(LOCK).dependencies[0].version == KAFKA_IMAGE.partition(":")[2]
