"""What marketing costs: the exports of eight advertising platforms, and the rates of currencies, into the warehouse."""

from batch_marts.spend.export import Export, Given, SpendRow
from batch_marts.spend.forms import PLATFORMS, Platform
from batch_marts.spend.reader import read_export

__all__ = ["PLATFORMS", "Export", "Given", "Platform", "SpendRow", "read_export"]
