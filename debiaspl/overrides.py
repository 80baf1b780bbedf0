"""Changes to a recipe: ``--set section.field=value``, typed by the field; fields of older versions find their place."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from debiaspl.config import ConfigError, Engine, Recipe, Science, near
from pipelines import DaliOptions, FfcvOptions, console

SECTIONS: dict[str, type[Any]] = {"science": Science, "engine": Engine, "dali": DaliOptions, "ffcv": FfcvOptions}
"""The sections of a recipe, as ``--set section.field=value`` and ``--print-config`` name them."""
MOVED = {
    "engine.strong_on": "ffcv.strong_on",
    "engine.ffcv_cache": "ffcv.cache",
    "engine.dali_cut": "dali.cut",
    "engine.dali_hw_decoder_load": "dali.hw_decoder_load",
    "engine.dali_preallocate_mb": "dali.preallocate_mb",
}
"""Fields as version 0.1 named them → their names now."""


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Returns the recipe with ``section.field=value`` assignments applied, each value parsed by its field's type.

    Fields may be called by their old names; a line on stderr says the new one.

    Raises ConfigError for what does not exist or does not fit.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if name in MOVED:
            console.say(f"{name} is now {MOVED[name]}", error=True)
            name = MOVED[name]
        section, dot, field = name.partition(".")
        if not (equals and dot):
            raise ConfigError(f"--set wants section.field=value (got {assignment!r}).")
        if section not in SECTIONS:
            raise ConfigError(f"There is no section {section!r}; there are {', '.join(SECTIONS)}.")
        types = get_type_hints(SECTIONS[section])
        if field not in types:
            known = [f"{each}.{f.name}" for each, class_ in SECTIONS.items() for f in dataclasses.fields(class_)]
            raise ConfigError(f"There is no field {name!r}{near(name, known)}.")
        changes[section][field] = _parse(name, types[field], text.strip())
    sections = {name: dataclasses.replace(getattr(recipe, name), **changed) for name, changed in changes.items()}
    return dataclasses.replace(recipe, **sections)


def assignments(values: Mapping[str, Any]) -> list[str]:
    """Returns ``section.field=value`` for each field of a recipe as nested dicts, as ``override`` takes them.

    Fields that this version does not have are left out.
    """
    lines = []
    for section, class_ in SECTIONS.items():
        for field in dataclasses.fields(class_):
            if field.name in values[section]:
                value = values[section][field.name]
                shown = ",".join(map(str, value)) if isinstance(value, tuple | list) else value
                lines.append(f"{section}.{field.name}={shown}")
    return lines


def restored(saved: Mapping[str, Any]) -> Recipe:
    """Returns the recipe that a checkpoint holds as ``dataclasses.asdict``, of this version or an older one.

    Fields that it lacks get their defaults; those that no longer exist are left out.
    """
    values = {section: dict(saved.get(section, {})) for section in SECTIONS}
    for old, new in MOVED.items():
        (section, field), (new_section, new_field) = old.split("."), new.split(".")
        if field in values[section]:
            values[new_section].setdefault(new_field, values[section].pop(field))
    built = {}
    for section, class_ in SECTIONS.items():
        known = {field.name for field in dataclasses.fields(class_)}
        built[section] = class_(**{name: value for name, value in values[section].items() if name in known})
    return Recipe(saved["name"], **built)


def _parse(name: str, type_: Any, text: str) -> Any:
    """Returns ``text`` as a value of ``type_``; tuples are comma-separated."""
    from pydantic import TypeAdapter, ValidationError  # slow to import: --help need not wait for it

    value: Any = text
    if str(type_).startswith("tuple"):
        value = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
    try:
        return TypeAdapter(type_).validate_python(value)
    except ValidationError as error:
        wanted = getattr(type_, "__name__", None) if isinstance(type_, type) else str(type_).replace("typing.", "")
        raise ConfigError(f"{name} must be {wanted} (got {text!r}): {error.errors()[0]['msg']}.") from error
