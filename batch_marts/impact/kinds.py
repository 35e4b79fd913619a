"""The kinds of changes to the marts. Pure."""

from __future__ import annotations

from typing import Literal

What = Literal[
    "mart_added", "mart_removed", "column_added", "column_removed", "column_renamed", "column_retyped",
    "contract_loosened", "grain_changed", "test_added", "test_removed", "test_changed", "description_changed",
    "meaning_changed", "meaning_corrected", "metric_added", "metric_removed", "deprecated",
]  # fmt: skip
"""What becomes of a mart, a column or a metric."""
