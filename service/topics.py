"""Makes a Kafka topic where there is none."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from stitchline.errors import SourceError


def create_topic(config: Mapping[str, str], name: str, partitions: int) -> None:
    """Makes the topic and returns once it can be used; one that exists is left as it is, whatever its partitions.

    `config` is librdkafka's. Raises SourceError when the brokers do not do it.
    """
    admin = AdminClient({"log_level": 3, **config})  # its notices say nothing to anyone
    default_replication = -1  # what the brokers are set to
    try:
        admin.create_topics([NewTopic(name, partitions, default_replication)], operation_timeout=30)[name].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise SourceError(
                f"Topic {name!r} could not be made on the brokers at {config.get('bootstrap.servers')}: "
                f"{error.args[0].str()}. Make it yourself, or allow it to the user of kafka.config.",
                topic=name,
            ) from error
