"""What a checkpoint says of itself: enough to use its networks without the data that they were trained on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from debiaspl.config import Recipe
from debiaspl.models.trunks import pixel_statistics
from pipelines.samples.split import Split


class About(NamedTuple):
    """Says what a network's outputs mean, and what its inputs are."""

    classes: list[str]  # name of each output, in order
    mean: list[float]  # [3] of pixels in 0..1, by which images are normalised
    std: list[float]  # [3]
    size: int  # height and width of a view, pixels
    resize: int  # short side before the centre crop of evaluation, pixels
    labeled: list[int]  # labeled images of each class

    @property
    def is_sound(self) -> bool:
        """Returns whether every field has the type and length that ``describe`` gives it."""
        lengths = len(self.mean) == len(self.std) == 3 and len(self.classes) == len(self.labeled) > 0
        numbers = all(type(value) is float for value in [*self.mean, *self.std])
        whole = all(type(value) is int and value >= 0 for value in [self.size, self.resize, *self.labeled])
        return lengths and numbers and whole and all(type(name) is str for name in self.classes)


def describe(recipe: Recipe, split: Split) -> About:
    """Returns what a checkpoint of this recipe on this split says of itself."""
    mean, std = pixel_statistics(recipe.science.arch)
    classes = [*split.listing.classes]
    labeled = np.bincount(split.labels[split.labeled], minlength=len(classes))
    view = recipe.science.evaluation_view
    return About(classes, [*map(float, mean)], [*map(float, std)], view.size, view.resize, labeled.tolist())


def read_about(content: Mapping[str, Any]) -> About | None:
    """Returns what a checkpoint's content says of itself; None for one of version 0.1.0, which says nothing.

    Raises ValueError where that part is damaged.
    """
    if "about" not in content:
        return None
    try:
        about = About(**content["about"])
        sound = about.is_sound
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    if not sound:
        raise ValueError("it has values that no run has")
    return about
