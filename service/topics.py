"""Makes a Kafka topic where there is none."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from stitchline.errors import SettingsError


def create_topic(config: Mapping[str, str], name: str, partitions: int) -> None:
    """Makes the topic and returns once it can be used; one that exists is left as it is, whatever its partitions.

    `config` is librdkafka's. Raises KafkaException when the brokers do not do it.
    """
    admin = AdminClient({"log_level": 3, **config})  # its notices say nothing to anyone
    default_replication = -1  # what the brokers are set to
    try:
        admin.create_topics([NewTopic(name, partitions, default_replication)], operation_timeout=30)[name].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def main(partitions: int) -> None:
    """Makes the topic of the settings and the one of its dead letters, for a Kafka that came up beside the service."""
    from service.settings import load_settings
    from sinks.dead_letters import SUFFIX

    kafka = load_settings().kafka
    if kafka.bootstrap is None:
        raise SettingsError("kafka.bootstrap names no brokers to make topics on.", setting="kafka.bootstrap")
    config = kafka.client_config(kafka.bootstrap)
    config.pop("group.id")  # a consumer's
    create_topic(config, kafka.topic, partitions)
    create_topic(config, kafka.topic + SUFFIX, 1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
