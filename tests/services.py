"""The real Kafka and Redis that the tests run on.

In this order: the addresses in STITCHLINE_TEST_KAFKA and STITCHLINE_TEST_REDIS; a Docker engine that holds the images;
the embedded services, which are always there. STITCHLINE_TEST_SERVICES=docker or =embedded allows that one alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.community.redis import RedisContainer
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer

from service.embedded import EmbeddedKafka, EmbeddedValkey
from service.topics import create_topic
from tests.shared import served_once

# The same as in docker-compose.yml, which a test sees to.
KAFKA_IMAGE = "apache/kafka:4.3.1"
REDIS_IMAGE = "redis:7"

# Ports are published on loopback, even if the host is a container itself; the reaper would be one more image to have.
HOST = "127.0.0.1"
testcontainers_config.connection_mode_override = ConnectionMode.docker_host
testcontainers_config.tc_host_override = HOST
testcontainers_config.ryuk_disabled = True

IN_A_HURRY = ("-XX:TieredStopAtLevel=1",)
"""For Java: compile in a simple way. A Kafka of the tests lives for minutes, and compiling is most of what it does.
Tests that stop it, and wait for it by the clock, do without."""


@dataclass(frozen=True)
class Kafka:
    """A broker of the tests."""

    bootstrap: str
    runs_in: str

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Makes the topic and returns once it can be written to."""
        create_topic({"bootstrap.servers": self.bootstrap}, name, partitions)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The Kafka of this run of the tests; topics need names of their own."""
    if bootstrap := os.environ.get("STITCHLINE_TEST_KAFKA"):
        yield Kafka(bootstrap, "environment")
    elif _in_docker(KAFKA_IMAGE):
        with KafkaContainer() as container:
            yield Kafka(container.bootstrap, "docker")
    else:
        with served_once(tmp_path_factory, "kafka", _embedded_kafka) as bootstrap:
            yield Kafka(bootstrap, "embedded")


@contextmanager
def _embedded_kafka(folder: Path) -> Iterator[str]:
    with EmbeddedKafka(folder, java=IN_A_HURRY) as server:
        yield server.bootstrap


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Redis of this run of the tests."""
    if url := os.environ.get("STITCHLINE_TEST_REDIS"):
        yield url
    elif _in_docker(REDIS_IMAGE):
        container = RedisContainer(REDIS_IMAGE)
        container.ports["6379/tcp"] = (HOST,)  # type: ignore[assignment]  # what docker.run takes, and is passed on to
        with container:
            yield f"redis://{HOST}:{container.get_exposed_port(6379)}/0"
    else:
        with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
            yield server.url


class KafkaContainer(DockerContainer):
    """The image that the Kafka project publishes, as one node on a port of 127.0.0.1.

    Clients are sent to the advertised port, which the engine picks: so the node waits for the script that names it.
    """

    _SCRIPT = "/tmp/advertise-and-run"

    def __init__(self) -> None:
        super().__init__(
            KAFKA_IMAGE, command=f"bash -c 'until [ -s {self._SCRIPT} ]; do sleep 0.1; done; . {self._SCRIPT}'"
        )
        self.ports["9092/tcp"] = (HOST,)  # type: ignore[assignment]  # as above
        self.with_envs(
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:9093",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
            KAFKA_LOG_RETENTION_MS="-1",
            KAFKA_MESSAGE_MAX_BYTES=str(8 * 1024 * 1024),
        )
        self.bootstrap = ""

    def start(self) -> KafkaContainer:
        super().start()
        self.bootstrap = f"{HOST}:{self.get_exposed_port(9092)}"
        advertise = f"export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://{self.bootstrap}\nexec /etc/kafka/docker/run\n"
        self.copy_into_container(advertise.encode(), self._SCRIPT)
        self._wait_until_it_answers()
        return self

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            try:
                AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
            else:
                return


def _in_docker(image: str) -> bool:
    """Whether the tests are to run `image`; an engine that lacks it is passed by, nothing is pulled."""
    only = os.environ.get("STITCHLINE_TEST_SERVICES")
    if only == "embedded":
        return False
    try:
        engine = docker.from_env()
        engine.ping()
        engine.images.get(image)
    except docker.errors.DockerException:
        if only == "docker":
            raise
        return False
    return True
