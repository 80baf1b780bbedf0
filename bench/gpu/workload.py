"""The step that ``bench gpu`` runs: a recipe's networks and step on a device, and resident batches of noise."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from debiaspl.build import build_state
from debiaspl.config import Engine, Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.recipes import find
from debiaspl.step import State, Step, Tables
from pipelines.batch import Batch, Views

CLASSES = 10
SAMPLES = 5000
"""Labels in the tables: more than there are pictures."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Mode = str
"""How the passes run: eager, compiled, or graphs (compiled, and replayed as CUDA graphs)."""


class Learner(NamedTuple):
    """A step and what it changes."""

    state: State
    step: Step


def science(arch: str, size: int, group: int, mu: int = 5) -> Science:
    """Returns imagenet-1p's Science as one group of another network and size, without dropout."""
    base = find("imagenet-1p").science
    return replace(
        base, arch=arch, size=size, eval_resize=size, init="", labeled_batch=group, group=group, mu=mu,
        threshold=0.0, dropout=0.0, lr=0.01,
    )  # fmt: skip


def learner(wanted: Science, device: str, dtype: str, mode: Mode, ranks: Ranks | None = None) -> Learner:
    """Returns a step on the device, its networks the same for any dtype and mode."""
    ranks = ranks or Ranks(device=torch.device(device))
    recipe = Recipe("bench", wanted, Engine(precision=dtype))  # type: ignore[arg-type]
    state = build_state(recipe, CLASSES, ranks)
    labels = torch.arange(SAMPLES, device=ranks.device) % CLASSES
    step = Step(
        state,
        Tables(labels, None, None),
        wanted,
        ranks,
        dtype=DTYPES[dtype],
        compile=mode != "eager",
        cuda_graphs=mode == "graphs",
    )
    return Learner(state, step)


def batches(wanted: Science, device: str, number: int, seed: int = 0) -> list[Batch]:
    """Returns so many steps' batches of noise, the same on every device."""
    generator = torch.Generator().manual_seed(seed)

    def views(count: int, images: int) -> Views:
        shape = (count, images, wanted.size, wanted.size, 3)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return Views(pixels.to(device), torch.randint(0, SAMPLES, (images,), generator=generator).to(device))

    group = wanted.group
    return [Batch(views(1, group), views(wanted.unlabeled_views.count, wanted.mu * group)) for _ in range(number)]


def tensors(state: State) -> dict[str, Tensor]:
    """Returns all that a step changes, by name."""
    named = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    named |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for name, parameter in state.student.named_parameters():
        named[f"momentum.{name}"] = state.optimizer.state[parameter]["momentum_buffer"]
    return named | {"phat": state.phat, "pseudo_labels": state.pseudo_labels}


def snapshot(state: State) -> dict[str, Any]:
    """Returns a copy of all that ``restore`` needs."""
    return {
        "tensors": {name: value.clone() for name, value in tensors(state).items()},
        "scaler": state.scaler.state_dict(),
    }


def restore(state: State, saved: dict[str, Any]) -> None:
    """Puts a snapshot into another state of the same recipe, in place."""
    with torch.no_grad():
        for name, value in tensors(state).items():
            value.copy_(saved["tensors"][name])
    if saved["scaler"]:
        state.scaler.load_state_dict(saved["scaler"])
