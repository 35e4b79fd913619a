"""Building two revisions of the marts over a warehouse that no service holds, by the settings' own rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batch_marts.impact.report import Values
from batch_marts.impact.revisions import Prepared
from batch_marts.impact.values import values_over
from funnels.definition import definitions
from service.ask import has_to_exist
from service.marts import funnels_for_marts, rules_of
from service.settings import Settings
from sinks.warehouse import Warehouse
from stitchline.errors import UsageError, WarehouseHeld


def built_over(settings: Settings) -> Callable[[Prepared, Prepared, Path], Values]:
    """What builds two revisions over the warehouse of the settings and compares their figures.

    Raises WarehouseError if there is none.
    """
    file = settings.warehouse.path
    has_to_exist(file)

    def build(was: Prepared, now: Prepared, folder: Path) -> Values:
        try:
            warehouse = Warehouse.open(file, memory_limit=settings.marts.memory_limit)
        except WarehouseHeld:
            raise UsageError(
                f"A service holds {file}, and trial builds would take from it: name a copy, as `stitchline backup` and "
                "`stitchline restore` make one."
            ) from None
        with warehouse:
            funnels = funnels_for_marts(definitions(settings.funnels))
            return values_over(warehouse, rules_of(settings), funnels, was, now, folder)

    return build
