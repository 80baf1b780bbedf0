"""Recipe ``own``: looks at the folders, chooses what depends on them, and says what it chose and how to change it.

Only the pictures decide, never the machine: the same data and seed are the same experiment everywhere.
"""

import os
from collections.abc import Collection
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from debiaspl.config import Engine, Recipe, Science
from debiaspl.folders import read_data
from debiaspl.recipes.own import OWN
from pipelines.errors import DataError, is_installed
from pipelines.names import readable
from pipelines.samples.split import Split
from pipelines.samples.split_file import SUFFIX, read_split_file

SIZES = (32, 64, 96, 128, 224)
"""Sizes of a view, pixels, among which the median short side chooses the nearest."""
STEPS = 600
"""Optimisation steps that the epochs come to, at least; few pictures need as many as many do."""
FEWEST_EPOCHS = 5
_TRUNKS = {224: "resnet18", 64: "resnet10-narrow", 0: "resnet8-small"}
"""Size from which on → network without pretrained weights. At 64 px a step takes two cores about 0.3 s."""
_BESIDE = {"val", "unlabeled", "indexes", "ffcv"}
"""Folders that lie beside train/ and are no classes."""


def fitted(recipe: Recipe, given: Collection[str]) -> Recipe:
    """Returns the recipe with all that depends on the data chosen, but for the ``given`` fields ('science.size').

    Raises DataError where the folders are none that it knows.
    """
    if not Path(recipe.engine.data).name:  # '.': the folder above it must have a path, too
        recipe = replace(recipe, engine=replace(recipe.engine, data=str(Path(recipe.engine.data).resolve())))
    chosen = {name: value for name, value in _layout(recipe.engine).items() if f"engine.{name}" not in given}
    recipe = replace(recipe, engine=replace(recipe.engine, **chosen))
    split, _ = read_data(recipe, counting=True)
    if len(split.listing.classes) < 2:
        name = readable(split.listing.classes[0])
        raise DataError(f"{readable(split.listing.root)} has one class folder, {name}. A classifier needs two or more.")
    return replace(recipe, science=_science(recipe, given, split))


def _layout(engine: Engine) -> dict[str, Any]:
    """Returns the fields that say which folder is what."""
    root = Path(engine.data)
    if not root.is_dir():
        raise DataError(
            f"There is no data folder {readable(root)}. It should hold train/ with a folder of pictures for each class "
            "(or these folders alone), and may hold val/ and unlabeled/; name it with --data."
        )
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    chosen: dict[str, Any] = {"val": "val" if "val" in folders else ""}
    chosen["pipeline"] = "dali" if is_installed("nvidia.dali") else "torchvision"
    if "train" in folders and any(entry.is_dir() for entry in os.scandir(root / "train")):
        if "unlabeled" in folders:
            chosen["unlabeled"] = "unlabeled"
        elif csvs := _newest_split(root / "indexes"):
            chosen["labeled_csv"], chosen["unlabeled_csv"] = csvs
        beton = engine.train_beton
    elif beside := folders & _BESIDE:
        raise DataError(
            f"{readable(root)} has {min(beside)}/, but no train/ with a folder of pictures for each class. "
            f"Make {readable(root / 'train')} and put the labeled class folders there."
        )
    else:  # the class folders alone
        _require_out_elsewhere(root, engine)
        chosen["train"] = "."
        chosen["train_beton"] = beton = f"../ffcv/{root.name}.beton"
    if not chosen["val"]:
        chosen["val_beton"] = beton
    return chosen


def _require_out_elsewhere(root: Path, engine: Engine) -> None:
    """Raises DataError where the run's folder would be taken for a class."""
    out = Path(engine.out or f"runs/{OWN}").resolve()
    if root.resolve() in (out, *out.parents):
        raise DataError(
            f"The run's folder {readable(out)} would lie among the class folders of {readable(root.resolve())}. "
            "Name one elsewhere with --out, or put the class folders into a folder train."
        )


def _newest_split(folder: Path) -> tuple[tuple[str], tuple[str]] | None:
    """Returns the labeled and the unlabeled index file of the split that make_splits wrote last, below the root."""
    found = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not found:
        return None
    labeled, unlabeled, *_ = read_split_file(found[-1])["files"]
    return (f"{folder.name}/{labeled}",), (f"{folder.name}/{unlabeled}",)


def is_supervised(recipe: Recipe) -> bool:
    """Returns whether there are no unlabeled pictures, so that the labeled ones stand in both streams."""
    return not (recipe.engine.unlabeled or recipe.engine.unlabeled_csv)


def short_sides(split: Split) -> NDArray[np.int32]:
    """Returns the short side of every whole picture that is trained on, pixels."""
    chosen = [(split.listing, split.labeled), (split.unlabeled_listing, split.unlabeled)]
    sides = np.concatenate([np.minimum(each.heights[index], each.widths[index]) for each, index in chosen])
    return sides[sides > 0]


def _science(recipe: Recipe, given: Collection[str], split: Split) -> Science:
    science, chosen = recipe.science, dict[str, Any]()

    def pick(name: str, value: Any) -> Any:
        """Returns a field's value: the given one, or else ``value``, which is noted."""
        if f"science.{name}" in given:
            return getattr(science, name)
        chosen[name] = value
        return value

    labeled, unlabeled, classes = len(split.labeled), len(split.unlabeled), len(split.listing.classes)
    size = pick("size", _nearest(float(np.median(short_sides(split)))))
    pick("eval_resize", size if size < 96 else round(size * 8 / 7))
    pretrained = bool(science.init)
    pick("arch", "resnet50" if pretrained else next(arch for least, arch in _TRUNKS.items() if size >= least))
    pick("lr", 0.003 if pretrained else 0.05)
    pick("threshold", 0.95 if classes <= 10 else 0.8)
    if is_supervised(recipe):
        for name in ("tau", "lambda_u", "lambda_cld"):
            pick(name, 0.0)
        pick("multi_view", False)
    batch = pick("labeled_batch", _batch(labeled if is_supervised(recipe) else unlabeled, science))
    pick("group", min(batch, 8) if batch % 8 == 0 else batch)
    mu = pick("mu", 1 if is_supervised(recipe) else max(1, min(science.mu, unlabeled // batch)))
    steps = max(1, unlabeled // (batch * mu))
    epochs = pick("epochs", max(FEWEST_EPOCHS, ceil(STEPS / steps)))
    pick("warmup_epochs", epochs // 20)
    return replace(science, **chosen)


def _nearest(side: float) -> int:
    """Returns the size that is nearest to ``side`` by ratio."""
    return min(SIZES, key=lambda size: abs(np.log(size / side)))


def _batch(images: int, science: Science) -> int:
    """Returns how many labeled images a step takes: the recipe's number, fewer of few, the paper's of many."""
    if images >= 100_000:
        return 64
    return max(1, min(science.labeled_batch, images))
