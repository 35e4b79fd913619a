"""The bench's own parts: a figure is worth what its load is."""
