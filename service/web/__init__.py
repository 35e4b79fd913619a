"""The page and the HTTP API: `create_app` makes both out of a `ServiceView`."""

from service.web.app import create_app
from service.web.view import FlowState, FlowStatus, PartitionState, ServiceView

__all__ = ["FlowState", "FlowStatus", "PartitionState", "ServiceView", "create_app"]
