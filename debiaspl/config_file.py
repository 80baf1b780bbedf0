"""A run's config.json: every field that it was started with, written for people and read again by --resume."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from debiaspl.config import ConfigError, Recipe
from debiaspl.overrides import assignments, override
from pipelines.files import read_regular, replacing
from pipelines.names import readable

NAME = "config.json"
_MOST_BYTES = 1 << 20


def write_config(folder: Path, recipe: Recipe, experiment: str) -> None:
    """Writes the recipe's fields, and the experiment that the run's checkpoints belong to. Raises OSError."""
    content = {"experiment": experiment, **dataclasses.asdict(recipe)}
    with replacing(folder / NAME) as building:
        building.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_content(path: Path) -> Any:
    """Returns what a config.json holds. Raises OSError where it cannot be read, ValueError where it is no JSON."""
    return json.loads(read_regular(path, _MOST_BYTES))


def read_config(folder: Path) -> Recipe | None:
    """Returns the recipe of the run in ``folder``; None where it has no config.json. Raises ConfigError if damaged."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        content = read_content(path)
        return override(Recipe(str(content["name"])), assignments(content))
    except (OSError, ValueError, KeyError, TypeError) as error:  # ConfigError is a ValueError
        raise ConfigError(
            f"{readable(path)} cannot be used ({error}). Name the run's --recipe and its --set."
        ) from error
