"""Makes a Kafka topic where there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from stitchline.durations import format_duration
from stitchline.errors import SourceError

_PATIENCE: Final = 30.0  # seconds for the brokers to make a topic, and again to know of it
_SOON: Final = 5.0  # seconds to an answer that can be done without
_PAUSE: Final = 0.05  # seconds


def create_topic(config: Mapping[str, str], name: str, partitions: int) -> None:
    """Makes the topic and returns once it can be used; one that exists is left as it is, whatever its partitions.

    `config` is librdkafka's. Raises SourceError when the brokers do not do it.
    """
    admin = AdminClient({"log_level": 3, **config})  # its notices say nothing to anyone
    default_replication = -1  # what the brokers are set to
    try:
        wanted = NewTopic(name, partitions, default_replication)
        admin.create_topics([wanted], operation_timeout=_PATIENCE)[name].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise SourceError(
                f"Topic {name!r} could not be made on the brokers at {config.get('bootstrap.servers')}: "
                f"{error.args[0].str()}. Make it yourself, or allow it to the user of kafka.config.",
                topic=name,
            ) from error
    # It is made when the controller has noted it, which a broker hears of a moment later.
    until = time.monotonic() + _PATIENCE
    while not _is_known(admin, name):
        if time.monotonic() > until:
            raise SourceError(
                f"The brokers at {config.get('bootstrap.servers')} took topic {name!r} and do not tell of it after "
                f"{_PATIENCE:.0f} s. Look at their logs, and start again.",
                topic=name,
            )
        time.sleep(_PAUSE)


def kept_for(config: Mapping[str, str], name: str) -> str:
    """How long the brokers keep the topic's records, in words."""
    if "bootstrap.servers" not in config:
        return "as long as its retention says"
    admin = AdminClient({"log_level": 3, **config})
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    try:
        told = admin.describe_configs([resource], request_timeout=_SOON)[resource].result(_SOON)
    except (KafkaException, TimeoutError):
        return "as long as its retention says, which the brokers do not tell now"
    milliseconds = int(told["retention.ms"].value)
    return "for ever" if milliseconds < 0 else f"for {format_duration(timedelta(milliseconds=milliseconds))}"


def _is_known(admin: AdminClient, name: str) -> bool:
    try:
        found = admin.list_topics(name, timeout=_PATIENCE).topics[name]
    except KafkaException:
        return False
    return found.error is None and bool(found.partitions)
