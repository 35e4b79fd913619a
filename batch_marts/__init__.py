"""The nightly marts, built by dbt from the stream's tables."""
