"""Tests of the marts and what feeds them."""
