"""What the step bench times: a bare loop, the published habits, and the same with one part more at a time.

Every contestant has a state of its own and the same resident batches: 8 labeled images with one view and 40 unlabeled
ones with two weak and two strong views, seeded random pixels. A step's cost does not depend on what they show.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.arguments import LABELED, UNLABELED
from bench.four_views import UNLABELED_VIEWS
from bench.yardsticks.published_step import Images, PublishedStep, normalised
from debiaspl.build import build_state
from debiaspl.config import Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.models.eman import Eman
from debiaspl.recipes import find
from debiaspl.step import METRICS, State, Step, Tables
from pipelines.batch import Batch, Views
from pipelines.errors import requires

with requires("torchvision", "pip install -e '.[dev]'", "python -m bench step"):
    import torchvision

CLASSES = 1000
BARE = "bare torchvision loop"
WITHOUT_EMA = "published, no EMA, no reads"
YARDSTICK = "published habits"
NO_READS = "+ no reads by the host"
FOREACH = "+ teacher in two calls"
LAYOUT = "+ channels_last, uint8 input"
COMPILED = "+ compiled"
BFLOAT16 = "+ bf16"
LADDER = (YARDSTICK, NO_READS, FOREACH, LAYOUT, COMPILED, BFLOAT16)
"""The rows from the yardstick to our step, each with all parts of those before it."""
_BATCHES = 2
_APART = 0.05
"""Relative difference of two contestants' first losses, which dropout and bf16 explain."""


class Workload(NamedTuple):
    """Holds what all contestants share: the recipe's science, its tables and the batches."""

    science: Science
    tables: Tables
    batches: list[Batch]


class OurStep(NamedTuple):
    """The trainer's step, and what it changes."""

    run: Callable[[Batch, int], Tensor]
    state: State


def workload(arch: str, size: int, samples: int) -> Workload:
    """Returns one group of recipe imagenet-1p with another trunk and size, and labels for ``samples`` images."""
    science = replace(find("imagenet-1p").science, arch=arch, size=size, init="", labeled_batch=LABELED, group=LABELED)
    science = replace(science, threshold=0.0)  # every pseudo-label counts: at the start none would reach another
    generator = torch.Generator().manual_seed(0)

    def views(number: int, images: int) -> Views:
        pixels = torch.randint(0, 256, (number, images, size, size, 3), generator=generator, dtype=torch.uint8)
        return Views(pixels, torch.randint(0, samples, (images,), generator=generator))

    batches = [Batch(views(1, LABELED), views(UNLABELED_VIEWS.count, UNLABELED)) for _ in range(_BATCHES)]
    labels = torch.randint(0, CLASSES, (samples,), generator=generator)
    return Workload(science, Tables(labels, None, None), batches)


def _state(shared: Workload) -> State:
    return build_state(Recipe("bench", shared.science), CLASSES, Ranks())


def bf16_missing() -> str:
    """Returns why this CPU cannot show what bf16 buys; empty if it can."""
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return ""
    return "this CPU has no instructions for it (AVX512_BF16 or AMX)"


def ours(shared: Workload, dtype: torch.dtype, compile: bool) -> OurStep:
    """Returns the trainer's step, with a state of its own."""
    state = _state(shared)
    step = Step(state, shared.tables, shared.science, Ranks(), dtype=dtype, compile=compile)
    return OurStep(lambda batch, number: step([batch], number), state)


Run = Callable[[int], Tensor]
"""One step, by its number; returns METRICS, or the loss alone."""


def resident(shared: Workload, step: OurStep) -> Run:
    """Returns a step on the batches in memory, in turn."""
    return lambda number: step.run(shared.batches[number % _BATCHES], number)


def others(shared: Workload) -> dict[str, Run]:
    """Returns all but our own steps. Their images lie ready as normalised floats: that is a published loader's work."""
    images = [[normalised(batch)] for batch in shared.batches]

    def published(reads: bool, ema: bool) -> tuple[Run, State]:
        state = _state(shared)
        step = PublishedStep(state, shared.tables, shared.science, reads=reads, ema=ema)

        def run(number: int) -> Tensor:
            found = step.on_images(images[number % _BATCHES], number)
            return torch.tensor([found[name] for name in METRICS]) if isinstance(found, dict) else found

        return run, state

    run_foreach, state = published(reads=False, ema=False)
    eman = Eman(state.teacher, state.student, shared.science.ema)

    def foreach(number: int) -> Tensor:
        metrics = run_foreach(number)
        eman.update()
        return metrics

    return {
        BARE: _bare([each for (each,) in images], shared),
        WITHOUT_EMA: published(reads=False, ema=False)[0],
        YARDSTICK: published(reads=True, ema=True)[0],
        NO_READS: published(reads=False, ema=True)[0],
        FOREACH: foreach,
    }


def _bare(images: list[Images], shared: Workload) -> Run:
    """Returns the least that any such method costs: torchvision's network, a teacher's forward, cross-entropy, SGD."""
    science = shared.science
    student, teacher = (torchvision.models.get_model(science.arch, num_classes=CLASSES) for _ in range(2))
    teacher.eval()
    optimizer = torch.optim.SGD(
        student.parameters(), lr=science.lr, momentum=science.momentum, weight_decay=science.weight_decay
    )

    def run(number: int) -> Tensor:
        batch = images[number % _BATCHES]
        with torch.no_grad():
            targets = teacher(torch.cat(batch.weak)).argmax(1)
        logits = student(torch.cat([batch.labeled, *batch.strong]))
        loss = F.cross_entropy(logits, torch.cat([shared.tables.labels[batch.labeled_index], targets]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def repeated(run: Run, steps: int) -> Callable[[], int]:
    """Returns a round's work: the next ``steps`` steps, and then their number."""
    numbers = count()

    def work() -> int:
        for _ in range(steps):
            run(next(numbers))
        return steps

    return work


def check(runs: dict[str, Run]) -> None:
    """Runs one step of each; raises RuntimeError unless all but the bare loop find about the yardstick's losses."""
    expected = runs[YARDSTICK](0)
    for name, run in runs.items():
        found = expected if name == YARDSTICK else run(0)
        if name != BARE and not torch.allclose(found, expected, rtol=_APART, atol=_APART):
            raise RuntimeError(f"{name} computes something else: {found.tolist()}, not {expected.tolist()}.")
