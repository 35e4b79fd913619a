"""Tests of batch_marts/anomalies."""
