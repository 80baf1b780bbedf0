"""One batch through the real sources and the real step: shapes, steps per epoch, missing files."""

import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from debiaspl.build import (
    build_state,
    build_tables,
    compiles,
    compute_dtype,
    known_bad_files,
    load_init,
    one_group,
    open_feed,
    read_data,
    unlabeled_beton,
)
from debiaspl.config import Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import METRICS, Step
from debiaspl.trainer import steps_per_epoch
from pipelines.samples.split import Split


def missing_files(recipe: Recipe) -> list[str]:
    """Files and folders that a full run of this recipe needs and that are not there."""
    engine, root = recipe.engine, Path(recipe.engine.data)
    wanted: list[tuple[Path, ...]] = [(root / "train",), (root / "val",)]
    unlabeled = (engine.unlabeled,) if engine.unlabeled else engine.unlabeled_csv
    wanted += [tuple(root / name for name in names) for names in (engine.labeled_csv, unlabeled)]
    if recipe.science.clip and engine.clip_file:
        wanted.append((root / engine.clip_file,))
    if engine.pipeline == "ffcv":
        wanted += [(root / engine.train_beton,), (root / engine.val_beton,)]
        wanted += [(unlabeled_beton(recipe),)] if engine.unlabeled else []
    if recipe.science.init:
        wanted.append((Path(recipe.science.init),))
    return [" or ".join(str(path) for path in paths) for paths in wanted if not any(path.exists() for path in paths)]


def dry_run(recipe: Recipe, ranks: Ranks) -> None:
    """Print what a run would do; raises as the run would where data is missing. Missing weights are only named."""
    missing = missing_files(recipe)
    for name in missing:
        print(f"missing: {name}")
    split, validation = read_data(recipe)
    steps, accumulation = steps_per_epoch(recipe, split), recipe.science.accumulation(ranks.world)
    if recipe.science.init and not Path(recipe.science.init).exists():
        print("going on with random weights")
        recipe = replace(recipe, science=replace(recipe.science, init=""))
    small = one_group(recipe)
    bad_files = known_bad_files(recipe, split)
    feed = open_feed(small, split, steps_per_epoch(small, split), replace(ranks, rank=0, world=1), bad_files)
    try:
        batch = next(iter(feed))
    finally:
        feed.close()
    for name in [name for each in bad_files for name in each.news()]:  # none twice, where both are the same
        print(f"cannot be decoded, replaced: {name}")
    table = _describe(recipe, split, len(validation), steps, accumulation)
    table.add_row("labeled views", f"{tuple(batch.labeled.pixels.shape)} {batch.labeled.pixels.dtype} per group")
    table.add_row("unlabeled views", f"{tuple(batch.unlabeled.pixels.shape)} {batch.unlabeled.pixels.dtype} per group")

    state = build_state(small, len(split.listing.classes), ranks)
    load_init(small, state.student, ranks)
    step = Step(
        state,
        build_tables(split, ranks),
        small.science,
        replace(ranks, rank=0, world=1),
        dtype=compute_dtype(recipe, ranks),
        compile=compiles(recipe, ranks),
        cuda_graphs=recipe.engine.compile == "cuda-graphs",
    )
    started = time.perf_counter()
    values = dict(zip(METRICS, step([batch], 0).tolist(), strict=True))
    table.add_row("one group's step", f"{time.perf_counter() - started:.1f} s (the first one, not a speed)")
    table.add_row("its losses", ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    Console(highlight=False).print(table)


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
