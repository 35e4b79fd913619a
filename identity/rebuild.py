"""Judges all facts anew: after a rule has changed, or when the verdicts or what was laid over events are in doubt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import duckdb
import polars as pl

from identity import ledger
from identity.claims import Fact, LinkRules, compact
from identity.ids import LegalIds
from identity.verdicts import first_claims, held_links, overrides_of_states, shared_device, states_of, verdict_frame
from sinks import tables

_DEVICES: Final = """
select anonymous_id from stream.identity_facts where anonymous_id is not null
union
select anonymous_id from stream.person_overrides
"""
# By device, what stored events without a user of their own are told now, against what all facts say.
_WRONG: Final = """
select distinct e.anonymous_id
from stream.events e
join expected x on x.anonymous_id = e.anonymous_id
 and (e.event_at, e.message_id) >= (x.from_at, x.from_message_id)
 and (e.event_at, e.message_id) < (x.to_at, x.to_message_id)
left join stream.person_overrides o on o.anonymous_id = e.anonymous_id
 and (e.event_at, e.message_id) >= (o.from_at, o.from_message_id)
 and (e.event_at, e.message_id) < (o.to_at, o.to_message_id)
where (e.user_id is null or e.person_id is distinct from e.user_id)
  and coalesce(o.person_id, e.person_id) is distinct from x.person_id
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """What all facts say, by the rules."""

    devices: int
    """That were ever claimed."""
    shared: int
    held: int
    corrected: int
    """Devices of which something stored was told otherwise before."""


def judge_anew(
    con: duckdb.DuckDBPyConnection, legal: LegalIds, logout_events: Collection[str], rules: LinkRules
) -> Judged:
    """Puts the verdicts on shared devices and held links, and what is laid over stored events, in the place of those
    that are there. Part of a transaction of the writer; Redis has to be filled again afterwards."""
    names = con.execute(_DEVICES).pl()["anonymous_id"]
    facts: dict[str, tuple[Fact, ...]] = dict.fromkeys(names.to_list(), ())
    facts |= {device: compact(told) for device, told in ledger.facts_of(con, legal, logout_events)}
    held = held_links(first_claims(facts), rules)
    shared = verdict_frame([row for device, told in facts.items() for row in shared_device(device, told, rules)])
    con.execute("delete from stream.identity_verdicts where verdict in ('shared', 'held')")
    nothing = pl.DataFrame(schema=ledger.VERDICTS)
    tables.append_identity(con, pl.DataFrame(schema=ledger.FACTS), pl.concat([shared, held]), nothing)
    overrides = overrides_of_states(states_of(facts, held), rules)
    with tables.registered(con, "expected", overrides.to_arrow()):
        wrong = con.execute(_WRONG).pl()["anonymous_id"].cast(pl.String)
    tables.replace_overrides(con, wrong.to_list(), overrides.filter(pl.col("anonymous_id").is_in(wrong.implode())))
    return Judged(devices=len(facts), shared=shared.height, held=held.height, corrected=len(wrong))
