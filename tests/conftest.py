"""What all tests share: the services and Hypothesis's settings."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.services import kafka, redis_url

__all__ = ["kafka", "redis_url"]

settings.register_profile("default", deadline=None)  # the machine is busy: slowness is for `timeout` to judge
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
