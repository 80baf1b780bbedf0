"""One batch through the real sources and the real step: shapes, steps per epoch, missing files."""

import time
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from debiaspl.build import build_learner, one_group
from debiaspl.config import Recipe
from debiaspl.data import open_training, read_data, steps_per_epoch, unlabeled_beton
from debiaspl.distributed import Ranks
from debiaspl.own_account import account, remarks
from debiaspl.recipes.own import OWN
from debiaspl.step import METRICS
from debiaspl.weights_file import read_tensors
from pipelines import console
from pipelines.samples.split import Split


def missing_files(recipe: Recipe) -> list[str]:
    """Returns the files and folders that a full run of this recipe needs and that are not there."""
    engine, root = recipe.engine, Path(recipe.engine.data)
    wanted: list[tuple[Path, ...]] = [(root / name,) for name in (engine.train, engine.val) if name]
    unlabeled = (engine.unlabeled,) if engine.unlabeled else engine.unlabeled_csv
    wanted += [tuple(root / name for name in names) for names in (engine.labeled_csv, unlabeled) if names]
    if recipe.science.clip and engine.clip_file:
        wanted.append((root / engine.clip_file,))
    if engine.pipeline == "ffcv":
        wanted += [(root / engine.train_beton,), (root / engine.val_beton,)]
        wanted += [(unlabeled_beton(recipe),)] if engine.unlabeled else []
    if recipe.science.init:
        wanted.append((Path(recipe.science.init),))
    return [" or ".join(str(path) for path in paths) for paths in wanted if not any(path.exists() for path in paths)]


def dry_run(recipe: Recipe, ranks: Ranks) -> None:
    """Prints what a run would do; raises as the run would where files are missing, weights among them last of all."""
    missing = missing_files(recipe)
    for name in missing:
        console.say(f"missing: {name}")
    split, validation = read_data(recipe)
    for line in account(recipe, split, validation) if recipe.name == OWN else remarks(split, recipe.science.size):
        console.say(line)
    steps, accumulation = steps_per_epoch(recipe, split), recipe.science.accumulation(ranks.world)
    init = Path(recipe.science.init)
    if recipe.science.init and not init.exists():
        console.say("going on with random weights")
        recipe = replace(recipe, science=replace(recipe.science, init=""))
    small, alone = one_group(recipe), replace(ranks, rank=0, world=1)
    training = open_training(small, split, alone)
    try:
        batch = next(iter(training.feed))
    finally:
        training.feed.close()
    for name in training.new_bad_files():
        console.say(f"cannot be decoded, replaced: {name}")
    table = _describe(recipe, split, len(validation.indices), steps, accumulation)
    table.add_row("labeled views", f"{tuple(batch.labeled.pixels.shape)} {batch.labeled.pixels.dtype} per group")
    table.add_row("unlabeled views", f"{tuple(batch.unlabeled.pixels.shape)} {batch.unlabeled.pixels.dtype} per group")

    step = build_learner(small, split, alone).step
    started = time.perf_counter()
    values = dict(zip(METRICS, step([batch], 0).tolist(), strict=True))
    table.add_row("one group's step", f"{time.perf_counter() - started:.1f} s (the first one, not a speed)")
    table.add_row("its losses", ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    console.show(table)
    if str(init) in missing:
        read_tensors(init)  # says that there is no such file


def _describe(recipe: Recipe, split: Split, validation: int, steps: int, accumulation: int) -> Table:
    table = Table(title=f"Dry run of {recipe.name}", show_header=False)
    science = recipe.science
    table.add_row("pipeline", recipe.engine.pipeline)
    table.add_row("classes", f"{len(split.listing.classes)}")
    table.add_row("images", f"{len(split.labeled)} labeled, {len(split.unlabeled)} unlabeled, {validation} validation")
    table.add_row("steps", f"{steps} per epoch, {steps * science.epochs} in {science.epochs} epochs")
    table.add_row(
        "batch",
        f"{science.labeled_batch} + {science.labeled_batch * science.mu} in {science.groups} groups, "
        f"{accumulation} on each rank",
    )
    return table
