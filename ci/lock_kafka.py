"""Writes service/kafka.lock.toml: which jars make a Kafka, with their checksums. Run it to move to another version."""

from __future__ import annotations

import sys

import jgo
from jgo.env import LockedDependency, LockFile

from service.kafka_jars import LOCK

ENDPOINT = "org.apache.kafka:kafka_2.13"
# Resolved apart: log4j's own table of versions, next to Kafka's, would pull in an old kafka-clients.
LOGGER = "org.slf4j:slf4j-simple:1.7.36"


def main(version: str) -> None:
    artifacts = jgo.resolve(f"{ENDPOINT}:{version}")
    artifacts += [artifact for artifact in jgo.resolve(LOGGER) if artifact.artifactId == "slf4j-simple"]
    dependencies = [
        artifact.context.create_dependency(f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}")
        for artifact in artifacts
    ]
    jars = [LockedDependency.from_dependency(dependency) for dependency in dependencies]
    LockFile(jars, environment_name="kafka", jgo_version=jgo.__version__).save(LOCK)
    print(f"{LOCK}: {len(jars)} jars of Kafka {version}")


if __name__ == "__main__":
    main(*sys.argv[1:])
