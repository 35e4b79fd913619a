"""Compiles what is compiled, once for an installation: `python -m funnels.compile`. Kept on disk.

Without it the first funnel does so, each function at its first use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from funnels.definition import FunnelDefinition
from funnels.store import Store, Watched
from funnels.walk import IN_SEQUENCE, Rows, Rules, walk
from sinks.warehouse import Warehouse
from stitchline.grouping import grouped


def compile_all() -> None:
    """Takes one subject through every compiled function, with arrays of the kinds that questions have."""
    subjects, micros = np.zeros(2, np.uint64), np.zeros(2, np.int64)
    grouped(subjects, micros)
    fills = np.full(2, 1 | IN_SEQUENCE, np.int64)
    rows = Rows(subjects, micros, fills, np.zeros(2, np.int64), subjects, np.zeros(2, np.int32))
    for order in ("ordered", "strict", "any"):
        walk(rows, Rules(steps=2, window=0, order=order))
    _take_in()


def _take_in() -> None:
    """Has a store follow a warehouse through all that can become of events."""
    with Warehouse.open(Path(":memory:")) as warehouse, warehouse.reader() as con:
        store = Store(warehouse, 1 << 30, threads=1)
        watched = Watched(store, FunnelDefinition.model_validate({"steps": [{"event": "A"}, {"event": "B"}]}))
        store.fill()
        for _ in range(2):
            with warehouse.transaction() as writer:
                writer.execute(_SOME)
                warehouse.moved.note(["d"])
            watched.refresh(con)
        store.close()


_SOME: Final = """
insert into stream.events by name
select m as message_id, 'track' as type, 'A' as name, 'd' as anonymous_id, 'anon:d' as person_id,
    make_timestamptz(t) as event_at, event_at as received_at, false as clock_skewed, false as is_bot,
    false as is_background, 0 as "partition", 0 as "offset"
from (values ('m', 2), ('m', 2), ('n', 1)) as t (m, t);
insert into stream.person_overrides values ('d', make_timestamptz(1), make_timestamptz(2), 'u', 'n', 'm');
"""


if __name__ == "__main__":
    compile_all()
