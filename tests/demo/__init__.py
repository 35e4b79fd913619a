"""The demo's shop."""
