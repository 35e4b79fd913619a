"""How files of a dbt project name a model, and the name under which it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REF: Final = re.compile(r"\bref\(\s*['\"](\w+)['\"]\s*(?:,\s*(?:v|version)\s*=\s*(\d+)\s*)?\)")
"""A model's name, and its version if one is named."""


def shown_mart(name: str, version: str | int | None = None) -> str:
    """The name in the schema marts of a version of a model: the first one has its name alone.

    >>> shown_mart("dim_person"), shown_mart("dim_person", 1), shown_mart("dim_person", 2)
    ('dim_person', 'dim_person', 'dim_person_v2')
    """
    return name if version is None or str(version) == "1" else f"{name}_v{version}"


def refs_in(text: str, latest: Mapping[str, int]) -> list[str]:
    """The models that a text reads, as they are shown, each once. `latest` are the versions that a name alone means,
    of those models that have some.

    >>> refs_in("{{ ref('a') }} {{ ref('b') }} {{ ref('b', v=3) }} {{ ref('a') }}", {"b": 2})
    ['a', 'b_v2', 'b_v3']
    """
    return [*dict.fromkeys(shown_mart(name, version or latest.get(name)) for name, version in REF.findall(text))]
