"""Folders of images whose classes are known: a run's own, or others with some of its classes (domain shift)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from debiaspl.config import Recipe
from debiaspl.evaluation.detail import Detail
from debiaspl.evaluation.guesses import Guesses
from debiaspl.using.pipeline_choice import for_folder
from pipelines.errors import DataError, first_few
from pipelines.names import readable
from pipelines.samples.listing import Listing, list_images


@dataclass(frozen=True)
class Validation:
    """Images to evaluate on, and where each stands among the network's classes."""

    name: str
    recipe: Recipe  # with a pipeline that reads them
    listing: Listing
    truth: NDArray[np.int64]  # [N] the network's number of each image's class

    def among(self, classes: int) -> NDArray[np.int64] | None:
        """Returns the classes that there are; None where all are there."""
        there = np.unique(self.truth)
        return None if len(there) == classes else there


class Evaluated(NamedTuple):
    """Holds what came out of one network on one folder."""

    validation: Validation
    model: str
    guesses: Guesses
    detail: Detail
    knn: float | None  # percent


def open_folder(folder: Path, recipe: Recipe, classes: Sequence[str], asked: str | None) -> Validation:
    """Returns the images of a folder with class folders, read by the pipeline that is ``asked`` for or fits.

    Raises DataError where a class folder is not one of the network's ``classes``.
    """
    found = list_images(folder, pixels_per_byte=recipe.engine.pixels_per_byte, reading=recipe.science.reading)
    number = _numbers(found.classes, classes)
    if unknown := [readable(name) for name in found.classes if name not in number]:
        raise DataError(
            f"{readable(folder)} has class folders that the network does not know: {first_few(unknown, 5)}. "
            f"Take them out; it knows {first_few([readable(name) for name in classes], 5)}."
        )
    truth = np.asarray([number[name] for name in found.classes])[found.labels]
    return Validation(folder.resolve().name, for_folder(recipe, folder, asked), found, truth)


def _numbers(folders: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Returns the network's number of each class folder: by name, or by place where only the folders are numbers."""
    by_name = {name: number for number, name in enumerate(classes)}
    if all(name.isascii() and name.isdecimal() for name in folders) and not set(folders) & by_name.keys():
        return {name: int(name) for name in folders if int(name) < len(classes)}
    return by_name


def own(recipe: Recipe, validation: Listing) -> Validation:
    """Returns a run's own validation images, whose class folders are the network's classes."""
    return Validation("val", recipe, validation, validation.labels)
