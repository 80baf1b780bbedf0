"""Changes to a recipe: ``--set field=value``, typed by the field; fields of older versions find their place."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from debiaspl.config import ConfigError, Engine, Recipe, Science
from debiaspl.science import near
from pipelines import DaliOptions, FfcvOptions, console
from pipelines.samples.reading import AS_TORCHVISION

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

    The section may be left out where only one has such a field. Fields may be called by their old names; a line on
    stderr says the new one. Fields that follow from an assigned one change with it.

    Raises ConfigError for what does not exist or does not fit.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, text in assigned(assignments).items():
        section, _, field = name.partition(".")
        changes[section][field] = _parse(name, get_type_hints(SECTIONS[section])[field], text)
    changes["science"] = {**_following(recipe.science, changes["science"]), **changes["science"]}
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


def assigned(assignments: Sequence[str]) -> dict[str, str]:
    """Returns the full name of each assigned field, and the text that it is assigned."""
    found = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set wants section.field=value (got {assignment!r}).")
        found[_full_name(name.strip())] = text.strip()
    return found


def _full_name(name: str) -> str:
    """Returns ``section.field``, also where the section was left out or the name is an old one."""
    if name in MOVED:
        console.say(f"{name} is now {MOVED[name]}", error=True)
        return MOVED[name]
    known = [f"{section}.{field.name}" for section, class_ in SECTIONS.items() for field in dataclasses.fields(class_)]
    if name in known:
        return name
    section, dot, _ = name.partition(".")
    if dot and section not in SECTIONS:
        raise ConfigError(f"There is no section {section!r}; there are {', '.join(SECTIONS)}.")
    if dot:
        raise ConfigError(f"There is no field {name!r}{near(name, known)}")
    return _with_section(name, known)


def _with_section(name: str, known: Sequence[str]) -> str:
    """Returns the field called ``name`` with its section; raises ConfigError where none or several have it."""
    fields = [each.partition(".")[2] for each in known]
    close = [name] if name in fields else difflib.get_close_matches(name, set(fields), n=3)
    meant = [each for at, each in enumerate(known) if fields[at] in close]
    if close == [name] and len(meant) == 1:
        return meant[0]
    hint = f"; did you mean {' or '.join(meant)}?" if meant else "; --print-config lists all there are."
    raise ConfigError(f"There is no {'one ' if close == [name] else ''}field {name!r}{hint}")


def _following(base: Science, changed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of Science that follow from those that are ``changed``, in the proportions of ``base``."""
    follow = {}
    if "size" in changed:
        follow["eval_resize"] = round(changed["size"] * base.eval_resize / base.size)
    if changed.get("epochs", base.warmup_epochs) < base.warmup_epochs:
        follow["warmup_epochs"] = round(changed["epochs"] * base.warmup_epochs / base.epochs)
    return follow


def saved_science(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the Science of a recipe as a checkpoint holds it; fields that did not exist then say what was done."""
    return {**dataclasses.asdict(AS_TORCHVISION), **saved["science"]}


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
