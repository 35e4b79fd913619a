"""The templates of the pages, and what all of them know."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from service.trust import WORDS
from service.web import drawing, readings, wording
from service.web.visitors import visitor
from stitchline import __version__

_TEMPLATES: Final = Path(__file__).parent / "templates"

WAYS: Final = (
    ("/", "Overview"),
    ("/funnels", "Funnels"),
    ("/sessions", "Sessions"),
    ("/metrics", "Metrics"),
    ("/marts", "Marts"),
    ("/trust", "Trust"),
    ("/experiments", "Experiments"),
    ("/spend", "Spend"),
    ("/anomalies", "Anomalies"),
    ("/health", "Health"),
)
"""The pages that every page leads to."""


class Templates:
    """The Jinja2 environment: everything escaped, a name that is not given is an error."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "version": __version__,
            "ways": WAYS,
            "here": "",
            "describe": readings.describe,
            "step_names": readings.step_names,
            "sessions_shown": readings.SESSIONS_SHOWN,
            "nothing": wording.NOTHING,
            "clipped": wording.clipped,
            "line": drawing.line,
            "verdicts": WORDS,
        }
        self._environment.filters |= {
            "time": datetime.fromisoformat,
            "ago": _ago,
            "coded": _coded,
            "exact": wording.exact,
            "counted": wording.counted,
            "number": wording.number,
            "share": wording.share,
            "signed": wording.signed,
            "amount": wording.amount,
            "figure": lambda value: wording.NOTHING if value is None else f"{value:,.4g}",
        }

    def __call__(self, name: str, *, status_code: int = 200, **context: object) -> HTMLResponse:
        """The page, drawn for whoever asks. Times that it tells as so long ago are told as of now."""
        known: dict[str, object] = {"now": datetime.now(UTC), "visitor": visitor()}
        return HTMLResponse(self._environment.get_template(name).render(known | context), status_code)


def _coded(text: str) -> Markup:
    """`name` in a text as code.

    >>> str(_coded("by `channel` & more"))
    'by <code>channel</code> &amp; more'
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@jinja2.pass_context
def _ago(context: jinja2.runtime.Context, at: datetime) -> str:
    return wording.ago(at, context["now"])
