"""The events that funnels look at, in memory, in an order in which subjects can be followed at once."""

from funnels.store.store import Store
from funnels.store.watched import Watched, WatchedFunnels

__all__ = ["Store", "Watched", "WatchedFunnels"]
