"""Which pipeline reads a plain folder of pictures: the one that is asked for, or the run's, or what works there."""

from dataclasses import replace
from pathlib import Path

from debiaspl.config import Recipe
from pipelines import console
from pipelines.errors import is_installed
from pipelines.names import readable


def beton_of_folder(folder: Path) -> Path:
    """Returns where the converter puts the .beton of a folder: ffcv/<its name>.beton beside it."""
    whole = folder.absolute()
    return whole.parent / "ffcv" / f"{whole.name}.beton"


def for_folder(recipe: Recipe, folder: Path, asked: str | None) -> Recipe:
    """Returns the recipe with a pipeline that reads ``folder``, and that folder's .beton as its validation images.

    The one that is ``asked`` for stays. The run's gives way, which is said, where it is not installed here, or reads
    .beton files and the folder has none.
    """
    pipeline = asked or recipe.engine.pipeline
    beton = beton_of_folder(folder)
    if asked is None and pipeline == "ffcv" and not beton.is_file():
        why = f"{readable(folder)} has no {readable(beton)}"
        pipeline = _say("ffcv", why, "dali" if is_installed("nvidia.dali") else "torchvision")
    elif asked is None and pipeline == "dali" and not is_installed("nvidia.dali"):
        pipeline = _say("dali", "it is not installed", "torchvision")
    return replace(recipe, engine=replace(recipe.engine, pipeline=pipeline, val_beton=str(beton)))


def _say(before: str, why: str, pipeline: str) -> str:
    console.say(f"the run's pipeline {before} gives way to {pipeline}: {why}", error=True)
    return pipeline
