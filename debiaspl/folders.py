"""What a recipe finds below its data root: the training split and the validation images. PyTorch is not needed."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from debiaspl.config import Recipe
from pipelines.augment import pillow
from pipelines.errors import DataError, UserError, first_few
from pipelines.names import readable
from pipelines.samples.listing import UNKNOWN, Listing, list_images
from pipelines.samples.split import NoClipTargets, Split, find_file, read_split
from pipelines.samples.subsets import held_back


def read_data(recipe: Recipe, *, counting: bool = False) -> tuple[Split, Listing]:
    """Returns the training split and the validation listing below the data root.

    Without a folder of validation images a share of the labeled ones is held back: the listing is then that of the
    training images, and its ``indices`` are the ones held back. ``counting``: only their number matters, so that none
    of them is decoded.
    """
    engine, root = recipe.engine, Path(recipe.engine.data)
    listed = partial(list_images, pixels_per_byte=engine.pixels_per_byte, reading=recipe.science.reading)
    train = listed(root / engine.train, on_bad="keep")
    validation = listed(root / engine.val) if engine.val else None
    if validation is not None and train.classes != validation.classes:
        differing = [readable(name) for name in sorted(set(train.classes) ^ set(validation.classes))]
        raise DataError(
            f"{readable(train.root)} and {readable(validation.root)} differ in their class folders: "
            f"{first_few(differing, 5)}."
        )
    labeled = find_file(root, engine.labeled_csv, option="--set engine.labeled_csv=…")
    unlabeled: Path | Listing | None
    if engine.unlabeled:
        unlabeled = listed(root / engine.unlabeled, labeled=False, on_bad="keep")
    else:
        unlabeled = find_file(root, engine.unlabeled_csv, option="--set engine.unlabeled_csv=…")
    clip_file = root / engine.clip_file if engine.clip_file else None
    try:
        split = read_split(train, labeled, unlabeled, clip_file, use_clip=recipe.science.clip)
    except NoClipTargets as error:
        raise NoClipTargets(f"{error}\nName the file with --set engine.clip_file=…") from error
    return (split, validation) if validation is not None else hold_back(recipe, train, split, counting)


def hold_back(recipe: Recipe, train: Listing, split: Split, counting: bool = False) -> tuple[Split, Listing]:
    """Returns the split without the labeled images that are held back, and the listing of these.

    They are decoded once (unless ``counting``), so that no evaluation meets a broken file. Raises DataError where no
    class can spare any.
    """
    share = recipe.engine.held_back

    def is_sound(index: int) -> bool:
        if index in train.bad or counting:
            return index not in train.bad
        try:
            pillow.decode(train.path(index), train.reading)
        except OSError:
            return False
        return True

    held = held_back(train, np.sort(split.labeled), share, recipe.science.seed, is_sound)
    if not len(held):
        raise DataError(
            f"There are no images to measure accuracy on: no folder of them is named, and no class of "
            f"{readable(train.root)} has a second labeled image that could be held back. Make a folder "
            f"{readable(Path(recipe.engine.data, 'val'))} with a folder for each class."
        )
    kept = np.setdiff1d(split.labeled, held)
    labels = split.labels.copy()
    labels[held] = UNKNOWN
    unlabeled = split.unlabeled if split.elsewhere is not None else np.setdiff1d(split.unlabeled, held)
    return replace(split, labeled=kept, unlabeled=unlabeled, labels=labels), replace(train, part=held)


def steps_per_epoch(recipe: Recipe, split: Split) -> int:
    """Returns how many whole steps one pass over the unlabeled set has; raises UserError where it has none."""
    batch = recipe.science.labeled_batch * recipe.science.mu
    steps = len(split.unlabeled) // batch
    if steps == 0:
        raise UserError(
            f"A step takes {batch} unlabeled images (labeled_batch {recipe.science.labeled_batch} · mu "
            f"{recipe.science.mu}), but there are only {len(split.unlabeled)}. Lower science.labeled_batch."
        )
    return steps
