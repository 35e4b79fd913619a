"""Which ids may say who somebody is. DESIGN: identity rules 1 and 3. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import polars as pl

PERSON_PREFIX: Final = "anon:"
"""A device that nobody has claimed is the person `anon:` + its anonymous id."""

FORGOTTEN_PREFIX: Final = "forgotten:"
"""A user who was forgotten is this and something random, for what is kept of a device that others have, too."""

MAX_ID_LENGTH: Final = 200
"""Characters. A longer user id is a token or a page of text that ended up in the wrong field."""

NOT_AN_ID: Final = frozenset(
    {
        "null",
        "none",
        "nil",
        "nan",
        "undefined",
        "anonymous",
        "guest",
        "unknown",
        "true",
        "false",
        "0",
        "-1",
        "[object object]",
        "distinct_id",
        "distinctid",
    }
)
"""What clients send when they have no id, in lower case."""

_BLANK: Final = " \t\n\r\f\v"
_ALL_ZEROS: Final = re.compile(r"[0-]*0[0-]*")


@dataclass(frozen=True, slots=True)
class LegalIds:
    """The test of an id; `local` adds a site's own list of ids that mean nobody, compared in lower case."""

    local: frozenset[str] = frozenset()

    def why_not(self, text: str | None) -> str | None:
        """Why `text` may not link, in a few words; None if it may.

        >>> LegalIds().why_not("Undefined"), LegalIds().why_not("u-1")
        ('means nobody', None)
        """
        if text is None or not (bare := text.strip(_BLANK)):
            return "empty"
        lower = bare.lower()
        if lower in NOT_AN_ID or lower in self.local:
            return "means nobody"
        if _ALL_ZEROS.fullmatch(lower):
            return "all zeros"
        for prefix in (PERSON_PREFIX, FORGOTTEN_PREFIX):
            if lower.startswith(prefix):
                return f"starts with {prefix}"
        if len(text) > MAX_ID_LENGTH:
            return f"longer than {MAX_ID_LENGTH} characters"
        return None

    def legal(self, ids: pl.Series) -> pl.Series:
        """`ids` with nulls where `why_not` has something to say; each distinct id is looked at once."""
        if ids.null_count() == len(ids):
            return ids
        suspect = self._suspect(ids.unique().drop_nulls())
        bad = suspect.filter(
            pl.Series([self.why_not(text) is not None for text in suspect.to_list()], dtype=pl.Boolean)
        )
        if bad.is_empty():
            return ids
        return pl.select(pl.when(~ids.is_in(bad.implode())).then(ids)).to_series().alias(ids.name)

    def _suspect(self, ids: pl.Series) -> pl.Series:
        """Those of `ids` of which `why_not` may have something to say: few, and told on the whole column at once."""
        bare = ids.str.strip_chars(_BLANK).str.to_lowercase()
        is_suspect = (
            (ids.str.len_bytes() != ids.str.len_chars())  # what is lower case then, `why_not` knows
            | (bare == "")
            | bare.is_in([*NOT_AN_ID, *self.local])
            | bare.str.contains(f"^(?:{_ALL_ZEROS.pattern})$")
            | bare.str.starts_with(PERSON_PREFIX)
            | bare.str.starts_with(FORGOTTEN_PREFIX)
            | (ids.str.len_bytes() > MAX_ID_LENGTH)
        )
        return ids.filter(is_suspect)


def device_person(anonymous_id: str) -> str:
    """The person that a device is until somebody claims it."""
    return PERSON_PREFIX + anonymous_id
