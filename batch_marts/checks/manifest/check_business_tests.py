"""A check of dbt-bouncer's: every mart has at least one test of what the business knows to be true of it."""

from __future__ import annotations

from typing import Any

from dbt_bouncer.check_framework.decorator import check, fail


@check(code="ST001")
def check_mart_has_business_test(model: Any, ctx: Any) -> None:
    """A mart must be read by a test that is tagged `business`.

    Keys that are unique and not null say that a table is sound, not that its figures are right.

    Receives:
        model (ModelNode): The ModelNode object to check.
    """
    for test in ctx.tests:
        if "business" in (getattr(test, "tags", None) or []) and model.unique_id in test.depends_on.nodes:
            return
    version = getattr(model, "version", None)
    named = f"'{model.name}'" if version is None else f"'{model.name}', v={version}"
    fail(f"`{model.alias}` has no business test: write one in tests/, tagged `business`, that reads ref({named}).")
