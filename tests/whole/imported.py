"""What the process does that tests' commands are forked from: it imports what commands import, early or late, and loads
the scanner, with which numba loads what any compiled function needs. Without it a refresh takes three seconds more, and
the start of a flow one.

No thread is started here, nor anything opened: neither would be there in a fork.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib import import_module

from flows.decode import Decoder

for module in (
    *("service.cli", "service.replay", "service.runtime", "service.unserved"),
    *("dbt.cli.main", "dbt.adapters.duckdb.connections", "batch_marts.experiments.results"),
):
    import_module(module)
Decoder(timedelta())
logging.getLogger().handlers.clear()  # dbt puts one there as it is imported; a command sets up its log first
