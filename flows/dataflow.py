"""The whole graph: read → decode → checkpoint. What a checkpoint does stands in flows/checkpoint.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

from flows.checkpoint import Checkpointer
from flows.decode import DecodedBatch, Decoder
from flows.records import RawBatch

_EPOCH: Final = timedelta(days=36_500)
"""Epochs end for Bytewax's own recovery, which the warehouse takes the place of; at each end the workers wait for one
another, spinning."""


def build(source: FixedPartitionedSource[RawBatch, Any], decoder: Decoder, checkpointer: Checkpointer) -> Dataflow:
    """The dataflow. Items are batches of one partition; a partition's batches stay on one worker and in order."""
    flow = Dataflow("stitchline")
    raw = op.input("read", flow, source)
    decoded = op.map("decode", raw, decoder.decode)
    op.output("checkpoint", decoded, CheckpointSink(checkpointer))
    return flow


def run(flow: Dataflow, workers: int) -> None:
    """Runs `flow` on that many threads of this process until its source ends. Raises what a step raised."""
    try:
        cluster_main(flow, [], 0, epoch_interval=_EPOCH, worker_count_per_proc=workers)
    except BytewaxRuntimeError as error:  # it says at which step; what happened there is its cause
        if error.__cause__ is not None:
            raise error.__cause__ from None
        raise


class CheckpointSink(DynamicSink[DecodedBatch]):
    """Hands batches to the one checkpointer of this process."""

    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[DecodedBatch]:
        return _Sink(self._checkpointer)


class _Sink(StatelessSinkPartition[DecodedBatch]):
    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer

    def write_batch(self, items: list[DecodedBatch]) -> None:
        for batch in items:
            self._checkpointer.add(batch)
