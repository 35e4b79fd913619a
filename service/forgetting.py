"""The forgetting of a person, from the first look to the file that is written anew: what was removed, and what is left
elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from batch_marts import builds
from flows.reconcile import make_anew
from flows.refusals import FORGOTTEN
from flows.rules import FlowRules
from funnels import FunnelDefinition
from identity import forget as forgetting
from identity.forget import Forgotten
from identity.graph import Graph
from identity.ids import PERSON_PREFIX
from identity.tombstones import Tombstones
from service import people
from service.web.models import PersonToForget
from sinks.copies import copy_database
from sinks.tables import registered
from sinks.warehouse import Warehouse
from stitchline.errors import WarehouseError, WarehouseHeld, WarehouseUnwritable

log = logging.getLogger(__name__)

_BACKUPS: Final = (
    "Backups made before hold the person until they are deleted. One that is restored in the place of this warehouse "
    "forgets the person again; one that is restored elsewhere does not."
)


def foresee(
    warehouse: Warehouse, rules: FlowRules, funnels: Sequence[FunnelDefinition], asked: PersonToForget
) -> dict[str, Any]:
    """What `forget` would do, without doing it. The flow waits meanwhile.

    Raises UsageError for what cannot be done.
    """
    with warehouse.transaction(keep=False) as con:
        told, _ = _removed(con, rules, funnels, asked)
    return told | {"tombstone_id": None, "redis_keys": None}


def forget(
    warehouse: Warehouse,
    rules: FlowRules,
    funnels: Sequence[FunnelDefinition],
    asked: PersonToForget,
    graph: Graph,
    retention: Callable[[], str],
) -> dict[str, Any]:
    """Forgets a person: nothing of it is left in the warehouse's file or in Redis then. Nobody may write to either
    meanwhile. `retention` tells how long Kafka keeps records.

    Raises UsageError for what cannot be done, and WarehouseUnwritable if the person is removed, but the file is not
    written anew; `finish` does that later.
    """
    with warehouse.transaction() as con:
        told, done = _removed(con, rules, funnels, asked)
        # Before it is certain: what is dropped for nothing comes back from the warehouse.
        told["redis_keys"] = graph.drop([*done.devices, *done.cut_again])
    log.info("a person was forgotten: %d events, %d sessions", told["events"], told["sessions"], extra=_facts(told))
    told["left"]["redis"] = graph.persist_anew()
    try:
        finish(warehouse)
    except WarehouseUnwritable as error:
        raise WarehouseUnwritable(
            "The person is removed, and what arrives is refused. But bytes are left in the file until it is written "
            f"anew, which the next start of the service does, or the next forgetting: {error}"
        ) from error
    told["left"]["kafka"]["kept_for"] = retention()
    return told


def finish(warehouse: Warehouse) -> bool:
    """Writes the file anew if a person was forgotten since that was done last. Returns whether that was so."""
    with warehouse.reader() as con:
        row = con.execute("select exists (from stream.forgotten where not is_erased)").fetchone()
    if row is None or not row[0]:
        return False
    warehouse.replace_file(copy_database)
    with warehouse.transaction() as con:
        con.execute("update stream.forgotten set is_erased = true where not is_erased")
    return True


@dataclass(frozen=True, slots=True)
class ForgottenPersons:
    """Who was forgotten in a warehouse: stream.forgotten and stream.tombstones, and which warehouse that is."""

    warehouse_id: str
    persons: pa.Table
    tombstones: pa.Table


def forgotten_in(path: Path) -> ForgottenPersons | None:
    """Of the warehouse at `path`; None if there is none, or it cannot be read.

    Raises WarehouseHeld if a process has it.
    """
    if not path.is_file():
        return None
    try:
        with Warehouse.open(path) as warehouse, warehouse.reader() as con:
            return ForgottenPersons(
                warehouse.warehouse_id,
                con.execute("from stream.forgotten").to_arrow_table(),
                con.execute("from stream.tombstones").to_arrow_table(),
            )
    except WarehouseHeld:
        raise
    except WarehouseError as error:
        log.warning("who was forgotten is not known, so persons may come back with the backup: %s", error)
        return None


def forget_again(warehouse: Warehouse, rules: FlowRules, known: ForgottenPersons | None) -> int:
    """Forgets in `warehouse`, an earlier state of the one that `known` is from, who was forgotten since. Nobody else
    may have it open. Returns how many persons that were."""
    if known is None or known.warehouse_id != warehouse.warehouse_id:
        return 0
    with (
        warehouse.transaction() as con,
        registered(con, "persons", known.persons),
        registered(con, "known_tombstones", known.tombstones),
    ):
        since = con.execute("from persons anti join stream.forgotten using (tombstone_id)").fetchall()
        con.execute(
            "insert into stream.tombstones by name "
            "from known_tombstones anti join stream.forgotten using (tombstone_id)"
        )
        con.execute("insert into stream.forgotten by name from persons anti join stream.forgotten using (tombstone_id)")
        for tombstone_id, *_ in since:
            done = forgetting.forget_again(con, rules.legal, rules.sessions.logout_events, rules.links, tombstone_id)
            if done is not None:
                make_anew(con, rules, done.cut_again)
                forgetting.note(con, done)
                builds.forget(con, done.persons, done.devices)
        if since:
            con.execute("update stream.forgotten set is_erased = false")
    finish(warehouse)
    return len(since)


def why_not_there(con: duckdb.DuckDBPyConnection, asked: str) -> str:
    """What to say of an id that nobody has: that it was forgotten, if it was."""
    found = Tombstones.read(con)
    earlier = found.of("user", asked) | found.of("device", asked.removeprefix(PERSON_PREFIX))
    if not earlier:
        return f"nobody has the id {asked[:200]!r}"
    counted = con.execute(
        "select count(*) from stream.dead_letters, (select unnest($names) as name) "
        "where reason = $reason and contains(detail, name)",
        {"names": list(earlier), "reason": FORGOTTEN},
    ).fetchone()
    assert counted is not None
    at = max(earlier.values())
    return f"{asked[:200]!r} was forgotten on {at:%Y-%m-%d %H:%M} UTC; {counted[0]:,} late arrivals were refused since"


def _facts(told: dict[str, Any]) -> dict[str, object]:
    return {name: told[name] for name in ("tombstone_id", "events", "sessions")}


def _removed(
    con: duckdb.DuckDBPyConnection, rules: FlowRules, funnels: Sequence[FunnelDefinition], asked: PersonToForget
) -> tuple[dict[str, Any], Forgotten]:
    before = people.funnel_counts(con, funnels)
    done = forgetting.forget(
        con, rules.legal, rules.sessions.logout_events, rules.links, asked.person, asked.because, asked.actor
    )
    make_anew(con, rules, done.cut_again)
    sessions = forgetting.note(con, done)
    marts = builds.forget(con, done.persons, done.devices)
    told: dict[str, Any] = {
        **asked.model_dump(),
        "tombstone_id": done.tombstone_id,
        "forgotten_at": done.forgotten_at.isoformat(),
        "persons": done.persons,
        "devices": done.devices,
        "shared_devices": done.shared_devices,
        "events": done.events,
        "sessions": sessions,
        "facts": done.facts,
        "verdicts": done.verdicts,
        "acts": done.acts,
        "dead_letters": done.dead_letters,
        "rows_of_marts": marts,
        "funnels": people.changes_of_funnels(funnels, before, people.funnel_counts(con, funnels)),
        "left": {
            "kafka": {
                "kept_for": None,
                "records": [
                    dict(zip(("partition", "records", "first_offset", "last_offset"), place, strict=True))
                    for place in done.places
                ],
            },
            "redis": None,
            "mentions": done.mentions,
            "backups": _BACKUPS,
        },
    }
    return told, done
