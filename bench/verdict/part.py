"""One part of the verdict in a process of its own: the loader, the step, or both; prints what it saw as JSON.

It runs as ``python -m bench.verdict.part PART SECONDS``, followed by options of ``debiaspl.train``. The step is that of
one group, as one of eight GPUs takes it.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.verdict.timing import Take, epochs, no_step, replayed, timed
from debiaspl import distributed, train
from debiaspl.build import build_learner, compute_dtype, one_group
from debiaspl.config import Recipe
from debiaspl.data import open_training, read_data, source_threads
from debiaspl.distributed import Ranks
from debiaspl.step import Step
from pipelines import console
from pipelines.batch import Batch
from pipelines.beton.format import PLANES
from pipelines.beton.reader import open_beton

PARTS = ("loader", "step", "both")


@console.tells_errors
def main(arguments: Sequence[str] | None = None) -> int:
    """Measures a part, prints it, and returns 0; 2 after a message about what to mend."""
    part, seconds, *words = list(sys.argv[1:] if arguments is None else arguments)
    recipe = train.fitted_recipe(train.build_parser().parse_args(words))
    ranks = distributed.join(recipe.engine.device)
    print(json.dumps(measure(part, float(seconds), recipe, ranks)))
    return 0


def measure(part: str, seconds: float, recipe: Recipe, ranks: Ranks) -> dict[str, object]:
    """Returns what was seen of a part, and what it was opened with."""
    small = one_group(replace(recipe, science=replace(recipe.science, init="")))
    split, _ = read_data(small)
    training = open_training(small, split, replace(ranks, rank=0, world=1))
    try:
        found = {}
        if part == "loader":
            for name in ("loader", "again"):
                training.feed.seek(0, 0, 0)
                with closing(epochs(training.feed)) as batches:
                    found[name] = timed(batches, no_step, seconds)
        else:
            step = _step(build_learner(small, split, ranks).step, ranks)
            if part == "step":
                found[part] = timed(replayed(training.feed), step, seconds)
            else:
                with closing(epochs(training.feed)) as batches:
                    found[part] = timed(batches, step, seconds)
    finally:
        training.feed.close()
    setting = {
        "pipeline": recipe.engine.pipeline,
        "threads": source_threads(small, ranks),
        "cores": ranks.cores,
        "planes": _planes(small),
        "on_gpu": ranks.device.type == "cuda",
        "precision": str(compute_dtype(small, ranks)).removeprefix("torch."),
    }
    return {"timed": found, "setting": setting}


def _step(step: Step, ranks: Ranks) -> Take:
    """Returns the step, whose end is waited for on a GPU, too (never run on a GPU)."""

    def run(batch: Batch, number: int) -> None:
        step([batch], number)
        if ranks.device.type == "cuda":
            torch.cuda.synchronize(ranks.device)

    return run


def _planes(recipe: Recipe) -> bool:
    """Returns whether the pipeline reads a .beton that holds planes."""
    path = Path(recipe.engine.data, recipe.engine.train_beton)
    return recipe.engine.pipeline == "ffcv" and bool(np.isin(open_beton(path).stored.kind, list(PLANES.values())).any())


if __name__ == "__main__":
    console.run(main)
