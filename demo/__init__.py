"""A seeded shop whose customers produce the demo's events, and the funnels to look at them (`FUNNELS`)."""

from pathlib import Path

from demo.shop import Shop, Totals
from demo.wire import Record

FUNNELS = Path(__file__).parent / "funnels"
"""The folder of the demo's funnel definitions, one JSON file each."""

__all__ = ["FUNNELS", "Record", "Shop", "Totals"]
