"""The demo: a shop's last 60 days through Kafka and the flow, then live traffic, and the page to watch it."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException, Producer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demo import EXPERIMENTS, FUNNELS, Record, Shop, shop_exports
from service.ask import address_file, shown
from service.marts import folder_of
from service.runtime import Addresses, Service, dependencies, home_of
from service.settings import Settings
from service.web.models import SpendFiles
from stitchline.errors import StitchlineError

LIVE_RATE: Final = 200.0  # events a second
_HOST: Final = "larkhill.example"  # the shop's
_DAYS_JUDGED: Final = 14
"""Among them is the one on which the shop lost a part of its traffic."""
_EVENTS_A_DAY: Final = 5_800  # about what the shop makes, to guess the end of the bar by until it is known


def run_demo(settings: Settings, stopping: threading.Event, console: Console, days: int, rate: float) -> None:
    """Runs until `stopping` is set. Starts from nothing each time: what an earlier demo left is removed first."""
    _remove_earlier_demo(settings)
    console.print("Starting Kafka and Valkey …")
    with dependencies(settings, kafka=True) as addresses:
        marts = settings.marts.model_copy(update={"own_hosts": settings.marts.own_hosts | {_HOST}})
        shops = {"funnels": settings.funnels or FUNNELS, "experiments": settings.experiments or EXPERIMENTS}
        # What is live is hundreds of times what the shop's history has: it would be out of range all the time.
        anomalies = settings.anomalies.model_copy(update={"rolling": False})
        settings = settings.model_copy(update=shops | {"marts": marts, "anomalies": anomalies})
        with Service(settings, addresses, stopping, any_port=True) as service:
            shop = Shop(now=datetime.now(UTC), days=days)
            _fast_forward(shop, service, addresses, settings.kafka.topic, stopping, console)
            _advertise(shop, service, home_of(settings) / "exports", console)
            if not stopping.is_set():
                live = f"{rate:g} events a second are live."
                console.print(f"\nThe page is at [bold]{service.url}[/bold] – {live}", soft_wrap=True)
                hints = _HINTS.format(warehouse=shown(settings.warehouse.path))
                console.print(hints, markup=False, soft_wrap=True)
                threading.Thread(target=_build_marts, args=(service, console), name="marts", daemon=True).start()
                threading.Thread(
                    target=_live, args=(shop, addresses, settings.kafka.topic, rate, stopping), name="shop", daemon=True
                ).start()
            service.wait()
            console.print("Stopping: what was read is being committed …")
    console.print("Stopped.")


def _remove_earlier_demo(settings: Settings) -> None:
    """Removes the warehouse and the embedded services' data that belong to it, and nothing else beside them."""
    path, home = settings.warehouse.path, home_of(settings)
    for file in (path, path.with_name(path.name + ".wal"), address_file(path)):
        file.unlink(missing_ok=True)
    for folder, mark in ((home / "kafka", "kafka.properties"), (home / "valkey", "valkey.log")):
        if (folder / mark).exists():
            shutil.rmtree(folder)
    if (folder_of(settings) / "dbt_project.yml").exists():
        shutil.rmtree(folder_of(settings))


_HINTS: Final = """\
Ask the warehouse meanwhile, in another terminal:
  .venv/bin/stitchline sql --warehouse {warehouse} "select * from stream.sessions order by started_at desc limit 5"
  .venv/bin/stitchline doctor --warehouse {warehouse}
Ctrl-C ends everything."""


def _fast_forward(
    shop: Shop, service: Service, addresses: Addresses, topic: str, stopping: threading.Event, console: Console
) -> None:
    """Produces the shop's history as fast as Kafka takes it and shows how far the flow has come."""
    began = time.monotonic()
    production = _Production(shop.history(), addresses, topic, stopping)
    production.start()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{shop.days} days of a shop", total=shop.days * _EVENTS_A_DAY)
        while not stopping.wait(0.2):
            done = not production.is_alive()
            total = production.count if done else max(shop.days * _EVENTS_A_DAY, production.count)
            bar.update(task, completed=min(service.flow.counts.consumed, total), total=total)
            if done and service.flow.counts.consumed >= total:
                break
    if stopping.is_set():
        return
    counts = service.flow.counts
    with service.reader() as con:
        row = con.execute(
            "select count(*), count(distinct anonymous_id), count(distinct person_id) from stream.sessions"
        ).fetchone()
    assert row is not None
    console.print(
        f"{counts.consumed:,} records in {time.monotonic() - began:.0f} s: {counts.stored:,} events stored, "
        f"{counts.duplicates:,} duplicates, {counts.dead:,} dead letters, {counts.late:,} late; "
        f"{row[0]:,} sessions of {row[1]:,} devices and {row[2]:,} people.",
        soft_wrap=True,
    )


def _advertise(shop: Shop, service: Service, folder: Path, console: Console) -> None:
    """Writes what the shop's advertising cost into `folder`, as eight platforms export it, and loads that."""
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for made in shop_exports(shop.first_day, shop.days, shop.seed):
        file = folder / made.file_name
        file.write_bytes(made.data)
        upload = {"name": str(file), "content": base64.b64encode(made.data)}
        currency = None if made.says_currency else made.currency
        told += service.load_spend(SpendFiles.model_validate({"files": [upload], "currency": currency}))
    rows = sum(outcome["lines"] for outcome in told)
    console.print(
        f"{len(told)} advertising exports with {rows:,} rows are loaded from {shown(folder)}; "
        "marketing.ad_spend has them.",
        soft_wrap=True,
    )


def _build_marts(service: Service, console: Console) -> None:
    began = time.monotonic()
    try:
        told = service.marts().refresh()
    except StitchlineError as error:
        console.print(f"The marts are not built: {error}", markup=False, soft_wrap=True)
        return
    console.print(
        f"{len(told['row_counts'])} marts with {sum(told['row_counts'].values()):,} rows are built, tested and "
        f"published in {time.monotonic() - began:.0f} s: select * from marts.mart_acquisition, or {service.url}/docs",
        soft_wrap=True,
    )
    found = service.anomalies().check_days(days=_DAYS_JUDGED)
    console.print(
        f"Incidents in the last {_DAYS_JUDGED} days: {len(found)}, see {service.url}/anomalies", soft_wrap=True
    )


class _Production(threading.Thread):
    """Produces records as fast as Kafka takes them; `count` is how many so far."""

    def __init__(self, records: Iterable[Record], addresses: Addresses, topic: str, stopping: threading.Event) -> None:
        super().__init__(name="shop", daemon=True)
        self.count = 0
        self._records = records
        self._addresses = addresses
        self._topic = topic
        self._stopping = stopping

    def run(self) -> None:
        producer = _producer(self._addresses)
        for record in self._records:
            if self._stopping.is_set():
                return
            _send(producer, self._topic, record)
            self.count += 1
        while producer.flush(1) and not self._stopping.is_set():
            pass  # brokers that are slow, or away, get what is left when they are back


def _live(shop: Shop, addresses: Addresses, topic: str, rate: float, stopping: threading.Event) -> None:
    producer = _producer(addresses)
    records = shop.live(datetime.now(UTC), rate)
    for record in records:
        wait = (record.kafka_at - datetime.now(UTC)).total_seconds()
        if stopping.wait(max(wait, 0)) if wait > 0.005 else stopping.is_set():
            return
        _send(producer, topic, record)
        producer.poll(0)


def _producer(addresses: Addresses) -> Producer:
    return Producer(
        {
            "bootstrap.servers": addresses.bootstrap or "",
            "log_level": "2",
            "linger.ms": "20",
            "batch.size": "262144",
            "compression.type": "lz4",
            "message.timeout.ms": "0",
            "queue.buffering.max.messages": "200000",
            "partitioner": "murmur2_random",
        }
    )


def _send(producer: Producer, topic: str, record: Record) -> None:
    """Produces `record` under the time at which it is produced, as a backfill would: with the time of long ago, the end
    of a partition that waits for the next record would look like a long silence."""
    while True:
        try:
            producer.produce(topic, record.value, record.key)
        except BufferError:
            producer.poll(0.1)
        except KafkaException:
            return  # the broker is stopping
        else:
            return
