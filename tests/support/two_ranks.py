"""Steps on one of several gloo ranks: python -m tests.support.two_ranks RANK WORLD FOLDER COMPAT PRECISION.

Rank 0 leaves everything that a step changes, and the metrics, in FOLDER/WORLD.pt. The ranks meet in a file, so that no
port has to be free. PRECISION is float16, or float64 with the passes of float32.
"""

import dataclasses
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from debiaspl import checkpoint, distributed
from debiaspl.build import build_state
from debiaspl.config import Engine, Recipe
from debiaspl.distributed import Ranks
from debiaspl.step import Step
from tests.support.steps import CLASSES, HEAD, SMALL, arrays, batches, tables

STEPS = 6


def main(rank: int, world: int, folder: Path, compat: str, precision: str) -> None:
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
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
