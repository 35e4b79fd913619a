"""Throughput and latency, always next to a raw consumer measured in the same run: `python -m bench`."""
