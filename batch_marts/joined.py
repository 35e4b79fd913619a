"""The generic tests of a model (no column null, one row per key, and so on) as one statement: each node that dbt runs
takes it some 40 ms of Python, and hardly ever does a test find anything.

What a test is and what it says stays dbt's: where such a statement finds a row, dbt runs what it stands for one by one.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

JOINED: Final = "tests_of_"
"""What the name of a model's joined tests begins with."""

_ITSELF: Final = re.compile(r"\{\{ test_\w+\(\*\*_dbt_generic_test_kwargs\) \}\}(\{\{ config\(alias=\"\w+\"\) \}\})?")
"""What dbt has as the code of a generic test; the macro's namespace stands elsewhere."""

_ORDINARY: Final = {
    "enabled": True,
    "severity": "ERROR",
    "fail_calc": "count(*)",
    "warn_if": "!= 0",
    "error_if": "!= 0",
    **dict.fromkeys(("where", "limit", "store_failures", "store_failures_as")),
}
"""How a test is set that fails on every row that it finds."""

_RENDERED: Final = re.compile(r"\{\{ (.*) \}\}|(\s*(?:env_var|ref|var|source|doc)\s*\(.+\)\s*)")
"""What dbt takes for an expression among a test's arguments."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The nodes of a project with one test in the place of all ordinary generic tests of a model."""

    nodes: dict[str, Any]
    parts: Mapping[str, Sequence[Any]]
    """By the id of such a test, the nodes of those that it stands for."""

    def apart(self, results: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The results as dbt writes them, a test that passed told as all that it stands for."""
        for result in results:
            yield from (
                result | {"unique_id": each.unique_id, "compiled_code": None}
                for each in self.parts.get(result["unique_id"], ())
            )
            if result["unique_id"] not in self.parts:
                yield result


def join_tests(nodes: Mapping[str, Any]) -> Joined:
    """Of the nodes in dbt's manifest, by their ids."""
    by_model: dict[str, list[Any]] = defaultdict(list)
    for node in nodes.values():
        if node.resource_type == "test" and _is_ordinary(node):
            by_model[node.attached_node].append(node)
    joined = dict(nodes)
    parts = {}
    for model, tests in by_model.items():
        if len(tests) > 1:
            node = _as_one(model, tests)
            parts[node.unique_id] = tests
            joined[node.unique_id] = node
            for each in tests:
                del joined[each.unique_id]
    return Joined(joined, parts)


def _is_ordinary(test: Any) -> bool:
    if getattr(test, "test_metadata", None) is None or not test.attached_node:
        return False
    return bool(_ITSELF.fullmatch(test.raw_code)) and all(
        test.config.get(name, value) == value for name, value in _ORDINARY.items()
    )


def _as_one(model: str, tests: Sequence[Any]) -> Any:
    """Finds as many rows as all of `tests` together."""
    node = copy.copy(tests[0])
    package, name = model.split(".", 2)[1:]
    node.name = node.alias = f"{JOINED}{name}".replace(".", "_")
    node.unique_id = f"test.{package}.{node.name}"
    node.fqn = [*node.fqn[:-1], node.name]
    node.path = f"{node.name}.sql"
    node.column_name = None
    node.refs = [ref for test in tests for ref in test.refs]
    node.sources = [source for test in tests for source in test.sources]
    node.depends_on = copy.copy(node.depends_on)
    node.depends_on.nodes = list(dict.fromkeys(each for test in tests for each in test.depends_on.nodes))
    node.depends_on.macros = list(dict.fromkeys(each for test in tests for each in test.depends_on.macros))
    node.raw_code = "\nunion all\n".join(f"select 1 as found from (\n{_call(test.test_metadata)}\n)" for test in tests)
    return node


def _call(metadata: Any) -> str:
    macro = f"test_{metadata.name}" if metadata.namespace is None else f"{metadata.namespace}.test_{metadata.name}"
    return f"{{{{ {macro}({', '.join(f'{name}={_argument(value)}' for name, value in metadata.kwargs.items())}) }}}}"


def _argument(value: Any) -> str:
    found = _RENDERED.fullmatch(value) if isinstance(value, str) else None
    return repr(value) if found is None else found[1] or found[2]
