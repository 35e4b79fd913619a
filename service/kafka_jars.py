"""The jars of Apache Kafka: fetched once for a user, each checked against the lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stitchline.errors import EmbeddedError

if TYPE_CHECKING:
    from jgo.env import LockedDependency

# jgo's own format. `ci/lock_kafka.py` writes it; it names every jar, so that nothing is resolved on a user's machine.
LOCK = Path(__file__).with_name("kafka.lock.toml")
MISSING_EXTRA = (
    "the embedded services are not installed: pip install 'stitchline[embedded]', or name your own in the settings"
)
_AT_ONCE = 8  # downloads; the files are small, so the waiting for answers dominates
_TRIES = 3


def kafka_jars() -> list[Path]:
    """The jars that run a Kafka broker, under the user's cache, which all checkouts share.

    Those that are not there are fetched from Maven Central; all are compared with the lock each time.
    Raises EmbeddedError when a jar cannot be had or is not the one that was locked.
    """
    try:
        from jgo.env import LockFile
    except ImportError:
        raise EmbeddedError(MISSING_EXTRA, service="kafka", log=None) from None
    locked = LockFile.load(LOCK).dependencies
    home = _cache() / f"kafka-{locked[0].version}"
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home / ".lock"), ThreadPoolExecutor(_AT_ONCE) as pool:
        missing = [
            jar for jar, sound in zip(locked, pool.map(lambda jar: _sound(home, jar), locked), strict=True) if not sound
        ]
        if missing:
            with tempfile.TemporaryDirectory(dir=home) as incoming:
                list(pool.map(lambda jar: _fetch(jar, Path(incoming), home), missing))
    return [home / _file_name(jar) for jar in locked]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "stitchline"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keeps other processes from fetching into the same folder meanwhile."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _file_name(jar: LockedDependency) -> str:
    return f"{jar.artifactId}-{jar.version}.jar"


def _sound(home: Path, jar: LockedDependency) -> bool:
    path = home / _file_name(jar)
    return path.exists() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(jar: LockedDependency, incoming: Path, home: Path) -> None:
    name = f"{jar.groupId}:{jar.artifactId}:{jar.version}"
    fetched = _download(jar, name, incoming)
    found = _sha256(fetched)
    if found != jar.sha256:
        raise EmbeddedError(
            f"{name} came with SHA-256 {found}, but {LOCK.name} says {jar.sha256}: not used; look at what "
            "your network's Maven mirror serves",
            service="kafka",
            log=None,
        )
    fetched.replace(home / _file_name(jar))


def _download(jar: LockedDependency, name: str, incoming: Path) -> Path:
    import requests
    from jgo.maven import MavenContext

    failure: Exception | None = None
    for attempt in range(_TRIES):
        time.sleep(attempt)
        context = MavenContext(repo_cache=incoming / f"{jar.artifactId}-{attempt}", timeout=60)
        artifact = context.project(jar.groupId, jar.artifactId).at_version(jar.version).artifact()
        try:
            return artifact.resolve()
        except (RuntimeError, requests.RequestException) as error:  # jgo raises RuntimeError for what it does not find
            failure = error
    raise EmbeddedError(
        f"cannot fetch {name}, a part of Kafka, from Maven Central: {failure}; connect to the network once, "
        "or name your own Kafka in kafka.bootstrap",
        service="kafka",
        log=None,
    ) from failure


if __name__ == "__main__":  # `make install` fetches them, so that the first start need not
    try:
        kafka_jars()
    except EmbeddedError as error:
        sys.exit(f"stitchline: {error}")
