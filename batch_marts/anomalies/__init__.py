"""Anomalies: what the rules say of each value (`verdicts`), what becomes of it (`incidents`), and who is told how."""
