"""Files of definitions that people write in YAML: read, checked, and refused in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stitchline.definitions import problems
from stitchline.errors import DefinitionError

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[int | str, ...]


def read_definitions(
    path: Path,
    what: str,
    model: type[Model],
    fields: Iterable[str],
    whose: Callable[[Any, Place], str] = lambda told, place: "",
) -> Model:
    """The `what` (metrics, owners) that a file defines. `fields` are all names that a key may have, for what somebody
    may have meant; `whose` names the definition that a place in the file belongs to.

    Raises DefinitionError, naming the file, the place and the way out.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DefinitionError(f"The {what} of {path} cannot be read: {error}", source=path) from error
    try:
        return model.model_validate(told)
    except ValidationError as error:
        found = problems(error, fields, "a table of `name: value`")
        places = [each["loc"] for each in error.errors(include_url=False)]
        said = [
            ": ".join(part for part in (whose(told, place), field, told_of) if part)
            for place, (field, told_of) in zip(places, found, strict=True)
        ]
        raise DefinitionError(f"{path}: {'; '.join(said)}", field=found[0][0], source=path) from error
