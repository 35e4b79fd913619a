"""What the flow does about records that Kafka no longer has: it stops, or goes on without them and keeps note of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from flows.checkpoint import Checkpointer
from flows.source import Lost, Skip
from sinks import tables
from sinks.warehouse import Warehouse
from stitchline.errors import RecordsLost

log = logging.getLogger(__name__)

_PATIENCE: Final = 5.0  # seconds that the brokers may take to tell a topic's id


class LostRecords:
    """Knows the topic again, and keeps note of what it lost. `config` is librdkafka's."""

    def __init__(
        self,
        warehouse: Warehouse,
        checkpointer: Checkpointer,
        config: Mapping[str, str],
        topic: str,
        policy: Literal["stop", "skip"],
    ) -> None:
        self._warehouse = warehouse
        self._checkpointer = checkpointer
        self._topic = topic
        self._policy = policy
        self._config: dict[str, str | int | float | bool] = {"log_level": 2, **config}

    @property
    def skip(self) -> Skip | None:
        """What the source is given."""
        return self._skip if self._policy == "skip" else None

    def is_another_topic(self) -> bool:
        """Whether the topic was made anew since the warehouse read it; False where the brokers do not tell."""
        with self._warehouse.reader() as con:
            known = tables.topic_id(con, self._topic)
        found = self._topic_id()
        return known is not None and found is not None and found != known

    def recognise(self) -> None:
        """Remembers the topic, or begins at the first records of one that was made anew.

        Raises RecordsLost if it was, and the flow is to stop then.
        """
        found = self._topic_id()
        if found is None:
            return
        with self._warehouse.reader() as con:
            known = tables.topic_id(con, self._topic)
        if found == known:
            return
        if known is not None:
            self._begin_anew()
        with self._warehouse.transaction() as con:
            tables.save_topic_id(con, self._topic, found)

    def _begin_anew(self) -> None:
        left = {key[1]: p.next_offset for key, p in self._checkpointer.progress.items() if key[0] == self._topic}
        offsets = ", ".join(f"{partition}: {offset:,}" for partition, offset in sorted(left.items()))
        anew = (
            f"Topic {self._topic!r} was made anew since the warehouse read it (next offsets by partition: {offsets}). "
            "Its offsets mean other records now, and what was not read of the old one is gone"
        )
        if self._policy == "stop":
            raise RecordsLost(
                f"{anew}. Bring the old one back, or begin with an empty warehouse, or let the flow read the new one "
                'from its beginning by kafka.on_lost_records = "skip" (STITCHLINE_KAFKA__ON_LOST_RECORDS): copies of '
                "what is stored are dropped as ever, and the loss is kept in stream.lost_records.",
                topic=self._topic,
                offsets=left,
            )
        log.error("%s. Going on with the new one from its beginning", anew)
        self._checkpointer.begin_anew(self._topic)
        with self._warehouse.transaction() as con:
            for partition, offset in left.items():
                tables.note_lost_records(con, self._topic, partition, offset, 0, "the topic was made anew")

    def _skip(self, lost: Lost) -> None:
        log.error("%s. Going on at offset %d", lost, lost.first)
        with self._warehouse.transaction() as con:
            tables.note_lost_records(con, lost.topic, lost.partition, lost.offset, lost.first, str(lost))

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._config)

    def _topic_id(self) -> str | None:
        try:
            described = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=_PATIENCE)
            return str(described[self._topic].result().topic_id)
        except KafkaException as error:
            log.debug("the brokers did not tell the id of topic %s: %s", self._topic, error)
            self.__dict__.pop("_admin", None)  # the next question is a new client's
            return None
