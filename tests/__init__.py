"""Mirrors the packages; services.py gives real Kafka and Redis."""
