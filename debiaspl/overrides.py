"""Changes to a recipe from the command line: ``--set section.field=value``, typed by the field."""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from debiaspl.config import ConfigError, Recipe, near


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The recipe with ``section.field=value`` assignments applied, each value parsed by its field's type."""
    changes: dict[str, dict[str, Any]] = {"science": {}, "engine": {}}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        section, dot, field_name = name.strip().partition(".")
        if not (equals and dot):
            raise ConfigError(f"--set wants section.field=value (got {assignment!r}).")
        if section not in changes:
            raise ConfigError(f"There is no section {section!r}; there are science and engine.")
        types = get_type_hints(type(getattr(recipe, section)))
        if field_name not in types:
            known = [f"{s}.{f.name}" for s in changes for f in dataclasses.fields(getattr(recipe, s))]
            raise ConfigError(f"There is no field {name.strip()!r}{near(name.strip(), known)}.")
        changes[section][field_name] = _parse(name.strip(), types[field_name], text.strip())
    science = dataclasses.replace(recipe.science, **changes["science"])
    return Recipe(recipe.name, science, dataclasses.replace(recipe.engine, **changes["engine"]))


def _parse(name: str, type_: Any, text: str) -> Any:
    """``text`` as a value of ``type_``; tuples are comma-separated."""
    value: Any = text
    if str(type_).startswith("tuple"):
        value = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
    try:
        return TypeAdapter(type_).validate_python(value)
    except ValidationError as error:
        wanted = getattr(type_, "__name__", None) if isinstance(type_, type) else str(type_).replace("typing.", "")
        raise ConfigError(f"{name} must be {wanted} (got {text!r}): {error.errors()[0]['msg']}.") from error
