"""Small steps: their recipe, batches and tables, everything that they change, and how far two of them are apart."""

import dataclasses

import torch

from debiaspl.build import build_state
from debiaspl.config import Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.step import State, Step, Tables
from pipelines.batch import Batch, Views

CLASSES = 5
SCIENCE = Science(
    size=16, eval_resize=16, arch="resnet8-small", dropout=0.3, labeled_batch=8, group=4, mu=3, lr=0.05, ema=0.9
)


def batches(science: Science, seed: int = 0) -> list[Batch]:
    """Random images for every group of a step; image brightness follows the label."""
    generator = torch.Generator().manual_seed(seed)
    views = 4 if science.multi_view else 2

    def random_views(v: int, n: int) -> Views:
        pixels = torch.randint(0, 256, (v, n, science.size, science.size, 3), generator=generator, dtype=torch.uint8)
        return Views(pixels, torch.randint(0, 50, (n,), generator=generator))

    sizes = (science.group, science.group * science.mu)
    return [Batch(random_views(1, sizes[0]), random_views(views, sizes[1])) for _ in range(science.groups)]


def tables(clip: bool = False) -> Tables:
    labels = torch.arange(50).remainder(CLASSES)
    return Tables(labels, labels.flip(0) if clip else None, torch.linspace(0, 1, 50) if clip else None)


def build(science: Science, dtype: torch.dtype = torch.float32):
    """State and step on one rank."""
    ranks = Ranks()
    state = build_state(Recipe("test", science), CLASSES, ranks)
    return state, Step(state, tables(science.clip), science, ranks, dtype=dtype, compile=False)


SMALL = dataclasses.replace(SCIENCE, mu=2, threshold=0.6, lambda_u=1.0, lr=0.01, epochs=10, warmup_epochs=2)
HEAD = 6.0
"""Factor on the head's first weights: logits with some spread, so that some pseudo-labels fire and some do not."""


def arrays(state: State) -> dict[str, torch.Tensor]:
    """Everything a step changes, by name."""
    named = {f"student.{name}": value for name, value in state.student.state_dict().items()}
    named |= {f"teacher.{name}": value for name, value in state.teacher.state_dict().items()}
    for name, parameter in state.student.named_parameters():
        named[f"momentum.{name}"] = state.optimizer.state[parameter]["momentum_buffer"]
    return named | {"phat": state.phat, "pseudo_labels": state.pseudo_labels}


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """max|a − b| / max|b|; where b is all zero, max|a − b|."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).abs().max() / (theirs.abs().max() or 1.0))
