"""A seeded shop whose customers produce the demo's events, the funnels to look at them (`FUNNELS`), and what the shop's
advertising cost (`shop_exports`)."""

from pathlib import Path

from demo.exports import shop_exports
from demo.shop import Shop, Totals
from demo.wire import Record

FUNNELS = Path(__file__).parent / "funnels"
"""The folder of the demo's funnel definitions, one JSON file each."""

__all__ = ["FUNNELS", "Record", "Shop", "Totals", "shop_exports"]
