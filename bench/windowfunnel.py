"""Answers the bench's funnel with chDB's windowFunnel, once for each line that is read; run where chDB is installed.

`python windowfunnel.py EVENTS.parquet WINDOW`: the window is in microseconds, and so are the events' times.
"""

from __future__ import annotations

import json
import sys
import time

from chdb.session import Session

_TABLE = """
create table events (person UInt32, name LowCardinality(String), at UInt64) engine = MergeTree order by (person, at)
"""
_ASK = """
select countIf(level >= 1), countIf(level >= 2), countIf(level >= 3) from (
    select windowFunnel({window})(at, name = 'Event 0', name = 'Event 1', name = 'Event 2') as level
    from events where name in ('Event 0', 'Event 1', 'Event 2') group by person
)
"""


def main() -> None:
    file, window = sys.argv[1:]
    session = Session()
    session.query("create database bench engine = Atomic")
    session.query("use bench")
    session.query(_TABLE)
    session.query(f"insert into events select person, name, at from file('{file}', Parquet)")
    session.query("optimize table events final")
    for _ in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        told = session.query(_ASK.format(window=window), "CSV").bytes().decode()
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        counts = [int(count) for count in told.strip().split(",")]
        print(json.dumps({"counts": counts, "seconds": seconds, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
