"""Funnel definitions and the queries that answer them."""

from funnels.definition import FunnelDefinition, load_definition
from funnels.query import FunnelResult, run_funnel

__all__ = ["FunnelDefinition", "FunnelResult", "load_definition", "run_funnel"]
