"""Compiles what is compiled, once for an installation: `python -m flows.compile`. Half a minute, kept on disk.

Without it the first flow does so, each function at its first use.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from flows.arrivals import arrivals
from flows.checkpoint import messages_of
from flows.decode import Decoder
from flows.duplicates import Duplicates
from flows.records import RawBatch, octets
from flows.rules import FlowRules
from flows.tails import Tails
from stitchline.bloom import BloomFilter

_EVENT = b'{"messageId": "m", "anonymousId": "d", "userId": "u", "type": "page", "timestamp": "2026-01-01T00:00:00Z"}'


def compile_all() -> None:
    """Takes one event through every compiled function, with arrays of the kinds that a flow has."""
    decoded = Decoder(timedelta()).decode(RawBatch("", 0, 1, octets([_EVENT]), octets([b"d"]), np.zeros(1, np.int64)))
    arrived = pl.concat([arrivals(decoded.events, FlowRules())], rechunk=True)
    messages = messages_of(arrived.with_columns(source=np.zeros(1, np.int64)))
    duplicates = Duplicates(forget_every=1)
    for _ in range(2):
        duplicates.new(messages, np.zeros(1, np.bool_), np.zeros(1, np.int64), lambda rows: rows)
        duplicates.forget(lambda: messages.device, np.zeros(1, np.int64))
    devices = BloomFilter(1)
    devices.add(messages.device)
    devices.may_contain(messages.device)
    tails = Tails()
    tails.put(arrived.select("anonymous_id", "user_id", ended_at="event_at", end_reason=pl.lit("gap")))
    tails.of(messages.device)


if __name__ == "__main__":
    compile_all()
