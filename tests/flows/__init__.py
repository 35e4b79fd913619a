"""Tests of the flow's parts: the contract, decoding, event time and sessions."""
