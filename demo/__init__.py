"""A seeded shop whose customers produce the demo's events, the funnels to look at them (`FUNNELS`), the shop's
experiment (`EXPERIMENTS`), and what its advertising cost (`shop_exports`)."""

from pathlib import Path

from demo.exports import shop_exports
from demo.shop import Shop, Totals
from demo.wire import Record

FUNNELS = Path(__file__).parent / "funnels"
"""The folder of the demo's funnel definitions, one JSON file each."""

EXPERIMENTS = Path(__file__).parent / "experiments.yml"
"""What the demo's experiment is judged by."""

__all__ = ["EXPERIMENTS", "FUNNELS", "Record", "Shop", "Totals", "shop_exports"]
