"""How far the flow is, told to Kafka's consumer group: for lag tools alone, as the warehouse says where to go on.

A client of its own tells it. One that reads waits with its end for offsets that it told a broker that is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

_EVERY: Final = 2.0  # seconds
_PATIENCE: Final = 5.0  # seconds that the brokers may take


class ConsumerGroup:
    """The group `group` of `topic`, as `config` (librdkafka's, but for the group) reaches it."""

    def __init__(self, config: Mapping[str, str], group: str, topic: str) -> None:
        self._config: dict[str, str | int | float | bool] = {**config, "log_level": "2"}
        self._group, self._topic = group, topic
        self._admin: AdminClient | None = None
        self._told: dict[int, int] = {}
        self._due = 0.0  # by the monotonic clock

    def tell(self, offsets: Mapping[int, int], *, at_once: bool = False) -> None:
        """Tells what `offsets`, by partition, are not told yet, now and then or `at_once`. It may take some seconds if
        the brokers are away, and does no harm if they do not take it."""
        news = {partition: offset for partition, offset in offsets.items() if self._told.get(partition) != offset}
        if not news or (time.monotonic() < self._due and not at_once):
            return
        self._due = time.monotonic() + _EVERY
        told = [TopicPartition(self._topic, partition, offset) for partition, offset in news.items()]
        self._admin = self._admin or AdminClient(self._config)
        try:
            request = ConsumerGroupTopicPartitions(self._group, told)
            answers = self._admin.alter_consumer_group_offsets([request], request_timeout=_PATIENCE)
            for place in answers[self._group].result().topic_partitions:
                if place.error is not None:
                    raise KafkaException(place.error)
        except KafkaException as error:
            log.debug("the consumer group %s did not learn how far the flow is: %s", self._group, error)
            self._admin = None  # the next attempt is a new client's
        else:
            self._told |= news
