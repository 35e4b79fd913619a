"""What marketing costs: the exports of eight advertising platforms, and the rates of currencies, into the warehouse."""

from batch_marts.spend.export import Account, Export, Given, SpendRow
from batch_marts.spend.forms import PLATFORMS, Platform
from batch_marts.spend.load import Loaded, file_id_of, load_export, loaded_before
from batch_marts.spend.rates import LoadedRates, load_rates, read_rates
from batch_marts.spend.reader import read_export
from batch_marts.spend.sheet import LARGEST, too_large

__all__ = [
    "LARGEST",
    "PLATFORMS",
    "Account",
    "Export",
    "Given",
    "Loaded",
    "LoadedRates",
    "Platform",
    "SpendRow",
    "file_id_of",
    "load_export",
    "load_rates",
    "loaded_before",
    "read_export",
    "read_rates",
    "too_large",
]
