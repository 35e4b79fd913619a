"""Funnel definitions and the queries that answer them."""

from funnels.definition import FunnelDefinition, load_definition
from funnels.query import run_funnel
from funnels.result import FunnelResult

__all__ = ["FunnelDefinition", "FunnelResult", "load_definition", "run_funnel"]
