"""Tests of the readers of advertising exports."""
