"""Our steps beside the published habits written out (bench.yardsticks.published_step), compared."""

import dataclasses

import torch

from bench.yardsticks.published_step import PublishedStep
from debiaspl.build import build_state
from debiaspl.config import Recipe, Science
from debiaspl.distributed import Ranks
from debiaspl.optim import learning_rate
from debiaspl.step import METRICS, State, Step
from pipelines.batch import Batch
from tests.support.steps import CLASSES, HEAD, SMALL, arrays, batches, relative_error, tables

STEPS_PER_EPOCH = 5


def small_batches(science: Science, seed: int) -> list[Batch]:
    """Corners of 8 × 8 pixels: float64 is slow."""
    corner = lambda views: views._replace(pixels=views.pixels[:, :, :8, :8].contiguous())  # noqa: E731
    return [Batch(corner(batch.labeled), corner(batch.unlabeled)) for batch in batches(science, seed)]


def run_both(
    science: Science, steps: int, dtype: torch.dtype = torch.float32
) -> tuple[State, State, float, set[float]]:
    """Both states after ``steps`` steps, the largest error of any step's metrics, and the mask rates that occurred."""
    recipe, known = Recipe("test", science), tables(science.clip)
    known = known._replace(clip_confidence=None if not science.clip else torch.linspace(0, 1, 50))
    ours, theirs = build_state(recipe, CLASSES, Ranks()), build_state(recipe, CLASSES, Ranks())
    for state in (ours, theirs):
        state.student.head.weight.data *= HEAD
    fused = Step(ours, known, science, Ranks(), dtype=dtype, compile=False)
    published = PublishedStep(theirs, known, science, reads=False)
    worst, rates = 0.0, set()
    for step in range(steps):
        rate, data = learning_rate(science, step, STEPS_PER_EPOCH), small_batches(science, seed=step)
        for parameters in ours.optimizer.param_groups:
            parameters["lr"].fill_(rate)
        for parameters in theirs.optimizer.param_groups:
            parameters["lr"] = rate
        mine, other = fused(data, step), published(data, step)
        worst = max(worst, relative_error(mine, other))
        rates.add(float(other[METRICS.index("mask_rate")]))
    return ours, theirs, worst, rates


VARIANTS = [{"compat": "upstream"}, {"compat": "paper"}, {"clip": True}, {"multi_view": False}]


def assert_equal_steps(changed: dict, steps: int) -> None:
    """Every step's metrics and the state at the end."""
    ours, theirs, worst, rates = run_both(dataclasses.replace(SMALL, **changed), steps)
    assert worst < 1e-9
    assert len(rates) > min(5, steps // 8)  # some pseudo-labels fired and some did not
    theirs = arrays(theirs)
    for name, value in arrays(ours).items():
        assert value.dtype in (torch.float64, torch.int64), name
        assert relative_error(value, theirs[name]) < 1e-9, name
