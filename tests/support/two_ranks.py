"""Steps on one gloo rank and on two, for each of CASES: python -m tests.support.two_ranks FOLDER.

Rank 0 leaves everything that a step changes, and the metrics, in FOLDER/CASE/WORLD.pt. The ranks are forked from one
process, which imports torch once, and meet in a file, so that no port has to be free.
"""

import dataclasses
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which an optimizer imports: once, before the ranks are forked
import torch.distributed as dist

from debiaspl import checkpoint, distributed
from debiaspl.build import build_state
from debiaspl.config import Engine, Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import Step
from tests.support.steps import CLASSES, HEAD, SMALL, arrays, batches, tables

STEPS = 6
CASES = {"upstream": ("upstream", "float64"), "paper": ("paper", "float64"), "overflow": ("paper", "float16")}
"""Name → the method's variant, and float16, or float64 with the passes of float32."""


def main(root: Path) -> int:
    """Computes all cases; returns how many ranks failed."""
    failures = 0
    for name, (compat, precision) in CASES.items():
        (root / name).mkdir()
        children = [_forked(rank, world, root / name, compat, precision) for world in (1, 2) for rank in range(world)]
        failures += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return failures


def _forked(*words: Any) -> int:
    if child := os.fork():
        return child
    try:
        _steps(*words)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _steps(rank: int, world: int, folder: Path, compat: str, precision: str) -> None:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    ranks = Ranks(rank, world, world)
    low = precision == "float16"
    torch.set_default_dtype(torch.float32 if low else torch.float64)
    science = dataclasses.replace(SMALL, compat=compat, labeled_batch=2 * SMALL.labeled_batch)  # two groups a rank
    recipe = Recipe("test", science, Engine(precision="float16" if low else "float32"))
    state = build_state(recipe, CLASSES, ranks)
    state.student.head.weight.data *= HEAD
    dtype = torch.float16 if low else torch.float32
    step = Step(state, tables(), science, ranks, dtype=dtype, compile=False)
    share = science.accumulation(world)
    metrics = []
    for number in range(STEPS):
        groups = batches(science, seed=number)[rank * share : (rank + 1) * share]
        if low and number == 2 and rank == world - 1:  # an overflow on one rank only
            state.student.head.weight.register_hook(_once_infinite())
        metrics.append(ranks.sum_(step(groups, number)) / world)
    phat = checkpoint.gathered_phat(state, recipe, ranks)
    counts = ranks.sum_(state.pseudo_labels.clone())
    own = arrays(state) | {"phat": phat, "pseudo_labels": counts}
    everywhere = all(not ranks.any(not _agrees(ranks, value)) for name, value in own.items() if "num_b" not in name)
    if ranks.is_main:
        scale = torch.tensor(state.scaler.get_scale())
        content = own | {"metrics": torch.stack(metrics), "scale": scale, "everywhere": torch.tensor(everywhere)}
        torch.save(content, folder / f"{world}.pt")
    distributed.leave()


def _once_infinite():
    """A gradient hook that spoils the first gradient it sees."""
    left = [1]

    def spoil(gradient):
        return gradient * float("inf") if left and left.pop() else gradient

    return spoil


def _agrees(ranks: Ranks, value: torch.Tensor) -> bool:
    """Every rank holds the same bits as the mean of all."""
    return torch.equal(ranks.sum_(value.clone()) / ranks.world, value)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
